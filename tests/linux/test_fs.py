# SPDX-License-Identifier: Apache-2.0
"""open_beneath and mkdirs_beneath stay inside their root, by openat2 and by the walk alike."""
from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lamina.linux import _libc, fs


@pytest.fixture(params=[False, True], ids=["openat2", "walk"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(fs, "force_fallback", request.param)
    inner = tmp_path / "root"
    (inner / "dir/deep").mkdir(parents=True)
    (inner / "etc").mkdir()
    (tmp_path / "secret").write_text("outside")
    (inner / "etc/passwd").write_text("inside")
    (inner / "abs").symlink_to("/etc/passwd")
    (inner / "up").symlink_to("../../../../../../etc/passwd")
    (inner / "outdir").symlink_to(str(tmp_path))
    (inner / "dangling").symlink_to("/made/here")
    (inner / "loop").symlink_to("loop")
    (inner / "dir/link").symlink_to("deep/../../etc")
    before = len(os.listdir("/proc/self/fd"))
    fd = os.open(inner, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)
    assert len(os.listdir("/proc/self/fd")) == before, "an fd leaked"


def read(root: int, path: str, flags: int = 0) -> str:
    fd = fs.open_beneath(root, path, os.O_RDONLY | flags)
    with os.fdopen(fd) as f:
        return f.read()


WAYS = ["etc/passwd", "/etc/passwd", "abs", "up", "/../../etc/passwd", "dir/link/passwd", "dir//deep/./../../etc/passwd"]


@pytest.mark.parametrize("path", WAYS)
def test_everything_leads_to_the_file_inside(root: int, path: str) -> None:
    assert read(root, path) == "inside"


def test_a_link_out_finds_nothing(root: int) -> None:
    with pytest.raises(FileNotFoundError) as e:
        read(root, "outdir/secret")
    assert e.value.filename == "outdir/secret"


def number(root: int, path: str, flags: int) -> int:
    with pytest.raises(OSError) as e:
        os.close(fs.open_beneath(root, path, flags))
    return e.value.errno or 0


def test_errors_are_those_of_open(root: int) -> None:
    assert number(root, "abs", os.O_NOFOLLOW) == errno.ELOOP
    assert number(root, "loop", 0) == errno.ELOOP
    assert number(root, "etc/passwd/x", 0) == errno.ENOTDIR
    assert number(root, "etc/passwd/", 0) == errno.ENOTDIR
    assert number(root, "etc", os.O_WRONLY) == errno.EISDIR
    assert number(root, "etc/passwd", os.O_CREAT | os.O_EXCL | os.O_WRONLY) == errno.EEXIST


def test_magic_links_are_refused_and_plain_ones_of_proc_are_not(root: int) -> None:
    host = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        assert number(host, "/proc/self/root/etc", 0) == errno.ELOOP
        assert number(host, f"/proc/self/fd/{root}", os.O_PATH) == errno.ELOOP
        assert read(host, "/proc/self/stat").startswith(f"{os.getpid()} ")
    finally:
        os.close(host)


def test_create_through_a_dangling_link_stays_inside(root: int) -> None:
    os.close(fs.mkdirs_beneath(root, "made"))
    fd = fs.open_beneath(root, "dangling", os.O_CREAT | os.O_WRONLY, 0o640)
    os.close(fd)
    st = os.stat("made/here", dir_fd=root)
    assert st.st_mode & 0o777 == 0o640


def test_open_path_of_a_link_itself(root: int) -> None:
    fd = fs.open_beneath(root, "abs", os.O_PATH | os.O_NOFOLLOW)
    assert os.readlink("", dir_fd=fd) == "/etc/passwd"
    os.close(fd)


def test_the_root_itself(root: int) -> None:
    for path in ("", "/", ".", "..", "/.."):
        fd = fs.open_beneath(root, path, os.O_RDONLY | os.O_DIRECTORY)
        assert os.path.sameopenfile(fd, root)
        os.close(fd)


def test_mkdirs_makes_what_is_missing_with_mode_and_owner(root: int) -> None:
    old = os.umask(0o077)
    try:
        fd = fs.mkdirs_beneath(root, "/dir/a/b", 0o751, 12, 34)
    finally:
        os.umask(old)
    assert os.path.samestat(os.fstat(fd), os.stat("dir/a/b", dir_fd=root))
    os.close(fd)
    for path in ("dir/a", "dir/a/b"):
        st = os.stat(path, dir_fd=root)
        assert (st.st_mode & 0o7777, st.st_uid, st.st_gid) == (0o751, 12, 34)
    assert os.stat("dir", dir_fd=root).st_uid == 0, "what existed is left alone"


def test_mkdirs_follows_links_inside_only(root: int, tmp_path: Path) -> None:
    os.close(fs.mkdirs_beneath(root, "outdir/new"))
    os.close(fs.mkdirs_beneath(root, "dangling/x"))
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "root" / str(tmp_path).lstrip("/") / "new").is_dir()
    assert (tmp_path / "root/made/here/x").is_dir()
    with pytest.raises(NotADirectoryError):
        fs.mkdirs_beneath(root, "etc/passwd/x")


def test_rename_exchange_and_copy(root: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a" * 70000)
    (tmp_path / "b").write_bytes(b"b")
    there = os.open(tmp_path, os.O_RDONLY)
    fs.renameat2(there, "a", there, "b", fs.RENAME_EXCHANGE)
    assert (tmp_path / "a").read_bytes() == b"b"
    with pytest.raises(FileExistsError):
        fs.renameat2(there, "a", there, "b", fs.RENAME_NOREPLACE)
    with open(tmp_path / "b", "rb") as src, open(tmp_path / "c", "wb") as dst:
        assert fs.copy_range(src.fileno(), dst.fileno(), 100000) == 70000
    fs.syncfs(there)
    os.close(there)
    assert (tmp_path / "c").read_bytes() == b"a" * 70000


def test_magic_numbers() -> None:
    for path, expected in (("/proc", fs.PROC_SUPER_MAGIC), ("/sys", fs.SYSFS_MAGIC), ("/dev/pts", fs.DEVPTS_SUPER_MAGIC)):
        fd = os.open(path, os.O_PATH)
        assert fs.magic(fd) == expected
        os.close(fd)


def test_renames_without_end_stop_nobody(root: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """openat2 says EAGAIN for as long as anything on the machine is renamed or mounted meanwhile; the walk doesn't."""
    asked, real = [], fs.syscall

    def busy(number: int, *args: Any, path: Any = None) -> int:
        if number != _libc.OPENAT2:
            return real(number, *args, path=path)
        asked.append(args)
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)

    monkeypatch.setattr(fs, "syscall", busy)
    assert read(root, "up") == "inside"
    assert len(asked) > 100 or fs.force_fallback
