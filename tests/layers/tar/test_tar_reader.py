# SPDX-License-Identifier: Apache-2.0
"""What the reader makes of every format, against what Python's tarfile and GNU tar write; broken input is only ever an ArchiveError."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamina.errors import ArchiveError
from lamina.layers.tar import header as h
from lamina.layers.tar.limits import Limits
from lamina.layers.tar.reader import Member, TarReader
from lamina.layers.tar.source import Source
from tests.layers.tar.tarmake import END, gnu_long, member, pax, pax_many, resum


def read(data: bytes, **options: object) -> list[tuple[Member, bytes]]:
    reader = TarReader(Source(io.BytesIO(data)), **options)  # type: ignore[arg-type]
    return [(m, b"".join(bytes(p) for p in reader.data())) for m in reader]


def one(data: bytes) -> Member:
    return read(data + END)[0][0]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reads_what_tarfile_writes(form: int) -> None:
    names = ["short", "d" * 90 + "/" + "f" * 90, "ü" * 20] + ([] if form == tarfile.USTAR_FORMAT else ["x" * 300, "y/" * 200 + "z"])
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for i, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.uid, info.gid, info.mtime = i * 600, 0o4751, 1000 + i, 70000, 1_600_000_000
            info.uname, info.gname = "me", "us"
            tar.addfile(info, io.BytesIO(bytes([i]) * info.size))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "t" * (90 if form == tarfile.USTAR_FORMAT else 200)
        tar.addfile(link)
    found = read(buffer.getvalue())
    for i, (name, (m, data)) in enumerate(zip(names, found, strict=False)):
        assert (m.name, m.mode, m.uid, m.gid, m.uname, m.gname) == (name.encode(), 0o4751, 1000 + i, 70000, b"me", b"us")
        assert m.mtime_ns == 1_600_000_000 * 10**9 and data == bytes([i]) * (i * 600)
    assert found[-1][0].linkname == link.linkname.encode()


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "pax"])
def test_reads_what_gnu_tar_writes(tmp_path: Path, form: str) -> None:
    tree = tmp_path / "t"
    (tree / "d").mkdir(parents=True)
    (tree / "d" / "f").write_bytes(b"data" * 1000)
    os.link(tree / "d" / "f", tree / "d" / "g")
    os.symlink("f", tree / "d" / "s")
    os.utime(tree / "d" / "f", ns=(0, 1_234_567_890_123_456_789))
    out = subprocess.run(["tar", "-C", tree, f"--format={form}", "--sort=name", "-c", "d"], check=True, capture_output=True).stdout
    found = {m.name: (m, data) for m, data in read(out)}
    assert {m.type for m, _ in found.values()} == {h.DIR, h.REG, h.LINK, h.SYM}
    m, data = found[b"d/f"]
    assert data == b"data" * 1000
    assert m.mtime_ns == (1_234_567_890_123_456_789 if form == "pax" else 1_234_567_890 * 10**9)
    assert found[b"d/g"][0].linkname == b"d/f" and found[b"d/s"][0].linkname == b"f"


@pytest.mark.parametrize("form", ["gnu", "pax --sparse-version=0.0", "pax --sparse-version=0.1", "pax --sparse-version=1.0"])
@pytest.mark.parametrize("pieces", [1, 3, 40])
def test_reads_every_sparse_form_of_gnu_tar(tmp_path: Path, form: str, pieces: int) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as f:
        for i in range(pieces):
            f.seek((2 * i + 1) * 65536)
            f.write(bytes([i + 1]) * 4096)
        f.truncate((2 * pieces + 2) * 65536)
    first, *rest = form.split()
    out = subprocess.run(["tar", "-C", tmp_path, f"--format={first}", *rest, "-S", "-c", "sparse"], check=True, capture_output=True).stdout
    [(m, data)] = read(out)
    assert m.name == b"sparse" and m.size == path.stat().st_size and m.sparse
    whole = bytearray(m.size)
    for offset, length in m.sparse:
        whole[offset : offset + length], data = data[:length], data[length:]
    assert bytes(whole) == path.read_bytes() and not data


def test_pax_overrides_everything() -> None:
    records = {
        b"path": b"p\xff",
        b"linkpath": b"l\xfe",
        b"uid": b"4000000000",
        b"gid": b"3",
        b"uname": b"u",
        b"mtime": b"-1.25",
        b"hdrcharset": b"BINARY",
    }
    m = one(pax(records) + member(b"x", type=h.SYM, linkname=b"y"))
    assert (m.name, m.linkname, m.uid, m.gid, m.uname, m.mtime_ns) == (b"p\xff", b"l\xfe", 4000000000, 3, b"u", -1_250_000_000)
    raw = pax({b"size": b"5"}) + member(b"x", size=0)[:512] + b"12345" + bytes(507) + END
    assert read(raw)[0][1] == b"12345"


def test_global_records_hold_until_taken_back() -> None:
    data = pax({b"uid": b"7"}, h.PAX_GLOBAL) + member(b"a") + pax({b"uid": b"8"}) + member(b"b") + member(b"c")
    data += pax({b"uid": b""}, h.PAX_GLOBAL) + member(b"d") + END
    assert [m.uid for m, _ in read(data)] == [7, 8, 7, 0]


def test_xattrs_of_every_writer() -> None:
    m = one(
        pax({b"SCHILY.xattr.user.a": b"\0\n=\xff", b"LIBARCHIVE.xattr.user.b%3Dc": b"AAE", b"LIBARCHIVE.xattr.user.a": b"eA"})
        + member(b"x")
    )
    assert m.xattrs == {b"user.a": b"\0\n=\xff", b"user.b=c": b"\0\1"}


def test_acl_text_becomes_the_kernels_form(tmp_path: Path) -> None:
    m = one(pax({b"SCHILY.acl.access": b"user::rw-,user:joe:r-x:1000,group::r--,group:55:-w-,mask::rwx,other::---"}) + member(b"x"))
    path = tmp_path / "f"
    path.touch()
    os.setxattr(path, "system.posix_acl_access", m.xattrs[b"system.posix_acl_access"])
    assert path.stat().st_mode & 0o777 == 0o670
    named = one(pax({b"SCHILY.acl.access": b"user::rw-,user:joe:r-x,group::r--,mask::rwx,other::---"}) + member(b"x"))
    assert not named.xattrs and "ACL" in named.note


@pytest.mark.parametrize("value", [0, 1, -1, 255, -256, 2**56, -(2**40), 2**62])
def test_base_256_both_signs(value: int) -> None:
    field = (value + (1 << 95) if value < 0 else value).to_bytes(12, "big")
    field = bytes([field[0] | 0x80]) + field[1:]
    assert h.number(field) == value
    block = bytearray(member(b"x"))
    block[136:148] = field
    assert one(resum(bytes(block))).mtime_ns == value * 10**9 if abs(value) < 2**62 else True


def test_signed_checksums_of_old_writers() -> None:
    raw = bytearray(member(b"\xff\xfe"))
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % (sum(b - 256 if b > 127 else b for b in raw))
    assert one(bytes(raw)).name == b"\xff\xfe"


def test_gnu_long_names_and_v7_directories() -> None:
    m = one(gnu_long(b"n" * 500) + gnu_long(b"l" * 600, h.GNU_LONGLINK) + member(b"x", type=h.SYM, linkname=b"y"))
    assert (m.name, m.linkname) == (b"n" * 500, b"l" * 600)
    v7 = bytearray(member(b"dir/", type=h.AREG))
    v7[257:265] = bytes(8)
    assert one(resum(bytes(v7))).type == h.DIR


@pytest.mark.parametrize("tail", [b"", bytes(512), END, END * 40, END + b"garbage behind the end", END + member(b"hidden") + END])
def test_every_end_that_gnu_tar_tolerates(tail: bytes) -> None:
    assert [m.name for m, _ in read(member(b"x", b"1") + tail)] == [b"x"]


def test_an_empty_archive_has_no_members() -> None:
    assert read(END) == [] == read(b"")


OLD_SPARSE = resum(member(b"x", type=h.GNU_SPARSE)[:257] + b"ustar  \0" + member(b"x")[265:386] + b"7" * 48 + member(b"x")[434:])
SPARSE_1_0 = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.realsize": b"9"}
BROKEN = {
    "lone zero block inside": member(b"x") + bytes(512) + member(b"y") + END,
    "unknown type": member(b"x", type=b"Q") + END,
    "multi-volume": member(b"x", type=b"M") + END,
    "checksum": member(b"x")[:-400] + b"\1" + member(b"x")[-399:] + END,
    "negative size": resum(member(b"x")[:124] + b"\xff" * 12 + member(b"x")[136:]) + END,
    "huge size": resum(member(b"x")[:124] + b"\x80" + b"\xff" * 11 + member(b"x")[136:]) + END,
    "size beyond the end": member(b"x", size=1 << 30) + END,
    "pax size negative": pax({b"size": b"-1"}) + member(b"x") + END,
    "pax size no number": pax({b"size": b"1e3"}) + member(b"x") + END,
    "pax length lies": member(b"p", b"99 path=x\n", type=h.PAX) + member(b"x") + END,
    "pax length zero": member(b"p", b"0 path=x\n", type=h.PAX) + member(b"x") + END,
    "pax without end of line": member(b"p", b"9 path=xy", type=h.PAX) + member(b"x") + END,
    "pax without key": member(b"p", b"5 =x\n", type=h.PAX) + member(b"x") + END,
    "pax without member": pax({b"path": b"x"}) + END,
    "pax path with NUL": pax({b"path": b"a\0b"}) + member(b"x") + END,
    "pax time": pax({b"mtime": b"inf"}) + member(b"x") + END,
    "pax time huge": pax({b"mtime": b"9" * 20}) + member(b"x") + END,
    "uid huge": pax({b"uid": b"4294967295"}) + member(b"x") + END,
    "uid negative": pax({b"uid": b"-2"}) + member(b"x") + END,
    "header bomb": member(b"p", size=1 << 40, type=h.PAX) + END,
    "long name bomb": member(b"p", size=1 << 40, type=h.GNU_LONGNAME) + END,
    "many pax headers": pax({b"comment": b"c" * 400_000}) * 3 + member(b"x") + END,
    "sparse 0.1 overlap": pax({b"GNU.sparse.size": b"9", b"GNU.sparse.map": b"0,4,2,4"}) + member(b"x", b"12345678") + END,
    "sparse 0.1 beyond": pax({b"GNU.sparse.size": b"9", b"GNU.sparse.map": b"8,4"}) + member(b"x", b"1234") + END,
    "sparse 0.1 sum": pax({b"GNU.sparse.size": b"9", b"GNU.sparse.map": b"0,3"}) + member(b"x", b"1234") + END,
    "sparse 0.1 huge": pax({b"GNU.sparse.size": b"%d" % 2**63, b"GNU.sparse.map": b"%d,4" % (2**63 - 4)}) + member(b"x", b"1234") + END,
    "sparse 0.0 odd": pax_many([(b"GNU.sparse.size", b"9"), (b"GNU.sparse.offset", b"0")]) + member(b"x") + END,
    "sparse 1.0 count": pax(SPARSE_1_0) + member(b"x", b"99999999\n".ljust(512)) + END,
    "sparse 1.0 text": pax(SPARSE_1_0) + member(b"x", b"1\nzz\n1\n".ljust(512)) + END,
    "sparse 2.0": pax({b"GNU.sparse.major": b"2", b"GNU.sparse.minor": b"0"}) + member(b"x", bytes(512)) + END,
    "base64": pax({b"LIBARCHIVE.xattr.user.a": b"A"}) + member(b"x") + END,
    "xattr too big": pax({b"SCHILY.xattr.user.a": b"A" * 70000}) + member(b"x") + END,
    "old sparse": OLD_SPARSE + END,
}  # fmt: skip


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_broken_is_refused(data: bytes) -> None:
    with pytest.raises(ArchiveError):
        read(data)


def test_a_refusal_names_the_member() -> None:
    with pytest.raises(ArchiveError, match=r"culprit"):
        read(member(b"fine", b"1") + member(b"culprit", size=99999) + END)
    with pytest.raises(ArchiveError, match=r"one\\n"):
        read(member(b"one\n") + member(b"x", type=b"Q")[:300])


def test_limits_hold() -> None:
    with pytest.raises(ArchiveError, match="more than 3 members"):
        read(member(b"x") * 4 + END, limits=Limits(members=3))
    with pytest.raises(ArchiveError, match="larger than"):
        list(TarReader(Source(io.BytesIO(member(b"x", bytes(5000))), limit=4000)))


def test_cut_off_anywhere_is_refused_by_name_or_is_a_whole_archive() -> None:
    parts = [
        pax({b"path": b"pp", b"SCHILY.xattr.user.a": b"1"}) + member(b"x", b"d" * 700),
        gnu_long(b"g" * 150) + member(b"y"),
        member(b"z", b"e" * 512),
    ]
    data = b"".join(parts) + END
    whole = {0, len(parts[0]), len(parts[0] + parts[1]), len(data) - 1024}
    for cut in range(len(data)):
        if cut in whole or cut == len(data) - 512:
            read(data[:cut])
            continue
        if len(data) - 512 < cut:
            read(data[:cut])  # a second zero block that is cut off hides nothing
            continue
        with pytest.raises(ArchiveError, match=r"pp|g{50}|\bz\b|first|pax|LongLink"):
            read(data[:cut])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=3000))
def test_any_bytes_are_members_or_an_archive_error(data: bytes) -> None:
    for attempt in (data, resum(data[:512]) + data[512:] if len(data) >= 512 else data):
        try:
            read(attempt)
        except ArchiveError:
            pass


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_honest_archives_with_bytes_changed_are_members_or_an_archive_error(data: st.DataObject) -> None:
    raw = bytearray(pax({b"path": b"p", b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.realsize": b"9000"}))
    raw += member(b"x", b"1\n4096\n3\n".ljust(512, b"\0") + b"abc") + gnu_long(b"n" * 120) + member(b"y", b"z") + END
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    for at in range(0, len(raw) - 1024, 512):
        if raw[at + 257 : at + 262] == b"ustar" and data.draw(st.booleans()):
            raw[at : at + 512] = resum(bytes(raw[at : at + 512]))
    try:
        read(bytes(raw))
    except ArchiveError:
        pass


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=20).filter(lambda k: b"=" not in k), st.binary(max_size=200))))
def test_pax_records_come_back(records: list[tuple[bytes, bytes]]) -> None:
    assert h.pax_parse(b"".join(h.pax_record(k, v) for k, v in records)) == records


@given(st.integers(-(2**62), 2**62))
def test_pax_times_come_back(ns: int) -> None:
    assert h.pax_time(h.format_time(ns)) == ns
