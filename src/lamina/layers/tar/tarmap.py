# SPDX-License-Identifier: Apache-2.0
"""The tar-map: what an extracted tree can't say of its archive (order, headers, padding, overwritten data, trailing bytes), compressed.

    "LMTARM1\\n" then chunks: u8 kind, u32 length, u64 number, bytes
      M  next part of the one zlib stream of operations
      S  part of a zlib stream: the saved data of file operation `number`
      C  canonical: u32 version of our packer; the tree packed again is the archive
      E  end: u64 size and sha256 of the whole archive
    operations, in archive order:
      L  u32 n, bytes: literally
      F  u64 size, u32 n, path: that file's data
      P  as F, then u32 n, (u64 offset, u64 length)...: these pieces of that file

A file's data that won't survive the extraction (a later member overwrites it) is saved into the map before it goes. `assemble` believes
neither map nor tree: sizes are checked, paths are walked without following, and the digest of what was written must be the recorded one.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from lamina.errors import StoreError

from .beneath import open_file
from .names import shown
from .output import Output, Write
from .sparse import Map

StrPath = str | bytes | os.PathLike[str]
MAGIC = b"LMTARM1\n"
PACKER = 1
"""version of pack.py's form; a change of its bytes needs a new number and the old form kept for old maps"""
_CHUNK = struct.Struct("<cIQ")
_BATCH = 1 << 18
_MAX_CHUNK = 1 << 26


class Recorder:
    """Fed in archive order by the extractor; writes to `out` (a new file) as it goes. Ends with `finish`."""

    def __init__(self, out: BinaryIO, *, level: int = 1) -> None:
        self._out = out
        self._zip = zlib.compressobj(level)
        self._batch = bytearray()
        self._count = 0
        self._level = level
        self._data: dict[bytes, tuple[int, int, Map | None]] = {}
        out.write(MAGIC)

    def _chunk(self, kind: bytes, data: bytes, number: int = 0) -> None:
        if data:
            self._out.write(_CHUNK.pack(kind, len(data), number))
            self._out.write(data)

    def _flush(self) -> None:
        self._chunk(b"M", self._zip.compress(self._batch))
        self._batch.clear()

    def literal(self, raw: bytes) -> None:
        if raw:
            self._batch += b"L" + len(raw).to_bytes(4, "little")
            self._batch += raw
            if len(self._batch) > _BATCH:
                self._flush()

    def file(self, real: bytes, size: int, pieces: Map | None) -> None:
        """The next `size` bytes of the archive are the data of the tree's file at `real` (its pieces, if sparse)."""
        head = struct.pack("<QI", size, len(real)) + real
        if pieces is None:
            self._batch += b"F" + head
        else:
            self._batch += b"P" + head + struct.pack("<I", len(pieces)) + b"".join(struct.pack("<QQ", *p) for p in pieces)
        self._data[real] = (self._count, size, pieces)
        self._count += 1

    def gone(self, real: bytes, open_it: Callable[[], int]) -> None:
        """The file at `real` is about to vanish from the tree: keep its data if the archive needs it."""
        known = self._data.pop(real, None)
        if known is None:
            return
        number, size, pieces = known
        fd = open_it()
        packer = zlib.compressobj(self._level)
        try:
            for offset, length in pieces if pieces is not None else [(0, size)]:
                end = offset + length
                while offset < end:
                    data = os.pread(fd, min(1 << 20, end - offset), offset)
                    if not data:
                        raise StoreError(f"{shown(real)}: changed while it was being extracted")
                    offset += len(data)
                    self._chunk(b"S", packer.compress(data), number)
        finally:
            os.close(fd)
        self._chunk(b"S", packer.flush(), number)

    def finish(self, size: int, hexdigest: str) -> None:
        """The archive was `size` bytes with this sha256. The file is complete, not yet synced."""
        self._flush()
        self._chunk(b"M", self._zip.flush())
        self._chunk(b"E", struct.pack("<Q", size) + bytes.fromhex(hexdigest))
        self._out.flush()


def write_canonical(out: BinaryIO, size: int, hexdigest: str) -> None:
    """The map of an archive that `pack_overlay` made of the very tree that is kept."""
    out.write(MAGIC)
    for kind, data in ((b"C", struct.pack("<I", PACKER)), (b"E", struct.pack("<Q", size) + bytes.fromhex(hexdigest))):
        out.write(_CHUNK.pack(kind, len(data), 0) + data)
    out.flush()


def archive_of(path: StrPath) -> tuple[int, str] | None:
    """(size, hex sha256) of the archive that a map is of, from its end alone; None if it isn't there or isn't whole."""
    try:
        with open(path, "rb", 0) as file:
            file.seek(-(_CHUNK.size + 40), os.SEEK_END)
            end = file.read(_CHUNK.size + 40)
    except OSError:
        return None
    if len(end) != _CHUNK.size + 40 or _CHUNK.unpack_from(end)[:2] != (b"E", 40):
        return None
    return struct.unpack_from("<Q", end, _CHUNK.size)[0], end[-32:].hex()


class _Map:
    """An opened map: where its chunks lie."""

    def __init__(self, path: StrPath) -> None:
        self.path = os.fsdecode(path)
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.main: list[tuple[int, int]] = []
        self.saved: dict[int, list[tuple[int, int]]] = {}
        self.canonical = 0
        self.size = -1
        self.hexdigest = ""
        try:
            self._scan()
        except BaseException:
            os.close(self.fd)
            raise

    def broken(self, why: str) -> StoreError:
        return StoreError(f"tar-map {self.path}: {why}")

    def _scan(self) -> None:
        if os.pread(self.fd, len(MAGIC), 0) != MAGIC:
            raise self.broken("not a tar-map")
        at = len(MAGIC)
        while True:
            head = os.pread(self.fd, _CHUNK.size, at)
            if len(head) < _CHUNK.size:
                raise self.broken("cut off")
            kind, length, number = _CHUNK.unpack(head)
            at += _CHUNK.size
            if kind == b"M":
                self.main.append((at, length))
            elif kind == b"S":
                self.saved.setdefault(number, []).append((at, length))
            elif kind == b"C" and length == 4:
                self.canonical = struct.unpack("<I", os.pread(self.fd, 4, at))[0]
            elif kind == b"E" and length == 40:
                end = os.pread(self.fd, 40, at)
                if len(end) < 40:
                    raise self.broken("cut off")
                self.size, self.hexdigest = struct.unpack("<Q", end[:8])[0], end[8:].hex()
                return
            else:
                raise self.broken("damaged")
            at += length

    def inflate(self, chunks: list[tuple[int, int]]) -> Iterator[bytes]:
        """The uncompressed bytes of one zlib stream, in pieces of at most 1 MiB."""
        unzip = zlib.decompressobj()
        try:
            for at, length in chunks:
                if length > _MAX_CHUNK:
                    raise self.broken("damaged")
                data = os.pread(self.fd, length, at)
                while data and not unzip.eof:
                    yield unzip.decompress(data, 1 << 20)
                    data = unzip.unconsumed_tail
            while rest := unzip.decompress(unzip.unconsumed_tail, 1 << 20):
                yield rest
        except zlib.error as error:
            raise self.broken(f"damaged: {error}")
        if not unzip.eof:
            raise self.broken("cut off")


class _Operations:
    """The stream of operations, readable by counts."""

    def __init__(self, found: _Map) -> None:
        self._map = found
        self._pieces = found.inflate(found.main)
        self._have = b""
        self._at = 0

    def more(self) -> bool:
        while self._at >= len(self._have):
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._have, self._at = piece, 0
        return True

    def take(self, size: int) -> bytes:
        at = self._at
        if at + size <= len(self._have):
            self._at = at + size
            return self._have[at : at + size]
        parts = []
        while size:
            if not self.more():
                raise self._map.broken("an operation is cut off")
            part = self._have[self._at : self._at + size]
            self._at += len(part)
            size -= len(part)
            parts.append(part)
        return b"".join(parts)


def assemble(tarmap_path: StrPath, diff_fd: int, write: Write | None) -> tuple[str, int]:
    """Write the exact archive again: (hex sha256, size). StoreError if map and tree don't give the recorded digest; what was written until
    then is wrong, so the caller publishes nothing before this returns. `write=None` only verifies."""
    found = _Map(tarmap_path)
    try:
        with Output(write) as out:
            if found.canonical:
                _pack_again(found, diff_fd, out)
            else:
                _replay(found, diff_fd, out)
            if out.finish() != found.hexdigest or out.size != found.size:
                raise found.broken("the layer's tree no longer gives the archive that it came from")
            return out.digest, out.size
    finally:
        os.close(found.fd)


def _pack_again(found: _Map, diff_fd: int, out: Output) -> None:
    from .pack import pack_into

    if found.canonical != PACKER:
        raise found.broken(f"made by packer {found.canonical}, known is {PACKER}")
    pack_into(diff_fd, out)


def _replay(found: _Map, diff_fd: int, out: Output) -> None:
    operations = _Operations(found)
    take = operations.take
    number = 0
    while operations.more():
        kind = take(1)
        if kind == b"L":
            left = int.from_bytes(take(4), "little")
            while left:
                part = take(min(left, 65536))
                out.put(part)
                left -= len(part)
        elif kind in (b"F", b"P"):
            size, length = struct.unpack("<QI", take(12))
            real = take(length)
            pieces = [struct.unpack("<QQ", take(16)) for _ in range(int.from_bytes(take(4), "little"))] if kind == b"P" else [(0, size)]
            if number in found.saved:
                for data in found.inflate(found.saved[number]):
                    out.put(data)
            else:
                _copy(found, diff_fd, real, pieces, out)
            number += 1
        else:
            raise found.broken("damaged")


def _copy(found: _Map, diff_fd: int, real: bytes, pieces: Map, out: Output) -> None:
    try:
        fd = open_file(diff_fd, real)
    except OSError as error:
        raise found.broken(f"{shown(real)} can't be read: {error.strerror}")
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise found.broken(f"{shown(real)} is no longer a regular file")
        for offset, length in pieces:
            if offset:
                os.lseek(fd, offset, os.SEEK_SET)
            if out.read_from(fd, length) != length:
                raise found.broken(f"{shown(real)} is shorter than it was")
    except (OSError, OverflowError) as error:
        raise found.broken(f"{shown(real)} can't be read: {error}")
    finally:
        os.close(fd)
