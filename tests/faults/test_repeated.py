# SPDX-License-Identifier: Apache-2.0
"""The same again and again, back to back, and side by side: nothing of one run is in the next one's way, and nothing adds up. Ten times
in the default tier; two or three hundred in the other."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from . import world
from .sweep import settle

if TYPE_CHECKING:
    from tests.conftest import Lamina


def times(few: int, many: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("count", [few, pytest.param(many, marks=[pytest.mark.all, pytest.mark.timeout(3600)])])


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))
        return int(sock.getsockname()[1])


@times(10, 200)
def test_back_to_back(struck: Lamina, count: int) -> None:
    port = free_port()
    for n in range(count):
        for words in (["--name", "xx"], ["-p", f"{port}:80"], ["--name", "xx", "-v", "vol:/data", "-p", f"{port}:80/udp"]):
            done = struck("run", "--rm", *words, "box", "sh", "-c", f"exit {n % 100}")
            assert (done.returncode, done.stderr) == (n % 100, ""), f"{words}, time {n}"
        assert struck("volume", "rm", "vol").out == "vol"
    struck("ps").check()
    assert not settle(lambda: world.wrong(struck))
    assert struck("ps", "-aq").out == "" and struck("volume", "ls", "-q").out == ""


@times(8, 30)
def test_side_by_side(struck: Lamina, count: int) -> None:
    started = [
        struck.start("run", "--rm", "-v", "/data", "-p", "127.0.0.1::80", "box", "sh", "-c", f"echo {n}; exit {n}",
                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for n in range(count)
    ]  # fmt: skip
    for n, process in enumerate(started):
        out, errors = process.communicate(timeout=300)
        assert (process.returncode, out, errors) == (n, b"%d\n" % n, b"")
    struck("ps").check()
    assert not settle(lambda: world.wrong(struck))
    assert struck("ps", "-aq").out == "" and struck("volume", "ls", "-q").out == ""


def everything(lamina: Lamina) -> dict[str, int]:
    """How much there is of whatever could add up."""
    names = world.names_of(lamina)
    # Without the records of execs that have ended, which can be inspected for five minutes, as in docker.
    files = sum(len(found) + len(dirs) for place in (lamina.root, lamina.runroot) for path, dirs, found in os.walk(place)
                if not path.endswith("/execs"))  # fmt: skip
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(lamina.root.parent) in line]
    tables = subprocess.run(["nft", "list", "table", "inet", names.table], capture_output=True, check=True).stdout
    links = [name for name in os.listdir("/sys/class/net") if os.path.exists(f"/sys/class/net/{name}/brport/bridge")
             and os.readlink(f"/sys/class/net/{name}/brport/bridge").endswith("/" + names.bridge)]  # fmt: skip
    groups = [path for base in world.v1_or_v2() for path in Path(base + names.cgroup).rglob("*") if path.is_dir()]
    return {"files": files, "mounts": len(mounts), "firewall": len(tables.splitlines()), "links": len(links), "cgroups": len(groups),
            "processes": len(world.processes(lamina))}  # fmt: skip


@times(10, 300)
def test_started_and_stopped(struck: Lamina, count: int) -> None:
    """One container, many lives, beside one that goes on; its monitor is looked at from outside, too."""
    other = struck("run", "-d", "--name", "other", "box", "sleep", "100000").out
    struck("create", "--name", "again", "-v", "/data", "-p", "127.0.0.1::80", "box", "sleep", "100000").check()
    monitor = next(int(path.name.split("-")[0]) for path in (struck.runroot / "active").glob(f"*-{other}"))
    before: dict[str, int] = {}
    fds = 0
    for n in range(count):
        struck("start", "again").check()
        struck("exec", "other", "true").check()
        struck("stop", "-t", "0", "again").check()
        if n == 2:  # by then all is there that is made once: caches, the second log file, the network's note
            assert not settle(lambda: world.wrong(struck))
            before, fds = everything(struck), len(os.listdir(f"/proc/{monitor}/fd"))
    assert not settle(lambda: world.wrong(struck))
    assert everything(struck) == before
    assert len(os.listdir(f"/proc/{monitor}/fd")) == fds
    struck("rm", "-f", "-v", "again", "other").check()
    assert not settle(lambda: world.wrong(struck))
