# SPDX-License-Identifier: Apache-2.0
"""Markers of who is at work: made, handed over, seen to be the living's or the dead's."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from lamina.errors import Conflict, StoreError
from lamina.linux import ns
from lamina.store import presence

CONTAINER, EXEC = "c" * 64, "e" * 64


def names(runroot: Path) -> list[str]:
    return sorted(path.name for path in (runroot / "active").iterdir())


def test_who_lives_is_not_cut_off(tmp_path: Path) -> None:
    mine = presence.enter(str(tmp_path))
    about = presence.enter(str(tmp_path), CONTAINER)
    assert names(tmp_path) == [f"{os.getpid()}-{ns.start_time()}", f"{os.getpid()}-{ns.start_time()}-{CONTAINER}"]
    assert presence.cut_off(str(tmp_path)) == []
    for path in (mine, about, about):
        presence.leave(path)
    assert names(tmp_path) == []


def test_no_directory_is_nobody(tmp_path: Path) -> None:
    assert presence.cut_off(str(tmp_path / "none")) == []


@pytest.mark.parametrize("reaped", [True, False], ids=["gone", "a zombie"])
def test_the_dead_are_seen(tmp_path: Path, reaped: bool) -> None:
    (tmp_path / "active").mkdir()
    with subprocess.Popen(["sleep", "100"]) as process:
        name = presence.name_of(process.pid, ns.start_time(process.pid), CONTAINER, EXEC)
        presence.make(f"{tmp_path}/active/{name}")
        assert presence.cut_off(str(tmp_path)) == []
        process.send_signal(signal.SIGKILL)
        if reaped:
            process.wait()
        else:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        [marker] = presence.cut_off(str(tmp_path))
        assert (marker.path, marker.container, marker.what) == (f"{tmp_path}/active/{name}", CONTAINER, EXEC)
        assert presence.cut_off(str(tmp_path), "d" * 64) == []
        assert len(presence.cut_off(str(tmp_path), CONTAINER)) == 1


def test_a_recycled_pid_is_seen(tmp_path: Path) -> None:
    """Asked for by name, or among few, at once; among many, after a few looks."""
    (tmp_path / "active").mkdir()
    with subprocess.Popen(["sleep", "100"]) as process:
        began = ns.start_time(process.pid)
        for n in range(10):
            presence.make(f"{tmp_path}/active/{presence.name_of(process.pid, began, f'{n:064x}')}")
        old = presence.name_of(process.pid, began - 1, CONTAINER)
        presence.make(f"{tmp_path}/active/{old}")
        assert [marker.path for marker in presence.cut_off(str(tmp_path), CONTAINER)] == [f"{tmp_path}/active/{old}"]
        seen = {marker.path for _ in range(1000) for marker in presence.cut_off(str(tmp_path))}
        assert seen == {f"{tmp_path}/active/{old}"}
        process.kill()


def test_one_alone_gets_it(tmp_path: Path) -> None:
    path = presence.enter(str(tmp_path), CONTAINER)
    taken = presence.take(path, presence.name_of(1, 2, CONTAINER))
    assert names(tmp_path) == [f"1-2-{CONTAINER}"]
    with pytest.raises(FileNotFoundError):
        presence.take(path, presence.name_of(3, 4, CONTAINER))
    presence.leave(taken)


def test_what_leaves_something_undone() -> None:
    try:
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            raise Conflict("put in words")
    except Conflict as error:
        assert presence.undone(error)
    assert presence.undone(StoreError("full")) and presence.undone(KeyboardInterrupt())
    assert not presence.undone(None) and not presence.undone(Conflict("taken")) and not presence.undone(FileNotFoundError(2, "no"))
