# SPDX-License-Identifier: Apache-2.0
"""Attack 2 (CVE-2016-9962): root in the container looks into the process that joins by exec, between its arrival and its execve."""
from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.linux import ns, prctl
from lamina.runtime import create, exec, handshake
from tests.box import Spec, finish, make_root, make_spec

LOOK = (
    "for f in exe cwd root; do readlink /proc/$P/$f; done; n=3; while [ $n -lt 30 ]; do readlink /proc/$P/fd/$n; n=$((n+1)); done; "
    "cat /proc/$P/environ 2>/dev/null | head -c 1"
)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[handshake.Init, Spec]]:
    spec = make_spec("sleep", "60")
    init = create.create(spec, rootfs=str(make_root(tmp_path / "root")))
    init.wait_ready()
    init.start()
    yield init, spec
    ns.pidfd_send_signal(init.pidfd, 9)
    os.waitid(os.P_PIDFD, init.pidfd, os.WEXITED)
    os.close(init.pidfd)


def seen(running: tuple[handshake.Init, Spec]) -> str:
    """What a root process of the container sees of a joining process that is held just before its execve."""
    init, spec = running
    held = exec.exec_process(init.pid, spec["process"], spec=spec)
    held.wait_ready()
    try:
        inner = Path(f"/proc/{held.pid}/status").read_text().split("NSpid:")[1].splitlines()[0].split()[-1]
        look = {**spec["process"], "args": ["sh", "-c", f"P={inner}; [ -d /proc/$P ] && echo there; {LOOK}"]}
        code, out = finish(lambda stdio: exec.exec_process(init.pid, look, spec=spec, stdio=stdio))
        return out
    finally:
        held.abort()


def test_it_shows_neither_descriptors_nor_paths_nor_environment(running: tuple[handshake.Init, Spec]) -> None:
    assert seen(running) == "there\n"


def test_control_a_dumpable_one_shows_all(running: tuple[handshake.Init, Spec], monkeypatch: pytest.MonkeyPatch) -> None:
    real = prctl.set_dumpable
    monkeypatch.setattr(prctl, "set_dumpable", lambda on: real(True))
    out = seen(running)
    assert "python" in out, "the interpreter's path is seen"
    assert "socket:[" in out
