# SPDX-License-Identifier: Apache-2.0
"""The clients of one monitor: accepting them, taking their requests, sending them what they are to get.

Nothing here blocks. What a client hasn't read yet waits in its queue; `behind` tells the loop to stop reading the container's output
until the slowest has caught up. A client that dies, misbehaves or detaches is dropped, and nobody else notices.
"""
from __future__ import annotations

import _socket
import os
import time

import lamina.errors as errors
from lamina.monitor import protocol
from lamina.monitor.sockets import check_peer, with_short_path
from lamina.util import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Subject(Protocol):
        """What requests are about: a container or an exec. Methods raise LaminaError or OSError, which the client gets as the reply."""

        def describe(self) -> dict[str, Any]: ...
        def signal(self, number: int) -> None: ...
        def resize(self, rows: int, cols: int) -> None: ...
        def pause(self) -> None: ...
        def unpause(self) -> None: ...
        def restart(self, how: dict[str, Any]) -> None: ...
        def stdin(self, sender: int, data: bytes) -> None: ...
        def stdin_closed(self) -> None: ...


MAX_PEERS = 200
CREDIT_STEP = protocol.WINDOW // 8


class Peer:
    """One connected client; `number` is never used twice."""

    __slots__ = ("closing", "credit", "greeted", "number", "out", "parser", "sock", "stderr", "stdin", "stdout", "steps", "window")

    def __init__(self, sock: _socket.socket, number: int) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.number = number
        self.parser = protocol.Parser()
        self.out = bytearray()
        self.stdin = self.stdout = self.stderr = False
        self.steps = False  # wants to be told what is done (--explain)
        self.greeted = False
        self.closing = False  # nothing more to say: close when the queue is empty
        self.window = protocol.WINDOW
        self.credit = 0


class Server:
    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.listener: _socket.socket | None = None
        self.peers: dict[int, Peer] = {}  # by fd
        self.numbers: dict[int, Peer] = {}
        self.started: bytes = b""
        self.last: bytes = b""  # EXIT or ERROR, once known
        self._count = 0

    def listen(self, run_dir: str, name: str) -> None:
        """Binds `run_dir/name`, mode 0600, in place of one that a dead monitor left. Raises OSError."""
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
        try:
            os.unlink(os.path.join(run_dir, name))
        except FileNotFoundError:
            pass
        mask = os.umask(0o177)
        try:
            with_short_path(run_dir, name, sock.bind)
        finally:
            os.umask(mask)
        sock.listen(64)
        self.listener = sock

    def close_listener(self) -> None:
        """Takes nobody new; who is in the queue already is still served."""
        if self.listener is not None:
            while self.accept():
                pass
            self.listener.close()
            self.listener = None

    def add(self, sock: _socket.socket, attach: dict[str, Any] | None = None) -> Peer:
        """A client that is connected; `attach` as in the ATTACH frame attaches it at once, before any output."""
        self._count += 1
        peer = Peer(sock, self._count)
        self.peers[sock.fileno()] = peer
        self.numbers[peer.number] = peer
        if attach:
            self._attach(peer, attach)
        self.send(peer, protocol.json_frame(protocol.M_HELLO, {"version": protocol.VERSION, **self.subject.describe()}) + self.started)
        if self.last:
            self.end(peer, self.last)
        return peer

    def accept(self) -> bool:
        """Takes one client from the listener's queue; False if there is none."""
        assert self.listener is not None
        try:
            fd = self.listener._accept()[0]  # type: ignore[attr-defined]  # accept(2) of the C module, without `socket`'s class
        except BlockingIOError:
            return False
        except OSError:
            return False  # it has gone again, or we are out of fds: the others matter more
        sock = _socket.socket(fileno=fd)
        try:
            os.set_inheritable(fd, False)
            check_peer(sock)
        except (errors.LaminaError, OSError):
            sock.close()
            return True
        self.add(sock)
        return True

    # -- to the clients

    @property
    def behind(self) -> bool:
        """Whether a client that gets output is more than BEHIND late."""
        for peer in self.peers.values():
            if len(peer.out) > protocol.BEHIND and (peer.stdout or peer.stderr):
                return True
        return False

    def output(self, stream: str, data: bytes) -> None:
        """`data`, at most MAX_PAYLOAD bytes, to everyone attached to that stream."""
        is_stdout = stream == "stdout"
        message = b""
        for peer in list(self.peers.values()):
            if peer.stdout if is_stdout else peer.stderr:
                message = message or protocol.frame(protocol.M_STDOUT if is_stdout else protocol.M_STDERR, data)
                self.send(peer, message)

    def credit(self, credits: list[tuple[int, int]]) -> None:
        """Tells the writers of stdin how much was taken, in few frames."""
        for number, count in credits:
            peer = self.numbers.get(number)
            if peer is not None:
                peer.credit += count
                if peer.credit >= CREDIT_STEP:
                    peer.window += peer.credit
                    self.send(peer, protocol.frame(protocol.M_CREDIT, protocol.U32.pack(peer.credit)))
                    peer.credit = 0

    def broadcast(self, message: bytes) -> None:
        for peer in list(self.peers.values()):
            self.send(peer, message)

    def finish(self, message: bytes) -> None:
        """The last frame (EXIT or ERROR) for everyone, and for whoever comes after."""
        self.last = message
        for peer in list(self.peers.values()):
            if peer.steps:
                self.send(peer, message)
            else:
                self.end(peer, message)

    def dismiss(self, message: bytes) -> None:
        """The last frame of one run, for everyone who is there; who comes after waits for the next run."""
        self.started = b""
        for peer in list(self.peers.values()):
            if not peer.closing:
                peer.stdin = False  # what it would write to is gone
                self.end(peer, message)

    def step(self, text: str, /, *, who: str = "monitor", at: int = 0, now: bool = False) -> None:
        """steps.tell of a monitor: to the clients that asked for it. One that doesn't read misses some."""
        message = protocol.json_frame(protocol.M_STEP, {"who": who, "at": at or time.monotonic_ns(), "text": text})
        for peer in list(self.peers.values()):
            if peer.steps and len(peer.out) <= protocol.BEHIND:
                self.send(peer, message)

    def release(self) -> None:
        """After the last step: lets go of those who have stayed for it."""
        for peer in list(self.peers.values()):
            if not peer.closing:
                self.end(peer, b"")

    def end(self, peer: Peer, message: bytes) -> None:
        peer.closing = True
        peer.stdout = peer.stderr = False  # it gets what is queued, and holds nobody up any more
        self.send(peer, message)

    def send(self, peer: Peer, message: bytes) -> None:
        if peer.out:
            peer.out += message
            return
        try:
            sent = peer.sock.send(message)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.drop(peer)
            return
        if sent < len(message):
            peer.out += memoryview(message)[sent:]
        elif peer.closing:
            self.drop(peer)

    def flush(self, peer: Peer) -> None:
        """The socket has room again."""
        try:
            sent = peer.sock.send(peer.out)
        except BlockingIOError:
            return
        except OSError:
            self.drop(peer)
            return
        del peer.out[:sent]
        if not peer.out and peer.closing:
            self.drop(peer)

    def drop(self, peer: Peer) -> None:
        """Forgets a client. If it could write stdin, that counts as its half-close."""
        if self.numbers.pop(peer.number, None) is None:
            return
        del self.peers[peer.sock.fileno()]
        peer.sock.close()
        if peer.steps and not any(other.steps for other in self.peers.values()):
            steps.tell = None
        if peer.stdin:
            peer.stdin = False
            self.subject.stdin_closed()

    def close(self) -> None:
        self.close_listener()
        for peer in list(self.peers.values()):
            self.drop(peer)

    # -- from the clients

    def receive(self, peer: Peer) -> None:
        """Reads and obeys what a client has sent."""
        try:
            data = peer.sock.recv(protocol.MAX_PAYLOAD * 2)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.drop(peer)
            return
        try:
            for kind, payload in peer.parser.feed(data):
                self._obey(peer, kind, payload)
                if peer.number not in self.numbers:
                    return
        except protocol.ProtocolError as e:
            self.end(peer, protocol.json_frame(protocol.M_ERROR, protocol.describe(e)))
            self.drop(peer)

    def _obey(self, peer: Peer, kind: int, payload: bytes) -> None:
        if kind == protocol.C_STDIN:
            peer.window -= len(payload)
            if peer.window < 0 or not payload:
                raise protocol.ProtocolError("more stdin than there was credit for, or none")
            if peer.stdin:
                self.subject.stdin(peer.number, payload)
            else:
                self.credit([(peer.number, len(payload))])
        elif kind == protocol.C_STDIN_CLOSE:
            if peer.stdin:
                peer.stdin = False
                self.subject.stdin_closed()
        elif kind == protocol.C_HELLO:
            peer.greeted = True
            protocol.parse_object(payload)
        elif not peer.greeted:
            raise protocol.ProtocolError("the first frame must be HELLO")
        else:
            self._request(peer, kind, payload)

    def _request(self, peer: Peer, kind: int, payload: bytes) -> None:
        subject = self.subject
        reply: dict[str, Any] = {}
        try:
            if kind == protocol.C_ATTACH:
                self._attach(peer, protocol.parse_object(payload))
            elif kind == protocol.C_RESIZE and len(payload) == protocol.SIZE.size:
                subject.resize(*protocol.SIZE.unpack(payload))
            elif kind == protocol.C_SIGNAL and len(payload) == 1:
                subject.signal(payload[0])
            elif kind == protocol.C_PAUSE:
                subject.pause()
            elif kind == protocol.C_UNPAUSE:
                subject.unpause()
            elif kind == protocol.C_RESTART:
                subject.restart(protocol.parse_object(payload))
            else:
                raise protocol.ProtocolError(f"frame of unknown type {kind:#x} or wrong size {len(payload)}")
        except protocol.ProtocolError:
            raise
        except (errors.LaminaError, OSError) as e:
            reply = protocol.describe(e)
        self.send(peer, protocol.json_frame(protocol.M_REPLY, reply))

    def _attach(self, peer: Peer, how: dict[str, Any]) -> None:
        peer.stdin = how.get("stdin") is True
        peer.stdout = how.get("stdout") is True
        peer.stderr = how.get("stderr") is True
        peer.steps = how.get("explain") is True
        if peer.steps:
            steps.tell = self.step
