# SPDX-License-Identifier: Apache-2.0
"""A stretch of a file as a stream of its own: a member of an archive, or the whole of a blob.

Read by pread: any number of slices of one descriptor may be read at once, also by several processes that share it.
"""
from __future__ import annotations

import os

from lamina.errors import ArchiveError


class Slice:
    """`size` bytes of `fd` from `offset`. The descriptor belongs to whoever made the slice, and must stay open."""

    __slots__ = ("fd", "offset", "size", "at", "what")

    def __init__(self, fd: int, offset: int, size: int, what: str = "file") -> None:
        self.fd = fd
        self.offset = offset
        self.size = size
        self.at = 0
        self.what = what

    def read(self, size: int = -1, /) -> bytes:
        left = self.size - self.at
        size = left if size < 0 or size > left else size
        if not size:
            return b""
        data = os.pread(self.fd, size, self.offset + self.at)
        if not data:
            raise ArchiveError(f"{self.what} is cut off: {left} bytes are missing")
        self.at += len(data)
        return data

    def readinto(self, buffer: memoryview) -> int:
        size = min(len(buffer), self.size - self.at)
        if not size:
            return 0
        count = os.preadv(self.fd, [buffer[:size]], self.offset + self.at)
        if not count:
            raise ArchiveError(f"{self.what} is cut off: {self.size - self.at} bytes are missing")
        self.at += count
        return count

    def read_all(self, limit: int) -> bytes:
        """All of a small one from its start; ArchiveError beyond `limit` bytes."""
        if self.size > limit:
            raise ArchiveError(f"{self.what} is too large: {self.size} bytes, at most {limit} are read")
        self.at = 0
        parts = []
        while data := self.read():
            parts.append(data)
        return b"".join(parts)
