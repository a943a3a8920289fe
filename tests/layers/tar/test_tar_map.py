# SPDX-License-Identifier: Apache-2.0
"""Any archive that was ingested is given back byte for byte; a tree or map that no longer can is told, never passed on."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.errors import ArchiveError, StoreError
from lamina.layers.tar import header as h
from lamina.layers.tar.extract import extract
from lamina.layers.tar.pack import pack_overlay
from lamina.layers.tar.tarmap import Recorder, assemble
from tests.layers.tar.tarmake import END, gnu_long, member, pax
from tests.layers.tar.test_tar_extract import rich_tree


def ingest(data: bytes, directory: Path, mode: str = "layer-overlay") -> tuple[Path, int]:
    """(map, fd of the tree)."""
    (directory / "diff").mkdir()
    fd = os.open(directory / "diff", os.O_RDONLY)
    with (directory / "map").open("wb") as out:
        extract(io.BytesIO(data), fd, mode=mode, recorder=Recorder(out))
    return directory / "map", fd


def again(data: bytes, directory: Path, mode: str = "layer-overlay") -> None:
    path, fd = ingest(data, directory, mode)
    out = io.BytesIO()
    try:
        assemble(path, fd, out.write)
    finally:
        os.close(fd)
    assert out.getvalue() == data


CASES = {
    "empty": b"",
    "only zeros": END * 20,
    "no end": member(b"f", b"1"),
    "garbage behind the end": member(b"f", b"1") + END + b"garbage" * 1000,
    "another archive behind the end": member(b"f", b"1") + END + member(b"g", b"2") + END,
    "padding that isn't zeros": member(b"f", b"1")[:513] + b"p" * 511 + END,
    "overwritten": member(b"f", b"one") + member(b"f", b"second") + member(b"f", b"third") + END,
    "overwritten by a directory": member(b"d", b"file" * 5000) + member(b"d/", type=h.DIR) + member(b"d/x", b"in") + END,
    "a directory overwritten": member(b"d/a/b", b"1") + member(b"d/c", b"2") + member(b"d", b"file") + member(b"d/..", type=h.DIR) + END,
    "linked, then overwritten": member(b"f", b"data") + member(b"l", type=h.LINK, linkname=b"f") + member(b"f", b"new") + END,
    "whiteouts with data": member(b".wh.x", b"why") + member(b".wh..wh.plnk/7", b"aufs") + END,
    "whiteout of its own": member(b"f", b"1") + member(b".wh.f") + END,
    "long names": gnu_long(b"n" * 200) + member(b"n", b"1") + pax({b"path": b"\xff" * 150}) + member(b"x", b"2") + END,
    "through links": member(b"lib", type=h.SYM, linkname=b"usr/lib") + member(b"lib/x", b"1") + member(b"usr/lib/y", b"2") + END,
    "link replaced": member(b"l", type=h.SYM, linkname=b"a")
    + member(b"l/x", b"1")
    + member(b"l", type=h.SYM, linkname=b"b")
    + member(b"l/x", b"2")
    + END,
    "global header": pax({b"comment": b"git"}, h.PAX_GLOBAL) + member(b"f", b"1") + END,
    "label": member(b"volume", type=h.GNU_LABEL) + member(b"f", b"1") + END,
    "sparse overwritten": pax({b"GNU.sparse.size": b"9000", b"GNU.sparse.map": b"0,3,8000,2"})
    + member(b"s", b"abcde")
    + member(b"s", b"x")
    + END,
    "sparse": pax({b"GNU.sparse.size": b"9000", b"GNU.sparse.map": b"0,3,8000,2"}) + member(b"s", b"abcde") + END,
}


@pytest.mark.parametrize("data", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("mode", ["layer-overlay", "layer-apply"])
def test_exactly_again(tmp_path: Path, data: bytes, mode: str) -> None:
    again(data, tmp_path, mode)


@pytest.mark.parametrize(
    "options",
    [["--format=gnu", "-S"], ["--format=pax", "-S"], ["--format=oldgnu"], ["--format=pax", "--sparse-version=0.0", "-S"]],
    ids=" ".join,
)
def test_what_gnu_tar_makes_of_a_rich_tree(tmp_path: Path, options: list[str]) -> None:
    rich_tree(tmp_path / "tree")
    again(subprocess.run(["tar", "-C", tmp_path / "tree", *options, "-c", "."], check=True, capture_output=True).stdout, tmp_path)


NAME = st.sampled_from([b"a", b"b", b"a/x", b"a/y", b"b/x", b"a/x/deep", b"c", b"c/x", b".wh.a", b"a/.wh.x", b"b/.wh..wh..opq"])
MEMBER = st.builds(
    lambda name, kind, data, link: (
        member(name, data, mtime=len(data)) if kind == h.REG else member(name, type=kind, linkname=link if kind in (h.SYM, h.LINK) else b"")
    ),
    NAME,
    st.sampled_from([h.REG, h.REG, h.REG, h.DIR, h.SYM, h.LINK, h.FIFO]),
    st.binary(max_size=1500),
    st.sampled_from([b"a", b"b", b"c", b"a/x", b"../b", b"/c", b"."]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(MEMBER, max_size=12), st.binary(max_size=20), st.sampled_from(["layer-overlay", "layer-apply", "plain"]))
def test_any_order_of_members_that_is_accepted_comes_back(members: list[bytes], tail: bytes, mode: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        data = b"".join(members) + END + tail
        try:
            again(data, Path(name), mode)
        except ArchiveError:
            pass


def test_a_packed_layer_has_a_short_map(tmp_path: Path) -> None:
    rich_tree(tmp_path / "tree")
    os.mknod(tmp_path / "tree" / "gone", 0o020000, 0)
    (tmp_path / "diff").mkdir()
    fd, to = os.open(tmp_path / "tree", os.O_RDONLY), os.open(tmp_path / "diff", os.O_RDONLY)
    packed, again_ = io.BytesIO(), io.BytesIO()
    with (tmp_path / "map").open("wb") as out:
        done = pack_overlay(fd, packed.write, copy_to=to, tarmap=out)
    shutil.rmtree(tmp_path / "tree")
    assert assemble(tmp_path / "map", to, again_.write) == (done.digest[7:], done.size)
    assert again_.getvalue() == packed.getvalue() and (tmp_path / "map").stat().st_size < 200
    (tmp_path / "diff" / "empty").write_text("changed")
    with pytest.raises(StoreError, match="no longer"):
        assemble(tmp_path / "map", to, None)
    os.close(fd)
    os.close(to)


def test_a_changed_tree_is_told(tmp_path: Path) -> None:
    path, fd = ingest(member(b"d/f", b"data") + END, tmp_path)
    file = tmp_path / "diff" / "d" / "f"
    for change, message in [
        (lambda: file.write_text("DATA"), "no longer gives"),
        (lambda: file.write_text("x"), "shorter"),
        (file.unlink, "can't be read"),
        (lambda: file.symlink_to("/etc/passwd"), "can't be read"),
        (lambda: (file.unlink(), file.parent.rmdir(), file.parent.symlink_to("/etc")), "can't be read"),
    ]:
        change()  # type: ignore[no-untyped-call]
        with pytest.raises(StoreError, match=message):
            assemble(path, fd, None)
    os.close(fd)


def test_a_damaged_map_is_told_wherever_it_is_damaged(tmp_path: Path) -> None:
    data = member(b"f", b"one") + member(b"f", b"two") + END
    path, fd = ingest(data, tmp_path)
    refused = 0
    good = path.read_bytes()
    for at in range(len(good)):
        for damaged in (good[:at], good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :]):
            path.write_bytes(damaged)
            out = io.BytesIO()
            try:
                assemble(path, fd, out.write)
            except StoreError:
                refused += 1
            else:
                assert out.getvalue() == data, "a damage that changes nothing is the only one that may pass"
    os.close(fd)
    assert refused > 1.9 * len(good)
