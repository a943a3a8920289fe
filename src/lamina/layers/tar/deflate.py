# SPDX-License-Identifier: Apache-2.0
"""Compressing a layer's tar: gzip on all CPUs, or zstd. The same input, format and level give the same bytes, with any number of CPUs.

gzip (RFC 1952; time 0, no name, no system): one member of one deflate stream. Pieces of a fixed size are compressed side by side, each
with the 32 KiB before it as its dictionary, and end at a byte boundary (Z_SYNC_FLUSH), so that they can stand behind each other; the
price is some 0.1 % of size. zlib lets go of Python's lock meanwhile, so threads do. zstd needs the `zstandard` package, and is
quick enough in one thread. Bytes depend on the libraries' versions, as everywhere.
"""

from __future__ import annotations

import os
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from lamina.errors import InvalidArgument, NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Compressor(Protocol):
        def put(self, data: bytes | memoryview) -> None:
            """More of the plain bytes; used when it returns."""

        def finish(self) -> None:
            """All is written."""

        def close(self) -> None:
            """Ends threads; also without `finish`. Idempotent."""


LEVELS = {"gzip": (1, 9, 6), "zstd": (1, 22, 3)}
"""format: (least level, greatest, usual)"""
_PIECE = 256 << 10
_WINDOW = 32 << 10
_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"


def parse(text: str) -> tuple[str, int]:
    """("gzip"|"zstd"|"none", level) of "gzip", "zstd:19" and the like. InvalidArgument."""
    name, colon, number = text.partition(":")
    if name == "none" and not colon:
        return "none", 0
    if name not in LEVELS:
        raise InvalidArgument(f"compression {text!r} is none of gzip, zstd, none")
    least, most, usual = LEVELS[name]
    if not colon:
        return name, usual
    if not number.isascii() or not number.isdigit() or not least <= int(number) <= most:
        raise InvalidArgument(f"compression level {number!r} of {name} is not between {least} and {most}")
    return name, int(number)


def compressor(name: str, level: int, write: Callable[[bytes], object]) -> Compressor:
    """One stream's compressor. NotSupported if its library is missing."""
    if name == "gzip":
        return Gzip(write, level)
    try:
        return Zstd(write, level)
    except ImportError:
        raise NotSupported("zstd compression needs the Python package zstandard", hint="install it, or use gzip")


class Gzip:
    """`workers`: threads; 0: one a CPU."""

    def __init__(self, write: Callable[[bytes], object], level: int, workers: int = 0) -> None:
        self._write = write
        self._level = level
        self._count = workers or len(os.sched_getaffinity(0))
        self._pool: ThreadPoolExecutor | None = None
        self._todo: deque[Future[bytes]] = deque()
        self._piece = bytearray()
        self._before = b""
        self._crc = 0
        self._size = 0
        write(_HEAD)

    def put(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        self._crc = zlib.crc32(view, self._crc)
        self._size += len(view)
        while len(view) >= (room := _PIECE - len(self._piece)):
            self._piece += view[:room]
            view = view[room:]
            self._hand_over()
        self._piece += view

    def _hand_over(self) -> None:
        piece, self._piece = bytes(self._piece), bytearray()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._count, "deflate")
        self._todo.append(self._pool.submit(_deflate, piece, self._before, self._level))
        self._before = piece[-_WINDOW:]
        while len(self._todo) > 2 * self._count:
            self._write(self._todo.popleft().result())

    def finish(self) -> None:
        if self._piece:
            self._hand_over()
        while self._todo:
            self._write(self._todo.popleft().result())
        self._write(b"\x03\0" + self._crc.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little"))
        self.close()

    def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _deflate(piece: bytes, before: bytes, level: int) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, before)
    return packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)


class Zstd:
    def __init__(self, write: Callable[[bytes], object], level: int) -> None:
        import zstandard

        self._write = write
        self._packer: Any = zstandard.ZstdCompressor(level=level, write_checksum=True).compressobj()

    def put(self, data: bytes | memoryview) -> None:
        packed = self._packer.compress(data)
        if packed:
            self._write(packed)

    def finish(self) -> None:
        self._write(self._packer.flush())

    def close(self) -> None:
        pass
