# SPDX-License-Identifier: Apache-2.0
"""Starting a monitor: a process of its own for a plan, connected to its first client before it does anything.

`Prepared` and `fork_monitor` are for the hot command line: a single-threaded process without an open database connection. Everyone
else (library, server, a `run` that had to pull) takes `spawn_monitor`, which starts a fresh interpreter and leaves no child behind.
Both kinds of plan, container (main) and exec (execmon: it has "exec_id"), go either way.
"""
from __future__ import annotations

import _socket
import fcntl
import os
import sys

import lamina.errors as errors
from lamina.linux import fds
from lamina.monitor import place, protocol
from lamina.monitor.prepared import Prepared, owns_pidns, prepared
from lamina.monitor.wire import receive, send_job
from lamina.util import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal  # the same functions, but typed; at run time `signal` would cost 4 ms
    from collections.abc import Mapping
    from typing import Any

    from lamina.monitor.client import Client
else:
    import _signal

SOCK_FD = 3
__all__ = ("Prepared", "detach", "fork_monitor", "live", "owns_pidns", "run", "spawn_monitor", "tell_failure")
START = "import sys; sys.path.insert(0, sys.argv[1]); from lamina.monitor.__main__ import main; main()"


def fork_monitor(plan: Mapping[str, Any], attach: Mapping[str, bool] | None = None) -> Client:
    """Forks the monitor of a plan that is ready, as Prepared. A caller that shall live long takes spawn_monitor."""
    return prepared(plan).start(plan, attach)


def spawn_monitor(plan: Mapping[str, Any], attach: Mapping[str, bool] | None = None) -> Client:
    """As fork_monitor, from any process: in a fresh interpreter, and it leaves the caller no child to wait for."""
    ours, theirs = fds.socketpair(_socket.SOCK_STREAM)
    high = -1
    try:
        high = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, 10)  # so that it isn't in its own way below
        actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_OPEN, n, "/dev/null", os.O_RDWR, 0) for n in (0, 1, 2)]
        actions.append((os.POSIX_SPAWN_DUP2, high, SOCK_FD))
        argv = [sys.executable, "-I", "-S", "-X", "utf8", "-c", START, source_root()]
        pid = os.posix_spawn(sys.executable, argv, {}, file_actions=actions, setsid=True, setsigmask=())
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        if high >= 0:
            os.close(high)
    send_job(ours, plan, attach)
    try:
        os.waitpid(pid, 0)  # it forks at once
    except ChildProcessError:
        pass  # the caller ignores SIGCHLD
    from lamina.monitor.client import Client

    return Client(ours)


def live(sock: _socket.socket, for_exec: bool) -> None:
    """In the helper that `Prepared` has forked: gets everything ready, forks the monitor, and that lives. Returns when all is over."""
    steps.tell = None  # that was our maker's
    try:
        detach(sock)
        if for_exec:
            from lamina.monitor import execmon as execmon
        else:
            from lamina.monitor import main

            main.get_ready()
        aim = receive(sock)
        if aim is None or place.fork_into(aim["cgroup"], own_pidns=aim["own_pidns"]):
            return
        os.setsid()
        place.settle()
        job = receive(sock)
        if job is not None:
            run(job["plan"], sock, job["attach"])
    except BaseException as e:
        tell_failure(sock, e)


def source_root() -> str:
    """The one directory that a fresh interpreter needs on its path: where the package `lamina` is."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def run(plan: dict[str, Any], sock: _socket.socket, attach: Mapping[str, bool] | None) -> int:
    """In the new process: what a monitor does from here to its end. Returns its exit status; raises what it couldn't tell its clients."""
    if plan.get("version") != 1:
        raise errors.StartError(f"plan of version {plan.get('version')!r}, this monitor knows version 1")
    if "exec_id" in plan:
        from lamina.monitor import execmon

        return execmon.run(plan, sock, attach)
    from lamina.monitor import main

    return main.run(plan, sock, attach)


def tell_failure(sock: _socket.socket, error: BaseException) -> None:
    """The last resort: an error that no one expected still reaches whoever waits at the other end."""
    try:
        sock.setblocking(True)
        sock.sendall(protocol.json_frame(protocol.M_ERROR, protocol.describe(error)))
    except OSError:
        pass


def detach(keep: _socket.socket) -> None:
    """Cuts the process loose from its caller: own session, cwd /, stdio on /dev/null, no other fd but `keep`, signals as at birth.

    SIGTERM, SIGINT, SIGHUP and the like are then ignored: a container ends by its own signals (stop, kill) or by SIGKILL of its monitor.
    They get an empty handler, since ignored signals would be inherited across exec.
    """
    if os.getsid(0) != os.getpid():
        os.setsid()
    os.chdir("/")
    os.umask(0o022)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    number = keep.fileno()
    if number > 3:
        fds.close_range(3, number - 1)
    fds.close_range(max(3, number + 1))
    _signal.set_wakeup_fd(-1)
    fixed = (_signal.SIGKILL, _signal.SIGSTOP, _signal.SIGPIPE)
    for n in _signal.valid_signals():
        if n not in fixed and _signal.getsignal(n) is not _signal.SIG_DFL:
            _signal.signal(n, _signal.SIG_DFL)
    for n in (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM, _signal.SIGUSR1, _signal.SIGUSR2, _signal.SIGALRM,
              _signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU):
        _signal.signal(n, _nothing)
    _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def _nothing(number: int, frame: object) -> None:
    pass
