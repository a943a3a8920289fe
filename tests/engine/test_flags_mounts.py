# SPDX-License-Identifier: Apache-2.0
"""--mount, --tmpfs, --volumes-from and --shm-size, from inside a container."""
from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Lamina

NONE = ("--network", "none")


def line_of(lamina: Lamina, target: str, *flags: str) -> str:
    return lamina("run", "--rm", *NONE, *flags, "box", "grep", f" {target} ", "/proc/mounts").out


def test_tmpfs(lamina: Lamina, box: str) -> None:
    plain = line_of(lamina, "/t", "--tmpfs", "/t")
    assert plain.startswith("tmpfs /t tmpfs rw,nosuid,nodev,noexec,relatime")
    changed = line_of(lamina, "/t", "--tmpfs", "/t:size=1m,exec,mode=700,ro")
    assert changed.startswith("tmpfs /t tmpfs ro,nosuid,nodev,relatime,size=1024k,mode=700")
    assert line_of(lamina, "/dev/shm", "--shm-size", "1m").split()[3].endswith("size=1024k")
    assert "size=2048k" in line_of(lamina, "/dev/shm", "--tmpfs", "/dev/shm:size=2m")
    lamina("run", "-d", "--name", "cc", *NONE, "--read-only", "--tmpfs", "/t", "box", "sh", "-c", "echo x > /t/f; sleep 1000").check()
    lamina("restart", "-t", "0", "cc").check()
    lamina("cp", "cc:/etc/passwd", "-").check()
    lamina("stop", "-t", "0", "cc").check()
    lamina("cp", "cc:/etc/passwd", "-").check()
    assert lamina("cp", "cc:/t/f", "-").returncode == 1  # gone with the process space


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--tmpfs", "t"], "invalid mount path: 't' mount path must be absolute"),
        (["--tmpfs", "/t:foo=1"], 'invalid tmpfs option "foo"'),
        (["--tmpfs", "/t:foo"], 'invalid tmpfs option "foo"'),
        (["--tmpfs", "/proc/sys"], "belongs to the isolation"),
        (["--tmpfs", "/dev"], "a tmpfs at /dev is not supported"),
        (["--mount", "type=bind,src=/nope,dst=/x"], 'invalid mount config for type "bind": bind source path does not exist: /nope'),
        (["--mount", "type=foo,dst=/x"], 'invalid mount config for type "foo": mount type unknown'),
        (["--mount", "type=tmpfs,src=a,dst=/x"], 'invalid mount config for type "tmpfs": field Source must not be specified'),
        (["--mount", "type=bind,dst=/x"], 'invalid mount config for type "bind": field Source must not be empty'),
        (["--mount", "dst=x"], "invalid mount config for type \"volume\": invalid mount path: 'x' mount path must be absolute"),
        (["--mount", "type=bind,src=/tmp,dst=/x,bind-propagation=foo"],
         'invalid mount config for type "bind": invalid propagation mode: foo'),
        (["--mount", "src=a/b,dst=/x"], 'create a/b: "a/b" includes invalid characters for a local volume name'),
        (["--mount", "src=v,dst=/x,volume-opt=a=b"], "volume drivers and their options are not supported yet"),
        (["-v", "/tmp:/x", "--mount", "type=tmpfs,dst=/x"], "Duplicate mount point: /x"),
        (["-v", "/tmp:/x", "--tmpfs", "/x/"], "Duplicate mount point: /x"),
        (["--volumes-from", "nope"], "No such container: nope"),
        (["--mount", "type=bind,src=/tmp,dst=/sys/fs"], "belongs to the isolation"),
    ],
)
def test_refused_before_anything_is_made(lamina: Lamina, box: str, flags: list[str], text: str) -> None:
    done = lamina("run", *flags, "box", "true")
    assert done.returncode == 125 and text in done.stderr, done.stderr
    assert lamina("ps", "-aq").out == "" and lamina("volume", "ls", "-q").out == ""


def test_bind(lamina: Lamina, box: str, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "f").write_text("here")
    bind = f"type=bind,src={tmp_path},dst=/b"
    assert lamina("run", "--rm", *NONE, "--mount", bind, "box", "sh", "-c", "cat /b/f; echo x > /b/g").out == "here"
    assert (tmp_path / "g").exists()
    done = lamina("run", "--rm", *NONE, "--mount", bind + ",readonly", "box", "touch", "/b/h")
    assert "Read-only file system" in done.stderr
    assert lamina("run", "--rm", *NONE, "--mount", f"type=bind,src={tmp_path}/f,dst=/etc/one", "box", "cat", "/etc/one").out == "here"


def test_what_is_mounted_below_a_bind(lamina: Lamina, box: str, tmp_path: Path) -> None:
    """readonly is for the whole tree, as in docker since 25, unless asked otherwise."""
    import subprocess

    inner = tmp_path / "src/inner"
    inner.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "lamina-test", inner], check=True)
    try:
        (inner / "f").write_text("here")
        bind = f"type=bind,src={tmp_path}/src,dst=/b"
        assert "Read-only" in lamina("run", "--rm", *NONE, "--mount", bind + ",ro", "box", "touch", "/b/inner/x").stderr
        lamina("run", "--rm", *NONE, "--mount", bind + ",ro,bind-recursive=writable", "box", "touch", "/b/inner/y").check()
        assert lamina("run", "--rm", *NONE, "--mount", bind + ",bind-recursive=disabled", "box", "ls", "/b/inner").stdout == ""
    finally:
        subprocess.run(["umount", inner], check=True)


def test_volumes(lamina: Lamina, box: str) -> None:
    lamina("run", "--rm", *NONE, "--mount", "src=vol,dst=/etc,volume-label=a=b", "box", "touch", "/etc/mine").check()
    assert json.loads(lamina("volume", "inspect", "vol").out)[0]["Labels"] == {"a": "b"}
    assert lamina("run", "--rm", *NONE, "--mount", "src=vol,dst=/v", "box", "cat", "/v/os-release").out == "ID=box"  # filled from the image
    assert lamina("run", "--rm", *NONE, "--mount", "src=empty,dst=/etc/x,volume-nocopy", "box", "ls", "/etc/x").stdout == ""
    lamina("run", "--rm", *NONE, "--mount", "dst=/anonymous", "box", "true").check()
    assert set(lamina("volume", "ls", "-q").out.split()) == {"vol", "empty"}


def test_volumes_from(lamina: Lamina, box: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("here")
    lamina("create", "--name", "one", *NONE, "-v", "vol:/v", "-v", f"{tmp_path}:/b:ro", "--mount", "dst=/a", "box", "true").check()
    script = "touch /v/x /a/y; cat /b/f; touch /b/z"
    done = lamina("run", "--name", "two", *NONE, "--volumes-from", "one", "box", "sh", "-c", script)
    assert done.stdout == "here" and "Read-only file system" in done.stderr
    done = lamina("run", "--rm", *NONE, "--volumes-from", "two:ro", "box", "sh", "-c", "ls /v /a; touch /v/z /a/z")
    assert done.stdout.split() == ["/a:", "y", "/v:", "x"] and done.stderr.count("Read-only file system") == 2
    out = lamina("run", "--rm", *NONE, "--volumes-from", "one", "-v", "other:/v", "box", "ls", "/v").stdout
    assert out == ""  # one's own wins
    lamina("rm", "one").check()
    assert "vol" in lamina("volume", "ls", "-q").out.split()
    assert lamina("start", "-a", "two").stdout == "here"  # all as before, though `one` has gone
