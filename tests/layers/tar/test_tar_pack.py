# SPDX-License-Identifier: Apache-2.0
"""Trees become tars: the same bytes for the same state, what tarfile and GNU tar read back, whiteouts as OCI has them; and changes as
docker tells them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
import stat
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.errors import StoreError
from lamina.layers.tar.changes import changes_overlay, changes_tree
from lamina.layers.tar.extract import extract
from lamina.layers.tar.pack import pack_overlay, pack_tree
from lamina.layers.tar.packdiff import pack_diff
from tests.layers.tar.tarmake import snapshot
from tests.layers.tar.test_tar_extract import OPAQUE, is_whiteout, rich_tree


@contextlib.contextmanager
def opened(*paths: Path) -> Iterator[list[int]]:
    fds = [os.open(p, os.O_RDONLY) for p in paths]
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def tar_of(path: Path) -> bytes:
    out = io.BytesIO()
    with opened(path) as [fd]:
        done = pack_overlay(fd, out.write)
    data = out.getvalue()
    assert done.digest == "sha256:" + hashlib.sha256(data).hexdigest() and done.size == len(data)
    return data


def names(data: bytes) -> list[str]:
    return tarfile.open(fileobj=io.BytesIO(data)).getnames()


def test_the_same_state_gives_the_same_bytes_and_comes_back(tmp_path: Path, root: Path) -> None:
    tree = tmp_path / "tree"
    rich_tree(tree)
    data = tar_of(tree)
    for path in tree.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.read_bytes()  # atimes
    assert tar_of(tree) == data
    with opened(root) as [fd]:
        extract(io.BytesIO(data), fd)
    assert snapshot(root) == snapshot(tree)
    assert tar_of(root) == data, "a tree that was extracted packs to the same bytes"


def test_the_copy_is_the_same_tree(tmp_path: Path, root: Path) -> None:
    tree = tmp_path / "tree"
    rich_tree(tree)
    (tree / "opaque").mkdir()
    os.setxattr(tree / "opaque", OPAQUE, b"y")
    os.setxattr(tree / "opaque", "trusted.overlay.origin", b"1")
    os.mknod(tree / "gone", stat.S_IFCHR, 0)
    out = io.BytesIO()
    with opened(tree, root) as [fd, to]:
        pack_overlay(fd, out.write, copy_to=to)
    assert out.getvalue() == tar_of(tree) == tar_of(root)
    assert (root / "holes").stat().st_blocks * 512 < 1 << 20
    assert is_whiteout(root / "gone") and os.listxattr(root / "opaque") == [OPAQUE]
    assert (root / "bin" / "other").stat().st_ino == (root / "bin" / "prog").stat().st_ino


def test_python_and_gnu_tar_agree_on_what_was_written(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    rich_tree(tree)
    with tarfile.open(fileobj=io.BytesIO(tar_of(tree))) as tar:
        found = {m.name: m for m in tar}
    assert list(found) == sorted(found, key=lambda n: [os.fsencode(p) for p in n.split("/")])
    for name, m in found.items():
        st = (tree / name).lstat()
        assert (m.mode, m.uid, m.gid) == (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) and not m.uname and not m.gname
        assert abs(m.mtime - st.st_mtime) < 1e-6
    assert found["bin/prog"].islnk() and found["bin/prog"].linkname == "bin/other"
    assert found["holes"].size == 8 << 20


def test_whiteouts_and_opaque_directories(tmp_path: Path) -> None:
    (tmp_path / "d" / "sub").mkdir(parents=True)
    os.mknod(tmp_path / "d" / "gone", stat.S_IFCHR, 0)
    os.link(tmp_path / "d" / "gone", tmp_path / "d" / "too")  # overlay shares one inode between its whiteouts
    os.setxattr(tmp_path / "d", OPAQUE, b"y")
    (tmp_path / "d" / "a").touch()
    assert names(tar_of(tmp_path)) == ["d", "d/.wh..wh..opq", "d/a", "d/.wh.gone", "d/sub", "d/.wh.too"]
    assert b"overlay" not in tar_of(tmp_path)


def test_sockets_are_left_out_and_a_tree_keeps_devices(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "sock"))
        os.mknod(tmp_path / "zero", stat.S_IFCHR, os.makedev(1, 5))
        assert names(tar_of(tmp_path)) == ["zero"]
        out = io.BytesIO()
        with opened(tmp_path) as [fd]:
            pack_tree(fd, out.write)
        assert names(out.getvalue()) == ["zero"]


@pytest.mark.parametrize("name", ["trusted.overlay.redirect", "trusted.overlay.metacopy"])
def test_what_a_layer_cannot_say_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "f").touch()
    os.setxattr(tmp_path / "f", name, b"/x")
    with pytest.raises(StoreError, match="f: overlay's"):
        tar_of(tmp_path)


def test_a_file_named_like_a_whiteout_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".wh.etc").touch()
    with pytest.raises(StoreError, match=r"\.wh\.etc"):
        tar_of(tmp_path)


def test_special_names_xattrs_and_times_come_back(tmp_path: Path, root: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for i, name in enumerate([b"n" * 101, b"d" * 90 + b"\xff", b"\xc3\xbc", b"a b\nc", b"%", b"x" * 255]):
        path = tree / os.fsdecode(name)
        path.write_bytes(name)
        os.setxattr(path, "user.k=v", b"=%d\n" % i)
        os.utime(path, ns=(0, (-1) ** i * (10**18 + i)))
        os.chown(path, 4_000_000_000, 2_097_152)
    with opened(root) as [fd]:
        extract(io.BytesIO(tar_of(tree)), fd)
    assert snapshot(root) == snapshot(tree)


def test_a_file_that_shrinks_keeps_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"x" * 100_000)
    real = os.fstat

    def shrinking(fd: int) -> os.stat_result:
        st = real(fd)
        if stat.S_ISREG(st.st_mode) and st.st_size == 100_000:
            os.truncate(tmp_path / "f", 10_000)
        return st

    monkeypatch.setattr(os, "fstat", shrinking)
    with opened(tmp_path) as [fd]:
        out = io.BytesIO()
        done = pack_overlay(fd, out.write)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        file = tar.extractfile("f")
        assert file is not None and file.read() == b"x" * 10_000 + bytes(90_000)
    assert "shrank" in done.notes[0]


def test_no_thread_and_no_descriptor_is_left(tmp_path: Path) -> None:
    rich_tree(tmp_path / "tree")
    before = len(os.listdir("/proc/self/fd"))
    tar_of(tmp_path / "tree")
    (tmp_path / "tree" / ".wh.x").touch()
    with pytest.raises(StoreError):
        tar_of(tmp_path / "tree")
    assert threading.active_count() == 1 and len(os.listdir("/proc/self/fd")) == before


# -- changes


def lay(root: Path) -> None:
    for path in ("etc", "usr/share/doc/bash", "usr/bin", "media", "opt", "srv", "mnt"):
        (root / path).mkdir(parents=True)
    for path in ("etc/passwd", "etc/fstab", "usr/share/doc/bash/a", "usr/share/doc/bash/b", "usr/bin/x", "usr/bin/same"):
        (root / path).write_text(path)
        os.utime(root / path, (10**9, 10**9))


EXPECTED = [
    *[
        ("C", b"/etc"),
        ("D", b"/etc/fstab"),
        ("A", b"/etc/fstab2"),
        ("C", b"/etc/passwd"),
        ("C", b"/media"),
        ("A", b"/new"),
        ("A", b"/new/f"),
    ],
    *[
        ("C", b"/srv"),
        ("C", b"/usr"),
        ("C", b"/usr/bin"),
        ("C", b"/usr/bin/x"),
        ("A", b"/usr/bin/x/in"),
        ("C", b"/usr/share"),
        ("C", b"/usr/share/doc"),
    ],
    *[("C", b"/usr/share/doc/bash"), ("D", b"/usr/share/doc/bash/a"), ("D", b"/usr/share/doc/bash/b"), ("A", b"/usr/share/doc/bash/n")],
]


def test_changes_of_an_upper_directory(tmp_path: Path, root: Path) -> None:
    """The expectation is what docker 20.10 printed for the same steps in a container."""
    low = tmp_path / "low"
    lay(low)
    for path in ("etc", "usr/share/doc/bash", "usr/bin/x", "opt", "srv", "mnt", "new"):
        (root / path).mkdir(parents=True)
    (root / "etc" / "fstab2").touch()
    os.mknod(root / "etc" / "fstab", stat.S_IFCHR, 0)
    (root / "etc" / "passwd").write_text("etc/passwd")
    (root / "etc" / "passwd").chmod(0o600)
    (root / "media").touch()
    (root / "new" / "f").touch()
    (root / "srv").chmod(0o700)
    (root / "usr/bin/same").write_text("usr/bin/same")
    os.utime(root / "usr/bin/same", (10**9, 10**9))
    (root / "usr/bin/x/in").touch()
    (root / "usr/share/doc/bash/n").touch()
    for path in ("usr/bin/x", "usr/share/doc/bash", "mnt"):
        os.setxattr(root / path, OPAQUE, b"y")
    os.mknod(root / "never-there", stat.S_IFCHR, 0)
    with opened(root, low) as [fd, below]:
        assert changes_overlay(fd, [below]) == EXPECTED


def test_changes_see_through_several_layers(tmp_path: Path, root: Path) -> None:
    top, base = tmp_path / "top", tmp_path / "base"
    for path in (top / "d", base / "d", base / "gone"):
        path.mkdir(parents=True)
    for path in (base / "d" / "f", base / "gone" / "f", base / "hidden"):
        path.write_text("1")
    os.mknod(top / "hidden", stat.S_IFCHR, 0)
    os.mknod(top / "gone", stat.S_IFCHR, 0)
    for name in ("d/f", "hidden", "gone/f"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("22")
    with opened(root, top, base) as [fd, *below]:
        assert changes_overlay(fd, below) == [("C", b"/d"), ("C", b"/d/f"), ("A", b"/gone"), ("A", b"/gone/f"), ("A", b"/hidden")]


def test_two_trees_and_the_layer_between_them(tmp_path: Path, root: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    lay(old)
    lay(new)
    (new / "etc/fstab").unlink()
    (new / "etc/passwd").write_text("longer than before")
    (new / "usr/share/doc/bash/a").unlink()
    (new / "media").rmdir()
    (new / "media").write_text("file")
    (new / "new").mkdir()
    (new / "new/f").write_text("f")
    os.link(new / "new/f", new / "new/g")
    out = io.BytesIO()
    with opened(old, new, root) as [a, b, target]:
        assert changes_tree(a, a) == []
        pack_diff(a, b, out.write)
        base = io.BytesIO()
        pack_tree(a, base.write)
        extract(io.BytesIO(base.getvalue()), target)
        extract(io.BytesIO(out.getvalue()), target, mode="layer-apply")
        assert changes_tree(b, target) == []
    assert "etc/.wh.fstab" in names(out.getvalue()) and "usr/bin/same" not in names(out.getvalue())
