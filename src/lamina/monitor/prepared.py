# SPDX-License-Identifier: Apache-2.0
"""A monitor that is forked before its plan is known: it imports, detaches and enters its cgroup on the other core meanwhile. [hot]

For the command line, on its way to `run`, `start` or `exec`, which is why this module imports next to nothing: the fork shall be early
and cheap. The forked helper loads everything, is told cgroup and namespace (`aim`), forks the monitor into them, and goes; so the
monitor is nobody's child that would have to be waited for, and what it needs is there when the plan comes.
"""
from __future__ import annotations

import _socket
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from lamina.monitor.client import Client

SIGKILL = 9


class Prepared:
    """`aim` and `start` hand it what it has to know. Without that it ends with `cancel`, or with its maker, however that ends.

    Make it before a database connection is open, in a process without threads (OSError EDEADLK otherwise: a lock that another thread
    holds would stay locked in the child). The helper is a child of the caller; Client.close reaps it.
    """

    def __init__(self, for_exec: bool = False) -> None:
        count = _threads()
        if count != 1:
            raise OSError(errno.EDEADLK, f"a process of {count} threads can't fork a monitor", "monitor")
        self.for_exec = for_exec
        self.kind: tuple[str | None, bool, bool] | None = None
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC, 0)
        try:
            self.pid = os.fork()
        except BaseException:
            ours.close()
            theirs.close()
            raise
        if self.pid == 0:
            try:
                ours.close()
                from lamina.monitor import launch

                launch.live(theirs, for_exec)
            finally:
                os._exit(0)
        theirs.close()
        self.sock = ours

    def aim(self, monitor_cgroup: str | None, own_pidns: bool) -> Prepared:
        """Says where the monitor shall live; with own_pidns in a new pid namespace. Once, before `start`."""
        from lamina.monitor import wire

        self.kind = monitor_cgroup, self.for_exec, own_pidns
        wire.send(self.sock, {"cgroup": monitor_cgroup, "own_pidns": own_pidns})
        return self

    def start(self, plan: Mapping[str, Any], attach: Mapping[str, bool] | None = None) -> Client:
        """Hands over the plan; returns the first client, attached as `attach` ({"stdin","stdout","stderr"}) says before any output."""
        from lamina.monitor import wire

        wire.send_job(self.sock, plan, attach)
        from lamina.monitor.client import Client  # while the monitor works

        return Client(self.sock, self.pid)

    def cancel(self) -> None:
        self.sock.close()
        try:
            os.kill(self.pid, SIGKILL)  # the helper, if it is still there: not reaped yet, so the pid is its own
            os.waitpid(self.pid, 0)
        except (ChildProcessError, ProcessLookupError):
            pass


_early: list[Prepared] = []


def fork_early(for_exec: bool) -> None:
    """For the very beginning of a command that will need a monitor, it seems. One that nobody takes ends with us."""
    load_shared()
    _early.append(Prepared(for_exec))


def load_shared() -> None:
    """What this process and its helper are both about to need, and neither has to wait for alone."""
    import lamina.containers.state
    import lamina.monitor.wire
    import lamina.store.presence
    import lamina.util.digest
    import lamina.util.times  # noqa: F401


def take_early(for_exec: bool) -> Prepared | None:
    """The one that fork_early has made, if it is of this kind."""
    return _early.pop() if _early and _early[0].for_exec == for_exec else None


def prepared(plan: Mapping[str, Any]) -> Prepared:
    """A new one that is right for this plan."""
    cgroup, for_exec, own_pidns = kind(plan)
    return Prepared(for_exec).aim(cgroup, own_pidns)


def kind(plan: Mapping[str, Any]) -> tuple[str | None, bool, bool]:
    """What must be the same for a monitor made ahead and a plan: cgroup, whether it is an exec, whether the monitor has a pid namespace."""
    return plan.get("monitor_cgroup"), "exec_id" in plan, owns_pidns(plan) and not plan.get("runtime")


def owns_pidns(plan: Mapping[str, Any]) -> bool:
    """Whether the plan's process gets a new pid namespace. Then its monitor has one as well, which ends all of it."""
    for entry in ((plan.get("spec") or {}).get("linux") or {}).get("namespaces") or ():
        if entry.get("type") == "pid":
            return "exec_id" not in plan and not entry.get("path")
    return False


def _threads() -> int:
    try:
        return os.stat("/proc/self/task").st_nlink - 2
    except FileNotFoundError:
        return 1
