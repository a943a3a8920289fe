# SPDX-License-Identifier: Apache-2.0
"""Talking to a monitor: what `run`, `attach`, `kill`, `wait`, the API and the library use.

`connect` finds a running monitor by its socket; `launch` hands out a Client that is connected before the monitor exists. Blocking
methods for programs (`wait_started`, `frames`, `wait`, `write`), and `receive`/`flush`/`fileno` for callers with a select loop of
their own (cli/attach.py). Not thread-safe: one thread at a time.
"""
from __future__ import annotations

import _socket
import errno
import os
import select
import time

import lamina.errors as errors
from lamina.monitor import protocol
from lamina.monitor.sockets import SOCK, check_peer, with_short_path
from lamina.util import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

HEAR_OUT = 10.0  # seconds that a monitor has for cleaning up while somebody listens to its steps


class Client:
    """One connection. `exit_code` and `started` are None until the monitor has told them; `error` holds why there was no start."""

    def __init__(self, sock: _socket.socket, pid: int = 0) -> None:
        self.sock = sock
        self.pid = pid  # of the monitor, if it is our child and to be reaped by us
        self.hello: dict[str, Any] | None = None
        self.started: dict[str, Any] | None = None
        self.error: errors.LaminaError | None = None
        self.exit_code: int | None = None
        self.gone = False
        self.warnings: list[str] = []  # for the user, from whoever made the plan
        self.window = protocol.WINDOW
        self._parser = protocol.Parser()
        self._output: list[tuple[str, bytes]] = []
        self._replies: list[dict[str, Any]] = []
        self._awaited = 0  # requests whose reply nobody waits for, ahead of those that somebody does
        self._sending = bytearray()
        self.explains = steps.tell is not None  # its monitor tells its steps, after its start was asked for or `attach`
        if self.explains:
            steps.sources.append(self)
        sock.setblocking(False)
        self._send(protocol.json_frame(protocol.C_HELLO, {"version": protocol.VERSION}))

    # -- for select loops

    def fileno(self) -> int:
        return self.sock.fileno()

    @property
    def sending(self) -> bool:
        """Whether bytes wait for the socket to take them: poll for POLLOUT, then `flush`."""
        return bool(self._sending)

    def flush(self) -> None:
        """Sends what the socket takes without blocking."""
        while self._sending and not self.gone:
            try:
                sent = self.sock.send(self._sending)
            except BlockingIOError:
                return
            except OSError as e:
                if e.errno not in (errno.EPIPE, errno.ECONNRESET):
                    raise
                self._sending.clear()  # what it had to say before it went is still to be read
                return
            del self._sending[:sent]

    def receive(self) -> list[tuple[str, bytes]]:
        """What has arrived, without blocking: output as ("stdout"|"stderr", bytes); all else shows in the attributes."""
        while not self.gone:
            try:
                data = self.sock.recv(262144)
            except BlockingIOError:
                break
            except OSError as e:
                if e.errno != errno.ECONNRESET:
                    raise
                data = b""
            if not data:
                self.gone = True
                break
            for kind, payload in self._parser.feed(data):
                self._take(kind, payload)
            if len(data) < 262144 or len(self._output) >= 16:
                break
        output, self._output = self._output, []
        return output

    @property
    def ended(self) -> bool:
        """Nothing more will come: the exit code is there, or the start failed, or the monitor is gone."""
        return self.exit_code is not None or self.error is not None or self.gone

    def result(self) -> int:
        """The exit code once `ended`. Raises the monitor's error if there was no start, StartError if the monitor was lost."""
        if self.exit_code is not None:
            return self.exit_code
        if self.error is not None:
            raise self.error
        raise errors.StartError("the container's monitor is gone and has not told an exit code", hint="see the container's state")

    # -- requests

    def attach(self, *, stdin: bool = False, stdout: bool = True, stderr: bool = True) -> None:
        """Asks for output from now on, and for the right to write stdin; returns when it is granted (output may precede)."""
        self._attach({"stdin": stdin, "stdout": stdout, "stderr": stderr}, wait=True)

    def _attach(self, how: dict[str, bool], *, wait: bool) -> None:
        self._request(protocol.json_frame(protocol.C_ATTACH, {**how, "explain": True} if self.explains else how), wait)

    def signal(self, number: int, *, wait: bool = True) -> None:
        """Sends a signal to the container's init (or the exec's process). Raises what the monitor answers, e.g. Conflict."""
        self._request(protocol.frame(protocol.C_SIGNAL, bytes((number,))), wait)

    def resize(self, rows: int, cols: int, *, wait: bool = True) -> None:
        self._request(protocol.frame(protocol.C_RESIZE, protocol.SIZE.pack(rows & 0xFFFF, cols & 0xFFFF)), wait)

    def pause(self) -> None:
        self._request(protocol.frame(protocol.C_PAUSE), wait=True)

    def unpause(self) -> None:
        self._request(protocol.frame(protocol.C_UNPAUSE), wait=True)

    def set_restart(self, how: dict[str, Any]) -> None:
        """What the next restart goes by: {"policy"?: {"name","maximum"}, "resources"?: as in the OCI spec}."""
        self._request(protocol.json_frame(protocol.C_RESTART, how), wait=True)

    def no_restart(self) -> None:
        """Whatever its restart policy says: when it ends, or if it waits for a restart now, it stays ended."""
        self._request(protocol.json_frame(protocol.C_RESTART, {"cancel": True}), wait=True)

    # -- stdin

    def write_some(self, data: bytes) -> int:
        """Queues as much of `data` as the window allows and sends what the socket takes; returns how much was queued."""
        data = data[: self.window]
        for at in range(0, len(data), protocol.MAX_PAYLOAD):
            self._send(protocol.frame(protocol.C_STDIN, data[at : at + protocol.MAX_PAYLOAD]), flush=False)
        self.window -= len(data)
        self.flush()
        return len(data)

    def write(self, data: bytes) -> None:
        """Writes all to stdin. Output that arrives meanwhile is kept for `frames`. Raises BrokenPipeError when the container has ended."""
        while data:
            if self.ended:
                raise BrokenPipeError(errno.EPIPE, "the container has ended", "stdin")
            data = data[self.write_some(data) :]
            if data or self._sending:
                self._step(None)

    def close_stdin(self) -> None:
        """Half-close: this client writes no more. Ends the container's stdin if it was made for one writer (stdin_once)."""
        self._send(protocol.frame(protocol.C_STDIN_CLOSE))

    # -- blocking

    def wait_started(self, timeout: float | None = None) -> dict[str, Any]:
        """Returns {"pid","started_at"} when it runs (or ran). Raises the monitor's error (StartError family), or TimeoutError."""
        end = None if timeout is None else time.monotonic() + timeout
        while self.started is None and not self.ended:
            self._step(end)
        if self.started is None:
            self.result()
        return self.started or {}

    def frames(self, timeout: float | None = None) -> Iterator[tuple[str, bytes]]:
        """Output in the order of its arrival as ("stdout"|"stderr", bytes), until the end; then `result()` tells how it went."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            output = self.receive()
            yield from output
            if not output:
                if self.ended:
                    return
                self._poll(end)

    __iter__ = frames

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, when it is known; output is dropped. Raises as `result`, or TimeoutError."""
        for _ in self.frames(timeout):
            pass
        return self.result()

    def hear_out(self) -> None:
        """After the end: takes what the monitor tells of its cleaning up (--explain), until it goes."""
        end = time.monotonic() + HEAR_OUT
        try:
            while self.explains and self.ended and not self.gone:
                self._step(end)
        except (OSError, errors.LaminaError):
            pass  # it was in no hurry, or told nonsense: there is no more to hear

    def close(self) -> None:
        """Detaches. Never harms the container."""
        if self.explains:
            self.hear_out()
            steps.sources.remove(self)
            self.explains = False
        self.gone = True
        self.sock.close()
        if self.pid:
            try:
                os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                pass

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- inside

    def _send(self, data: bytes, *, flush: bool = True) -> None:
        self._sending += data
        if flush:
            self.flush()

    def _request(self, data: bytes, wait: bool) -> None:
        self._send(data)
        if not wait:
            self._awaited += 1
            return
        while not self._replies:
            if self.ended:
                raise errors.Conflict("the container is not running")
            self._step(None)
        reply = self._replies.pop(0)
        if "class" in reply:
            raise protocol.restore(reply)

    def _step(self, end: float | None) -> None:
        """Waits for something to arrive or to be sendable; keeps arriving output for later."""
        self._poll(end)
        output = self.receive()
        self._output = output + self._output

    def _poll(self, end: float | None) -> None:
        poller = select.poll()
        poller.register(self.sock.fileno(), select.POLLIN | (select.POLLOUT if self._sending else 0))
        timeout = None if end is None else max(0.0, end - time.monotonic()) * 1000
        if not poller.poll(timeout):
            raise TimeoutError(errno.ETIMEDOUT, "no answer from the container's monitor in time", "sock")
        self.flush()

    def _take(self, kind: int, payload: bytes) -> None:
        if kind == protocol.M_STDOUT:
            self._output.append(("stdout", payload))
        elif kind == protocol.M_STDERR:
            self._output.append(("stderr", payload))
        elif kind == protocol.M_CREDIT:
            self.window += protocol.U32.unpack(payload)[0]
        elif kind == protocol.M_REPLY:
            if self._awaited:
                self._awaited -= 1
            else:
                self._replies.append(protocol.parse_object(payload))
        elif kind == protocol.M_STARTED:
            self.started = protocol.parse_object(payload)
        elif kind == protocol.M_EXIT:
            self.exit_code = protocol.U32.unpack(payload)[0]
        elif kind == protocol.M_ERROR:
            self.error = protocol.restore(protocol.parse_object(payload))
        elif kind == protocol.M_HELLO:
            self.hello = protocol.parse_object(payload)
        elif kind == protocol.M_STEP:
            if steps.tell is not None:
                step = protocol.parse_object(payload)
                steps.tell(str(step["text"]), who=str(step["who"]), at=int(step["at"]))
        else:
            raise protocol.ProtocolError(f"frame of unknown type {kind:#x} from the monitor")


def connect(run_dir: str, name: str = SOCK) -> Client:
    """Connects to the monitor whose socket is `<run_dir>/<name>`. Raises FileNotFoundError or ConnectionRefusedError when none runs there,
    Forbidden when the socket belongs to someone else."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        with_short_path(run_dir, name, sock.connect)
        check_peer(sock)
    except BaseException:
        sock.close()
        raise
    client = Client(sock)
    if client.explains:
        client._attach({}, wait=False)
    return client
