# SPDX-License-Identifier: Apache-2.0
"""What one archive may cost at most: bytes, members, lengths. Every reader and extractor takes a `Limits`; the default fits any honest
image.

Each limit stands for one attack: header bombs (1 MiB of pax records), a million empty files, a sparse file of 2^63 bytes, a bomb that
unpacks to more than the disk holds. Exceeding one is an `ArchiveError` with the member's name, a full disk a `StoreError`.
"""

from __future__ import annotations


class Limits:
    """All sizes in bytes. `total`: the archive itself, uncompressed; `header`: one member's pax records, long names and sparse map,
    together; `file_size`: apparent size of one file, holes included; `reserve_*`: what must stay free on the file system that is extracted
    to."""

    __slots__ = ("total", "members", "header", "file_size", "path", "depth", "xattr_value", "xattrs", "reserve_bytes", "reserve_inodes")

    def __init__(
        self, *, total: int = 1 << 42, members: int = 2_000_000, header: int = 1 << 20, file_size: int = 1 << 43, path: int = 4095,
        depth: int = 512, xattr_value: int = 1 << 16, xattrs: int = 256, reserve_bytes: int = 64 << 20, reserve_inodes: int = 1024,
    ) -> None:  # fmt: skip
        self.total = total
        self.members = members
        self.header = header
        self.file_size = file_size
        self.path = path
        self.depth = depth
        self.xattr_value = xattr_value
        self.xattrs = xattrs
        self.reserve_bytes = reserve_bytes
        self.reserve_inodes = reserve_inodes


DEFAULT = Limits()
