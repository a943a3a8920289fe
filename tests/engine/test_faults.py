# SPDX-License-Identifier: Apache-2.0
"""kill -9 in the middle: of a command, at chosen system calls, and of a monitor, at moments spread over a container's life.

After each, one more command of any kind is all it takes: the store is in order, and nothing is mounted, running or left lying about.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lamina.runtime.cgroups import detect
from lamina.store.paths import Names

if TYPE_CHECKING:
    from tests.conftest import Lamina

CALLS = (
    "mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,pwrite64,fsync,fdatasync,clone3,sendto,sendmsg,move_mount,umount2,"
    "mount,fchmod,chmod,symlinkat,linkat,mknodat,write"
)
POINTS = 9  # per command


def names_of(lamina: Lamina) -> Names:
    return Names(os.path.realpath(lamina.root), os.path.realpath(lamina.runroot))


def kept(lamina: Lamina) -> list[str]:
    """What is there of containers, wherever it may be: files, mounts, cgroups, processes, interfaces."""
    names = names_of(lamina)
    found = [f"file {path}" for place in ("root/containers", "root/tmp", "root/trash", "run/rootfs", "run/containers")
             for path in (lamina.root.parent / place).glob("*")]  # fmt: skip
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(lamina.root.parent) in line]
    for hierarchy in detect().hierarchies:
        for base in hierarchy.bases():
            for path in Path(base + names.cgroup).glob("*"):
                if path.is_dir() and path.name != "monitor":
                    found.append(f"cgroup {path}")
                if path.name == "monitor" and (pids := (path / "cgroup.procs").read_text().split()):
                    found.append(f"monitors {pids}")
    bridge = Path(f"/sys/class/net/{names.bridge}/brif")
    found += [f"interface {path}" for path in bridge.glob("*")]
    return found


def assert_clean(lamina: Lamina, when: str) -> None:
    """`ps -a`, then everything is removed, then nothing may be left; what goes in the background gets 5 seconds."""
    listed = lamina("ps", "-aq", "--no-trunc")
    assert listed.returncode == 0, f"{when}: {listed.stderr}"
    if listed.stdout.split():
        done = lamina("rm", "-f", *listed.stdout.split())
        assert done.returncode == 0, f"{when}: {done.stderr}"
    check = lamina("system", "check")
    assert check.returncode == 0, f"{when}: {check.stdout}{check.stderr}"
    end = time.monotonic() + 5
    while left := kept(lamina):
        assert time.monotonic() < end, f"{when}: left are {left}"
        time.sleep(0.05)


# name -> (commands before, the command that is killed)
COMMANDS: dict[str, tuple[list[list[str]], list[str]]] = {
    "import": ([], ["import", "TAR", "second"]),
    "create": ([], ["create", "--name", "c1", "-v", "/data", "box", "sleep", "100"]),
    "start": ([["create", "--name", "c1", "box", "sleep", "100"]], ["start", "c1"]),
    "exec": ([["run", "-d", "--name", "c1", "--network", "none", "box", "sleep", "100"]], ["exec", "-d", "c1", "sleep", "100"]),
    "commit": ([["run", "--name", "c1", "--network", "none", "box", "touch", "/new"]], ["commit", "c1", "second"]),
    "rm": ([["run", "-d", "--name", "c1", "-v", "/data", "box", "sleep", "100"]], ["rm", "-f", "-v", "c1"]),
    "rmi": ([["import", "TAR", "second"]], ["rmi", "second"]),
}


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_killed(lamina: Lamina, box: str, busybox_tar: Path, tmp_path: Path, name: str) -> None:
    before, command = COMMANDS[name]

    def words(line: list[str]) -> list[str]:
        return [str(busybox_tar) if word == "TAR" else word for word in line]

    def prepare() -> None:
        for line in before:
            lamina(*words(line)).check()

    def traced(*options: str) -> int:
        line = ["strace", *options, *lamina.prefix, *words(command)]
        return subprocess.run(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60).returncode

    prepare()
    log = tmp_path / "calls"
    assert traced("-e", f"trace={CALLS}", "-o", str(log)) == 0
    lamina("rmi", "second")
    assert_clean(lamina, f"{name}, not killed")
    calls = re.findall(r"^(\w+)\(", log.read_text(), re.M)
    points = [(call, calls[: at + 1].count(call)) for at, call in enumerate(calls)]
    killed = 0
    for call, number in points[:: max(1, len(points) // POINTS)]:
        prepare()
        code = traced("-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}", "-o", os.devnull)
        killed += code != 0
        lamina("rmi", "second")  # if there was one; any error of it shows below
        assert_clean(lamina, f"{name}, killed at {call} number {number}")
        assert lamina("image", "inspect", "-f", "{{.Id}}", "box").out == box
    assert killed > 2, "no kill ever hit"
    assert lamina("run", "--rm", "box", "echo", "works").out == "works"


def child_of(process: subprocess.Popen[bytes]) -> int:
    """The first child of a command: its monitor. 0 if it ended before it was seen to have one."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None:
        children = path.read_text().split()
        if children:
            return int(children[0])
    return 0


LIVES = {"rm": ("run", "--rm", "box", "true"), "kept": ("run", "--name", "c1", "box", "su", "user", "-c", "sleep 0.02")}


@pytest.mark.parametrize("command", LIVES.values(), ids=LIVES.keys())
def test_a_monitor_is_killed(lamina: Lamina, box: str, command: tuple[str, ...]) -> None:
    lamina("run", "--rm", "box", "true").check()  # bridge and init layer are there
    hit = 0
    for step in range(20):
        process = lamina.start(*command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        monitor = child_of(process)
        time.sleep(step * 0.002)
        if monitor:
            try:
                os.kill(monitor, signal.SIGKILL)
                hit += 1
            except ProcessLookupError:
                pass
        _, errors = process.communicate(timeout=30)
        assert b"Traceback" not in errors and b"internal error" not in errors, errors
        if process.returncode == 0:
            hit -= monitor != 0
        assert_clean(lamina, f"monitor killed {step * 2} ms after its birth")
    assert hit > 1, "no kill ever hit"
