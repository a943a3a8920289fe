# SPDX-License-Identifier: Apache-2.0
"""Any compressed stream, recognised by its magic, as an uncompressed one: gzip, bzip2, xz, zstd, or as it is.

Multi-member gzip, concatenated xz, bzip2 and zstd frames, and skippable zstd frames are one stream; other bytes behind a member's end are
an error (docker and podman stop there or ignore them, which would make the digest depend on the reader). Bombs: memory is bounded (xz and
zstd windows), output is bounded by ratio and total. zstd needs the `zstandard` package, or the host's `zstd`, only from a directory that
root owns.
"""

from __future__ import annotations

import bz2
import lzma
import os
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from lamina.errors import ArchiveError

from .source import Readable
from .zstdprogram import MAX_WINDOW, ZstdProgram

_CHUNK = 1 << 18
_PIECE = 2048
_XZ_MEMORY = 192 << 20
_ZSTD_FRAME = b"\x28\xb5\x2f\xfd"
RATIO = 200
FREE = 1 << 30
"""a stream may unpack to FREE + RATIO times its size: honest layers stay far below, a bomb ends there, long before the disk's reserve"""


class _Decoder(Protocol):
    """One member of a compressed stream, as bz2, lzma and our zlib and zstd wrappers give it."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gzip:
    def __init__(self) -> None:
        self._zip = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._zip.eof

    @property
    def needs_input(self) -> bool:
        return not self._zip.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zip.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._zip.decompress(self._zip.unconsumed_tail + data, max(max_length, 0))


class Stream:
    """The uncompressed bytes; `read(n)` gives 1 to n bytes, b"" at the end. ArchiveError: damaged, cut off, ballast behind the end, a
    bomb."""

    def __init__(
        self, fileobj: Readable, head: bytes, decoder: Callable[[], _Decoder], name: str, *, limit: int | None, ratio: int
    ) -> None:
        self._file = fileobj
        self._head = head
        self._make = decoder
        self._decoder = decoder()
        self._name = name
        self._limit = limit
        self._ratio = ratio
        self._in = len(head)
        self._out = 0
        self._eof = False

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        while not self._eof:
            decoder = self._decoder
            if decoder.eof:
                self._next_member()
                continue
            data = b""
            if decoder.needs_input:
                data = self._more()
                if not data:
                    raise ArchiveError(f"archive: the {self._name} data is cut off")
            try:
                plain = decoder.decompress(data, size)
            except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, MemoryError) as error:
                raise ArchiveError(f"archive: the {self._name} data is damaged: {error or 'it needs too much memory'}")
            if plain:
                self._out += len(plain)
                self._check()
                return plain
        return b""

    def _more(self) -> bytes:
        if self._head:
            data, self._head = self._head, b""
            return data
        data = self._file.read(_CHUNK) or b""
        self._in += len(data)
        return data

    def _check(self) -> None:
        if self._limit is not None and self._out > self._limit:
            raise ArchiveError(f"archive: the {self._name} data unpacks to more than {self._limit} bytes")
        if self._out > FREE + self._ratio * self._in:
            raise ArchiveError(f"archive: the {self._name} data unpacks to {self._out} bytes from {self._in}; a decompression bomb")

    def _next_member(self) -> None:
        """Behind a member's end: padding, another member, or the end."""
        rest = self._decoder.unused_data
        while True:
            if self._name in ("xz", "gzip"):
                rest = rest.lstrip(b"\0")  # stream padding (xz), tape blocks (gzip)
            if len(rest) >= 6:
                break
            data = self._more()
            if not data:
                break
            rest += data
        if not rest:
            self._eof = True
            return
        if recognise(rest) != self._name:
            raise ArchiveError(f"archive: {self._name} data with something else behind its end")
        self._head = rest
        self._decoder = self._make()


def recognise(head: bytes) -> str:
    """The compression that at least 6 bytes of a stream begin: gzip, bzip2, xz, zstd or none."""
    if head[:3] == b"\x1f\x8b\x08":
        return "gzip"
    if head[:3] == b"BZh" and head[3:4].isdigit():
        return "bzip2"
    if head[:6] == b"\xfd7zXZ\0":
        return "xz"
    if head[:4] == _ZSTD_FRAME or (len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50):
        return "zstd"
    return "none"


class _Again:
    """A stream some of whose bytes were read already."""

    def __init__(self, head: bytes, fileobj: Readable) -> None:
        self._head = head
        self._file = fileobj

    def read(self, size: int = -1, /) -> bytes | None:
        if not self._head:
            return self._file.read(size)
        if size < 0:
            data, self._head = self._head + (self._file.read(-1) or b""), b""
            return data
        data, self._head = self._head[:size], self._head[size:]
        return data


def decompress(fileobj: Readable, *, limit: int | None = None, ratio: int = RATIO) -> tuple[Readable, str]:
    """(stream of uncompressed bytes, "gzip|zstd|xz|bzip2|none"). `limit`: greatest size of the output in bytes. The stream may be closed
    (`close`, where it has one) to end a helper program early. A regular file that isn't compressed comes back itself, rewound."""
    head = b""
    while len(head) < 6:
        data = fileobj.read(6 - len(head))
        if not data:
            break
        head += data
    kind = recognise(head)
    if kind == "none":
        try:
            fileobj.seek(-len(head), os.SEEK_CUR)  # type: ignore[attr-defined]
            return fileobj, kind
        except (OSError, AttributeError, ValueError):
            return _Again(head, fileobj), kind
    if kind == "zstd":
        return _zstd(fileobj, head, limit, ratio), kind
    makers: dict[str, Callable[[], _Decoder]] = {
        "gzip": _Gzip,
        "bzip2": bz2.BZ2Decompressor,
        "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY),
    }
    return Stream(fileobj, head, makers[kind], kind, limit=limit, ratio=ratio), kind


class _Zstd:
    """One frame by the `zstandard` package. A call's output has no bound there, so that it is fed small pieces (2 KiB give 64 MiB at
    most)."""

    def __init__(self, made: Any) -> None:
        self._frame = made
        self._plain = b""
        self._input = b""

    @property
    def eof(self) -> bool:
        return not self._plain and bool(self._frame.eof)

    @property
    def needs_input(self) -> bool:
        return not self._plain and not self._input

    @property
    def unused_data(self) -> bytes:
        return bytes(self._frame.unused_data) + self._input

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        self._input += data
        while not self._plain and self._input and not self._frame.eof:
            piece, self._input = self._input[:_PIECE], self._input[_PIECE:]
            self._plain = self._frame.decompress(piece)
        size = max_length if max_length > 0 else len(self._plain)
        out, self._plain = self._plain[:size], self._plain[size:]
        return out


def _zstd(fileobj: Readable, head: bytes, limit: int | None, ratio: int) -> Readable:
    try:
        import zstandard
    except ImportError:
        return ZstdProgram(_Again(head, fileobj))

    class Decoder(_Zstd):
        def __init__(self) -> None:
            super().__init__(zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj())

        def decompress(self, data: bytes, max_length: int = -1) -> bytes:
            try:
                return super().decompress(data, max_length)
            except zstandard.ZstdError as error:
                raise ValueError(str(error))

    return Stream(fileobj, head, Decoder, "zstd", limit=limit, ratio=ratio)
