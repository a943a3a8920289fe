# SPDX-License-Identifier: Apache-2.0
"""The terminal's side of an attached container: raw mode, window size, detach keys, signals, and bytes both ways without loss.

For run, start -a, attach and exec. One poll loop; stdout and stderr are written without blocking where that is possible, so that a
reader that stands still stops the container (through the monitor) but neither signals nor the keyboard. The terminal is restored
on every way out, also by a signal that ends us.
"""
from __future__ import annotations

import errno
import os
import select
import stat

from lamina.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal  # the same functions, but typed; at run time `signal` would cost 4 ms
    from collections.abc import Callable
    from typing import Any

    from lamina.monitor.client import Client
else:
    import _signal

DETACHED = -1
DEFAULT_KEYS = "ctrl-p,ctrl-q"
CHUNK = 65536
BACKLOG = 1 << 20
PIPE_BUF = 4096

# Not passed on: what the terminal or the kernel tells us about ourselves, and what can't be caught.
_OWN = {_signal.SIGKILL, _signal.SIGSTOP, _signal.SIGCHLD, _signal.SIGPIPE, _signal.SIGURG, _signal.SIGWINCH, _signal.SIGTTIN,
        _signal.SIGTTOU, _signal.SIGSEGV, _signal.SIGBUS, _signal.SIGFPE, _signal.SIGILL, _signal.SIGTRAP, _signal.SIGABRT, _signal.SIGSYS}
_DEADLY = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM, _signal.SIGUSR1, _signal.SIGUSR2, _signal.SIGALRM)


def attach_terminal(client: Client, *, stdin: bool, tty: bool, detach_keys: str = DEFAULT_KEYS, sig_proxy: bool = True,
                    redraw: bool = False, on_started: Callable[[], None] | None = None) -> int:
    """Connects this process's stdio with an attached client until the end: the exit code, or DETACHED.

    `stdin`: whether our stdin goes to the container. `tty`: the container has a terminal; if stdin goes there and is one too, it is
    switched to raw mode and its size is passed on. `sig_proxy`: without `tty`, signals are passed on instead of obeyed. `redraw`:
    the terminal first gets another size, so that who runs there draws its screen or prompt again. `on_started` is
    called once when the container runs. Raises what the monitor told (StartError family); BrokenPipeError when our stdout or stderr has no
    reader any more: the caller then dies of SIGPIPE, as docker's client does, while the container goes on.
    """
    session = _Session(client, stdin=stdin, tty=tty, keys=parse_detach_keys(detach_keys), on_started=on_started)
    try:
        session.prepare(proxy=sig_proxy and not tty, redraw=redraw)
        return session.run()
    finally:
        session.restore()


def parse_detach_keys(text: str) -> bytes:
    """"ctrl-p,ctrl-q" -> b"\\x10\\x11". Keys are single characters, "DEL", or "ctrl-" and one of a-z @ [ \\ ] ^ _. Empty: none."""
    keys = bytearray()
    for word in text.split(",") if text else ():
        if len(word) == 1 and word.isascii():
            keys += word.encode()
        elif word == "DEL":
            keys.append(127)
        elif len(word) == 6 and word.lower().startswith("ctrl-") and "@" <= word[5].upper() <= "_":
            keys.append(ord(word[5].upper()) - 64)
        else:
            raise InvalidArgument(f"invalid detach keys ({text}): Unknown character: '{word}'")
    return bytes(keys)


class KeyFilter:
    """Finds the detach keys in what is typed, also when they come in several reads; keys that turn out to be others are passed on."""

    def __init__(self, keys: bytes) -> None:
        self.keys = keys
        self.held = 0  # how many of the keys were seen and withheld

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What to pass on, and whether the keys are complete (what follows them is dropped)."""
        keys = self.keys
        if not keys or not self.held and keys[0] not in data:
            return data, False
        out = bytearray()
        for byte in data:
            while self.held and byte != keys[self.held]:
                # The longest end of what was withheld that is again a beginning of the keys stays withheld.
                seen = keys[: self.held]
                keep = self.held - 1
                while keep and seen[-keep:] != keys[:keep]:
                    keep -= 1
                out += seen[: self.held - keep]
                self.held = keep
            if byte != keys[self.held]:
                out.append(byte)
            else:
                self.held += 1
                if self.held == len(keys):
                    self.held = 0
                    return bytes(out), True
        return bytes(out), False

    def rest(self) -> bytes:
        """What was withheld when nothing more comes."""
        held, self.held = self.keys[: self.held], 0
        return held


class _Output:
    """One of our outputs with what it hasn't taken yet."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.pending = bytearray()
        self.own = -1
        self.step = PIPE_BUF  # what a pipe with room takes without blocking
        mode = os.fstat(fd).st_mode
        if stat.S_ISREG(mode):
            self.step = 1 << 20
        elif stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) and os.isatty(fd):
            # O_NONBLOCK belongs to the open file, which we share with the shell and others; so we open it anew for ourselves.
            try:
                self.own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
                self.step = 1 << 20
            except OSError:
                pass

    def write(self, data: bytes = b"") -> None:
        """Takes data, and writes what goes without blocking."""
        self.pending += data
        while self.pending:
            if self.own < 0 and self.step == PIPE_BUF and not _writable(self.fd):
                return
            try:
                done = os.write(self.own if self.own >= 0 else self.fd, memoryview(self.pending)[: self.step])
            except BlockingIOError:
                return
            del self.pending[:done]

    def finish(self) -> None:
        """Writes the rest, waiting for the reader."""
        while self.pending:
            poller = select.poll()
            poller.register(self.fd, select.POLLOUT)
            poller.poll()
            self.write()

    def close(self) -> None:
        if self.own >= 0:
            os.close(self.own)
            self.own = -1


def _writable(fd: int) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    return bool(poller.poll(0))


class _Session:
    def __init__(self, client: Client, *, stdin: bool, tty: bool, keys: bytes, on_started: Callable[[], None] | None) -> None:
        self.client = client
        self.stdin = 0 if stdin else -1
        self.tty = tty
        self.keys = KeyFilter(keys if tty else b"")
        self.on_started = on_started
        self.typed = b""  # read, but beyond what the monitor takes now
        self.settings: list[Any] | None = None
        self.handlers: dict[int, Any] = {}
        self.previous_wakeup = -1
        self.proxy = False
        self.outputs = {"stdout": _Output(1), "stderr": _Output(2)}
        self.wake_in, self.wake_out = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.terminal = 0 if stdin and os.isatty(0) else 1 if os.isatty(1) else -1  # whose size counts

    # -- setup

    def prepare(self, *, proxy: bool, redraw: bool) -> None:
        self.previous_wakeup = _signal.set_wakeup_fd(self.wake_out, warn_on_full_buffer=False)
        if proxy:
            for number in _signal.valid_signals():
                if number not in _OWN and number <= 31 and _signal.getsignal(number) is not _signal.SIG_IGN:
                    self.catch(number)
        elif self.tty:
            for number in _DEADLY:
                if _signal.getsignal(number) is not _signal.SIG_IGN:
                    self.catch(number)
        self.proxy = proxy
        if self.tty and self.terminal >= 0:
            self.catch(_signal.SIGWINCH)
            if redraw:
                self.send_size(1)  # the kernel tells nobody of a size that is the same as before
            self.send_size()
        if self.tty and self.stdin >= 0 and os.isatty(self.stdin):
            from lamina.linux import tty as terminal

            self.settings = terminal.set_raw(self.stdin)

    def catch(self, number: int) -> None:
        self.handlers[number] = _signal.signal(number, _nothing)

    def restore(self) -> None:
        """Terminal, signals and fds as they were."""
        if self.settings is not None:
            blocked = _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGTTOU,))  # also from the background
            try:
                from lamina.linux import tty as terminal

                terminal.restore(self.stdin, self.settings)
            finally:
                _signal.pthread_sigmask(_signal.SIG_SETMASK, blocked)
            self.settings = None
        for number, handler in self.handlers.items():
            _signal.signal(number, _signal.SIG_DFL if handler is None else handler)
        self.handlers.clear()
        if self.wake_in >= 0:
            _signal.set_wakeup_fd(self.previous_wakeup)
            os.close(self.wake_in)
            os.close(self.wake_out)
            self.wake_in = -1
        for output in self.outputs.values():
            output.close()

    # -- the loop

    def run(self) -> int:
        client, outputs = self.client, self.outputs
        while True:
            full = False
            for stream, data in client.receive():
                outputs[stream].write(data)
            if self.on_started is not None and client.started is not None:
                self.on_started()
                self.on_started = None
            if client.ended:
                for output in outputs.values():
                    output.finish()
                return client.result()
            poller = select.poll()
            poller.register(self.wake_in, select.POLLIN)
            waiting: dict[int, _Output] = {}
            for output in outputs.values():
                if output.pending:
                    poller.register(output.fd, select.POLLOUT)
                    waiting[output.fd] = output
                    full = full or len(output.pending) > BACKLOG
            mask = (0 if full else select.POLLIN) | (select.POLLOUT if client.sending else 0)
            if mask:
                poller.register(client.fileno(), mask)
            if self.stdin >= 0 and not self.typed and client.window > 0:
                poller.register(self.stdin, select.POLLIN)
            for fd, _event in poller.poll():
                if fd == self.wake_in:
                    self.take_signals()
                elif fd == client.fileno():
                    client.flush()
                elif fd in waiting and fd != self.stdin:
                    waiting[fd].write()
                elif fd == self.stdin and self.take_input():
                    return DETACHED
            if self.typed and client.window > 0:
                self.send_input(b"")

    def take_input(self) -> bool:
        """Reads what was typed and passes it on; True when the detach keys were among it."""
        try:
            data = os.read(self.stdin, min(CHUNK, self.client.window))
        except BlockingIOError:
            return False
        except OSError as e:
            if e.errno not in (errno.EIO, errno.EISDIR):
                raise
            data = b""  # the terminal has gone, or there never was anything to read
        if not data:
            self.stdin = -1
            self.send_input(self.keys.rest())
            self.client.close_stdin()
            return False
        data, detach = self.keys.feed(data)
        self.send_input(data)
        return detach

    def send_input(self, data: bytes) -> None:
        data = self.typed + data
        self.typed = data[self.client.write_some(data) :]

    def take_signals(self) -> None:
        try:
            numbers = os.read(self.wake_in, 512)
        except BlockingIOError:
            return
        for number in numbers:
            if number == _signal.SIGWINCH:
                if self.tty:
                    self.send_size()
            elif number not in self.handlers:
                continue
            elif self.proxy:
                self.client.signal(number, wait=False)
            else:
                self.restore()
                os.kill(os.getpid(), number)  # its former handler, or the end by this very signal

    def send_size(self, more: int = 0) -> None:
        try:
            from lamina.linux import tty as terminal

            rows, cols = terminal.get_winsize(self.terminal)
        except OSError:
            return
        if rows and cols:
            self.client.resize(rows + more, cols + more, wait=False)


def _nothing(number: int, frame: object) -> None:
    pass
