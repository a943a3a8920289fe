# SPDX-License-Identifier: Apache-2.0
"""Attack 45: archives that cost more than they should: compressed zeros, huge windows, a million files, ballast that changes the digest.

Limits are lowered for the test; each control shows that the same bytes are taken where the limit is wide enough.
"""

from __future__ import annotations

import binascii
import bz2
import gzip
import io
import lzma
import os
import resource
from pathlib import Path

import pytest
import zstandard

from lamina.errors import ArchiveError, StoreError
from lamina.layers.tar import beneath, compress
from lamina.layers.tar import header as h
from lamina.layers.tar.compress import decompress
from lamina.layers.tar.extract import extract
from lamina.layers.tar.limits import Limits
from tests.layers.tar.tarmake import END, gnu_long, member, pax

SIZE = 64 << 20
PACK = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstandard.ZstdCompressor().compress}


def drain(data: bytes, **options: int) -> int:
    stream, _ = decompress(io.BytesIO(data), **options)
    total = 0
    while part := stream.read(1 << 20):
        total += len(part)
    return total


@pytest.mark.parametrize("kind", PACK)
def test_zeros_that_unpack_without_end(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = PACK[kind](bytes(SIZE))
    assert drain(bomb) == SIZE, "control: honest limits take it"
    with pytest.raises(ArchiveError, match="more than"):
        drain(bomb, limit=SIZE // 4)
    monkeypatch.setattr(compress, "FREE", 1 << 20)
    with pytest.raises(ArchiveError, match="bomb"):
        drain(bomb)


def test_nested_bombs_are_only_opened_once() -> None:
    inner = gzip.compress(bytes(SIZE))
    assert drain(gzip.compress(inner)) == len(inner)


def zstd_with_window(exponent: int) -> bytes:
    """An empty frame that asks for a window of 2^exponent bytes."""
    return b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([(exponent - 10) << 3]) + b"\x01\x00\x00"


def test_zstd_windows_are_bounded() -> None:
    assert drain(zstd_with_window(27)) == 0
    for exponent in (28, 31):
        with pytest.raises(ArchiveError):
            drain(zstd_with_window(exponent))
    wide = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
    wide.decompress(zstd_with_window(31))
    assert wide.eof, "control: the frame is good, only greedy"


def xz_with_dictionary(code: int) -> bytes:
    """An honest stream whose block header asks for a dictionary of another size (LZMA2's code: 40 is 4 GiB - 1)."""
    raw = bytearray(lzma.compress(b"data", filters=[{"id": lzma.FILTER_LZMA2, "preset": 0}]))
    size = (raw[12] + 1) * 4
    at = raw.index(b"\x21\x01", 12, 12 + size) + 2
    raw[at] = code
    raw[12 + size - 4 : 12 + size] = binascii.crc32(raw[12 : 12 + size - 4]).to_bytes(4, "little")
    return bytes(raw)


def test_xz_dictionaries_are_bounded() -> None:
    assert drain(xz_with_dictionary(24)) == 4
    with pytest.raises(ArchiveError, match="xz"):
        drain(xz_with_dictionary(40))
    assert lzma.LZMADecompressor().decompress(xz_with_dictionary(31)) == b"data", "control: no limit, no refusal"


def test_skippable_frames_are_no_way_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compress, "FREE", 1 << 20)
    skip = b"\x50\x2a\x4d\x18" + (8).to_bytes(4, "little") + b"padding!"
    with pytest.raises(ArchiveError, match="bomb"):
        drain(skip * 100 + PACK["zstd"](bytes(SIZE)))


@pytest.mark.parametrize("kind", ["gzip", "xz", "zstd", "bzip2"])
def test_ballast_never_changes_what_a_layer_is(kind: str) -> None:
    """Another reader that ignores ballast would see the same diff id for other bytes: refused."""
    layer = member(b"f", b"1") + END
    assert drain(PACK[kind](layer)) == len(layer)
    with pytest.raises(ArchiveError):
        drain(PACK[kind](layer) + b"ballast!" * 4)


def taken(data: bytes, root: Path, limits: Limits) -> int:
    root.mkdir(exist_ok=True)
    fd = os.open(root, os.O_RDONLY)
    try:
        return extract(io.BytesIO(data), fd, limits=limits).files
    finally:
        os.close(fd)


def test_many_members_and_inodes(tmp_path: Path) -> None:
    data = b"".join(member(b"%d" % i) for i in range(200)) + END
    assert taken(data, tmp_path / "control", Limits()) == 200
    with pytest.raises(ArchiveError, match="more than 100 members"):
        taken(data, tmp_path / "a", Limits(members=100))
    free = os.statvfs(tmp_path).f_favail
    with pytest.raises(StoreError, match="inodes"):
        taken(data, tmp_path / "b", Limits(reserve_inodes=free + 1000))
    assert not list((tmp_path / "b").iterdir())


def test_a_disk_that_fills_up_is_noticed_while_extracting(tmp_path: Path) -> None:
    """The reserve is looked at every 64 MiB, not only at the beginning."""

    class Endless:
        def __init__(self) -> None:
            self.head = member(b"big", size=1 << 50)[:512]
            self.given = 0

        def read(self, size: int = -1) -> bytes:
            out, self.head = self.head or bytes(size), b""
            self.given += len(out)
            return out

    free = os.statvfs(tmp_path)
    reserve = free.f_bavail * free.f_frsize - (192 << 20)
    stream = Endless()
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises((StoreError, ArchiveError), match="space|allowed"):
        extract(stream, fd, limits=Limits(reserve_bytes=reserve, file_size=1 << 51))
    os.close(fd)
    assert stream.given < 600 << 20
    (tmp_path / "big").unlink()


@pytest.mark.parametrize(
    "data",
    [
        pax({b"comment": b"c" * (1 << 20)}) + member(b"x"),
        b"".join(pax({b"comment": b"c" * 60_000}) for _ in range(20)) + member(b"x"),
        gnu_long(b"n" * (1 << 20)) + member(b"x"),
        b"".join(pax({b"k%d" % i: b"c" * 60_000}, h.PAX_GLOBAL) for i in range(20)) + member(b"x"),
    ],
    ids=["one record", "many headers", "long name", "global"],
)
def test_header_bombs(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ArchiveError):
        taken(data + END, tmp_path / "a", Limits())
    if data[156:157] != h.GNU_LONGNAME:
        assert taken(data + END, tmp_path / "control", Limits(header=1 << 24)) == 1


def test_sparse_files_of_absurd_size(tmp_path: Path) -> None:
    for size in (b"9223372036854775807", b"18446744073709551616", b"99999999999999999999"):
        data = pax({b"GNU.sparse.size": size, b"GNU.sparse.map": b"0,1"}) + member(b"x", b"1") + END
        with pytest.raises(ArchiveError, match="x"):
            taken(data, tmp_path / "a", Limits())
    data = pax({b"GNU.sparse.size": b"1073741824", b"GNU.sparse.map": b"0,1"}) + member(b"x", b"1") + END
    assert taken(data, tmp_path / "control", Limits()) == 1
    assert (tmp_path / "control" / "x").stat().st_blocks < 100


def test_memory_stays_small_whatever_the_archive_holds(tmp_path: Path) -> None:
    """A file of 64 MiB, compressed to almost nothing, and 20,000 members: a few MiB more than before."""
    data = PACK["zstd"](member(b"f", bytes(SIZE)) + b"".join(member(b"d%d/f" % (i % 50)) for i in range(20000)) + END)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fd = os.open(tmp_path, os.O_RDONLY)
    extract(decompress(io.BytesIO(data))[0], fd)
    os.close(fd)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_time_spent_in_links_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each member goes through a link of a thousand components that the one before has made stale."""
    target = b"/".join([b"d", b".."] * 500) + b"/d"
    part = member(b"x", b"1") + member(b"l/f", b"2")
    data = member(b"d/", type=h.DIR) + pax({b"linkpath": target}) + member(b"l", type=h.SYM, linkname=b"x") + part * 50 + END
    assert taken(data, tmp_path / "control", Limits()) == 102
    monkeypatch.setattr(beneath, "_DETOURS", 20_000)
    with pytest.raises(ArchiveError, match="l: the archive goes through symbolic links too often"):
        taken(data, tmp_path / "a", Limits())
