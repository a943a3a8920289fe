# SPDX-License-Identifier: Apache-2.0
"""The event journal: order across processes, torn tails, rotation, following."""
from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lamina.store import events
from lamina.store.open import Store

SOURCE = str(Path(__file__).resolve().parents[2] / "src")


@pytest.fixture
def journal(tmp_path: Path) -> str:
    return str(tmp_path)


def actions(journal: str) -> list[str]:
    return [event.action for event in events.read(journal)]


def test_append_and_read(store: Store) -> None:
    first = events.append(store.paths.events, "container", "create", "a" * 64, {"name": "x", "image": "é"})
    second = events.append(store.paths.events, "container", "start", "a" * 64)
    assert second.seq == first.seq + 1 and second.time_ns > first.time_ns
    got = list(events.read(store.paths.events))
    assert [(e.seq, e.time_ns, e.type, e.action, e.id, e.attributes) for e in got] == [
        (e.seq, e.time_ns, e.type, e.action, e.id, e.attributes) for e in (first, second)]
    assert [e.seq for e in events.read(store.paths.events, since=second.time_ns)] == [2]
    assert [e.seq for e in events.read(store.paths.events, until=second.time_ns)] == [1]


def test_order_across_processes(journal: str) -> None:
    code = f"""import sys; sys.path.insert(0, {SOURCE!r})
from lamina.store import events
for i in range(50): events.append(sys.argv[1], "t", sys.argv[2], str(i))"""
    children = [subprocess.Popen([sys.executable, "-I", "-S", "-c", code, journal, str(n)]) for n in range(4)]
    assert [child.wait() for child in children] == [0] * 4
    got = list(events.read(journal))
    assert [e.seq for e in got] == list(range(1, 201))
    assert all(a.time_ns < b.time_ns for a, b in zip(got, got[1:], strict=False))
    for n in range(4):
        assert [e.id for e in got if e.action == str(n)] == [str(i) for i in range(50)]


@pytest.mark.parametrize("cut", [1, 5, 9, 20])
def test_a_torn_tail_is_passed_over_and_cut_off(journal: str, cut: int) -> None:
    for name in ("a", "b", "c"):
        events.append(journal, "t", name, "")
    path = Path(journal, "00000001.log")
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert actions(journal) == ["a", "b"]
    assert events.append(journal, "t", "d", "").seq == 3
    assert actions(journal) == ["a", "b", "d"]


@pytest.mark.parametrize("junk", [b"\0" * 4096, b"\xff" * 100, b"x"])
def test_junk_at_the_end(journal: str, junk: bytes) -> None:
    events.append(journal, "t", "a", "")
    with open(Path(journal, "00000001.log"), "ab") as file:
        file.write(junk)
    assert actions(journal) == ["a"]
    assert events.append(journal, "t", "b", "").seq == 2
    assert actions(journal) == ["a", "b"]


@pytest.mark.parametrize("head", [b"", b"short", b"\0" * events._HEAD_BYTES])
def test_a_lost_head_is_found_again(journal: str, head: bytes) -> None:
    last = [events.append(journal, "t", str(i), "") for i in range(3)][-1]
    Path(journal, "head").write_bytes(head)
    after = events.append(journal, "t", "next", "")
    assert after.seq == 4 and after.time_ns > last.time_ns and len(actions(journal)) == 4


def test_time_never_goes_back(journal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = events.append(journal, "t", "a", "")
    monkeypatch.setattr(events, "now_ns", lambda: 5)
    assert events.append(journal, "t", "b", "").time_ns == first.time_ns + 1


def test_segments_are_bounded(journal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SEGMENT_BYTES", 400)
    monkeypatch.setattr(events, "SEGMENTS", 3)
    for i in range(40):
        events.append(journal, "t", str(i), "")
    numbers = events.segments(journal)
    assert len(numbers) == 3 and all(os.path.getsize(f"{journal}/{n:08d}.log") <= 400 for n in numbers)
    seen = actions(journal)
    assert seen == [str(i) for i in range(40 - len(seen), 40)]


def test_a_damaged_segment_hides_only_its_own_rest(journal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SEGMENT_BYTES", 250)
    for i in range(9):
        events.append(journal, "t", str(i), "")
    path = Path(journal, f"{events.segments(journal)[1]:08d}.log")
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    seen = actions(journal)
    assert len(seen) == 8 and seen[0] == "0" and seen[-1] == "8"


def test_huge_attributes_do_not_lose_the_event(journal: str) -> None:
    events.append(journal, "t", "a", "id", {"name": "n", "label": "x" * 400_000})
    (event,) = events.read(journal)
    assert event.attributes == {"name": "n", "lamina.truncated": "1"}


@pytest.mark.parametrize("inotify", [True, False])
def test_follow(journal: str, inotify: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not inotify:
        monkeypatch.setattr(events, "_watch", lambda directory: -1)
    monkeypatch.setattr(events, "SEGMENT_BYTES", 300)  # so that it goes on over a rotation
    old = events.append(journal, "t", "old", "")
    writer = threading.Thread(target=lambda: [events.append(journal, "t", str(i), "") for i in range(10)])
    started = False
    seen: list[str] = []
    for event in events.follow(journal, since=old.time_ns, stop=lambda: len(seen) == 11, interval=5):
        if event is not None:
            seen.append(event.action)
        elif not started:
            assert seen == ["old"]
            started = True
            writer.start()
    writer.join()
    assert seen == ["old", *map(str, range(10))]


def test_follow_only_new_ones_until(journal: str) -> None:
    old = events.append(journal, "t", "old", "")
    assert [e for e in events.follow(journal, until=old.time_ns + 1)] == [None]
    assert [e.action for e in events.follow(journal, since=0, until=old.time_ns + 1) if e] == ["old"]
