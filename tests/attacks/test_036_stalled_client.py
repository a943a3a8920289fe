# SPDX-License-Identifier: Apache-2.0
"""CVE-2022-31030 and its kin: a client that doesn't read what an exec writes makes the engine hold all of it.

Here the monitor stops reading the container instead. The control lifts the limit, and memory follows the output.
"""
from __future__ import annotations

import _socket
import os
import subprocess
import time

import pytest

from lamina.linux import ns
from lamina.monitor import loop, protocol
from lamina.monitor.stdio import Stdio


def held_after(seconds: float) -> int:
    """Bytes that a monitor holds for a client that never reads, while a program writes without end."""
    session = loop.Session({"id": "x"}, own_pidns=True)
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM, 0)
    peer = session.server.add(theirs, {"stdout": True})
    stdio = session.stdio = Stdio(tty=False, stdin=False)
    fds = stdio.child_fds()
    assert fds is not None
    with subprocess.Popen(["/usr/bin/yes"], stdin=fds[0], stdout=fds[1], stderr=fds[2]) as process:
        stdio.release_child_fds()
        session.pid, session.pidfd = process.pid, ns.pidfd_open(process.pid)
        end = time.monotonic() + seconds
        while time.monotonic() < end and len(peer.out) < 64 << 20:
            session._turn(50)
        process.kill()
    held = len(peer.out)
    session.server.close()
    stdio.close()
    os.close(session.pidfd)
    ours.close()
    return held


def test_what_is_held_is_bounded() -> None:
    assert held_after(1.0) <= protocol.BEHIND + protocol.MAX_PAYLOAD + 5


def test_control_without_the_limit_it_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "BEHIND", 1 << 40)
    assert held_after(1.0) > 4 * (1 << 20)
