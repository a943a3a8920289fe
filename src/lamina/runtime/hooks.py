# SPDX-License-Identifier: Apache-2.0
"""OCI hooks: programs that the author of a bundle wants run at fixed points, with the container's state on stdin.

Only the face `lamina-runtime` runs them, from the bundle it is told to trust; an image can't name one (attack R4). A hook that fails
or outlives its timeout ends the operation, except poststart and poststop hooks: those are reported and passed over.
"""
from __future__ import annotations

import os
import select
import time

from lamina.errors import StartError
from lamina.linux import ns
from lamina.util.fastjson import dump_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OUTPUT = 64 << 10


def run(spec: dict[str, Any], name: str, state: dict[str, Any]) -> None:
    """All hooks of one kind, in order. StartError names the first that fails, with the end of its output."""
    for i, hook in enumerate((spec.get("hooks") or {}).get(name) or ()):
        _run_one(f"{name} hook #{i}", hook, dump_bytes(state))


def run_all(spec: dict[str, Any], name: str, state: dict[str, Any]) -> list[str]:
    """As `run`, but each hook gets its turn; the failures as texts."""
    failures = []
    for i, hook in enumerate((spec.get("hooks") or {}).get(name) or ()):
        try:
            _run_one(f"{name} hook #{i}", hook, dump_bytes(state))
        except StartError as e:
            failures.append(e.message)
    return failures


def _run_one(what: str, hook: dict[str, Any], state: bytes) -> None:
    env = dict(entry.partition("=")[::2] for entry in hook.get("env") or ())
    argv = hook.get("args") or [hook["path"]]
    deadline = time.monotonic() + hook["timeout"] if hook.get("timeout") else None
    # The state is a file, not a pipe: a hook that never reads it can't block us, and we need no writer.
    stdin = os.memfd_create("state", os.MFD_CLOEXEC)
    out, into = os.pipe()
    try:
        os.write(stdin, state)
        os.lseek(stdin, 0, os.SEEK_SET)
        actions = [(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, into, 1), (os.POSIX_SPAWN_DUP2, into, 2)]
        try:
            pid = os.posix_spawn(hook["path"], argv, env, file_actions=actions, setsigmask=())
        except OSError as e:
            raise StartError(f"error running {what}: {hook['path']}: {e.strerror}") from None
        os.close(into)
        into = -1
        pidfd = os.pidfd_open(pid)
        try:
            output = _collect(out, pidfd, deadline)
        finally:
            ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
            if not ended:
                ns.pidfd_send_signal(pidfd, 9)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            os.close(pidfd)
    finally:
        for fd in (stdin, out, into):
            if fd >= 0:
                os.close(fd)
    text = output.decode("utf-8", "replace").strip()
    if not ended:
        raise StartError(f"error running {what}: timeout of {hook['timeout']}s passed; it was killed")
    if status != 0:
        how = f"exit status {status}" if status > 0 else f"signal {-status}"
        raise StartError(f"error running {what}: {how}, stdout+stderr: {text[-2000:]}")


def _collect(out: int, pidfd: int, deadline: float | None) -> bytes:
    """The end of the output, until the hook has ended; a descendant that keeps the pipe open isn't waited for."""
    poller = select.poll()
    poller.register(out, select.POLLIN)
    poller.register(pidfd, select.POLLIN)
    output = b""
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        events = dict(poller.poll(left))
        if not events:
            return output
        if events.get(out, 0):
            data = os.read(out, 65536)
            if not data:
                poller.unregister(out)
            output = (output + data)[-_OUTPUT:]
        elif pidfd in events:
            return output
