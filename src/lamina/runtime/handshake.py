# SPDX-License-Identifier: Apache-2.0
"""What a new process and its maker tell each other: typed datagrams over a socket pair, errors included.

Child to parent: STEP (when, what: only if somebody listens, see util/steps.py), then READY (with fds: the pty's master, an exec's
pidfd) or ERROR (kind, text). Parent to child: START. The end of the stream after START means that exec succeeded: the child's end is
close-on-exec. Whoever finds the other end gone gives up.
"""
from __future__ import annotations

import _socket
import errno
import os
import select
import time
from _struct import pack, unpack_from

from lamina.errors import StartError
from lamina.linux import fds, ns
from lamina.util import steps

from . import texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

READY, ERROR, START, STEP = b"R", b"E", b"S", b"T"
_LIMIT = 8192
_TEXT = 6000


def report(sock: _socket.socket, error: BaseException, phase: str) -> None:
    """Sends the child's failure; a parent that is gone doesn't matter, the child ends either way."""
    kind, text = 0, phase
    if isinstance(error, StartError):
        kind, text = next((i for i in (1, 2) if isinstance(error, texts.KINDS[i])), 0), error.message
    elif isinstance(error, OSError):
        text = f"{phase}: {texts.reason(error)}" if phase.startswith("error mounting") else _with_name(phase, error)
    else:
        text = f"{phase}: {error.__class__.__name__}: {error}"
    try:
        fds.send_fds(sock, ERROR + pack("=B", kind) + text.encode("utf-8", "replace")[:_TEXT], [])
    except OSError:
        pass


def step(sock: _socket.socket, text: str) -> None:
    """Tells a step of the child's; who made it passes that on."""
    try:
        fds.send_fds(sock, STEP + pack("=q", time.monotonic_ns()) + text.encode("utf-8", "replace")[:_TEXT], [])
    except OSError:
        pass


def _with_name(phase: str, error: OSError) -> str:
    name = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) and error.filename else ""
    return f"{phase}: {name}{texts.reason(error)}"


def await_start(sock: _socket.socket) -> None:
    """The child waits for START; if the parent has gone it ends here."""
    if sock.recv(16) != START:
        os._exit(1)


def parent_is_there(sock: _socket.socket) -> bool:
    """Asked after PDEATHSIG is set: a parent that died before that would leave us without the signal. getppid() is no help, it is 0
    in a pid namespace of one's own; the socket tells, since its other end is held by the parent alone."""
    ends = select.poll()
    ends.register(sock, select.POLLRDHUP)  # told also where START was sent before: what can be read says nothing of an end behind it
    return not ends.poll(0)


class Init:
    """A process between clone and exec, then running; made by `create` and `exec_process`.

    pid, start_time (ticks) and pidfd (owned by the caller, as is master_fd, the pty's master or -1) identify it. Call wait_ready,
    then start; when either raises, the process is dead and reaped, its fds are closed. `sock` may be polled for readability.
    """

    __slots__ = ("master_fd", "pid", "pidfd", "prefix", "sock", "start_time")

    def __init__(self, pid: int, pidfd: int, sock: _socket.socket, prefix: str) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.sock: _socket.socket | None = sock
        self.prefix = prefix
        self.master_fd = -1
        self.start_time = ns.start_time(pid)

    def wait_ready(self) -> None:
        """Returns when everything up to exec is done, args[0] found included; raises the StartError family with docker's texts."""
        message, received = self._receive()
        if message[:1] != READY:
            self._fail(message)
        self._took(message, received)

    def _took(self, message: bytes, received: Sequence[int]) -> None:
        for fd in received:
            self.master_fd = fd

    def start(self) -> None:
        """Lets it exec and returns once that has happened; raises CommandNotFound or CommandNotExecutable when it can't."""
        self.let_go()
        self.confirm()

    def let_go(self) -> None:
        """The first half of `start`: there is time for something else until `confirm`."""
        try:
            assert self.sock is not None
            self.sock.send(START)
        except OSError:
            pass  # it has died: what it said, or how, is told by `confirm`

    def confirm(self) -> None:
        message, _ = self._receive()
        if message:
            self._fail(message)
        self._close_sock()

    def _receive(self) -> tuple[bytes, list[int]]:
        while True:
            message, received = self._next()
            if message[:1] != STEP:
                return message, received
            if steps.tell is not None:
                steps.tell(message[9:].decode("utf-8", "replace"), who="init", at=unpack_from("=q", message, 1)[0])

    def _next(self) -> tuple[bytes, list[int]]:
        assert self.sock is not None
        while True:
            try:
                return fds.recv_fds(self.sock, _LIMIT, 4)
            except InterruptedError:
                continue
            except OSError as e:
                if e.errno == errno.ECONNRESET:
                    return b"", []
                self.abort()
                raise

    def _fail(self, message: bytes) -> None:
        if message[:1] == ERROR:
            kind = unpack_from("=B", message, 1)[0]
            text = message[2:].decode("utf-8", "replace")
        else:
            kind, text = 0, ""
        status = self.abort()
        if not text:
            text = "container init was OOM-killed (memory limit too low?)" if status == -9 else f"container init ended early ({status})"
        raise texts.wrap(kind if kind < len(texts.KINDS) else 0, text, self.prefix)

    def abort(self) -> int:
        """Kills and reaps the process, closes all fds. Returns its exit status, negative for a signal (-9 may be our own)."""
        done = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG)
        if done is None:
            try:
                ns.pidfd_send_signal(self.pidfd, 9)
            except ProcessLookupError:
                pass
            done = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        self._close_sock()
        for fd in (self.pidfd, self.master_fd):
            if fd >= 0:
                os.close(fd)
        self.pidfd = self.master_fd = -1
        if done is None:
            return 0
        return done.si_status if done.si_code == os.CLD_EXITED else -done.si_status

    def _close_sock(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None
