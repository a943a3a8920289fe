# SPDX-License-Identifier: Apache-2.0
"""`cp`: the rules of where a copy ends up are docker's, as measured on a 20.10 daemon with a 28.2 client."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from tests.conftest import Lamina, make_tar

SETUP = "mkdir -p /run /d/e /var /tt; ln -s /run /var/run; echo q >/d/q; ln -s /d /ld; ln -s nowhere /dang; echo hi >/f; ln -s f /lf"


@pytest.fixture(params=["running", "stopped"])
def con(lamina: Lamina, box: str, request: pytest.FixtureRequest) -> str:
    """A container with files, links and a volume on /vol; every rule holds for running and stopped ones alike."""
    lamina("run", "--name", "con", "--network", "none", "-v", "vol:/vol", "box", "sh", "-c", SETUP).check()
    if request.param == "running":
        lamina("commit", "con", "made").check()
        lamina("rm", "con").check()
        lamina("run", "-d", "--name", "con", "--network", "none", "-v", "vol:/vol", "made", "sleep", "1000").check()
    return "con"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to copy from and to, which is the working directory."""
    base = tmp_path / "here"
    (base / "dir/sub").mkdir(parents=True)
    (base / "one").write_text("one\n")
    (base / "dir/two").write_text("two\n")
    for name in ("one", "dir", "dir/two"):
        os.chown(base / name, 1000, 1001)
    (base / "lone").symlink_to("one")
    (base / "ldir").symlink_to("dir")
    (base / "dgone").symlink_to("gone")
    os.mkfifo(base / "fifo")
    monkeypatch.chdir(base)
    return base


def tree(lamina: Lamina, path: str) -> dict[str, tarfile.TarInfo]:
    """What `cp PATH -` streams, by name."""
    raw = io.BytesIO()
    done = lamina.start("cp", path, "-", stdout=-1)
    raw.write(done.communicate(timeout=60)[0])
    assert done.returncode == 0
    raw.seek(0)
    with tarfile.open(fileobj=raw) as tar:
        return {member.name: member for member in tar}


IN = [
    ("one", "/new", "/new", ""),
    ("one", "/d", "/d/one", ""),
    ("one", "/d/e/", "/d/e/one", ""),
    ("one", "rel", "/rel", ""),
    ("one", "../../up", "/up", ""),
    ("one", "/d/../up", "/up", ""),
    ("one", ".", "/one", ""),
    ("one", "/ld", "/d/one", ""),
    ("one", "/lf", "/f", ""),
    ("one", "/dang", "/nowhere", ""),
    ("one", "/var/run/x", "/run/x", ""),
    ("one", "/var/run/", "/run/one", ""),
    ("one", "/vol/x", "/vol/x", ""),
    ("dir", "/new", "/new/two", ""),
    ("dir", "/d", "/d/dir/two", ""),
    ("dir/.", "/d", "/d/two", ""),
    ("dir/.", "/new", "/new/two", ""),
    ("dir/", "/ld/", "/d/dir/two", ""),
    ("dir", "/var/run", "/run/dir/two", ""),
    ("ldir/", "/new", "/new/two", ""),
    ("dir", "/f", "", "cannot copy directory\n"),
    ("dir/.", "/lf", "", "cannot copy directory\n"),
    ("one", "/f/", "", "no such directory\n"),
    ("one", "/nd/", "", "no such directory\n"),
    ("one", "", "", "no such directory\n"),
    ("one", "/nd/x", "", "Error response from daemon: Could not find the file /nd in container con\n"),
    ("one", "/f/x", "", "Error response from daemon: extraction point is not a directory\n"),
    ("one/", "/new", "", "not a directory\n"),
    ("one/.", "/new", "", "not a directory\n"),
]


@pytest.mark.parametrize(("source", "target", "file", "error"), IN, ids=lambda v: str(v).strip()[:20])
def test_in(lamina: Lamina, con: str, here: Path, source: str, target: str, file: str, error: str) -> None:
    done = lamina("cp", source, f"{con}:{target}")
    assert (done.returncode, done.stdout, done.stderr) == (1 if error else 0, "", error)
    if file:
        (member,) = tree(lamina, f"{con}:{file}").values()
        assert member.isreg() and (member.size, member.uid, member.gid) == (4, 1000, 1001)


def test_in_missing_sources_and_what_may_not_be_replaced(lamina: Lamina, con: str, here: Path) -> None:
    assert lamina("cp", "nosuch/x", "con:/y").stderr == f"lstat {here}/nosuch: no such file or directory\n"
    assert lamina("cp", "nosuch", "con:/y").stderr == f"lstat {here}/nosuch: no such file or directory\n"
    assert lamina("cp", "-L", "dgone", "con:/y").stderr == f"lstat {here}/gone: no such file or directory\n"
    (here / "cd/q").mkdir(parents=True)
    (here / "cf").mkdir()
    (here / "cf/e").write_text("")
    told = "Error response from daemon: cannot overwrite "
    assert lamina("cp", "cd/.", "con:/d").stderr == told + 'non-directory "/d/q" with directory "/d"\n'
    assert lamina("cp", "cf/.", "con:/d").stderr == told + 'directory "/d/e" with non-directory "/d"\n'


def test_in_links_and_nodes(lamina: Lamina, con: str, here: Path) -> None:
    os.link(here / "dir/two", here / "dir/three")
    os.mknod(here / "dir/null", 0o20666, os.makedev(1, 3))
    os.chmod(here / "dir/two", 0o6755)
    os.setxattr(here / "dir/two", "user.why", b"because")
    for source, target in (("lone", "/l1"), ("ldir", "/l2"), ("dgone", "/l3"), ("fifo", "/l4"), ("dir", "/l5")):
        lamina("cp", source, f"con:{target}").check()
    lamina("cp", "-L", "lone", "con:/L1").check()
    lamina("cp", "-L", "lone", "con:/d").check()
    found = tree(lamina, "con:/")
    assert [found[f"/l{n}"].linkname for n in (1, 2, 3)] == ["one", "dir", "gone"]
    assert found["/l4"].isfifo() and found["/L1"].isreg() and found["/d/lone"].isreg()
    assert found["/l5/null"].ischr() and (found["/l5/null"].devmajor, found["/l5/null"].devminor) == (1, 3)
    assert found["/l5/two"].islnk() and found["/l5/two"].linkname == "/l5/three"
    assert found["/l5/three"].mode == 0o6755 and found["/l5/three"].pax_headers["SCHILY.xattr.user.why"] == "because"


OUT = [
    ("/f", "out", "out/f", ""),
    ("/f", "out/", "out/f", ""),
    ("/f", "out/g", "out/g", ""),
    ("/f", "lone", "one", ""),
    ("/f", "dgone", "gone", ""),
    ("-L /lf", "out", "out/lf", ""),
    ("-L /lf", "out/g", "out/g", ""),
    ("/d", "out", "out/d/q", ""),
    ("/d", "out/g", "out/g/q", ""),
    ("/d/.", "out", "out/q", ""),
    ("/d/.", "out/g", "out/g/q", ""),
    ("/ld/", "out/g", "out/g/q", ""),
    ("/ld/.", "out", "out/q", ""),
    ("-L /ld", "out", "out/ld/q", ""),
    ("/", "out/all", "out/all/d/q", ""),
    ("/f", "out/nd/", "", "no such directory\n"),
    ("/f", "nd/x", "", 'invalid output path: directory "{here}/nd" does not exist\n'),
    ("/f", "/dev/null", "", 'invalid output path: "/dev/null" must be a directory or a regular file: got a device\n'),
    ("/d", "one", "", "cannot copy directory\n"),
    ("/d", "one/", "", "stat {here}/one/: not a directory\n"),
    ("/d", "clash", "", 'cannot overwrite non-directory "{here}/clash/d" with directory "{here}/clash"\n'),
    ("/f", "clash/", "", 'cannot overwrite directory "{here}/clash/f" with non-directory "{here}/clash"\n'),
    ("/f/", "out", "", "Error response from daemon: lstat /f/: not a directory\n"),
    ("/f/.", "out", "", "Error response from daemon: lstat /f/.: not a directory\n"),
    ("/nosuch", "out", "", "Error response from daemon: Could not find the file /nosuch in container con\n"),
    ("-L /dang", "out", "", "Error response from daemon: Could not find the file /nowhere in container con\n"),
]


@pytest.mark.parametrize(("source", "target", "file", "error"), OUT, ids=lambda v: str(v).strip()[:20])
def test_out(lamina: Lamina, con: str, here: Path, source: str, target: str, file: str, error: str) -> None:
    (here / "out").mkdir()
    (here / "clash/f").mkdir(parents=True)
    (here / "clash/d").write_text("")
    flags, _, path = source.rpartition(" ")
    done = lamina("cp", *flags.split(), f"{con}:{path}", target)
    assert (done.returncode, done.stdout, done.stderr) == (1 if error else 0, "", error.format(here=here))
    if file:
        assert (here / file).read_text() == ("q\n" if file.endswith("q") else "hi\n")


def test_out_links_owners_and_set_id_bits(lamina: Lamina, con: str, here: Path) -> None:
    """Without -a files are the caller's; a stranger's set-uid program must not become a set-uid program of the caller's."""
    (here / "dir/su").write_text("")
    os.chown(here / "dir/su", 1000, 1000)
    os.chmod(here / "dir/su", 0o6755)
    lamina("cp", "dir", "con:/d/dir").check()
    for name in ("/ld", "/lf", "/dang", "/d/dir"):
        lamina("cp", f"con:{name}", ".").check()
    assert [os.readlink(here / name) for name in ("ld", "lf", "dang")] == ["/d", "f", "nowhere"]
    lamina("cp", "con:/d/dir", "plain").check()
    lamina("cp", "-a", "con:/d/dir", "kept").check()
    plain, kept = (here / "plain/su").stat(), (here / "kept/su").stat()
    assert (plain.st_uid, plain.st_gid, plain.st_mode & 0o7777) == (0, 0, 0o755)
    assert (kept.st_uid, kept.st_gid, kept.st_mode & 0o7777) == (1000, 1000, 0o6755)
    assert (here / "kept").stat().st_mtime == int((here / "dir").stat().st_mtime)


def test_tar_streams(lamina: Lamina, con: str, here: Path) -> None:
    assert list(tree(lamina, "con:/d")) == ["d", "d/e", "d/q"]
    assert list(tree(lamina, "con:/ld/")) == ["ld", "ld/e", "ld/q"]
    assert list(tree(lamina, "con:/d/.")) == [".", "./e", "./q"]
    assert list(tree(lamina, "con:/lf")) == ["lf"] and tree(lamina, "con:/lf")["lf"].linkname == "f"
    data = make_tar({"a": b"A", "b": None, "b/c": b"C", "new/deep/x": b"X", "run2": None})
    lamina("cp", "-", "con:/d", stdin=data).check()
    assert {"d/a", "d/b/c", "d/new/deep/x"} <= set(tree(lamina, "con:/d"))
    assert lamina("cp", "-", "con:/f", stdin=data).stderr == 'destination "con:/f" must be a directory\n'
    assert lamina("cp", "-", "con:/nd", stdin=data).stderr == 'destination "con:/nd" must be a directory\n'
    assert lamina("cp", "-", "con:/d", stdin=b"junk" * 200).returncode == 1
    for bad in ("../x", "/../x", "d/../../x"):
        done = lamina("cp", "-", "con:/d", stdin=make_tar({bad: b""}))
        assert done.returncode == 1 and "leads out of the root" in done.stderr, bad
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        link = tarfile.TarInfo("l")
        link.type, link.linkname = tarfile.SYMTYPE, "/run"
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("l/through"))
    lamina("cp", "-", "con:/d", stdin=raw.getvalue()).check()
    assert "run/through" in tree(lamina, "con:/run") and not Path("/run/through").exists(), "links are the container's"


def test_volumes_and_own_files(lamina: Lamina, con: str, here: Path) -> None:
    lamina("cp", "one", "con:/vol/x").check()
    assert (lamina.root / "volumes/vol/_data/x").read_text() == "one\n"
    assert set(tree(lamina, "con:/vol")) == {"vol", "vol/x"} and "/vol/x" in tree(lamina, "con:/")
    assert tree(lamina, "con:/etc/hosts")["hosts"].size > 0
    busy = lamina("cp", "one", "con:/etc/hosts")
    assert busy.returncode == 1 and busy.stderr == "Error response from daemon: /etc/hosts: device or resource busy\n"


def test_read_only_stays_so(lamina: Lamina, box: str, here: Path) -> None:
    options = ["--network", "none", "--read-only", "-v", "ww:/w", "-v", f"{here}/dir:/r:ro"]
    lamina("create", "--name", "never", *options, "box", "true").check()
    lamina("run", "-d", "--name", "runs", *options, "box", "sleep", "1000").check()
    for name in ("never", "runs"):
        assert lamina("cp", "one", f"{name}:/x").stderr == "Error response from daemon: container rootfs is marked read-only\n"
        assert lamina("cp", "one", f"{name}:/r/x").stderr == "Error response from daemon: mounted volume is marked read-only\n"
        lamina("cp", "one", f"{name}:/w/{name}").check()
        assert set(tree(lamina, f"{name}:/r")) == {"r", "r/sub", "r/two"}
    assert sorted(os.listdir(lamina.root / "volumes/ww/_data")) == ["never", "runs"] and not (here / "dir/x").exists()


def test_a_container_that_never_ran(lamina: Lamina, box: str, here: Path) -> None:
    lamina("create", "--name", "new", "--network", "none", "-v", "vv:/mnt/v", "box", "cat", "/x", "/mnt/v/x").check()
    lamina("cp", "one", "new:/x").check()
    lamina("cp", "one", "new:/mnt/v/x").check()
    assert lamina("start", "-a", "new").out == "one\none"


def test_what_is_refused_before_anything_is_done(lamina: Lamina, con: str, here: Path) -> None:
    assert lamina("cp", "con:/f", "con:/g").stderr == "copying between containers is not supported\n"
    assert lamina("cp", "./con:/f", "one").stderr == "must specify at least one container source\n"
    assert lamina("cp", "", "con:/f").stderr == "source can not be empty\n"
    assert lamina("cp", "con:/f", "").stderr == "destination can not be empty\n"
    assert lamina("cp", "one", "nosuch:/f").stderr == "Error response from daemon: No such container: nosuch\n"
    assert "path cannot be empty" in lamina("cp", "con:", "out").stderr
    assert lamina("cp", "con:/f").returncode == 1
    assert "cowardly refusing to write a tar archive" in lamina.pty("cp", "con:/f", "-").stdout
    assert "cowardly refusing to read a tar archive" in lamina.pty("cp", "-", "con:/d").stdout


def test_the_last_line_on_a_terminal(lamina: Lamina, con: str, here: Path) -> None:
    assert lamina.pty("cp", "one", "con:/new").stdout == "Successfully copied 2.05kB to con:/new\r\n"
    assert lamina.pty("cp", "con:/d", "out").stdout == f"Successfully copied 3.07kB to {here}/out\r\n"
    assert lamina.pty("cp", "-q", "one", "con:/new").stdout == ""
