# SPDX-License-Identifier: Apache-2.0
"""A container doesn't outlive its monitor, whatever its process has become, and what did is killed before anything else is done."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lamina.linux import ns
from lamina.monitor import place
from lamina.store.paths import Names

if TYPE_CHECKING:
    from tests.conftest import Lamina

# `su` gives up root: the kernel forgets the parent death signal of a process that changes its user.
CHANGED = ("su", "user", "-s", "/bin/sh", "-c", "exec sleep 1000")


def state_of(lamina: Lamina, cid: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((lamina.root / "containers" / cid / "state.json").read_text())
    return found


def wait_until(true: Any, seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def is_user(pid: int) -> bool:
    return "Uid:\t1000" in Path(f"/proc/{pid}/status").read_text()


def gone(pid: int, started: int) -> bool:
    try:
        return ns.start_time(pid) != started or Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "Z"
    except OSError:
        return True


def lose(lamina: Lamina, *run: str) -> tuple[str, dict[str, Any]]:
    """A container whose monitor was killed: (id, its state while it ran)."""
    cid = lamina("run", "-d", "--network", "none", *run).out
    state = state_of(lamina, cid)
    if run[-len(CHANGED):] == CHANGED:
        assert wait_until(lambda: is_user(state["pid"]))
    os.kill(state["monitor_pid"], signal.SIGKILL)
    return cid, state


def test_pids_are_the_hosts(lamina: Lamina, box: str) -> None:
    cid = lamina("run", "-d", "--network", "none", "box", "sleep", "1000").out
    state = state_of(lamina, cid)
    assert Path(f"/proc/{state['pid']}/cmdline").read_bytes() == b"sleep\0" + b"1000\0"
    assert ns.start_time(state["pid"]) == state["start_time"]
    assert ns.start_time(state["monitor_pid"]) == state["monitor_start_time"]
    assert lamina("inspect", "-f", "{{.State.Pid}}", cid).out == str(state["pid"])


@pytest.mark.parametrize("command", [CHANGED, ("sleep", "1000")], ids=["changed its user", "root"])
def test_it_dies_with_its_monitor(lamina: Lamina, box: str, command: tuple[str, ...]) -> None:
    cid, state = lose(lamina, "box", *command)
    assert wait_until(lambda: gone(state["pid"], state["start_time"])), "the container outlives its monitor"
    assert lamina("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}", cid).out == "exited 137 monitor lost"
    assert lamina("system", "check").returncode == 0


def test_control_the_death_signal_alone_is_lost() -> None:
    from lamina.linux import prctl

    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        prctl.set_parent_death_signal(9)
        os.setresuid(1000, 1000, 1000)
        value = bytearray(4)
        from lamina.linux import _libc

        _libc.syscall(_libc.PRCTL, 2, value)  # PR_GET_PDEATHSIG
        os.write(w, bytes(value[:1]))
        os._exit(0)
    os.close(w)
    assert os.read(r, 1) == b"\0"
    os.close(r)
    os.waitpid(pid, 0)


@pytest.mark.parametrize("verb", ["start", "rm", "stop", "ps", "wait", "check"])
def test_who_survives_is_killed_by_the_next_command(lamina: Lamina, box: str, verb: str) -> None:
    """As after a monitor without a pid namespace of its own: some process is still in the container's cgroup."""
    cid = lamina("run", "-d", "--network", "none", "box", "sleep", "1000").out
    names = Names(os.path.realpath(lamina.root), os.path.realpath(lamina.runroot))
    survivor = os.fork()
    if survivor == 0:
        os.execv("/bin/sleep", ["sleep", "1000"])
    try:
        for directory in place.layout().hierarchies:
            for base in directory.bases():
                procs = Path(base + f"{names.cgroup}/{cid}/cgroup.procs")
                if procs.exists():
                    procs.write_text(str(survivor))
        os.kill(state_of(lamina, cid)["monitor_pid"], signal.SIGKILL)
        time.sleep(0.05)
        words = {"ps": ("ps", "-a"), "rm": ("rm", "-f", cid), "check": ("system", "check")}.get(verb, (verb, cid))
        done = lamina(*words)
        assert done.returncode == 0, done.stderr
        assert wait_until(lambda: gone(survivor, -1) or os.waitpid(survivor, os.WNOHANG)[0] == survivor, 2)
        if verb == "start":
            assert lamina("exec", cid, "echo", "runs").out == "runs"
    finally:
        try:
            os.kill(survivor, signal.SIGKILL)
            os.waitpid(survivor, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
