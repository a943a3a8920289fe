# SPDX-License-Identifier: Apache-2.0
"""Reading logs that monitor/logs.py writes (and docker's own json-file logs): tail, time span, follow across rotation.

Reads files only, so it blocks nobody and works whether the container runs or not. Cold: nothing on the way to a running container
imports it.
"""
from __future__ import annotations

import os
import select
import time

from lamina.util import fastjson, times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK = 262144
MAX_RECORD = 4 << 20  # a record of ours has at most 6 x 16 KiB; whatever is longer isn't one
POLL = 0.05


class Entry:
    """One record: `data` are the bytes as the process wrote them, `time` nanoseconds since 1970."""

    __slots__ = ("data", "stream", "time")

    def __init__(self, stream: str, data: bytes, time: int) -> None:
        self.stream = stream
        self.data = data
        self.time = time


def read_logs(
    path: str,
    *,
    tail: int | None = None,
    since: int | None = None,
    until: int | None = None,
    follow: bool = False,
    stdout: bool = True,
    stderr: bool = True,
    ended: Callable[[], bool] | None = None,
    wake_fd: int = -1,
) -> Iterator[Entry]:
    """Entries of the log whose newest file is `path`, oldest first.

    `tail`: only the last so many records of the wanted streams. `since`/`until`: nanoseconds, both inclusive. `follow`: go on until
    `ended()` says that nothing more will be written (then everything up to the end is delivered) or `until` has passed; `wake_fd`
    becoming readable ends a wait early. A missing log is an empty one. Torn or foreign lines are skipped.
    """
    wanted = {name for name, on in (("stdout", stdout), ("stderr", stderr)) if on}
    files = _Files(path)
    try:
        mark = b"\n" if len(wanted) == 2 else b'"stream":"stdout"' if stdout else b'"stream":"stderr"'
        history: Iterator[Entry] = (e for e in files.history(tail, mark) if e.stream in wanted)
        if tail is not None:
            history = iter(_last(history, tail))
        for entry in history:
            if until is not None and entry.time > until:
                return
            if since is None or entry.time >= since:
                yield entry
        while follow:
            over = ended is not None and ended()
            count = 0
            for entry in files.more():
                count += 1
                if until is not None and entry.time > until:
                    return
                if entry.stream in wanted and (since is None or entry.time >= since):
                    yield entry
            if over and not count:
                return
            if until is not None and time.time_ns() > until:
                return
            if not count:
                _wait(wake_fd)
    finally:
        files.close()


def _wait(wake_fd: int) -> None:
    if wake_fd < 0:
        time.sleep(POLL)
        return
    poller = select.poll()
    poller.register(wake_fd, select.POLLIN)
    poller.poll(POLL * 1000)


def _last(entries: Iterator[Entry], count: int) -> list[Entry]:
    """The last `count`, in the memory of twice as many."""
    if count <= 0:
        for _ in entries:
            pass
        return []
    kept: list[Entry] = []
    for entry in entries:
        kept.append(entry)
        if len(kept) >= 2 * count + 1000:
            del kept[:-count]
    return kept[-count:]


def _count_back(fd: int, mark: bytes, need: int) -> tuple[int, int]:
    """(marks, offset) of the shortest end of a file, in a few steps, that holds `need` marks; or of all of it."""
    size = os.fstat(fd).st_size
    window = BLOCK
    while True:
        offset = max(0, size - window)
        count = os.pread(fd, size - offset, offset).count(mark)
        if count >= need or not offset:
            return count, offset
        window *= 4


class _Files:
    """The rotated files as one stream. The file that is being read is held open, so its inode can't be given to another one."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = -1
        self.rest = b""

    def history(self, tail: int | None = None, mark: bytes = b"\n") -> Iterator[Entry]:
        """What is there now, oldest first; ends at the end of the newest file, which stays open. With `tail`, at least the last so many
        records that contain `mark`, found from the end, so that a large log costs no more than what is shown of it."""
        fds = self._open_all()
        if tail is not None and fds:
            need, first, offset = tail + 1, len(fds), 0
            while need > 0 and first:
                first -= 1
                count, offset = _count_back(fds[first], mark, need)
                need -= count
            os.lseek(fds[first], offset, os.SEEK_SET)
            for fd in fds[:first]:
                os.close(fd)
            del fds[:first]
        for fd in fds:
            if self.fd >= 0:
                os.close(self.fd)
            self.fd, self.rest = fd, b""
            yield from self._read()

    def more(self) -> Iterator[Entry]:
        """What was written since; goes on to the next files when the log was rotated."""
        if self.fd < 0:
            yield from self.history()
            return
        newer = self._newer()  # before reading: what was appended until the rotation is then seen for certain
        yield from self._read()
        for fd in newer:
            os.close(self.fd)
            self.fd, self.rest = fd, b""
            yield from self._read()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _open_all(self) -> list[int]:
        """All files of the log, oldest first. A rotation meanwhile makes us start again, so that none is missed or read twice."""
        for _ in range(100):
            fds: list[int] = []
            seen = set()
            n = 0
            while True:
                try:
                    fd = os.open(self.path if n == 0 else f"{self.path}.{n}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                except FileNotFoundError:
                    if n == 0 and os.path.exists(self.path + ".1"):
                        n += 1  # between the two steps of a rotation
                        continue
                    break
                inode = os.fstat(fd).st_ino
                if inode in seen:
                    os.close(fd)
                    break
                seen.add(inode)
                fds.insert(0, fd)
                n += 1
            if not fds:
                return []
            try:
                if os.stat(self.path).st_ino == os.fstat(fds[-1]).st_ino:
                    return fds
            except FileNotFoundError:
                pass
            for fd in fds:
                os.close(fd)
            time.sleep(0.001)
        return []

    def _newer(self) -> list[int]:
        """The files after the one that is open, oldest first, opened. Empty while it is the newest."""
        mine = os.fstat(self.fd).st_ino
        try:
            if os.stat(self.path).st_ino == mine:
                return []
        except FileNotFoundError:
            return []
        fds = self._open_all()
        inodes = [os.fstat(fd).st_ino for fd in fds]
        at = inodes.index(mine) + 1 if mine in inodes else 0
        for fd in fds[:at]:
            os.close(fd)
        return fds[at:]

    def _read(self) -> Iterator[Entry]:
        while True:
            data = os.read(self.fd, BLOCK)
            if not data:
                return
            lines = (self.rest + data).split(b"\n")
            self.rest = lines.pop()
            if len(self.rest) > MAX_RECORD:
                self.rest = b""
            for line in lines:
                entry = parse(line)
                if entry is not None:
                    yield entry


def parse(line: bytes) -> Entry | None:
    """One line of a json-file log; None if it isn't one."""
    try:
        record = fastjson.loads(line)
        text, stream = record["log"], record["stream"]
        if not isinstance(stream, str):
            return None
        return Entry(stream, text.encode("utf-8", "surrogateescape"), times.parse_rfc3339(record["time"]))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        return None
