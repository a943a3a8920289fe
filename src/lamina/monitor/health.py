# SPDX-License-Identifier: Apache-2.0
"""Health checks of one container: a command that is run in it from time to time, and what its results say. [hot]

For the container's monitor, which loads it only where the plan has "health": {"argv", "Interval", "Timeout", "StartPeriod",
"StartInterval" (nanoseconds), "Retries", "path" (of health.json)}. Docker's rules: a check begins an interval after the end of the one
before; exit code 0 is healthy, `Retries` failures in a row are unhealthy; failures in the start period count only after a success.

Each check is an exec (execmon) in a child of ours, and we are its client: whatever hangs, hangs there. health.json is State.Health of
`inspect`: {"Status","FailingStreak","Log":[{"Start","End","ExitCode","Output"}]}, the last LOG results.
"""
from __future__ import annotations

import _socket
import os
import select
import time

from lamina.containers.state import HEALTHY, STARTING, UNHEALTHY
from lamina.linux import fds, signals
from lamina.monitor import execmon, protocol
from lamina.util import fastjson, ids, times
from lamina.util.atomic import read_file, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LOG = 5
OUTPUT = 4096  # bytes of a check's output that are kept
START = 30.0  # seconds that an exec may take to start; not a part of the check's own timeout
TERM = 10.0  # seconds between SIGTERM and SIGKILL for a check that takes too long
SECOND = 1_000_000_000
IN = select.POLLIN


class Health:
    """`plan` is the container's; `pid`, `start_time` and the pidfd `init` are its first process; `tell` is called when `status` has
    changed by a result."""

    def __init__(self, plan: dict[str, Any], pid: int, start_time: int, init: int, tell: Callable[[], None]) -> None:
        how = self.how = plan["health"]
        self.plan = check_plan(plan, pid, start_time)
        self.init = init
        self.tell = tell
        self.status = STARTING
        self.streak = 0
        self.log: list[dict[str, Any]] = load(how["path"])
        self.began = time.monotonic()
        self.due = self.began + self.interval()
        self.check: Check | None = None
        self.left: list[int] = []  # pids of children that were given up
        self.save()

    def interval(self) -> float:
        young = self.status == STARTING and time.monotonic() - self.began < self.how["StartPeriod"] / SECOND
        return float(self.how["StartInterval" if young else "Interval"]) / SECOND

    # -- a part of the loop

    def interest(self, want: dict[int, int]) -> None:
        if self.check is not None:
            want[self.check.sock.fileno()] = IN

    def timeout(self) -> int | None:
        at = self.check.deadline if self.check is not None else self.due
        return max(0, int((at - time.monotonic()) * 1000) + 1) if at else None

    def expire(self) -> None:
        if self.left:
            self.left = [pid for pid in self.left if not os.waitpid(pid, os.WNOHANG)[0]]
            reap_strays(self.init)
        check, now = self.check, time.monotonic()
        if check is not None:
            if now >= check.deadline and check.overdue(self.how["Timeout"]):
                self.done()
        elif self.due and now >= self.due:
            try:
                self.check = Check({**self.plan, "exec_id": ids.new_id()}, self.init)
            except OSError as e:
                self.result(times.now_ns(), -1, f"can't start a health check: {e.strerror}")

    def handle(self, fd: int, event: int) -> bool:
        check = self.check
        if check is None or fd != check.sock.fileno():
            return False
        if check.receive(self.how["Timeout"] / SECOND):
            self.done()
        return True

    # -- what the container tells us

    def pause(self) -> None:
        """No more checks; docker says "unhealthy" meanwhile, and so do we."""
        self.due = 0.0
        if self.check is not None:
            self.left.append(self.check.give_up())
            self.check = None
        self.status = UNHEALTHY
        self.save()

    def resume(self) -> None:
        self.due = time.monotonic() + self.interval()

    def close(self) -> None:
        """The container has ended, all its processes with it."""
        self.pause()
        for pid in self.left:
            os.kill(pid, signals.SIGKILL)  # ours, and not reaped yet
            os.waitpid(pid, 0)
        self.left.clear()
        while True:
            try:
                if not os.waitpid(-1, os.WNOHANG)[0]:
                    break
            except ChildProcessError:
                break

    # -- results

    def done(self) -> None:
        check, self.check = self.check, None
        assert check is not None
        pid = check.close()
        if pid:
            self.left.append(pid)
        self.result(check.started_ns, check.code, check.text())

    def result(self, start: int, code: int, output: str) -> None:
        entry = {"Start": times.rfc3339nano(start), "End": times.rfc3339nano(times.now_ns()), "ExitCode": code, "Output": output}
        self.log = [*self.log, entry][-LOG:]
        before = self.status
        if code == 0:
            self.streak, self.status = 0, HEALTHY
        elif before != STARTING or time.monotonic() - self.began >= self.how["StartPeriod"] / SECOND:
            self.streak += 1
            if self.streak >= self.how["Retries"]:
                self.status = UNHEALTHY
        self.due = time.monotonic() + self.interval()
        self.save()
        if self.status != before:
            self.tell()

    def save(self) -> None:
        state = {"Status": self.status, "FailingStreak": self.streak, "Log": self.log}
        try:
            write_file(self.how["path"], fastjson.dump_bytes(state), 0o600, durable=False)
        except OSError:
            pass  # a full disk: the status is in state.json, too, and events tell of it


def check_plan(plan: dict[str, Any], pid: int, start_time: int) -> dict[str, Any]:
    """The plan of the exec that a check is (but its id): as the container's own process, with another command."""
    process = {**plan["spec"]["process"], "args": plan["health"]["argv"], "terminal": False}
    keys = ("run_dir", "spec", "user", "group_add", "workdir", "seccomp_path", "cgroup", "monitor_cgroup", "runtime")
    return {**{key: plan.get(key) for key in keys}, "version": 1, "container_id": plan["id"], "init_pid": pid,
            "init_start_time": start_time, "process": process, "auto_remove": True}


class Check:
    """One exec under way. `deadline` is on the monotonic clock; `code` and `text()` are known in the end."""

    def __init__(self, plan: dict[str, Any], init: int) -> None:
        self.container = plan["container_id"]
        self.started_ns = times.now_ns()
        self.deadline = time.monotonic() + START
        self.running = False
        self.late = ""
        self.code = -1
        self.error = ""
        self.output = bytearray()
        self.cut = False
        self.ended = False
        self.parser = protocol.Parser()
        self.sock, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC, 0)
        try:
            self.pid = os.fork()
        except BaseException:
            self.sock.close()
            theirs.close()
            raise
        if self.pid == 0:
            _run(plan, theirs, init)
        theirs.close()
        self.sock.setblocking(False)
        self.send(protocol.json_frame(protocol.C_HELLO, {"version": protocol.VERSION}))

    def send(self, message: bytes) -> None:
        try:
            self.sock.send(message)
        except OSError:
            pass  # it has ended: that is to be read

    def receive(self, timeout: float) -> bool:
        """Takes what has come; True at the end."""
        try:
            data = self.sock.recv(protocol.MAX_PAYLOAD * 2)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if self.ended:
            return not data
        for kind, payload in self.parser.feed(data):
            if kind in (protocol.M_STDOUT, protocol.M_STDERR):
                room = OUTPUT - len(self.output)
                self.output += payload[:room]
                self.cut = self.cut or len(payload) > room
            elif kind == protocol.M_STARTED:
                self.running = True
                self.deadline = time.monotonic() + timeout
            elif kind == protocol.M_EXIT:
                self.code = -1 if self.late else protocol.U32.unpack(payload)[0]
                self.ended = True
            elif kind == protocol.M_ERROR:
                self.error = str(protocol.parse_object(payload)["message"])
                self.ended = True
        return not data

    def overdue(self, timeout_ns: int) -> bool:
        """The deadline has passed: True if there is nothing left to wait for."""
        if not self.running:
            self.error = f"timed out starting health check for container {self.container}"
            return True
        if self.late.endswith(" "):
            return True  # it doesn't even end after SIGKILL
        number = signals.SIGKILL if self.late else signals.SIGTERM
        self.late = f"Health check exceeded timeout ({go_duration(timeout_ns)})" + (" " if self.late else "")
        self.send(protocol.frame(protocol.C_SIGNAL, bytes((number,))))
        self.deadline = time.monotonic() + TERM
        return False

    def text(self) -> str:
        if self.error:
            return self.error
        output = self.output.decode("utf-8", "replace") + ("..." if self.cut else "")
        if self.late:
            return self.late.rstrip() + (f": {output}" if output else "")
        return output

    def close(self) -> int:
        """At the end: 0 if the child is gone, else its pid, to be reaped later; it was killed if it hung."""
        self.sock.close()
        if self.ended:
            os.waitpid(self.pid, 0)  # it has told the result and closed its end: there is nothing left that it could wait for
            return 0
        os.kill(self.pid, signals.SIGKILL)
        return 0 if os.waitpid(self.pid, os.WNOHANG)[0] else self.pid

    def give_up(self) -> int:
        """Before the end: the check is killed, its result isn't wanted. The child's pid, to be reaped later."""
        self.send(protocol.frame(protocol.C_SIGNAL, bytes((signals.SIGKILL,))))
        self.sock.close()
        return self.pid


def _run(plan: dict[str, Any], sock: _socket.socket, init: int) -> None:
    """In the child: an exec's monitor, with nothing of ours open but the socket and the container."""
    try:
        first, second = sorted((sock.fileno(), init))
        for low, high in ((3, first - 1), (first + 1, second - 1)):
            if low <= high:
                fds.close_range(low, high)
        fds.close_range(second + 1)
        execmon.run(plan, sock, {"stdout": True, "stderr": True}, init)
    finally:
        os._exit(0)


def reap_strays(init: int) -> None:
    """Children that came to us when theirs was killed, but not the container's first process, whose end belongs to the loop."""
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, options)
            if found is None or os.waitid(os.P_PIDFD, init, options) is not None:
                return  # what was found might be that one
            os.waitpid(found.si_pid, 0)
        except ChildProcessError:
            return


def load(path: str) -> list[dict[str, Any]]:
    """The results of former runs."""
    try:
        return list(fastjson.loads(read_file(path, 1 << 20))["Log"])
    except (OSError, ValueError, TypeError, KeyError):
        return []


def go_duration(ns: int) -> str:
    """As Go writes a time.Duration: 1m30s, 1.5s, 250ms."""
    if ns < SECOND:
        for size, unit in ((1_000_000, "ms"), (1000, "µs"), (1, "ns")):
            if ns >= size:
                return f"{ns / size:g}{unit}"
        return "0s"
    minutes, rest = divmod(ns, 60 * SECOND)
    whole, part = divmod(rest, SECOND)
    seconds = f"{whole}" + (f".{part:09d}".rstrip("0") if part else "")
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + seconds + "s"
