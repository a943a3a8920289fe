# SPDX-License-Identifier: Apache-2.0
"""Under systemd: a container outlives the unit, scope or session that started it, and systemd's own bookkeeping leaves its limits alone.

Run inside the virtual machine by `scripts/test-vm` with systemd as process 1 (the file's name keeps other runs from it).
"""
from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Lamina


def until(check: Callable[[], object], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def systemctl(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemctl", *args], capture_output=True, text=True, timeout=120)


@pytest.fixture(autouse=True)
def systemd_is_process_1() -> None:
    assert Path("/proc/1/comm").read_text() == "systemd\n", "this is for scripts/test-vm"


@pytest.fixture(params=["service", "scope"])
def unit(request: pytest.FixtureRequest) -> Iterator[tuple[str, list[str]]]:
    """A unit's name, and the command that runs something in it."""
    name = f"lamina-test-{os.getpid()}.{request.param}"
    if request.param == "service":
        command = ["systemd-run", "--quiet", "--collect", f"--unit={name}"]
    else:
        command = ["systemd-run", "--quiet", "--scope", "--collect", f"--unit={name}"]
    yield name, command
    systemctl("stop", name)


def cgroups_of(pid: str) -> list[str]:
    return [line.split(":", 2)[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]


def test_the_end_of_its_unit_leaves_a_container_running(lamina: Lamina, box: str, unit: tuple[str, list[str]]) -> None:
    name, command = unit
    line = 'cat /proc/self/cgroup; "$@" run -d --name kept --network none box sleep 1000 && exec sleep 1001'
    started = subprocess.Popen([*command, "sh", "-c", line, "sh", *lamina.prefix], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        until(lambda: lamina("ps", "-q").out, "the unit never started a container")
        pid = lamina("inspect", "--format", "{{.State.Pid}}", "kept").out
        monitor = next(line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("PPid:"))
        assert monitor != "1"
        for process in (pid, monitor):
            assert not [c for c in cgroups_of(process) if name in c], "it stands in the unit's own cgroup"
        systemctl("kill", "--kill-who=all", "--signal=KILL", name)
        systemctl("stop", name)
        until(lambda: systemctl("is-active", name).stdout.strip() != "active", "the unit doesn't end")
        time.sleep(0.5)
        assert lamina("exec", "kept", "echo", "alive").out == "alive"
        assert lamina("inspect", "--format", "{{.State.Pid}}", "kept").out == pid
        lamina("rm", "-f", "kept").check()
    finally:
        started.kill()
        started.communicate()


def test_systemds_bookkeeping_leaves_the_limits_alone(lamina: Lamina, box: str) -> None:
    cid = lamina("run", "-d", "--network", "none", "-m", "64m", "--cpus", "0.5", "--pids-limit", "30", "box", "sleep", "1000").out

    def limits() -> dict[str, str]:
        names = ("memory.max", "cpu.max", "pids.max", "memory.limit_in_bytes", "cpu.cfs_quota_us")
        return {p.name: p.read_text() for d in Path("/sys/fs/cgroup").rglob(cid) for p in d.iterdir() if p.name in names}

    before = limits()
    assert len(before) >= 3
    assert systemctl("daemon-reload").returncode == 0
    for properties in (["-p", "CPUWeight=50", "-p", "MemoryMax=100M"], []):
        subprocess.run(["systemd-run", "--quiet", "--wait", *properties, "true"], check=True, timeout=120)
    systemctl("daemon-reexec")
    time.sleep(1)
    assert limits() == before
    assert lamina("exec", cid, "echo", "alive").out == "alive"
    lamina("rm", "-f", cid).check()
    assert not list(Path("/sys/fs/cgroup").rglob(cid))
