# SPDX-License-Identifier: Apache-2.0
"""Where a monitor spends its life: one poll loop over its clients, its process's stdio and its process's pidfd.

`Session` is what monitors of containers and of execs have in common: the process, its stdio, its log, its clients, and the requests
that any of them answers the same way. Single-threaded; nothing in here blocks but the log's file writes.
"""
from __future__ import annotations

import gc
import os
import select
import time

import lamina.errors as errors
from lamina.linux import ns
from lamina.monitor import protocol
from lamina.monitor.server import MAX_PEERS, Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from lamina.monitor.logs import LogWriter
    from lamina.monitor.stdio import Stdio

    class Part(Protocol):
        """What else takes part in the loop: the relay of published ports, health checks."""

        def interest(self, want: dict[int, int]) -> None: ...
        def timeout(self) -> int | None: ...
        def expire(self) -> None: ...
        def handle(self, fd: int, event: int) -> bool: ...

IN, OUT = select.POLLIN, select.POLLOUT
DRAIN_LIMIT = 4 << 20  # what is still in pipes at the end: 64 KiB each unless somebody enlarged them (1 MiB at most, for users)
ODD = select.POLLERR | select.POLLHUP | select.POLLNVAL


class Session:
    """`own_pidns`: the end of the process is the end of everyone who could write to its stdio. `patience`: for how many seconds after
    its end others may hold and write to its pipes (an exec's background processes), until what they say is nobody's any more."""

    def __init__(self, about: dict[str, Any], *, own_pidns: bool, patience: float = 0.0) -> None:
        self.about = about  # for HELLO
        self.own_pidns = own_pidns
        self.patience = patience
        self.server = Server(self)
        self.stdio: Stdio | None = None
        self.parts: list[Part] = []
        self.log: LogWriter | None = None
        self.stdin_once = False
        self.pid = 0
        self.pidfd = -1
        self._masks: dict[int, int] = {}
        self._poll = select.poll()

    # -- what clients ask for (server.Subject)

    def describe(self) -> dict[str, Any]:
        return self.about

    def signal(self, number: int) -> None:
        if self.pidfd < 0:
            raise errors.Conflict("the process is not running")
        try:
            ns.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            raise errors.Conflict("the process is not running")
        except OSError as e:
            raise errors.InvalidArgument(f"can't send signal {number}: {e.strerror}")

    def resize(self, rows: int, cols: int) -> None:
        if self.stdio is not None:
            self.stdio.resize(rows, cols)

    def pause(self) -> None:
        raise errors.NotSupported("only a container can be paused")

    unpause = pause

    def restart(self, how: dict[str, Any]) -> None:
        raise errors.NotSupported("only a container can be restarted")

    def stdin(self, sender: int, data: bytes) -> None:
        assert self.stdio is not None
        self.stdio.queue_input(sender, data)
        self.server.credit(self.stdio.write_input())

    def stdin_closed(self) -> None:
        """A writer of stdin is done or gone. The process's stdin ends with the first one if it was made for one (stdin_once)."""
        if self.stdin_once and self.stdio is not None:
            self.stdio.close_input()

    # -- the loop

    def serve(self) -> int:
        """Serves until the process has ended and everything it wrote is in the log and on its way to the clients.

        Returns its exit code, 128+n if signal n killed it.
        """
        gc.freeze()  # what a start has made stays; from here on a long life begins
        gc.set_threshold(700, 10, 10)
        while not self._turn(None):
            pass
        done = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        assert done is not None
        code = done.si_status if done.si_code == os.CLD_EXITED else 128 + done.si_status
        os.close(self.pidfd)
        self.pidfd = -1
        assert self.stdio is not None
        self._take_rest(self.stdio)
        self.stdio.close()
        self.stdio = None
        if self.log is not None:
            self.log.close()
        return code

    def linger(self) -> None:
        """Serves on until every client has got all that it was to get, or is gone."""
        self.server.release()
        while self.server.peers:
            self._turn(None)

    def emit(self, stream: str, data: bytes) -> None:
        if self.log is not None:
            self.log.write(stream, data)
        self.server.output(stream, data)

    def _take_rest(self, stdio: Stdio) -> None:
        """What is in the pipes at the end; behind clients don't hold it up, it is bounded."""
        end = time.monotonic() + self.patience
        while stdio.outputs and not stdio.tty and (left := end - time.monotonic()) > 0:
            self._turn(left * 1000 + 1)
        for stream, data in stdio.drain(DRAIN_LIMIT):
            self.emit(stream, data)

    def _turn(self, timeout: float | None) -> bool:
        """One round, of at most `timeout` milliseconds; True when the process has ended."""
        server, stdio = self.server, self.stdio
        for part in self.parts:
            part.expire()
            at_most = part.timeout()
            if at_most is not None and (timeout is None or at_most < timeout):
                timeout = at_most
        self._update(self._interest())
        ended = False
        for fd, event in self._poll.poll(timeout):
            peer = server.peers.get(fd)
            if peer is not None:
                if event & OUT or peer.closing and event & ODD:
                    server.flush(peer)
                if event & (IN | ODD) and peer.number in server.numbers and not peer.closing:
                    server.receive(peer)
            elif fd == self.pidfd:
                ended = True
            elif server.listener is not None and fd == server.listener.fileno():
                server.accept()
            elif any(part.handle(fd, event) for part in self.parts):
                continue
            elif stdio is not None:
                self._move(stdio, fd, event)
        return ended

    def _move(self, stdio: Stdio, fd: int, event: int) -> None:
        if fd in stdio.outputs and event & (IN | ODD):
            data = stdio.read(fd)
            if data:
                self.emit("stdout" if stdio.tty else stdio.outputs[fd], data)
        if fd == stdio.input:
            if event & OUT:
                self.server.credit(stdio.write_input())
            elif event & ODD and fd not in stdio.outputs:
                self.server.credit(stdio.input_gone())

    def _interest(self) -> dict[int, int]:
        server, stdio = self.server, self.stdio
        want: dict[int, int] = {}
        if server.listener is not None and len(server.peers) < MAX_PEERS:
            want[server.listener.fileno()] = IN
        for fd, peer in server.peers.items():
            want[fd] = (0 if peer.closing else IN) | (OUT if peer.out else 0)
        if self.pidfd >= 0:
            want[self.pidfd] = IN
        if stdio is not None:
            if not server.behind:
                for fd in stdio.outputs:
                    want[fd] = IN
            if stdio.input >= 0 and (stdio.has_input or not stdio.tty):
                want[stdio.input] = want.get(stdio.input, 0) | (OUT if stdio.has_input else 0)
        for part in self.parts:
            part.interest(want)
        return want

    def _update(self, want: dict[int, int]) -> None:
        masks = self._masks
        if want == masks:
            return
        for fd in masks.keys() - want.keys():
            self._poll.unregister(fd)
        for fd, mask in want.items():
            if masks.get(fd) != mask:
                self._poll.register(fd, mask)
        self._masks = want


def has_ended(pidfd: int) -> bool:
    poller = select.poll()
    poller.register(pidfd, IN)
    return bool(poller.poll(0))


def exit_frame(code: int) -> bytes:
    return protocol.frame(protocol.M_EXIT, protocol.U32.pack(code))
