# SPDX-License-Identifier: Apache-2.0
"""The event journal: every change of state, once, in order [hot].

events/NNNNNNNN.log are segments of records: length and CRC-32 of the payload (little endian, 4 bytes each), then JSON. `events/head` is the
writers' lock and remembers where the last record ends; where it disagrees with the segment (a writer died, the power went), the
next writer scans the segment and cuts the torn tail off. Sequence numbers and times grow strictly across processes. Readers take no
lock. Appending costs a handful of system calls and no fsync: the journal is news; what matters is in the database.
"""
from __future__ import annotations

import fcntl
import os
import select
from _struct import Struct
from time import monotonic
from zlib import crc32

from lamina.util import fastjson
from lamina.util.atomic import write_all
from lamina.util.identity import boot_id
from lamina.util.times import now_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SEGMENT_BYTES = 1 << 20
SEGMENTS = 16
MAX_RECORD = 256 * 1024
_FRAME = Struct("<II")
_HEAD = Struct("<4sQQQQI8s")  # magic, segment, its size, last sequence number, last time, CRC of the boot id, reserved
_MAGIC = b"LEV1"
_HEAD_BYTES = _HEAD.size + 4


class Event:
    """`seq` and `time_ns` grow strictly. `type` container, image, volume, network ...; `action` as docker's; `id` the actor's."""

    __slots__ = ("seq", "time_ns", "type", "action", "id", "attributes")

    def __init__(self, seq: int, time_ns: int, type: str, action: str, id: str, attributes: dict[str, str]) -> None:
        self.seq = seq
        self.time_ns = time_ns
        self.type = type
        self.action = action
        self.id = id
        self.attributes = attributes


class Torn(ValueError):
    """No whole record here: end of what can be read in this segment."""


def append(directory: str, type: str, action: str, actor_id: str, attributes: Mapping[str, str] | None = None) -> Event:
    """Adds one event; `directory` is Paths.events. OSError when the disk is full: callers that must go on ignore it."""
    lock = os.open(directory + "/head", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        segment, size, seq, last = _position(directory, os.read(lock, _HEAD_BYTES))
        event = Event(seq + 1, max(now_ns(), last + 1), type, action, actor_id, dict(attributes or {}))
        record = _encode(event)
        if size and size + len(record) > SEGMENT_BYTES:
            segment, size = segment + 1, 0
            _drop_old(directory, segment)
        fd = os.open(_path(directory, segment), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            write_all(fd, record)
        except OSError:
            os.ftruncate(fd, size)  # a full disk: no half record stays
            raise
        finally:
            os.close(fd)
        head = _HEAD.pack(_MAGIC, segment, size + len(record), event.seq, event.time_ns, _boot(), b"")
        os.pwrite(lock, head + crc32(head).to_bytes(4, "little"), 0)
        return event
    finally:
        os.close(lock)


def read(directory: str, since: int = 0, until: int | None = None) -> Iterator[Event]:
    """Events with since <= time < until (nanoseconds), oldest first. What is damaged is passed over up to its segment's end."""
    for event, _, _ in _read_from(directory, 0, 0):
        if until is not None and event.time_ns >= until:
            return
        if event.time_ns >= since:
            yield event


def follow(directory: str, since: int | None = None, until: int | None = None, *, stop: Callable[[], bool] | None = None,
           interval: float = 1.0) -> Iterator[Event | None]:
    """Events from `since` on (None: only new ones), waiting for more until `until` or until `stop()` says so.

    Yields None at the end of the old events and after each wait without news (`interval` seconds), so that the consumer can look after its
    client. Survives rotation: a reader that is overtaken by it goes on with the oldest segment there is.
    """
    watcher = _watch(directory)
    try:
        segment, offset = (0, 0) if since is not None else _end(directory)
        while True:
            if watcher >= 0:
                _drain(watcher)  # before reading: what happens after the read wakes us again
            for event, number, end in _read_from(directory, segment, offset):
                segment, offset = number, end
                if until is not None and event.time_ns >= until:
                    return
                if since is None or event.time_ns >= since:
                    yield event
            yield None
            if stop is not None and stop() or until is not None and now_ns() >= until:
                return
            _wait(watcher, directory, segment, offset, interval if until is None else min(interval, max(0.0, (until - now_ns()) / 1e9)))
    finally:
        if watcher >= 0:
            os.close(watcher)


def segments(directory: str) -> list[int]:
    """Numbers of the segments, oldest first."""
    return sorted(int(name[:8]) for name in os.listdir(directory) if len(name) == 12 and name.endswith(".log") and name[:8].isdecimal())


def scan(directory: str, segment: int) -> tuple[int, int, int, int]:
    """(records, bytes that are whole, last seq, last time) of one segment."""
    data = _load(directory, segment, 0)
    count = offset = seq = last = 0
    try:
        while offset < len(data):
            event, offset = _decode(data, offset)
            count, seq, last = count + 1, event.seq, event.time_ns
    except Torn:
        pass
    return count, offset, seq, last


def _position(directory: str, head: bytes) -> tuple[int, int, int, int]:
    """Segment, its size, last sequence number and time: from the head if it holds, else from the segments themselves."""
    if len(head) == _HEAD_BYTES and crc32(head[:-4]) == int.from_bytes(head[-4:], "little"):
        magic, segment, size, seq, last, boot, _ = _HEAD.unpack(head[:-4])
        try:
            if magic == _MAGIC and boot == _boot() and os.stat(_path(directory, segment)).st_size == size:
                return segment, size, seq, last
        except FileNotFoundError:
            pass
    return _repair(directory)


def _repair(directory: str) -> tuple[int, int, int, int]:
    """The writer's side of a torn tail: cut it off. Holds the lock. Also done once after each boot, as sizes may lie then."""
    numbers = segments(directory)
    if not numbers:
        return 1, 0, 0, 0
    segment = numbers[-1]
    _, whole, seq, last = scan(directory, segment)
    path = _path(directory, segment)
    if os.stat(path).st_size != whole:
        os.truncate(path, whole)
    for number in reversed(numbers[:-1]):  # nothing whole in the last one: the numbers go on from the one before
        if seq:
            break
        _, _, seq, last = scan(directory, number)
    return segment, whole, seq, last


def _drop_old(directory: str, newest: int) -> None:
    for number in segments(directory):
        if number <= newest - SEGMENTS:
            os.unlink(_path(directory, number))


def _path(directory: str, segment: int) -> str:
    return f"{directory}/{segment:08d}.log"


def _boot() -> int:
    return crc32(boot_id().encode())


def _encode(event: Event) -> bytes:
    payload = fastjson.dumps({"seq": event.seq, "time": event.time_ns, "type": event.type, "action": event.action, "id": event.id,
                              "attributes": event.attributes}).encode("utf-8", "backslashreplace")
    if len(payload) > MAX_RECORD:  # labels may be huge; the event itself must not be lost for it
        event.attributes = {"name": event.attributes.get("name", "")[:256], "lamina.truncated": "1"}
        return _encode(event)
    return _FRAME.pack(len(payload), crc32(payload)) + payload


def _decode(data: bytes, offset: int) -> tuple[Event, int]:
    """The record at an offset and where the next begins. Torn if it isn't whole."""
    begin = offset + _FRAME.size
    if begin > len(data):
        raise Torn
    length, checksum = _FRAME.unpack_from(data, offset)
    end = begin + length
    if not 0 < length <= MAX_RECORD or end > len(data):
        raise Torn
    payload = data[begin:end]
    if crc32(payload) != checksum:
        raise Torn
    try:
        value = fastjson.loads(payload)
        return Event(value["seq"], value["time"], value["type"], value["action"], value["id"], value["attributes"]), end
    except (ValueError, KeyError, TypeError):
        raise Torn from None


def _load(directory: str, segment: int, offset: int) -> bytes:
    fd = os.open(_path(directory, segment), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        parts: list[bytes] = []
        while True:
            part = os.pread(fd, 1 << 20, offset)
            if not part:
                return b"".join(parts)
            parts.append(part)
            offset += len(part)
    finally:
        os.close(fd)


def _read_from(directory: str, segment: int, offset: int) -> Iterator[tuple[Event, int, int]]:
    """Whole records from a position on, each with the position after it."""
    for number in segments(directory):
        if number < segment:
            continue
        start = offset if number == segment else 0
        try:
            data = _load(directory, number, start)
        except FileNotFoundError:
            continue  # rotated away meanwhile
        at = 0
        try:
            while at < len(data):
                event, at = _decode(data, at)
                yield event, number, start + at
        except Torn:
            continue


def _end(directory: str) -> tuple[int, int]:
    numbers = segments(directory)
    return (numbers[-1], scan(directory, numbers[-1])[1]) if numbers else (0, 0)


def _watch(directory: str) -> int:
    """An inotify descriptor, or -1 where the user's limit is reached: then the wait looks at the file sizes."""
    from lamina.linux import inotify

    try:
        return inotify.watch(directory, inotify.IN_MODIFY | inotify.IN_CREATE)
    except OSError:
        return -1


def _drain(watcher: int) -> None:
    from lamina.linux import inotify

    inotify.drain(watcher)


def _wait(watcher: int, directory: str, segment: int, offset: int, seconds: float) -> None:
    if watcher >= 0:
        select.select([watcher], [], [], seconds)
        return
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        numbers = segments(directory)
        if numbers and (numbers[-1] > segment or os.stat(_path(directory, numbers[-1])).st_size > offset):
            return
        select.select([], [], [], min(0.1, seconds))
