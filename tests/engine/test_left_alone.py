# SPDX-License-Identifier: Apache-2.0
"""Who started a container goes, in whatever way: by kill -9, by hanging up, with the whole cgroup of a login or a CI job. The container
runs on, and its log has every line. Only its monitor is what it can't live without (test_lost_monitor)."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lamina.monitor import place
from lamina.runtime.cgroups import Cgroup

if TYPE_CHECKING:
    from tests.conftest import Lamina

LINES = 3000
# Writes on while its starter goes, and waits in the middle to be told that he has gone.
SCRIPT = f"seq 1 {LINES // 2}; echo half; while [ ! -e /shared/gone ]; do sleep 0.02; done; seq {LINES // 2 + 1} {LINES}; echo end"


def wait_until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def command(lamina: Lamina, shared: Path, *flags: str) -> list[str]:
    return [*lamina.prefix, "run", "--name", "c1", *flags, "-v", f"{shared}:/shared", "box", "sh", "-c", SCRIPT]


def has_half(lamina: Lamina) -> bool:
    return "half" in lamina("logs", "c1").stdout


def assert_it_went_on(lamina: Lamina, shared: Path) -> None:
    assert lamina("inspect", "-f", "{{.State.Status}}", "c1").out == "running"
    (shared / "gone").touch()
    assert lamina("wait", "c1").out == "0"
    wanted = [*map(str, range(1, LINES // 2 + 1)), "half", *map(str, range(LINES // 2 + 1, LINES + 1)), "end"]
    assert lamina("logs", "c1").stdout.splitlines() == wanted


@pytest.mark.parametrize("flags", [[], ["-i"], ["-d"], ["-p", "127.0.0.1::80"]], ids=["attached", "stdin", "detached", "port"])
def test_the_command_is_killed(lamina: Lamina, box: str, tmp_path: Path, flags: list[str]) -> None:
    with subprocess.Popen(command(lamina, tmp_path, *flags), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        wait_until(lambda: has_half(lamina), "it doesn't begin")
        process.kill()
        process.communicate()
    assert_it_went_on(lamina, tmp_path)


@pytest.mark.parametrize("flags", [[], ["-t"]], ids=["no terminal", "terminal"])
def test_the_terminal_hangs_up(lamina: Lamina, box: str, tmp_path: Path, flags: list[str]) -> None:
    """A logout: the session's leader goes with its terminal, and the kernel sends SIGHUP to whoever is in the foreground."""
    pid, master = pty.fork()
    if pid == 0:
        os.execvp("sh", ["sh", "-c", '"$@"; sleep 100', "sh", *command(lamina, tmp_path, *flags)])
    wait_until(lambda: has_half(lamina), "it doesn't begin")
    os.close(master)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    (tmp_path / "gone").touch()
    assert lamina("wait", "c1").out == "0"
    lines = lamina("logs", "c1").stdout.split()
    assert [line for line in lines if line.isdigit()] == [str(n) for n in range(1, LINES + 1)] and lines[-1] == "end"


@pytest.fixture
def job() -> Iterator[Cgroup]:
    """A cgroup in every hierarchy, as a login or a CI job has."""
    group = Cgroup.create(f"/lamina-test-job-{os.getpid()}", {}, layout=place.layout())
    yield group
    group.kill()
    group.remove()


@pytest.mark.parametrize("flags", [[], ["-d"]], ids=["attached", "detached"])
def test_its_whole_cgroup_is_killed(lamina: Lamina, box: str, tmp_path: Path, job: Cgroup, flags: list[str]) -> None:
    enter = "import os, sys\nfor path in sys.argv[2].split(): open(path + '/cgroup.procs', 'w').write('0')\n"
    enter += "os.execv(sys.argv[3], sys.argv[3:])"
    paths = " ".join(sorted({str(path) for path in job.paths.values()}))
    line = [sys.executable, "-I", "-S", "-c", enter, "--", paths, *command(lamina, tmp_path, *flags)]
    with subprocess.Popen(["sh", "-c", '"$@"; sleep 1000', "sh", *line], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: has_half(lamina), "it doesn't begin")
        inside = job.procs()
        assert bool(inside) == (not flags)
        job.kill()
        process.kill()
    assert not job.procs()
    assert_it_went_on(lamina, tmp_path)


def test_monitor_killed_with_the_log_so_far(lamina: Lamina, box: str, tmp_path: Path) -> None:
    """The next command says what happened; what was written before is in the log; and it can be started again."""
    cid = subprocess.run(command(lamina, tmp_path, "-d"), capture_output=True, text=True, check=True).stdout.strip()
    wait_until(lambda: has_half(lamina), "it doesn't begin")
    monitor = next(int(path.name.split("-")[0]) for path in (lamina.runroot / "active").glob(f"*-{cid}"))
    os.kill(monitor, signal.SIGKILL)
    listed = lamina("ps", "-a", "--format", "{{.Names}} {{.Status}}").out
    assert listed.startswith("c1 Exited (137)")
    assert lamina("inspect", "-f", "{{.State.Error}}", "c1").out == "monitor lost"
    assert lamina("logs", "c1").stdout.splitlines() == [*map(str, range(1, LINES // 2 + 1)), "half"]
    assert lamina("start", "c1").out == "c1"
    assert lamina("inspect", "-f", "{{.State.Status}}{{.State.Error}}", "c1").out == "running"
