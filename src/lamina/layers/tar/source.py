# SPDX-License-Identifier: Apache-2.0
"""The uncompressed byte stream under the reader: large reads into reused buffers, blocks and views out of them, a digest of all of it.

Invariants: every byte of the stream is hashed exactly once, in order, whoever skips it; a view is valid until the next call; nothing is
read beyond the stream's end, and nothing is asked of the stream but `readinto` or `read`.
"""

from __future__ import annotations

import zlib
from typing import Protocol

from lamina.errors import ArchiveError

from .hashing import BUFFER, Hasher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes | None: ...


class Source:
    """`hasher=None` where nobody wants the digest. `limit`: the archive's greatest size in bytes. `seek`: moves the stream forward by so
    many bytes, where it can (and nobody hashes)."""

    def __init__(
        self, fileobj: Readable, *, hasher: Hasher | None = None, limit: int = 1 << 62, seek: Callable[[int], bool] | None = None
    ) -> None:
        self._file = fileobj
        self._seek = seek
        self._readinto = getattr(fileobj, "readinto", None)
        self._hasher = hasher
        self._limit = limit
        self._buffer = hasher.buffer() if hasher else bytearray(BUFFER)
        self._view = memoryview(self._buffer)
        self._at = 0
        self._end = 0
        self._before = 0
        self._eof = False

    @property
    def position(self) -> int:
        """Bytes consumed so far."""
        return self._before + self._at

    def _refill(self) -> bool:
        """Replace the used-up buffer by the next piece of the stream; False at its end."""
        if self._eof:
            return False
        self._before += self._end
        if self._hasher and self._end:
            self._hasher.done(self._buffer, self._end)
            self._buffer = self._hasher.buffer()
            self._view = memoryview(self._buffer)
        self._at = self._end = 0
        try:
            if self._readinto is not None:
                got = self._readinto(self._view) or 0
            else:
                data = self._file.read(len(self._buffer)) or b""
                got = len(data)
                self._view[:got] = data
        except (EOFError, zlib.error) as error:
            raise ArchiveError(f"archive: the compressed data is damaged: {error}")
        self._end = got
        if not got:
            self._eof = True
            return False
        if self._before + got > self._limit:
            raise ArchiveError(f"archive: larger than {self._limit} bytes")
        return True

    def view(self, size: int) -> memoryview:
        """The next bytes, as many as lie ready: 1 to `size` of them, none at the end of the stream. Valid until the next call."""
        if self._at == self._end and not self._refill():
            return self._view[:0]
        start = self._at
        stop = self._end if size > self._end - start else start + size
        self._at = stop
        return self._view[start:stop]

    def take(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end of the stream."""
        start = self._at
        stop = start + size
        if stop <= self._end:
            self._at = stop
            return bytes(self._view[start:stop])
        parts = []
        while size:
            piece = self.view(size)
            if not piece:
                break
            parts.append(bytes(piece))
            size -= len(piece)
        return b"".join(parts)

    def skip(self, size: int) -> bool:
        """Goes over the next bytes without reading them; False, having done nothing, where that can't be."""
        ready = self._end - self._at
        if size <= ready:
            self._at += size
            return True
        if self._hasher or self._seek is None or not self._seek(size - ready):
            return False
        self._before += size - ready
        self._at = self._end
        return True

    def finish(self) -> str:
        """Hex digest of the whole stream; call after everything was consumed. "" without a hasher."""
        if not self._hasher:
            return ""
        if self._end:
            self._hasher.done(self._buffer, self._end)
        return self._hasher.finish()
