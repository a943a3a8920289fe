# SPDX-License-Identifier: Apache-2.0
"""Writing large files that are to be durable: the disk begins at once, so that the fsync at the end has little left to wait for."""
from __future__ import annotations

import os

from lamina.linux.fs import start_writeback
from lamina.util.atomic import write_all

_STEP = 8 << 20


class Steady:
    """`write` appends to a regular file from where it stands; `sync` makes all of it durable. The descriptor stays the caller's."""

    __slots__ = ("fd", "_begun", "_at", "_able")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._begun = self._at = os.lseek(fd, 0, os.SEEK_CUR)
        self._able = True

    def write(self, data: bytes | bytearray | memoryview) -> int:
        write_all(self.fd, data)
        self._at += len(data)
        if self._able and self._at - self._begun >= _STEP:
            try:
                start_writeback(self.fd, self._begun, self._at - self._begun)
            except OSError:
                self._able = False  # a file system without it, or a filter: fsync does all
            self._begun = self._at
        return len(data)

    def sync(self) -> None:
        os.fsync(self.fd)
