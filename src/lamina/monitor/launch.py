# SPDX-License-Identifier: Apache-2.0
"""Starting a monitor: a process of its own for a plan, connected to its first client before it does anything.

`fork_monitor` is for the hot command line: a single-threaded process without an open database connection. Everyone else (library,
server, a `run` that had to pull) takes `spawn_monitor`, which starts a fresh interpreter and leaves no child behind. Both kinds of
plan, container (main) and exec (execmon: it has "exec_id"), go either way.
"""
from __future__ import annotations

import _socket
import errno
import fcntl
import os
import sys

import lamina.errors as errors
from lamina.linux import fds, ns
from lamina.monitor import place, protocol
from lamina.monitor.client import Client
from lamina.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal  # the same functions, but typed; at run time `signal` would cost 4 ms
    from collections.abc import Mapping
    from typing import Any
else:
    import _signal

PLAN_FD, SOCK_FD = 3, 4
MAX_PLAN = 16 << 20
START = "import sys; sys.path.insert(0, sys.argv[1]); from lamina.monitor.__main__ import main; main()"


def fork_monitor(plan: Mapping[str, Any], attach: Mapping[str, bool] | None = None) -> Client:
    """Forks the monitor and returns its first client; `attach` ({"stdin","stdout","stderr"}) attaches that before any output.

    The monitor is a child of the caller until that exits; Client.close reaps it if it ended before. Raises OSError EDEADLK in a process
    with threads. A caller that shall live long takes spawn_monitor.
    """
    count = ns.threads()
    if count != 1:
        raise OSError(errno.EDEADLK, f"a process of {count} threads can't fork a monitor", "monitor")
    ours, theirs = fds.socketpair(_socket.SOCK_STREAM)
    parent = os.getpid()
    code = 1
    try:
        pid = place.fork_into(plan)
        if pid == 0:
            ours.close()
            detach(theirs)
            code = run(dict(plan), theirs, attach)
    except BaseException as e:
        if os.getpid() == parent:
            ours.close()
            raise
        tell_failure(theirs, e)
    finally:
        if os.getpid() != parent:
            os._exit(code)
        theirs.close()
    return Client(ours, pid)


def spawn_monitor(plan: Mapping[str, Any], attach: Mapping[str, bool] | None = None) -> Client:
    """As fork_monitor, from any process: a fresh interpreter gets the plan on an fd, and leaves the caller no child to wait for."""
    ours, theirs = fds.socketpair(_socket.SOCK_STREAM)
    plan_fd = os.memfd_create("lamina-plan", os.MFD_CLOEXEC)
    high: list[int] = []
    try:
        data = fastjson.dumps({"plan": dict(plan), "attach": None if attach is None else dict(attach)}).encode("utf-8", "surrogateescape")
        with open(plan_fd, "wb", closefd=False) as f:
            f.write(data)
        os.lseek(plan_fd, 0, os.SEEK_SET)
        for fd in (plan_fd, theirs.fileno()):
            high.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10))  # so that neither is in the other's way below
        actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_OPEN, n, "/dev/null", os.O_RDWR, 0) for n in (0, 1, 2)]
        actions += [(os.POSIX_SPAWN_DUP2, high[0], PLAN_FD), (os.POSIX_SPAWN_DUP2, high[1], SOCK_FD)]
        argv = [sys.executable, "-I", "-S", "-X", "utf8", "-c", START, source_root()]
        pid = os.posix_spawn(sys.executable, argv, {}, file_actions=actions, setsid=True, setsigmask=())
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        for fd in (plan_fd, *high):
            os.close(fd)
    try:
        os.waitpid(pid, 0)  # it forks at once
    except ChildProcessError:
        pass  # the caller ignores SIGCHLD
    return Client(ours)


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
