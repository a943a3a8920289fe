# SPDX-License-Identifier: Apache-2.0
"""Carries what comes to the sockets that hold a container's published ports: in the monitor's own poll loop, in bounded memory. [hot]

IPv4 is rewritten by the kernel and never gets here, unless the engine's table was flushed by somebody, or a peer has been sending UDP
since before the container was there. IPv6 (::1 above all) always does: containers have no IPv6. Such connections reach the container
from its gateway's address. A side that doesn't read stops the other one; at most WINDOW bytes wait in either direction.
"""
from __future__ import annotations

import _socket
import errno
import os
import select
import time

from lamina.network.ports import TCP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from lamina.network.holding import Held

IN, OUT = select.POLLIN, select.POLLOUT
ODD = select.POLLERR | select.POLLHUP | select.POLLNVAL
WINDOW = 64 << 10
MAX_CONNECTIONS = 512
MAX_FLOWS = 256
FLOW_IDLE = 90.0  # seconds after its last packet that a UDP peer is forgotten
_PER_TURN = 32  # what one listener may take before others have their turn


class _Half:
    """One side of a TCP connection. `out` waits to be sent on it; `ended`: it will send us no more; `shut`: it gets no more from us."""

    __slots__ = ("connected", "ended", "other", "out", "shut", "sock")

    def __init__(self, sock: _socket.socket, *, connected: bool) -> None:
        self.sock = sock
        self.connected = connected
        self.out = b""
        self.ended = False
        self.shut = False
        self.other: _Half = self


class _Flow:
    """A UDP peer, and the socket by which the container knows it. `how` is control data: answers come from the address that was asked."""

    __slots__ = ("how", "key", "listener", "peer", "sock", "used")

    def __init__(self, sock: _socket.socket, listener: _socket.socket, peer: tuple[str | int, ...]) -> None:
        self.sock = sock
        self.listener = listener
        self.peer = peer
        self.how: list[tuple[int, int, bytes]] = []
        self.key = (listener.fileno(), peer)
        self.used = 0.0


class Relay:
    """Between the held sockets and `target`, the container's IPv4 address."""

    def __init__(self, held: Iterable[Held], target: str) -> None:
        self.target = target
        self.listeners: dict[int, Held] = {one.sock.fileno(): one for one in held}
        self.halves: dict[int, _Half] = {}
        self.flows: dict[int, _Flow] = {}
        self.flow_of: dict[tuple[int, tuple[str | int, ...]], _Flow] = {}  # the one that was used longest ago first

    # -- for the loop

    def interest(self, want: dict[int, int]) -> None:
        """Adds what is to be polled."""
        full = len(self.halves) >= 2 * MAX_CONNECTIONS
        for fd, one in self.listeners.items():
            if one.protocol != TCP or not full:
                want[fd] = IN
        for fd, half in self.halves.items():
            other = half.other
            mask = OUT if half.out or not half.connected else 0
            if half.connected and other.connected and not half.ended and not other.out:
                mask |= IN
            if mask:  # the kernel reports hang-ups even to those who ask for nothing
                want[fd] = mask
        for fd in self.flows:
            want[fd] = IN

    def timeout(self) -> int | None:
        """Milliseconds after which `expire` has something to do."""
        return int(FLOW_IDLE * 500) if self.flows else None

    def expire(self) -> None:
        oldest = time.monotonic() - FLOW_IDLE
        for flow in list(self.flow_of.values()):
            if flow.used > oldest:
                break
            self._end_flow(flow)

    def handle(self, fd: int, event: int) -> bool:
        """What poll said about an fd; False if it isn't one of these. It may be a stale word about a number that means another
        socket now, so nothing is believed: every call is nonblocking."""
        half = self.halves.get(fd)
        if half is not None:
            self._move(half, event)
        elif fd in self.flows:
            self._answer(self.flows[fd])
        elif fd in self.listeners:
            one = self.listeners[fd]
            if one.protocol == TCP:
                self._accept(one)
            else:
                self._take(one)
        else:
            return False
        return True

    def close(self) -> None:
        """Hands on what has been received, as far as that goes without waiting, and closes everything, the held sockets too."""
        for half in self.halves.values():
            half.connected = half.connected or _is_connected(half.sock)  # since the loop looked last
        for half in list(self.halves.values()):
            while half.sock.fileno() in self.halves and half.connected and not half.ended and not half.other.out and self._read(half):
                pass
        for half in list(self.halves.values()):
            half.sock.close()
        for flow in list(self.flows.values()):
            self._answer(flow)
            flow.sock.close()
        for one in self.listeners.values():
            one.sock.close()
        self.halves, self.flows, self.flow_of, self.listeners = {}, {}, {}, {}

    # -- TCP

    def _accept(self, one: Held) -> None:
        for _ in range(_PER_TURN):
            if len(self.halves) >= 2 * MAX_CONNECTIONS:
                return
            try:
                fd = one.sock._accept()[0]  # type: ignore[attr-defined]  # accept(2) of the C module, without `socket`'s class
            except OSError:
                return  # nobody there, or gone again, or we are out of fds
            client = _socket.socket(fileno=fd)
            server: _socket.socket | None = None
            try:
                os.set_inheritable(fd, False)
                client.setblocking(False)
                server = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)
                for sock in (client, server):
                    sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
                result = server.connect_ex((self.target, one.private))
            except OSError as e:
                result = e.errno or errno.EIO
            if server is None or result not in (0, errno.EINPROGRESS):
                client.close()
                if server is not None:
                    server.close()
                continue
            near, far = _Half(client, connected=True), _Half(server, connected=result == 0)
            near.other, far.other = far, near
            self.halves[fd] = near
            self.halves[server.fileno()] = far

    def _move(self, half: _Half, event: int) -> None:
        if not half.connected:
            if half.sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR) or event & ODD:
                self._end(half)  # nobody listens in the container: the client's connection ends, too
                return
            if not event & OUT:
                return
            half.connected = True
        if event & (OUT | ODD) and half.out and not self._write(half):
            return
        if event & (IN | ODD) and half.other.connected and not half.ended and not half.other.out:
            self._read(half)

    def _read(self, half: _Half) -> bool:
        """Reads once and hands on; False when there was nothing or the connection has ended."""
        try:
            data = half.sock.recv(WINDOW)
        except BlockingIOError:
            return False
        except OSError:
            self._end(half)
            return False
        half.other.out = data
        half.ended = not data
        return self._write(half.other) and not half.ended

    def _write(self, half: _Half) -> bool:
        """Sends what waits, and the end of it if that has come. False if the connection has ended."""
        if half.out:
            try:
                sent = half.sock.send(half.out)
            except BlockingIOError:
                return True
            except OSError:
                self._end(half)
                return False
            half.out = half.out[sent:]
        if not half.out and half.other.ended and not half.shut:
            half.shut = True
            try:
                half.sock.shutdown(_socket.SHUT_WR)
            except OSError:
                self._end(half)
                return False
        if half.shut and half.other.shut:
            self._end(half)
            return False
        return True

    def _end(self, half: _Half) -> None:
        for one in (half, half.other):
            self.halves.pop(one.sock.fileno(), None)
            one.sock.close()

    # -- UDP

    def _take(self, one: Held) -> None:
        """Packets from outside."""
        for _ in range(_PER_TURN):
            try:
                data, control, _flags, peer = one.sock.recvmsg(65535, 256)
            except OSError:
                return
            flow = self.flow_of.pop((one.sock.fileno(), peer), None) or self._new_flow(one, peer)
            if flow is None:
                continue
            self.flow_of[flow.key] = flow  # last in the order again
            flow.used = time.monotonic()
            flow.how = _answer_from(control)
            try:
                flow.sock.send(data)
            except OSError:
                pass  # nobody listens, or no room: UDP may lose it

    def _new_flow(self, one: Held, peer: tuple[str | int, ...]) -> _Flow | None:
        if len(self.flows) >= MAX_FLOWS:
            self._end_flow(next(iter(self.flow_of.values())))
        try:
            sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)
        except OSError:
            return None
        if sock.connect_ex((self.target, one.private)):
            sock.close()
            return None
        flow = _Flow(sock, one.sock, peer)
        self.flows[sock.fileno()] = flow
        return flow

    def _answer(self, flow: _Flow) -> None:
        for _ in range(_PER_TURN):
            try:
                data = flow.sock.recv(65535)
            except OSError:
                return  # nothing more, or word that nobody listens there
            flow.used = time.monotonic()
            try:
                flow.listener.sendmsg([data], flow.how, 0, flow.peer)
            except OSError:
                pass

    def _end_flow(self, flow: _Flow) -> None:
        self.flows.pop(flow.sock.fileno(), None)
        self.flow_of.pop(flow.key, None)
        flow.sock.close()


def _is_connected(sock: _socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _answer_from(control: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """From "it came to this address" to "send from this address"."""
    for level, kind, data in control:
        if (level, kind) == (41, 50):
            return [(level, kind, data)]
        if (level, kind) == (0, 8) and len(data) == 12:
            return [(level, kind, bytes(4) + data[4:8] + bytes(4))]  # the interface is the routing's to choose
    return []
