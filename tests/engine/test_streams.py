# SPDX-License-Identifier: Apache-2.0
"""Streams through the real command line: terminals, several clients, signals, end of input, every byte, and the log of all that.

The monitor's side by itself is in tests/monitor.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import select
import shlex
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lamina.runtime.cgroups import Cgroup

if TYPE_CHECKING:
    from tests.conftest import Lamina

OFF = ("--network", "none")
LINE = b"0123456789" * 12 + b"abcdefg\n"  # 128 bytes


def until(true: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


class Terminal:
    """The command line on a pseudo-terminal of its own, as its session's leader."""

    def __init__(self, argv: list[str], rows: int = 24, cols: int = 80) -> None:
        self.seen = b""
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            try:
                os.execv(argv[0], argv)
            finally:
                os._exit(99)
        self.resize(rows, cols)

    def resize(self, rows: int, cols: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def wait_for(self, text: bytes, seconds: float = 30) -> bytes:
        """Reads until `text` is seen; what came up to it."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, (text, self.seen)
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:
                    assert text in self.seen, (text, self.seen)
        before, _, self.seen = self.seen.partition(text)
        return before

    def end(self) -> int:
        """Its exit code; reads on meanwhile."""
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            if select.select([self.master], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:
                    time.sleep(0.02)

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.master)


@pytest.fixture
def terminal(lamina: Lamina) -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def start(*words: str, **size: int) -> Terminal:
        made.append(Terminal([*lamina.prefix, *words], **size))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_detach_attach_and_resize(lamina: Lamina, box: str, terminal: Callable[..., Terminal]) -> None:
    script = "trap 'echo resized' WINCH; echo ready; while :; do read line && eval $line; done"
    one = terminal("run", "-it", *OFF, "--name", "cc", "box", "sh", "-c", script, rows=30, cols=90)
    one.wait_for(b"ready\r\n")
    one.type(b"stty size; x=kept\r")
    one.wait_for(b"\n30 90\r\n")
    one.resize(40, 100)  # the kernel tells the client by SIGWINCH, the monitor the container's terminal, the kernel its processes
    one.wait_for(b"resized\r\n")
    one.type(b"stty size\r")
    one.wait_for(b"\n40 100\r\n")
    one.type(b"\x10")
    one.type(b"\x11")
    assert one.end() == 0, "Ctrl-P Ctrl-Q: the client goes"
    assert lamina("ps", "--format", "{{.Names}} {{.State}}").out == "cc running", "the container stays"
    two, three = terminal("attach", "cc", rows=20, cols=70), terminal("attach", "--no-stdin", "cc", rows=20, cols=70)
    for client in (two, three):
        client.wait_for(b"resized\r")  # what runs there draws itself anew for who comes
    two.type(b"echo $x; stty size\r")
    two.wait_for(b"kept\r\n20 70\r\n")
    three.wait_for(b"20 70\r\r\n")  # whoever is attached sees it; without stdin our terminal isn't raw
    four = terminal("attach", "--detach-keys", "ctrl-a,q", "cc")
    four.type(b"\x10\x11echo four\r")  # not the keys here: they reach the shell
    four.wait_for(b"four\r\n")
    four.type(b"\x01q")
    assert four.end() == 0
    two.type(b"exit 7\r")
    assert two.end() == 7 and three.end() == 7


def test_signals_are_passed_on(lamina: Lamina, box: str) -> None:
    script = 'trap "echo int" INT; trap "echo usr1" USR1; trap "echo term; exit 5" TERM; echo ready; while :; do sleep 0.05; done'
    one = lamina.start("run", *OFF, "--name", "cc", "box", "sh", "-c", script, stdout=subprocess.PIPE)
    assert one.stdout is not None
    assert one.stdout.readline() == b"ready\n"
    two = lamina.start("attach", "--sig-proxy=false", "cc", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    for number, word in ((signal.SIGINT, b"int\n"), (signal.SIGUSR1, b"usr1\n")):
        one.send_signal(number)
        assert one.stdout.readline() == word
    time.sleep(0.2)  # it has attached
    two.send_signal(signal.SIGTERM)
    assert two.wait(30) != 0 and one.poll() is None, "without the proxy the signal is the client's own"
    one.send_signal(signal.SIGTERM)
    assert one.stdout.readline() == b"term\n" and one.wait(30) == 5


def test_end_of_input_and_every_byte(lamina: Lamina, box: str) -> None:
    data = os.urandom(2 << 20) + bytes(range(256))
    script = "cat; echo end >&2; exit 3"
    done = subprocess.run([*lamina.prefix, "run", "--rm", "-i", *OFF, "box", "sh", "-c", script], input=data, capture_output=True)
    assert (done.returncode, done.stdout == data, done.stderr) == (3, True, b"end\n")
    lamina("run", "-d", *OFF, "--name", "cc", "box", "sleep", "1000").check()
    done = subprocess.run([*lamina.prefix, "exec", "-i", "cc", "sha256sum"], input=data, capture_output=True)
    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


def rss(pid: int) -> int:
    """Resident memory in bytes."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(("size", "pause"), [
    pytest.param(200_000_000, 2.0, id="200 MB"), pytest.param(10_000_000_000, 10.0, id="10 GB", marks=pytest.mark.all),
])  # fmt: skip
def test_lossless_under_a_reader_that_stands_still(lamina: Lamina, box: str, size: int, pause: float) -> None:
    """Nothing is lost, whoever waits for whom, and neither the monitor nor the command line gathers what isn't read."""
    count = size // len(LINE)
    script = f"yes {LINE.decode().strip()} | head -c {count * len(LINE)}; exit 9"
    one = lamina.start("run", *OFF, "--name", "cc", "box", "sh", "-c", script, stdout=subprocess.PIPE)
    assert one.stdout is not None
    got, expected, left = hashlib.sha256(), hashlib.sha256(), count * len(LINE)
    for _ in range(count // 10_000):
        expected.update(LINE * 10_000)
    expected.update(LINE * (count % 10_000))
    monitor, most, stops = 0, 0, {left // 4, left // 2}
    while data := one.stdout.read1(1 << 20):  # type: ignore[union-attr]
        got.update(data)
        left -= len(data)
        for stop in [at for at in stops if left <= at]:
            stops.discard(stop)
            if not monitor:
                cid = lamina("inspect", "-f", "{{.Id}}", "cc").out
                monitor = json.loads((lamina.root / "containers" / cid / "state.json").read_text())["monitor_pid"]
            time.sleep(pause)
            most = max(most, rss(monitor), rss(one.pid))
    assert one.wait(60) == 9 and left == 0 and not stops
    assert got.digest() == expected.digest()
    assert most < 40 << 20, "bounded, while the writer was stopped with most of it still to come"


def test_what_the_end_of_a_session_leaves(lamina: Lamina, box: str) -> None:
    """A logout, a CI job's end: whoever kills all that is in the cgroup it was started from meets neither monitor nor container."""
    job = Cgroup.create(f"/lmtest-{os.getpid()}-job", {})
    try:
        script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"
        words = shlex.join([*lamina.prefix, "run", *OFF, "box", "sh", "-c", script])
        line = words.replace(" run ", " run -d --name back ") + "; " + words.replace(" run ", " run --name front ")
        shell = subprocess.Popen(["sh", "-c", line], stdout=subprocess.DEVNULL, start_new_session=True, preexec_fn=job.enter_self)
        until(lambda: sorted(lamina("ps", "--format", "{{.Names}}").out.split()) == ["back", "front"])
        assert shell.pid in job.procs(), "control: it is in the cgroup"
        os.killpg(shell.pid, signal.SIGHUP)
        job.kill()
        assert shell.wait(30) < 0
    finally:
        until(lambda: not job.procs())
        job.remove()
    for name in ("back", "front"):
        before = len(lamina("logs", name).out.split())
        until(lambda name=name, before=before: len(lamina("logs", name).out.split()) > before + 2)
        lamina("kill", name).check()
        said = [int(word) for word in lamina("logs", name).out.split()]
        assert said == list(range(1, len(said) + 1)), "its log is complete"


def test_the_log_is_complete_up_to_its_limit(lamina: Lamina, box: str) -> None:
    """Every line from the first that is kept to the last, though the client is killed on the way; three files of 10 MB at most."""
    count = 500_000
    one = lamina.start("run", *OFF, "--name", "cc", "box", "sh", "-c", f"seq {count}; exit 4", stdout=subprocess.PIPE)
    assert one.stdout is not None
    while b"\n20000\n" not in one.stdout.read1(1 << 16):  # type: ignore[union-attr]
        pass
    one.kill()
    one.wait()
    assert lamina("wait", "cc").out == "4", "it goes on without its client"
    kept = [int(line) for line in lamina("logs", "cc").out.split()]
    assert kept == list(range(kept[0], count + 1)) and kept[0] > 1, "from some line on every one"
    cid = lamina("inspect", "-f", "{{.Id}}", "cc").out
    files = sorted((lamina.root / "containers" / cid).glob("log.json*"))
    assert [file.name for file in files] == ["log.json", "log.json.1", "log.json.2"]
    sizes = [file.stat().st_size for file in files]
    assert max(sizes) <= 10 << 20 and min(sizes[1:]) > 9 << 20, sizes
