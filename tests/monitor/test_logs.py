# SPDX-License-Identifier: Apache-2.0
"""The json-file log: docker's format, exact bytes, rotation, readers that follow, damage."""
from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.monitor.logread import read_logs
from lamina.monitor.logs import MAX_LINE, LogWriter


def joined(path: Path, **how: object) -> bytes:
    return b"".join(e.data for e in read_logs(str(path), **how))  # type: ignore[arg-type]


def test_format_is_dockers(tmp_path: Path) -> None:
    writer = LogWriter(str(tmp_path / "log"), clock=lambda: 1_700_000_000_123_456_000)
    writer.write("stdout", b'say "hi"\\n\tya\n\xc3\xa4')
    writer.write("stderr", b"oops\n")
    writer.write("stdout", b"!\nlast")
    writer.close()
    time_ = "2023-11-14T22:13:20.123456Z"
    assert [json.loads(line) for line in (tmp_path / "log").read_bytes().splitlines()] == [
        {"log": 'say "hi"\\n\tya\n', "stream": "stdout", "time": time_}, {"log": "oops\n", "stream": "stderr", "time": time_},
        {"log": "ä!\n", "stream": "stdout", "time": time_}, {"log": "last", "stream": "stdout", "time": time_}]
    assert (tmp_path / "log").read_bytes().startswith(b'{"log":"say')


def test_long_lines_are_split_at_16_kib(tmp_path: Path) -> None:
    writer = LogWriter(str(tmp_path / "log"))
    writer.write("stdout", b"a" * 20000)
    writer.write("stdout", b"a" * 20000 + b"\nshort\n" + b"b" * MAX_LINE + b"\n")
    writer.close()
    lengths = [len(json.loads(line)["log"]) for line in (tmp_path / "log").read_bytes().splitlines()]
    assert lengths == [16384, 16384, 40000 - 32768 + 1, 6, 16384, 1]


PIECES = st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=300) | st.text(max_size=100).map(str.encode))


@given(st.lists(PIECES, max_size=12))
def test_every_byte_comes_back(pieces: list[tuple[str, bytes]]) -> None:
    path = Path(f"/dev/shm/lamina-log-{os.getpid()}")
    path.unlink(missing_ok=True)
    try:
        writer = LogWriter(str(path))
        for stream, data in pieces:
            writer.write(stream, data)
        writer.close()
        for stream in ("stdout", "stderr"):
            assert joined(path, stdout=stream == "stdout", stderr=stream == "stderr") == b"".join(d for s, d in pieces if s == stream)
    finally:
        path.unlink(missing_ok=True)


def test_rotation_keeps_the_newest_and_stays_within_its_size(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LogWriter(str(path), max_size=10_000, max_file=3)
    for n in range(1000):
        writer.write("stdout", b"line %d\n" % n)
    writer.write("stdout", b"".join(b"more %d\n" % n for n in range(200)))  # one read, many records
    writer.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    assert all(p.stat().st_size <= 10_000 for p in tmp_path.iterdir())
    lines = joined(path).splitlines()
    assert lines[-200:] == [b"more %d" % n for n in range(200)]
    assert joined(path, tail=2) == b"more 198\nmore 199\n"
    assert joined(path, tail=0) == b""


def test_tail_of_one_stream_in_a_large_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LogWriter(str(path), max_size=1_000_000, max_file=3)
    for n in range(30):
        writer.write("stderr", b"rare %d\n" % n)
        writer.write("stdout", b"x" * 60 + b"\n" + b"y\n" * 900)
    writer.close()
    assert joined(path, tail=15, stdout=False) == b"".join(b"rare %d\n" % n for n in range(15, 30))
    assert joined(path, tail=3) == b"y\n" * 3
    whole = joined(path)
    for tail in (899, 5000, 20000):
        assert joined(path, tail=tail).splitlines() == whole.splitlines()[-tail:]
    assert joined(path, tail=10**9) == whole


def test_one_file_only(tmp_path: Path) -> None:
    writer = LogWriter(str(tmp_path / "log"), max_size=1000, max_file=1)
    for n in range(100):
        writer.write("stdout", b"line %d\n" % n)
    writer.close()
    assert [p.name for p in tmp_path.iterdir()] == ["log"] and joined(tmp_path / "log").endswith(b"line 99\n")


def test_a_torn_record_swallows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LogWriter(str(path))
    writer.write("stdout", b"one\n")
    writer.close()
    with path.open("ab") as f:
        f.write(b'{"log":"tor')
    assert joined(path) == b"one\n"
    writer = LogWriter(str(path))
    writer.write("stdout", b"two\n")
    writer.close()
    assert joined(path) == b"one\ntwo\n"
    with path.open("ab") as f:
        f.write(b'\n[1,2]\n{"log":5,"stream":"stdout","time":"x"}\n\xff\xfe\n')
        f.write(b'{"log":"a","stream":"stdout","time":"2020-01-01T00:00:00Z"}\n' + b"[" * 100000)
    assert joined(path) == b"one\ntwo\na"


def test_since_and_until(tmp_path: Path) -> None:
    now = [0]
    writer = LogWriter(str(tmp_path / "log"), clock=lambda: now[0])
    for second in range(1, 6):
        now[0] = second * 10**9
        writer.write("stdout", b"%d\n" % second)
    writer.close()
    assert joined(tmp_path / "log", since=2 * 10**9, until=4 * 10**9) == b"2\n3\n4\n"
    assert joined(tmp_path / "log", until=4 * 10**9, tail=3) == b"3\n4\n"


def test_a_full_disk_costs_records_only(tmp_path: Path) -> None:
    writer = LogWriter(str(tmp_path / "log"))
    os.close(writer.fd)
    writer.fd = os.open("/dev/full", os.O_WRONLY)
    writer.write("stdout", b"lost\n")
    assert writer.lost == 1
    os.close(writer.fd)
    writer.fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_APPEND)
    writer.write("stdout", b"kept\n")
    writer.close()
    assert joined(tmp_path / "log") == b"kept\n"


def test_a_link_in_place_of_the_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        LogWriter(str(tmp_path / "log"))
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("max_size", [0, 3000])
def test_following_across_rotation_misses_nothing(tmp_path: Path, max_size: int) -> None:
    path = tmp_path / "log"
    count, over, got = 1500, threading.Event(), []

    def write() -> None:
        writer = LogWriter(str(path), max_size=max_size, max_file=100)
        for n in range(count):
            writer.write("stdout", b"%d\n" % n)
            if n % 100 == 0:
                time.sleep(0.02)
        writer.close()
        over.set()

    thread = threading.Thread(target=write)
    thread.start()
    for entry in read_logs(str(path), follow=True, ended=over.is_set):
        got.append(int(entry.data))
    thread.join()
    assert got == list(range(count))
