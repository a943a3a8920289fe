# SPDX-License-Identifier: Apache-2.0
"""Honest archives become the tree they tell of, in all three modes; GNU tar is the oracle."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
import subprocess
from pathlib import Path

import pytest

from lamina.errors import ArchiveError, InvalidArgument, StoreError
from lamina.layers.tar import header as h
from lamina.layers.tar.extract import extract
from lamina.layers.tar.limits import Limits
from lamina.layers.tar.lower import Lower
from tests.layers.tar.conftest import Extract
from tests.layers.tar.tarmake import END, member, pax, snapshot

OPAQUE = "trusted.overlay.opaque"
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)


def is_whiteout(path: Path) -> bool:
    st = path.lstat()
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0


def rich_tree(tree: Path) -> None:
    (tree / "bin").mkdir(parents=True)
    prog = tree / "bin" / "prog"
    prog.write_bytes(os.urandom(3_000_000))
    os.chown(prog, 5, 6)
    prog.chmod(0o6755)
    os.setxattr(prog, "security.capability", CAPABILITY)
    os.setxattr(prog, "user.note", b"\0\xff\n=")
    os.link(prog, tree / "bin" / "other")
    os.symlink("prog", tree / "bin" / "link")
    os.symlink("/nowhere/" + "x" * 200, tree / "bin" / "long")
    os.chown(tree / "bin" / "link", 7, 8, follow_symlinks=False)
    os.utime(tree / "bin" / "link", ns=(0, -5_000_000_001), follow_symlinks=False)
    os.mkfifo(tree / "fifo", 0o604)
    os.mknod(tree / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(tree / "disk", stat.S_IFBLK | 0o660, os.makedev(7, 4095))
    (tree / "empty").touch()
    deep = tree / "deep" / ("a" * 120) / ("b" * 120)
    deep.mkdir(parents=True)
    (deep / "leaf").write_text("leaf")
    (tree / os.fsdecode(b"not-utf8-\xff\xfe")).write_text("n")
    with (tree / "holes").open("wb") as f:
        f.seek(1 << 20)
        f.write(b"middle")
        f.truncate(8 << 20)
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", *e) for e in [(1, 7, 2**32 - 1), (2, 5, 1000), (4, 5, 2**32 - 1), (16, 5, 2**32 - 1), (32, 0, 2**32 - 1)]
    )
    os.setxattr(tree / "deep", "system.posix_acl_access", acl)
    os.setxattr(tree / "deep", "system.posix_acl_default", acl)
    os.chmod(tree / "bin", 0o1777)
    os.utime(tree / "deep", ns=(0, 1_111_111_111_222_333_444))


@pytest.mark.parametrize("options", [["--format=pax"], ["--format=pax", "-S"], ["--format=gnu", "-S"]], ids=" ".join)
@pytest.mark.parametrize("mode", ["plain", "layer-overlay", "layer-apply"])
def test_a_rich_tree_comes_back(tmp_path: Path, root: Path, run: Extract, options: list[str], mode: str) -> None:
    tree = tmp_path / "tree"
    rich_tree(tree)
    if "--format=gnu" in options:
        for path in tree.rglob("*"):
            if not path.is_symlink():
                os.utime(path, (10**9, 10**9))
        os.utime(tree / "bin" / "link", (10**9, 10**9), follow_symlinks=False)
        os.utime(tree / "bin" / "long", (10**9, 10**9), follow_symlinks=False)
        for path, names in [
            (tree / "bin" / "prog", ["security.capability", "user.note"]),
            (tree / "deep", ["system.posix_acl_access", "system.posix_acl_default"]),
        ]:
            for name in names:
                os.removexattr(path, name)
    extra = ["--xattrs", "--xattrs-include=*"] if "--format=pax" in options else []
    data = subprocess.run(["tar", "-C", tree, "--numeric-owner", *options, *extra, "-c", "."], check=True, capture_output=True).stdout
    done = run(data, mode=mode)
    assert snapshot(root) == snapshot(tree)
    assert (root / "bin" / "other").stat().st_ino == (root / "bin" / "prog").stat().st_ino
    assert done.digest == "sha256:" + hashlib.sha256(data).hexdigest() and done.size == len(data)
    if "-S" in options:
        assert (root / "holes").stat().st_blocks * 512 < 1 << 20


def test_the_order_keeps_setuid_and_capabilities(run: Extract, root: Path) -> None:
    run(pax({b"SCHILY.xattr.security.capability": CAPABILITY}) + member(b"f", b"x", mode=0o6755, uid=9, gid=9) + END)
    assert (root / "f").stat().st_mode & 0o7777 == 0o6755
    assert os.getxattr(root / "f", "security.capability") == CAPABILITY


def test_modes_do_not_depend_on_the_umask(run: Extract, root: Path) -> None:
    old = os.umask(0o077)
    try:
        run(member(b"a/f", b"x", mode=0o666) + member(b"d/", type=h.DIR, mode=0o777) + member(b"p", type=h.FIFO, mode=0o622) + END)
    finally:
        os.umask(old)
    assert [(root / n).stat().st_mode & 0o777 for n in ("a", "a/f", "d", "p")] == [0o755, 0o666, 0o777, 0o622]


def test_last_member_wins(run: Extract, root: Path) -> None:
    data = member(b"f", b"one") + member(b"f", b"three") + member(b"d/", type=h.DIR) + member(b"d/x", b"1") + member(b"d", b"file")
    data += (
        member(b"e", b"file") + member(b"e/", type=h.DIR, mode=0o700) + member(b"s", type=h.SYM, linkname=b"f") + member(b"s", b"own") + END
    )
    run(data, mode="plain")
    assert (root / "f").read_text() == "three" and (root / "d").read_text() == "file"
    assert (root / "e").is_dir() and (root / "s").read_text() == "own" and not (root / "s").is_symlink()


def test_directory_times_and_missing_parents(run: Extract, root: Path) -> None:
    run(
        member(b"./", type=h.DIR, mode=0o711, mtime=5)
        + member(b"d/", type=h.DIR, mtime=7)
        + member(b"d/f", b"1")
        + member(b"i/j/k", b"1", mtime=9)
        + END
    )
    assert [int((root / n).stat().st_mtime) for n in (".", "d", "i", "i/j")] == [5, 7, 9, 9]
    assert root.stat().st_mode & 0o777 == 0o711


def test_parents_that_are_links_are_followed_within_the_root(run: Extract, root: Path) -> None:
    run(
        member(b"usr/lib/", type=h.DIR)
        + member(b"lib", type=h.SYM, linkname=b"/usr/lib")
        + member(b"lib/so", b"1")
        + member(b"lib/../x", b"2")
        + END
    )
    assert (root / "usr/lib/so").read_text() == "1" and (root / "x").read_text() == "2"


# -- whiteouts


def test_overlay_whiteouts(run: Extract, root: Path) -> None:
    run(member(b"a/.wh.gone") + member(b"b/.wh..wh..opq") + member(b"b/kept", b"1") + END)
    assert is_whiteout(root / "a" / "gone") and os.getxattr(root / "b", OPAQUE) == b"y" and (root / "b" / "kept").exists()
    assert not list(root.rglob(".wh*"))


@pytest.mark.parametrize("flip", [False, True])
def test_a_whiteout_spares_its_own_layer(run: Extract, root: Path, flip: bool) -> None:
    both = [member(b".wh.d") + member(b".wh.f"), member(b"d/", type=h.DIR) + member(b"d/x", b"1") + member(b"f", b"2")]
    run(b"".join(both[::-1] if flip else both) + END)
    assert (root / "d" / "x").exists() and os.getxattr(root / "d", OPAQUE) == b"y" and (root / "f").read_text() == "2"


def test_a_directory_that_replaces_a_file_hides_what_is_below(run: Extract, root: Path) -> None:
    run(member(b"d", b"file") + member(b"d/", type=h.DIR) + END)
    assert os.getxattr(root / "d", OPAQUE) == b"y"


def test_aufs_metadata_is_left_out(run: Extract, root: Path) -> None:
    run(
        member(b".wh..wh.plnk/", type=h.DIR)
        + member(b".wh..wh.plnk/1.2", b"data")
        + member(b".wh..wh.aufs", b"x")
        + member(b"f", b"1")
        + END
    )
    assert os.listdir(root) == ["f"]


@pytest.mark.parametrize("flip", [False, True])
def test_apply_deletes_what_was_there_and_keeps_what_comes(run: Extract, root: Path, flip: bool) -> None:
    for name in ("a/old", "b/old", "b/sub/old", "c"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("old")
    parts = [member(b".wh.c") + member(b"b/.wh..wh..opq") + member(b"a/.wh.old"), member(b"b/sub/new", b"1") + member(b"b/new", b"2")]
    run(b"".join(parts[::-1] if flip else parts) + END, mode="layer-apply")
    assert sorted(str(p.relative_to(root)) for p in root.rglob("*")) == ["a", "b", "b/new", "b/sub", "b/sub/new"]


def test_plain_knows_no_whiteouts(run: Extract, root: Path) -> None:
    run(member(b".wh.x", b"1") + END, mode="plain")
    assert (root / ".wh.x").read_text() == "1"


# -- layers below


@pytest.fixture
def below(tmp_path: Path) -> list[str]:
    top, base = tmp_path / "top", tmp_path / "base"
    for path in (top / "opt", base / "opt", base / "usr" / "lib", base / "secret", top / "hidden", base / "hidden" / "in"):
        path.mkdir(parents=True)
    os.symlink("usr/lib", base / "lib")
    (base / "usr" / "lib" / "so").write_text("library")
    (base / "opt" / "gone").write_text("x")
    os.mknod(top / "opt" / "gone", stat.S_IFCHR, 0)
    os.setxattr(top / "hidden", OPAQUE, b"y")
    (base / "secret").chmod(0o700)
    os.chown(base / "secret", 3, 4)
    os.utime(base / "secret", (77, 77))
    return [str(top), str(base)]


def test_a_missing_parent_is_as_the_layer_below_has_it(run: Extract, root: Path, below: list[str]) -> None:
    with Lower(below) as lower:
        done = run(member(b"secret/f", b"1") + END, lower=lower)
    st = (root / "secret").stat()
    assert (st.st_mode & 0o777, st.st_uid, st.st_gid, st.st_mtime) == (0o700, 3, 4, 77) and done.shaped_by_parent


def test_a_link_of_the_layer_below_is_followed(run: Extract, root: Path, below: list[str]) -> None:
    with Lower(below) as lower:
        done = run(member(b"lib/new", b"1") + END, lower=lower)
    assert (root / "usr/lib/new").exists() and not (root / "lib").exists() and done.shaped_by_parent


def test_a_hard_link_into_the_layer_below_brings_the_file_up(run: Extract, root: Path, below: list[str]) -> None:
    with Lower(below) as lower:
        done = run(member(b"copy", type=h.LINK, linkname=b"lib/so") + END, lower=lower)
        assert (root / "copy").read_text() == "library" and (root / "copy").stat().st_ino == (root / "usr/lib/so").stat().st_ino
        assert done.shaped_by_parent
        with pytest.raises(ArchiveError, match="not there"):
            run(member(b"copy2", type=h.LINK, linkname=b"opt/gone") + END, lower=lower)


def test_hiding_the_root_is_done_by_whiteouts(run: Extract, root: Path, below: list[str]) -> None:
    with Lower(below) as lower:
        run(member(b".wh..wh..opq") + member(b"opt/", type=h.DIR) + END, lower=lower)
    assert is_whiteout(root / "lib") and is_whiteout(root / "usr") and os.getxattr(root / "opt", OPAQUE) == b"y"


def test_lower_shows_the_union(below: list[str]) -> None:
    with Lower(below) as lower:
        assert lower.listdir(b"opt") == [] and lower.listdir(b"hidden") == []
        assert lower.stat(b"hidden/in") is None and lower.stat(b"opt/gone") is None
        assert lower.readlink(b"lib") == b"usr/lib" and lower.listdir(b"") == [b"hidden", b"lib", b"opt", b"secret", b"usr"]


def test_layers_that_say_everything_are_not_shaped(run: Extract, below: list[str]) -> None:
    with Lower(below) as lower:
        assert not run(member(b"opt/", type=h.DIR) + member(b"opt/x", b"1") + member(b"new/x", b"1") + END, lower=lower).shaped_by_parent


# -- refusals


def test_limits_and_a_full_disk(run: Extract) -> None:
    with pytest.raises(ArchiveError, match="more than 2 members"):
        run(member(b"a") + member(b"b") + member(b"c") + END, limits=Limits(members=2))
    with pytest.raises(StoreError, match="not enough space"):
        run(member(b"a", b"x") + END, limits=Limits(reserve_bytes=1 << 60))
    with pytest.raises(StoreError, match="inodes"):
        run(member(b"a", b"x") + END, limits=Limits(reserve_inodes=1 << 60))


def test_unknown_mode_and_many_open_directories(run: Extract, root: Path) -> None:
    with pytest.raises(InvalidArgument):
        run(END, mode="docker")
    names = [b"/".join(b"%d" % ((i >> s) % 7) for s in (0, 3, 6)) + b"/f%d" % i for i in range(500)]
    before = len(os.listdir("/proc/self/fd"))
    run(b"".join(member(n, n) for n in names) + END)
    assert all((root / os.fsdecode(n)).read_bytes() == n for n in names)
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_the_file_system_refuses_is_told(run: Extract) -> None:
    with pytest.raises(ArchiveError, match="link.*user.x.*can't be set"):
        run(pax({b"SCHILY.xattr.user.x": b"1"}) + member(b"link", type=h.SYM, linkname=b"t") + END)
    run(pax({b"SCHILY.xattr.com.apple.provenance": b"1"}) + member(b"f") + END)


def test_short_reads_and_small_pieces(tmp_path: Path) -> None:
    class Drip(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self._left = data

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            n = min(len(buffer), 97, len(self._left))
            buffer[:n], self._left = self._left[:n], self._left[n:]
            return n

    data = member(b"f", bytes(range(256)) * 40) + member(b"g", b"z") + END
    fd = os.open(tmp_path, os.O_RDONLY)
    assert extract(Drip(data), fd).digest == "sha256:" + hashlib.sha256(data).hexdigest()  # type: ignore[arg-type]
    os.close(fd)
    assert (tmp_path / "f").read_bytes() == bytes(range(256)) * 40
