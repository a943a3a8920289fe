# SPDX-License-Identifier: Apache-2.0
"""Where tar bytes go: gathered in large buffers, read from files straight into them, hashed beside, handed to a `write` callable.

`write(view)` must have used the view when it returns; it gets all bytes in order. `size` and `digest` are of everything put.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from .hashing import BUFFER, Hasher

Write = Callable[[memoryview], object]


class Output:
    """A context manager (ends the hashing thread). `write=None` where only size and digest are wanted."""

    def __init__(self, write: Write | None, *, hashed: bool = True) -> None:
        self._write = write
        self._hasher = Hasher() if hashed else None
        self._buffer = self._hasher.buffer() if self._hasher else bytearray(BUFFER)
        self._view = memoryview(self._buffer)
        self._used = 0
        self._passed = 0
        self.digest = ""

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._hasher:
            self._hasher.__exit__()

    @property
    def size(self) -> int:
        return self._passed + self._used

    def _flush(self) -> None:
        used = self._used
        if not used:
            return
        if self._write is not None:
            self._write(self._view[:used])
        self._passed += used
        self._used = 0
        if self._hasher:
            self._hasher.done(self._buffer, used)
            self._buffer = self._hasher.buffer()
            self._view = memoryview(self._buffer)

    def put(self, data: bytes | memoryview) -> None:
        size = len(data)
        at = 0
        while size - at > BUFFER - self._used:
            room = BUFFER - self._used
            self._view[self._used :] = data[at : at + room]
            self._used = BUFFER
            at += room
            self._flush()
        self._view[self._used : self._used + size - at] = data[at:] if at else data
        self._used += size - at

    def zeros(self, size: int) -> None:
        while size:
            part = min(size, 65536)
            self.put(bytes(part))
            size -= part

    def read_from(self, fd: int, size: int, also: Callable[[memoryview], None] | None = None) -> int:
        """The next `size` bytes of a file, or fewer where it ends. `also` gets every piece too. Gives how many came."""
        got = 0
        while got < size:
            if self._used == BUFFER:
                self._flush()
            start = self._used
            stop = min(BUFFER, start + size - got)
            count = os.readv(fd, [self._view[start:stop]])
            if not count:
                break
            if also is not None:
                also(self._view[start : start + count])
            self._used = start + count
            got += count
        return got

    def finish(self) -> str:
        """Everything is written; the hex digest of it ("" where not hashed)."""
        self._flush()
        if self._hasher:
            self.digest = self._hasher.finish()
        return self.digest


def write_all(fd: int, view: memoryview) -> None:
    """os.write until all is written."""
    done = os.write(fd, view)
    while done < len(view):
        done += os.write(fd, view[done:])
