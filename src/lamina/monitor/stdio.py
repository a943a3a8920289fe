# SPDX-License-Identifier: Apache-2.0
"""The monitor's end of a process's stdio: three pipes, or one pty. Binary clean, never blocks, bounded.

Output is read in pieces of at most 64 KiB and given to whoever owns the loop. Input is queued per arrival; who sent it is told how much
was taken (`credited`), so that flow control lies with the sender. A pty has one output, called stdout. The pty's slave is kept open
here, so that a process that closes and reopens its terminal doesn't end the stream.
"""
from __future__ import annotations

import errno
import fcntl
import os
from _struct import pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 65536
TIOCGPTPEER = 0x5441
TIOCSWINSZ = 0x5414  # `termios` takes 0.7 ms to load


class Stdio:
    """Make one, hand `child_fds()` to the process (pipes) or the pty master to `use_master`, then `release_child_fds()`."""

    def __init__(self, *, tty: bool, stdin: bool) -> None:
        """`stdin`: whether input may come; else the process reads /dev/null. Raises OSError."""
        self.tty = tty
        self.input = -1
        self.outputs: dict[int, str] = {}
        self._queue = bytearray()
        self._senders: list[list[int]] = []  # [sender, bytes], in order
        self._close_when_empty = False
        self._child: tuple[int, int, int] | None = None
        self._slave = -1
        if tty:
            return
        opened: list[int] = []
        try:
            if stdin:
                opened += os.pipe2(os.O_CLOEXEC)
            else:
                opened += (os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), -1)
            opened += os.pipe2(os.O_CLOEXEC)
            opened += os.pipe2(os.O_CLOEXEC)
        except BaseException:
            for fd in opened:
                if fd >= 0:
                    os.close(fd)
            raise
        self._child = (opened[0], opened[3], opened[5])
        self.input = opened[1]
        self.outputs = {opened[2]: "stdout", opened[4]: "stderr"}
        for fd in (self.input, *self.outputs):
            if fd >= 0:
                os.set_blocking(fd, False)

    def child_fds(self) -> tuple[int, int, int] | None:
        """The process's (stdin, stdout, stderr), still owned by this object; None with a pty."""
        return self._child

    def release_child_fds(self) -> None:
        """Closes our copies of the process's ends, so that we see its end of file."""
        for fd in self._child or ():
            os.close(fd)
        self._child = None

    def use_master(self, fd: int) -> None:
        """Takes over the pty's master."""
        os.set_blocking(fd, False)
        self.input = fd
        self.outputs = {fd: "stdout"}
        try:
            self._slave = fcntl.ioctl(fd, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            self._slave = -1  # kernels before 4.13: then the stream ends when the last opener of the terminal closes it

    def resize(self, rows: int, cols: int) -> None:
        """Sets the window size, of which the kernel tells the process by SIGWINCH. Nothing happens without a pty."""
        if self.tty and self.input >= 0:
            fcntl.ioctl(self.input, TIOCSWINSZ, pack("HHHH", rows, cols, 0, 0))

    # -- output

    def read(self, fd: int) -> bytes | None:
        """What has come on an output: bytes, None if there is nothing now, b"" at its end (the fd is closed then)."""
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return None
        except OSError as e:
            if e.errno != errno.EIO:
                raise
            data = b""  # pty without an open slave
        if not data:
            self._close_output(fd)
        return data

    def drain(self, limit: int) -> Iterator[tuple[str, bytes]]:
        """After the process's end: all that is still in its pipes. Every writer of a container is dead by then (its pid namespace is);
        where one isn't (pid=host, exec), what it may write later isn't waited for, nor is more than `limit` bytes taken."""
        for fd, stream in list(self.outputs.items()):
            while limit > 0:
                data = self.read(fd)
                if not data:
                    break
                limit -= len(data)
                yield stream, data

    # -- input

    @property
    def wants_input(self) -> bool:
        return self.input >= 0 and not self._close_when_empty

    @property
    def has_input(self) -> bool:
        return bool(self._queue)

    def queue_input(self, sender: int, data: bytes) -> None:
        self._queue += data
        self._senders.append([sender, len(data)])

    def write_input(self) -> list[tuple[int, int]]:
        """Writes what the process takes now. Returns what was taken as (sender, bytes); when nobody can read any more, that is all."""
        written = 0
        try:
            while self._queue and self.input >= 0:
                done = os.write(self.input, memoryview(self._queue)[:CHUNK])
                del self._queue[:done]
                written += done
        except BlockingIOError:
            pass
        except OSError as e:
            if e.errno not in (errno.EPIPE, errno.EIO):
                raise
            self._drop_input()
        if self.input < 0:
            written += len(self._queue)
            self._queue.clear()
        if not self._queue and self._close_when_empty:
            self._drop_input()
        return self._credit(written)

    def close_input(self) -> None:
        """No more input: the process sees end of file after what is queued. A pty has no such thing and stays as it is."""
        if not self.tty:
            self._close_when_empty = True
            if not self._queue:
                self._drop_input()

    def input_gone(self) -> list[tuple[int, int]]:
        """The reader has closed its end (POLLERR): drops what is queued, and says whose it was."""
        if not self.tty:
            self._drop_input()
        return self.write_input() if self.input < 0 else []

    def close(self) -> None:
        self.release_child_fds()
        self._drop_input()
        for fd in list(self.outputs):
            self._close_output(fd)
        if self._slave >= 0:
            os.close(self._slave)
            self._slave = -1

    def _credit(self, count: int) -> list[tuple[int, int]]:
        credits = []
        while count and self._senders:
            first = self._senders[0]
            part = min(count, first[1])
            credits.append((first[0], part))
            first[1] -= part
            count -= part
            if not first[1]:
                del self._senders[0]
        return credits

    def _drop_input(self) -> None:
        if self.input >= 0:
            if not self.tty:
                os.close(self.input)
            self.input = -1

    def _close_output(self, fd: int) -> None:
        del self.outputs[fd]
        os.close(fd)
        if self.tty:
            self.input = -1  # the same fd
