# SPDX-License-Identifier: Apache-2.0
"""Starting a monitor: a process of its own for a plan, connected to its first client before it does anything.

`Prepared` and `fork_monitor` are for the hot command line: a single-threaded process without an open database connection. Everyone
else (library, server, a `run` that had to pull) takes `spawn_monitor`, which starts a fresh interpreter and leaves no child behind.
Both kinds of plan, container (main) and exec (execmon: it has "exec_id"), go either way.
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

SOCK_FD = 3
MAX_PLAN = 16 << 20
START = "import sys; sys.path.insert(0, sys.argv[1]); from lamina.monitor.__main__ import main; main()"


class Prepared:
    """A monitor that is forked, detached and importing while its plan is still being made; `start` hands it the plan.

    Make it before a database connection is open, in a process without threads (OSError EDEADLK otherwise). It is a child of the
    caller until that exits; Client.close reaps it if it ended before. Without `start` it ends with `cancel`, or with its maker.
    """

    def __init__(self, monitor_cgroup: str | None, *, for_exec: bool = False, own_pidns: bool = False) -> None:
        count = ns.threads()
        if count != 1:
            raise OSError(errno.EDEADLK, f"a process of {count} threads can't fork a monitor", "monitor")
        ours, theirs = fds.socketpair(_socket.SOCK_STREAM)
        parent = ns.own_pid()  # getpid is 1 in the monitor, and may be here
        try:
            self.pid = place.fork_into(monitor_cgroup, own_pidns=own_pidns)
            if self.pid == 0:
                ours.close()
                _live(theirs, for_exec)
        except BaseException as e:
            if ns.own_pid() == parent:
                ours.close()
                raise
            tell_failure(theirs, e)
        finally:
            if ns.own_pid() != parent:
                os._exit(0)
            theirs.close()
        self.sock = ours
        self.kind = (monitor_cgroup, for_exec, own_pidns)

    def fits(self, plan: Mapping[str, Any]) -> bool:
        """Whether it was made for this kind of plan."""
        return self.kind == (plan.get("monitor_cgroup"), "exec_id" in plan, owns_pidns(plan))

    def start(self, plan: Mapping[str, Any], attach: Mapping[str, bool] | None = None) -> Client:
        """Hands over the plan; returns the first client, attached as `attach` ({"stdin","stdout","stderr"}) says before any output."""
        send_job(self.sock, plan, attach)
        return Client(self.sock, self.pid)

    def cancel(self) -> None:
        self.sock.close()
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass


def fork_monitor(plan: Mapping[str, Any], attach: Mapping[str, bool] | None = None) -> Client:
    """Forks the monitor of a plan that is ready, as Prepared. A caller that shall live long takes spawn_monitor."""
    return Prepared(plan.get("monitor_cgroup"), for_exec="exec_id" in plan, own_pidns=owns_pidns(plan)).start(plan, attach)


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
    return Client(ours)


def owns_pidns(plan: Mapping[str, Any]) -> bool:
    """Whether the plan's process gets a new pid namespace. Then its monitor has one as well, which ends all of it."""
    for entry in ((plan.get("spec") or {}).get("linux") or {}).get("namespaces") or ():
        if entry.get("type") == "pid":
            return "exec_id" not in plan and not entry.get("path")
    return False


def send_job(sock: _socket.socket, plan: Mapping[str, Any], attach: Mapping[str, bool] | None) -> None:
    """The plan as the first thing on the wire: u32 length and JSON. If the monitor has died, the client notices that by itself."""
    data = fastjson.dumps({"plan": dict(plan), "attach": None if attach is None else dict(attach)}).encode("utf-8", "surrogateescape")
    if len(data) > MAX_PLAN:
        raise errors.StartError(f"a plan of {len(data)} bytes, at most {MAX_PLAN} are allowed")
    try:
        sock.sendall(protocol.U32.pack(len(data)) + data)
    except (BrokenPipeError, ConnectionResetError):
        pass


def receive_job(sock: _socket.socket) -> dict[str, Any] | None:
    """{"plan","attach"}; None if the maker has gone, or changed its mind."""
    head = _receive(sock, 4)
    if len(head) < 4:
        return None
    length = protocol.U32.unpack(head)[0]
    if length > MAX_PLAN:
        raise protocol.ProtocolError(f"a plan of {length} bytes")
    data = _receive(sock, length)
    return protocol.parse_object(data) if len(data) == length else None


def _receive(sock: _socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            break
        data += part
    return data


def _live(sock: _socket.socket, for_exec: bool) -> None:
    detach(sock)
    if for_exec:
        from lamina.monitor import execmon as execmon
    else:
        from lamina.monitor import main

        main.get_ready()
    place.settle()
    job = receive_job(sock)
    if job is not None:
        run(job["plan"], sock, job["attach"])


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
