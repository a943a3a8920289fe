# SPDX-License-Identifier: Apache-2.0
"""Attacks 37, 46, 64, 65 and 68: what a container leaves on disk, when the engine reads it; and what strangers on the host can see or
prepare."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from lamina.monitor import logread
from tests.conftest import Lamina

DEEP, TOO_DEEP = 300, 1800
MESS = r"""
mkfifo /fifo; mknod /zero c 1 5; mknod /disk b 8 0; nc -l -U /sock 2>/dev/null &
ln -s / /rootlink; ln -s /proc/self/fd/0 /fd; ln -s loop /loop; ln /fifo /hardfifo
mkdir -p /dir; ln -s ../../../../../../etc/shadow /dir/up
touch "$(printf '/nl\nname')" "$(printf '/raw\377name')" "$(printf '/\033[2Jesc')"; printf x > /.wh.forged; mkdir /.wh..wh..opq
dd if=/dev/zero of=/sparse bs=1 count=1 seek=100000000 2>/dev/null; chmod 6755 /sparse
"""
DIG = "mkdir -p /dir; cd /dir; n=0; while [ $n -lt %d ]; do mkdir d && cd d || exit 1; n=$((n+1)); done; echo bottom > file; exit 0"


@pytest.fixture
def messy(lamina: Lamina, box: str) -> str:
    done = lamina("run", "--name", "messy", "--network", "none", "box", "sh", "-c", MESS + DIG % DEEP, timeout=60)
    assert done.returncode == 0, done.stderr
    return "messy"


def test_diff_export_and_commit_of_a_hostile_tree(lamina: Lamina, messy: str, tmp_path: Path) -> None:
    """They end, read no FIFO, device or file of the host, and what docker can't say in a layer is refused by name."""
    changes = lamina("diff", messy).check().stdout
    assert "/fifo" in changes and changes.count("/d") > DEEP
    lamina("export", "-o", tmp_path / "out.tar", messy).check()
    shadow = Path("/etc/shadow").read_bytes()
    with tarfile.open(tmp_path / "out.tar", errors="surrogateescape") as tar:
        found = {member.name: member for member in tar}
        assert found["fifo"].isfifo() and found["zero"].ischr() and found["disk"].isblk() and found["rootlink"].linkname == "/"
        assert found["dir/up"].issym() and found["nl\nname"].isreg()
        assert found["dir/" + "d/" * DEEP + "file"].size == 7
    done = lamina("commit", messy, "second")
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr
    assert (done.returncode == 0) or ".wh." in done.stderr, done.stderr
    lamina("rm", "-f", messy).check()
    assert lamina("system", "check").returncode == 0
    assert not list((lamina.root / "containers").iterdir()) and not list((lamina.root / "trash").iterdir())
    assert Path("/etc/shadow").read_bytes() == shadow


def recurse(path: str) -> int:
    return 1 + sum(recurse(f"{path}/{name}") for name in os.listdir(path) if name == "d")


def test_a_tree_that_is_too_deep_is_refused_and_removed(lamina: Lamina, box: str, tmp_path: Path) -> None:
    cid = lamina("run", "-d", "--network", "none", "box", "sh", "-c", DIG % TOO_DEEP).out
    lamina("wait", cid, timeout=60).check()
    for words in (("diff", cid), ("export", "-o", tmp_path / "out.tar", cid), ("commit", cid, "second")):
        done = lamina(*words)
        assert "Traceback" not in done.stderr and "internal error" not in done.stderr, done.stderr[-300:]
        assert done.returncode == 0 or "deep" in done.stderr
    with pytest.raises((RecursionError, OSError)):  # the control: what walks by recursion, or by paths, doesn't survive it
        recurse(str(lamina.root / "containers" / cid / "rw/diff/dir"))
    lamina("rm", "-f", cid).check()
    assert lamina("system", "check").returncode == 0
    assert not list((lamina.root / "containers").iterdir()) and not list((lamina.root / "trash").iterdir())


def test_strangers_on_the_host_see_nothing(lamina: Lamina, box: str) -> None:
    """37: set-id programs of images can't be reached; 64: plans, sockets and logs can't be read."""
    cid = lamina("run", "-d", "--network", "none", "-e", "SECRET=x", "box", "sleep", "60").out
    for path in (lamina.root, lamina.runroot):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    script = f"cat {lamina.root}/containers/{cid}/config.json {lamina.root}/layers/*/diff/bin/busybox; ls {lamina.root} {lamina.runroot}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, user=1000, group=1000, extra_groups=[])
    assert done.stdout == b""
    for path in [*(lamina.root / "containers" / cid).glob("*"), *lamina.runroot.rglob("*")]:
        if path.name not in ("hostname", "hosts", "resolv.conf", "rw") and str(lamina.runroot / "rootfs") not in str(path):
            assert not stat.S_IMODE(path.lstat().st_mode) & 0o022, path


@pytest.mark.parametrize("which", ["root", "run"])
def test_a_root_that_anybody_could_have_made(lamina: Lamina, tmp_path: Path, which: str) -> None:
    """68: a directory of somebody else's, waiting where the engine's shall be, or in it."""
    theirs = tmp_path / which
    theirs.mkdir(mode=0o777)
    theirs.chmod(0o777)
    os.chown(theirs, 1000, 1000)
    done = lamina("ps")
    if done.returncode == 0:
        status = theirs.stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o700), "it was taken as it is"
    os.chown(theirs, 0, 0)
    theirs.chmod(0o700)


HOSTILE = [
    b'{"log":"a\\n","stream":["stdout"],"time":"2026-01-01T00:00:00Z"}', b'{"log":5,"stream":"stdout","time":"2026-01-01T00:00:00Z"}',
    b'{"log":"\\ud800","stream":"stdout","time":"2026-01-01T00:00:00Z"}', b"[" * 100_000, b"x" * 5_000_000, b"\0" * 1000, b"null", b"1e999",
    b'{"log":"a","stream":{},"time":"2026-01-01T00:00:00Z"}', b'{"log":"a","stream":"stdout","time":"99999-01-01T00:00:00Z"}',
    b'{"log":"a","stream":"stdout","time":5}', b'{"log":"a","stream":"stdout","time":"' + b"9" * 10_000 + b'"}',
]  # fmt: skip


@pytest.mark.parametrize("line", HOSTILE, ids=range(len(HOSTILE)))
def test_lines_that_are_none_of_ours_are_skipped(tmp_path: Path, line: bytes) -> None:
    good = b'{"log":"good\\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}\n'
    (tmp_path / "log.json").write_bytes(good + line + b"\n" + good)
    for tail in (None, 10):
        assert [e.data for e in logread.read_logs(str(tmp_path / "log.json"), tail=tail) if e.data != b"a"] == [b"good\n"] * 2


def test_what_a_container_prints_is_no_record_of_its_own(lamina: Lamina, box: str) -> None:
    forged = '{"log":"forged","stream":"stderr","time":"2026-01-01T00:00:00Z"}'
    cid = lamina("run", "-d", "--network", "none", "box", "printf", "%s\\n%s\\0\\033[2J\\377", forged, forged).out
    lamina("wait", cid).check()
    log = (lamina.root / "containers" / cid / "log.json").read_bytes().decode("utf-8", "replace")
    records = [json.loads(line) for line in log.splitlines()]
    assert {r["stream"] for r in records} == {"stdout"}
    assert lamina("logs", cid).check().stderr == ""
