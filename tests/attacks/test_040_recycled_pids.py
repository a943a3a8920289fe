# SPDX-License-Identifier: Apache-2.0
"""Attack 40: a pid that was the container's, or its monitor's, is somebody else's by now. Nothing may be believed of it or done to it."""
from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from struct import pack

import pytest

from lamina.containers import state as states
from lamina.errors import StartError
from lamina.linux import _libc, ns
from lamina.runtime import exec
from tests.box import make_spec


def fork_as(wanted: int) -> int:
    """A process with exactly this pid (clone3 with set_tid), which waits to be killed."""
    ids = bytearray(pack("=i", wanted))
    args = bytearray(pack("=11Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, _libc.pointer(ids), 1, 0))
    pid = _libc.syscall_holding_gil(_libc.CLONE3, args, len(args))
    if pid == 0:
        signal.pause()
        os._exit(0)
    return pid


@pytest.fixture
def recycled() -> Iterator[tuple[int, int]]:
    """(pid, start time of the process that had it before)."""
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            signal.pause()
            os._exit(0)
        started = ns.start_time(pid)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        signal.sigtimedwait([], 0.03)  # start times count in ticks of 10 ms
        try:
            assert fork_as(pid) == pid
        except OSError as e:
            if e.errno != errno.EEXIST:
                raise
            continue
        yield pid, started
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return
    pytest.fail("no pid could be recycled")


def test_control_by_number_the_wrong_one_is_hit(recycled: tuple[int, int]) -> None:
    os.kill(recycled[0], 0)
    os.close(os.pidfd_open(recycled[0]))


def test_it_is_not_opened(recycled: tuple[int, int]) -> None:
    pid, started = recycled
    with pytest.raises(ProcessLookupError):
        ns.open_process(pid, started)
    os.close(ns.open_process(pid, ns.start_time(pid)))


def test_a_container_of_that_pid_is_not_exec_into(recycled: tuple[int, int]) -> None:
    pid, started = recycled
    spec = make_spec("true")
    with pytest.raises(StartError, match="stopped container"):
        exec.exec_process(pid, spec["process"], spec=spec, init_start_time=started)


@pytest.mark.parametrize("boot", [True, False], ids=["this boot", "another boot"])
def test_a_container_whose_monitors_pid_is_recycled_is_lost(recycled: tuple[int, int], tmp_path: Path, boot: bool) -> None:
    pid, started = recycled
    told, where = (started, ns.boot_id()) if boot else (ns.start_time(pid), "00000000-0000-0000-0000-000000000000")
    state = states.State(states.RUNNING, pid=pid, start_time=started, monitor_pid=pid, monitor_start_time=told, boot_id=where)
    states.save(str(tmp_path / "state.json"), state)
    found = states.load_file(str(tmp_path / "state.json"))
    assert (found.status, found.exit_code, found.error, found.pid) == ("exited", 137, states.MONITOR_LOST, 0)
