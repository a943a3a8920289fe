# SPDX-License-Identifier: Apache-2.0
"""The terminal's side: raw mode and its restoration, detach keys, window size, signals, pipes that stand still or break."""
from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina import errors
from lamina.cli.attach import KeyFilter, parse_detach_keys

from .conftest import SRC, Fake

Start = Callable[..., Fake]
DRIVER = Path(__file__).with_name("attach_driver.py")


def driver(one: Fake, stdin: bool, tty: bool, **how: Any) -> list[str]:
    return [sys.executable, "-I", "-S", str(DRIVER), str(SRC), str(one.run_dir), json.dumps({"stdin": stdin, "tty": tty, **how})]


class Terminal:
    """A user at a terminal in which the driver runs."""

    def __init__(self, argv: list[str]) -> None:
        self.master, self.slave = pty.openpty()
        self.size(24, 80)
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(argv, stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.seen = b""

    def size(self, rows: int, cols: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def expect(self, text: bytes) -> None:
        end = time.monotonic() + 15
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            assert ready, f"{text!r} did not come: {self.seen!r}"
            self.seen += os.read(self.master, 65536)
        self.seen = self.seen[self.seen.index(text) + len(text) :]

    @property
    def raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    @property
    def restored(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal() -> Iterator[Callable[[list[str]], Terminal]]:
    made: list[Terminal] = []

    def make(argv: list[str]) -> Terminal:
        made.append(Terminal(argv))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_shell_in_a_terminal(fake: Start, terminal: Callable[[list[str]], Terminal]) -> None:
    one = fake("/bin/sh", "-i", tty=True, stdin=True, attach={})
    user = terminal(driver(one, stdin=True, tty=True))
    user.expect(b"[started]")
    assert user.raw
    user.type(b"stty size\n")
    user.expect(b"24 80")
    user.size(50, 132)
    user.process.send_signal(signal.SIGWINCH)
    time.sleep(0.2)
    user.type(b"stty size\n")
    user.expect(b"50 132")
    user.type(b"echo slee''ps; sleep 100\n")
    user.expect(b"sleeps")
    time.sleep(0.5)  # until it has begun to sleep
    user.type(b"\x03")  # the container's, not ours
    time.sleep(0.2)
    user.type(b"echo interr''upted\n")
    user.expect(b"interrupted")
    user.type(b"exit 9\n")
    user.expect(b"[exit 9]")
    assert user.process.wait(10) == 9 and user.restored


def test_detach_keys_in_two_reads_leave_the_container_running(fake: Start, terminal: Callable[[list[str]], Terminal]) -> None:
    one = fake("/bin/cat", tty=True, stdin=True, stdin_once=True, attach={})
    for round_ in range(2):
        user = terminal(driver(one, stdin=True, tty=True))
        user.expect(b"[started]")
        user.type(b"hello%d\n" % round_)
        user.expect(b"hello%d\r\nhello%d" % (round_, round_))
        user.type(b"\x10")
        time.sleep(0.1)
        user.type(b"\x11")
        user.expect(b"[detached]")
        assert user.process.wait(10) == 0 and user.restored
    one.first.signal(9)
    assert one.first.wait(10) == 137


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_us_restores_the_terminal(fake: Start, terminal: Callable[[list[str]], Terminal], number: int) -> None:
    one = fake("/bin/cat", tty=True, stdin=True, attach={})
    user = terminal(driver(one, stdin=True, tty=True))
    user.expect(b"[started]")
    assert user.raw
    user.process.send_signal(number)
    assert user.process.wait(10) == -number and user.restored
    assert one.process.poll() is None


def test_signals_are_passed_on_without_a_terminal(fake: Start) -> None:
    one = fake("/bin/sh", "-c", "trap 'echo usr1' USR1; trap 'echo int; exit 12' INT; echo up; while :; do sleep 0.05; done", attach={})
    process = subprocess.Popen(driver(one, stdin=False, tty=False), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    time.sleep(0.5)
    for number in (signal.SIGWINCH, signal.SIGCHLD, signal.SIGURG, signal.SIGUSR1):
        process.send_signal(number)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.stdout.read().splitlines()[-2:] == [b"usr1", b"int"]
    assert process.wait(10) == 12


def test_sig_proxy_off_leaves_the_container_alone(fake: Start) -> None:
    one = fake("/bin/sleep", "100", attach={})
    process = subprocess.Popen(driver(one, stdin=False, tty=False, sig_proxy=False), stderr=subprocess.PIPE)
    assert process.stderr is not None and process.stderr.readline() == b"[started]\n"
    process.terminate()
    assert process.wait(10) == -signal.SIGTERM
    assert one.process.poll() is None


def test_pipes_both_ways_with_a_reader_that_pauses(fake: Start) -> None:
    one = fake("/bin/cat", stdin=True, stdin_once=True, attach={})
    process = subprocess.Popen(driver(one, stdin=True, tty=False), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin is not None and process.stdout is not None
    data = os.urandom(1 << 20) * 8
    writer = os.fork()
    if writer == 0:
        process.stdout.close()
        os.set_blocking(process.stdin.fileno(), True)
        view = memoryview(data)
        while view:
            view = view[os.write(process.stdin.fileno(), view) :]
        os._exit(0)
    process.stdin.close()
    time.sleep(0.5)
    digest = hashlib.sha256()
    while chunk := process.stdout.read(1 << 16):
        digest.update(chunk)
    os.waitpid(writer, 0)
    assert process.wait(10) == 0 and digest.digest() == hashlib.sha256(data).digest()
    assert os.get_blocking(1)


def test_a_reader_that_goes_ends_us_and_not_the_container(fake: Start) -> None:
    one = fake("/bin/sh", "-c", "while echo y; do :; done", attach={})
    process = subprocess.Popen(driver(one, stdin=False, tty=False), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None and process.stdout.read(2) == b"y\n"
    process.stdout.close()
    assert process.wait(10) == -signal.SIGPIPE
    one.first.signal(15)
    assert one.first.wait(10) == 143


def test_output_into_a_file(fake: Start, tmp_path: Path) -> None:
    one = fake("/bin/sh", "-c", "sleep 0.3; head -c 5000000 /dev/zero; exit 3", attach={})
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(driver(one, stdin=False, tty=False), stdout=out, stderr=subprocess.DEVNULL)
        assert process.wait(20) == 3
    assert (tmp_path / "out").stat().st_size == 5_000_000


KEYS = {"ctrl-p,ctrl-q": b"\x10\x11", "a": b"a", "ctrl-@,x": b"\0x", "ctrl-[,DEL": b"\x1b\x7f", "": b""}


@pytest.mark.parametrize("text,keys", KEYS.items())
def test_detach_keys(text: str, keys: bytes) -> None:
    assert parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "ctrl-pp", "ä", "a,,b", "ctrl-p,"])
def test_detach_keys_that_are_none(text: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="invalid detach keys"):
        parse_detach_keys(text)


@given(st.text("abc", min_size=1, max_size=4), st.lists(st.text("abc", max_size=5), max_size=8))
def test_key_filter_finds_the_keys_wherever_they_are(keys: str, reads: list[str]) -> None:
    text, filter_, out, found = "".join(reads), KeyFilter(keys.encode()), b"", False
    for piece in reads:
        passed, found = filter_.feed(piece.encode())
        out += passed
        if found:
            break
    assert found == (keys in text)
    assert (out if found else out + filter_.rest()).decode() == text.partition(keys)[0]
