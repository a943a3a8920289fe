# SPDX-License-Identifier: Apache-2.0
"""What one archive may cost at most: bytes, members, lengths. Every reader and extractor takes a `Limits`; the default fits any honest
image.

Each limit stands for one attack: header bombs (1 MiB of pax records), a million empty files, a sparse file of 2^63 bytes, a bomb that
unpacks to more than the disk holds. Exceeding one is an `ArchiveError` with the member's name, a full disk a `StoreError`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """All sizes in bytes. `reserve_*`: what must stay free on the file system that is extracted to."""

    total: int = 1 << 42
    """the archive itself, uncompressed"""
    members: int = 2_000_000
    header: int = 1 << 20
    """one member's pax records, long names and sparse map, together"""
    file_size: int = 1 << 43
    """apparent size of one file, holes included"""
    path: int = 4095
    depth: int = 512
    xattr_value: int = 1 << 16
    xattrs: int = 256
    reserve_bytes: int = 64 << 20
    reserve_inodes: int = 1024


DEFAULT = Limits()
