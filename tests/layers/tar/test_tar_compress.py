# SPDX-License-Identifier: Apache-2.0
"""Every compression, whole, in several members, cut off, damaged, with ballast; the zstd package and the zstd program alike."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.errors import ArchiveError, NotSupported
from lamina.layers.tar import compress, zstdprogram
from lamina.layers.tar.compress import decompress

PLAIN = b"".join(b"line %d of something that packs\n" % i for i in range(20000))
PACK = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstandard.ZstdCompressor().compress}
SKIPPABLE = b"\x52\x2a\x4d\x18\x05\x00\x00\x00hello"


@pytest.fixture(params=["package", "program"])
def zstd_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "program":
        monkeypatch.setitem(sys.modules, "zstandard", None)
    return str(request.param)


def unpack(data: bytes, **options: int) -> tuple[bytes, str]:
    stream, kind = decompress(io.BytesIO(data), **options)
    parts = []
    while part := stream.read(65536):
        parts.append(part)
    return b"".join(parts), kind


@pytest.mark.parametrize("kind", PACK)
def test_each_is_recognised_and_unpacked(kind: str, zstd_by: str) -> None:
    pack = PACK[kind]
    assert unpack(pack(PLAIN)) == (PLAIN, kind)
    assert unpack(pack(PLAIN) + pack(b"") + pack(b"more")) == (PLAIN + b"more", kind)


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("cut", [7, 100, -1])
def test_cut_off_is_told(kind: str, cut: int, zstd_by: str) -> None:
    with pytest.raises(ArchiveError):
        unpack(PACK[kind](PLAIN)[:cut])


@pytest.mark.parametrize("kind", PACK)
def test_ballast_behind_the_end_is_told(kind: str, zstd_by: str) -> None:
    with pytest.raises(ArchiveError):
        unpack(PACK[kind](PLAIN) + b"something else")


@pytest.mark.parametrize("kind", ["gzip", "xz"])
def test_padding_of_tapes_and_xz_is_no_ballast(kind: str) -> None:
    assert unpack(PACK[kind](PLAIN) + bytes(512)) == (PLAIN, kind)


def test_skippable_zstd_frames(zstd_by: str) -> None:
    pack = PACK["zstd"]
    assert unpack(SKIPPABLE + pack(b"a") + SKIPPABLE + pack(b"b"))[0] == b"ab"


def test_plain_streams_come_back_whole() -> None:
    assert unpack(PLAIN) == (PLAIN, "none")
    assert unpack(b"abc") == (b"abc", "none") and unpack(b"") == (b"", "none")
    a, b = os.pipe()
    os.write(b, b"from a pipe")
    os.close(b)
    with open(a, "rb", buffering=0) as pipe:
        stream, kind = decompress(pipe)
        assert (b"".join(iter(lambda: stream.read(4) or b"", b"")), kind) == (b"from a pipe", "none")


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_is_plain_or_an_archive_error(kind: str, data: st.DataObject) -> None:
    raw = bytearray(PACK[kind](PLAIN[:5000]))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        unpack(bytes(raw))
    except ArchiveError:
        pass


def test_a_zstd_that_anybody_could_write_is_not_run(tmp_path: Path) -> None:
    program = tmp_path / "zstd"
    program.write_text("#!/bin/sh\ntouch pwned\n")
    program.chmod(0o755)
    tmp_path.chmod(0o755)
    assert zstdprogram.find((str(tmp_path),)) == str(program)
    for path, mode, owner in [(program, 0o775, 0), (program, 0o755, 1000), (tmp_path, 0o777, 0)]:
        path.chmod(mode)
        os.chown(path, owner, 0)
        with pytest.raises(NotSupported, match="zstd"):
            zstdprogram.find((str(tmp_path),))
        path.chmod(0o755)
        os.chown(path, 0, 0)


def test_the_program_ends_when_it_is_no_longer_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    stream, _ = decompress(io.BytesIO(PACK["zstd"](os.urandom(4_000_000))))
    assert stream.read(10)
    stream.close()  # type: ignore[attr-defined]
    assert stream.read(10) == b"" and threading.active_count() == 1
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_what_the_stream_raises_reaches_the_reader(monkeypatch: pytest.MonkeyPatch, zstd_by: str) -> None:
    packed = PACK["zstd"](os.urandom(1_000_000))

    class Failing:
        def __init__(self) -> None:
            self.left = 3

        def read(self, size: int = -1) -> bytes:
            self.left -= 1
            if not self.left:
                raise ConnectionResetError("peer went away")
            return packed[:6] if self.left == 2 else packed[6:70_000]

    stream, _ = decompress(Failing())
    with pytest.raises(ConnectionResetError):
        while stream.read(1 << 20):
            pass


def test_gnu_tools_agree() -> None:
    for program in ("gzip", "bzip2", "xz", "zstd"):
        packed = subprocess.run([program, "-c"], input=PLAIN, capture_output=True, check=True).stdout
        assert unpack(packed) == (PLAIN, program)
    assert compress.recognise(b"\x1f\x8b\x07aaa") == "none"
