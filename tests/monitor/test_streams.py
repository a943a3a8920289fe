# SPDX-License-Identifier: Apache-2.0
"""Streams through a monitor: binary clean, lossless, bounded, several clients, half-close."""
from __future__ import annotations

import hashlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from lamina import errors
from lamina.monitor import client as clients
from lamina.monitor import loop, protocol
from lamina.monitor.server import Server

from .conftest import Fake

Start = Callable[..., Fake]
PY = sys.executable


def gather(frames: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    out = {"stdout": b"", "stderr": b""}
    for stream, data in frames:
        out[stream] += data
    return out


def until(what: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


def test_output_is_binary_clean_and_the_streams_stay_apart(fake: Start) -> None:
    one = fake(PY, "-c", "import os; os.write(1, bytes(range(256)) * 100); os.write(2, b'\\0err\\xff'); os._exit(7)")
    assert gather(one.first.frames()) == {"stdout": bytes(range(256)) * 100, "stderr": b"\0err\xff"}
    assert one.first.result() == 7
    assert one.process.wait(10) == 0
    assert os.listdir(one.run_dir) == []


def test_a_signal_shows_as_128_and_its_number(fake: Start) -> None:
    one = fake("/bin/sleep", "100")
    one.first.signal(15)
    assert one.first.wait(10) == 143


def test_all_output_comes_before_the_exit_code(fake: Start) -> None:
    one = fake("/bin/sh", "-c", "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done")
    assert len(gather(one.first.frames())["stdout"].splitlines()) == 3000
    assert one.first.result() == 0


def test_stdin_round_trip_beyond_every_buffer(fake: Start) -> None:
    one = fake("/bin/cat", stdin=True, stdin_once=True)
    data = os.urandom(3 << 20)
    one.first.write(data)
    one.first.close_stdin()
    assert gather(one.first.frames())["stdout"] == data
    assert one.first.result() == 0


def test_stdin_that_nobody_reads_blocks_nobody(fake: Start) -> None:
    one = fake("/bin/sh", "-c", "exec <&-; sleep 0.3; exit 3", stdin=True, stdin_once=True)
    one.first.write(bytes(2 << 20))  # more than the window: credited although dropped
    assert one.first.wait(10) == 3


def test_stdin_stays_open_without_a_client(fake: Start) -> None:
    one = fake("/bin/cat", stdin=True)
    second = clients.connect(str(one.run_dir))
    second.attach(stdin=True)
    one.first.close()
    second.close_stdin()
    second.close()
    third = clients.connect(str(one.run_dir))
    third.attach(stdin=True)
    third.write(b"still here")
    stream, data = next(third.frames(10))
    assert (stream, data) == ("stdout", b"still here")
    third.signal(9)
    assert third.wait(10) == 137


def test_two_clients_see_the_same_and_both_write(fake: Start) -> None:
    one = fake("/bin/cat", stdin=True)
    second = clients.connect(str(one.run_dir))
    second.attach(stdin=True)
    one.first.write(b"one\n")
    second.write(b"two\n")
    for client in (one.first, second):
        got = b""
        for _, data in client.frames(10):
            got += data
            if len(got) == 8:
                break
        assert sorted(got.splitlines()) == [b"one", b"two"]
    second.signal(9)
    assert one.first.wait(10) == second.wait(10) == 137


def test_a_late_client_learns_that_it_runs_and_how_it_ends(fake: Start) -> None:
    one = fake("/bin/cat", stdin=True, stdin_once=True)
    with clients.connect(str(one.run_dir)) as late:
        assert late.wait_started(10)["pid"] > 0
        one.first.close_stdin()
        assert late.wait(10) == 0


@pytest.mark.parametrize("how", ["quiet", "mid-frame", "garbage", "huge", "no hello"])
def test_a_client_that_dies_or_lies_harms_nobody(fake: Start, how: str) -> None:
    """Attack 63: a header that announces 4 GiB ends that connection and allocates nothing."""
    one = fake("/bin/cat", stdin=True)
    before = one.rss()
    bad = socket.socket(socket.AF_UNIX)
    bad.connect(str(one.run_dir / "sock"))
    hello = protocol.json_frame(protocol.C_HELLO, {"version": 1})
    bad.sendall({"quiet": b"", "mid-frame": hello + b"\0\0\1", "garbage": hello + b"\0\0\0\1\x77x",
                 "huge": b"\xff\xff\xff\xff\x03", "no hello": protocol.frame(protocol.C_SIGNAL, b"\x09")}[how])
    if how in ("garbage", "huge", "no hello"):
        bad.settimeout(10)
        while bad.recv(65536):
            pass
    bad.close()
    one.first.write(b"fine")
    assert next(one.first.frames(10)) == ("stdout", b"fine")
    assert one.rss() < before + (8 << 20)


def test_more_stdin_than_credit_is_refused(fake: Start) -> None:
    one = fake("/bin/sleep", "100", stdin=True)
    with clients.connect(str(one.run_dir)) as bad:
        bad.attach(stdin=True)
        bad.window = 1 << 30
        bad.write_some(bytes(protocol.WINDOW + 3 * 65536))  # a pipe takes 64 KiB of it
        until(lambda: bad.receive() or bad.flush() or bad.gone)
        assert isinstance(bad.error, errors.LaminaError)


def test_ten_thousand_attachments_leave_nothing(fake: Start) -> None:
    """Attack 36."""
    one = fake("/bin/cat", stdin=True)
    fds, rss = one.fds(), one.rss()
    for n in range(10_000 if os.environ.get("LAMINA_LONG") else 1_000):
        client = clients.connect(str(one.run_dir))
        if n % 3:
            client.attach()
        client.close()
    one.first.write(b"x")
    assert next(one.first.frames(10)) == ("stdout", b"x")
    until(lambda: one.fds() == fds)
    assert one.rss() < rss + (4 << 20)


def test_a_stalled_reader_blocks_the_writer_and_loses_nothing(fake: Start, tmp_path: Path) -> None:
    """Attack 36: memory is bounded while a client stands still; afterwards every byte arrives. The other client waits as well."""
    blocks = 64_000
    one = fake(PY, "-c", f"import sys\nfor i in range({blocks}): sys.stdout.buffer.write(bytes([i % 251]) * 1000)")
    rss = one.rss()
    time.sleep(0.5)
    assert one.process.poll() is None and one.rss() < rss + (8 << 20)
    got, expected = hashlib.sha256(), hashlib.sha256()
    for i in range(blocks):
        expected.update(bytes([i % 251]) * 1000)
    for _, data in one.first.frames(60):
        got.update(data)
    assert one.first.result() == 0
    assert got.digest() == expected.digest()


def test_nobody_attached_blocks_nobody(fake: Start, tmp_path: Path) -> None:
    for tty in (False, True):
        one = fake("/bin/sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' 'x'; exit 5", tty=tty, attach={}, log=tmp_path / f"log{tty}")
        assert one.first.wait(30) == 5


def test_a_stalled_client_that_dies_sets_the_writer_free(fake: Start) -> None:
    one = fake("/bin/sh", "-c", "head -c 30000000 /dev/zero; exit 4")
    second = clients.connect(str(one.run_dir))
    second.wait_started(10)
    time.sleep(0.2)
    one.first.close()
    assert second.wait(30) == 4


def test_a_stalled_client_does_not_hold_up_the_end(fake: Start) -> None:
    one = fake("/bin/sh", "-c", "head -c 1200000 /dev/zero; exit 6")
    second = clients.connect(str(one.run_dir))
    assert second.wait(30) == 6  # the first has read nothing yet
    assert len(gather(one.first.frames(10))["stdout"]) == 1200000
    assert one.first.result() == 6


def test_a_background_process_does_not_hold_up_the_end(fake: Start) -> None:
    one = fake("/bin/sh", "-c", "echo before; sleep 60 & echo $! >&2; exit 2")
    out = gather(one.first.frames(20))
    assert out["stdout"] == b"before\n" and one.first.result() == 2
    os.kill(int(out["stderr"]), 9)


def test_an_execs_background_process_may_finish_its_sentence(fake: Start, tmp_path: Path) -> None:
    """Who waits for it are the pipes: all that is written until the last writer closes them, within docker's two seconds."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    one = fake("/bin/sh", "-c", f"echo before; (read x < {fifo}; echo $x) & exit 0", patience=60.0)
    with pytest.raises(errors.Conflict, match="not running"):
        while True:  # until it has ended
            one.first.signal(0x12)
    assert one.first.exit_code is None
    fifo.write_text("after\n")
    assert gather(one.first.frames(20))["stdout"] == b"before\nafter\n" and one.first.result() == 0


def test_the_patience_ends(fake: Start) -> None:
    one = fake("/bin/sh", "-c", "echo before; sleep 60 & echo $! >&2; exit 2", patience=0.2)
    out = gather(one.first.frames(20))
    assert out["stdout"] == b"before\n" and one.first.result() == 2
    os.kill(int(out["stderr"]), 9)


def test_terminal_with_size_echo_and_reopening(fake: Start) -> None:
    one = fake("/bin/sh", "-c", "stty size; exec </dev/null >/dev/null 2>&1; sleep 0.2; "
               "exec <>/dev/tty >&0; read x; stty size; echo got $x", tty=True, stdin=True)
    got = b""
    for _, data in one.first.frames(10):
        got += data
        if got.endswith(b"0 0\r\n"):
            break
    one.first.resize(33, 99)
    one.first.write(b"word\n")
    got = gather(one.first.frames(10))["stdout"]
    assert got.endswith(b"33 99\r\ngot word\r\n") and one.first.result() == 0


def test_pause_of_what_has_no_cgroup_is_refused(fake: Start) -> None:
    one = fake("/bin/sleep", "100")
    with pytest.raises(errors.NotSupported):
        one.first.pause()
    with pytest.raises(errors.InvalidArgument):
        one.first.signal(99)


def test_a_run_dir_longer_than_a_socket_address(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    server = Server(loop.Session({}, own_pidns=True))
    server.listen(str(deep), "sock")
    assert (deep / "sock").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileNotFoundError) as e:
        clients.connect(str(deep), "none")
    assert str(deep) in str(e.value)
    clients.connect(str(deep)).close()
    server.close()
    with pytest.raises(ConnectionRefusedError):
        clients.connect(str(deep))
