# SPDX-License-Identifier: Apache-2.0
"""Small reads and writes of cgroup files, and the directories themselves.  [hot]

Each write is one write(2) on a file that must exist: a cgroup file is an operation, not storage. Errors are OSError with the path.
"""

from __future__ import annotations

import errno
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)


def write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as e:
        raise OSError(e.errno, e.strerror, path) from None  # os.write doesn't know the name
    finally:
        os.close(fd)


def read(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
    except OSError as e:
        raise OSError(e.errno, e.strerror, path) from None
    finally:
        os.close(fd)
    return b"".join(parts).decode("ascii", "replace")


def read_or(path: str, default: str = "") -> str:
    """The text, or `default` where the kernel has no such file, can't answer now, or the group has gone."""
    try:
        return read(path)
    except OSError:
        return default


def read_int(path: str) -> int | None:
    """One number; "max" and absence are None."""
    text = read_or(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def read_keyed(path: str) -> dict[str, int]:
    """Lines of "key number" as in memory.stat."""
    out: dict[str, int] = {}
    for line in read_or(path).splitlines():
        key, _, value = line.partition(" ")
        if value.isdigit():
            out[key] = int(value)
    return out


def subdirs(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [e.path for e in entries if e.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def tree(path: str) -> Iterator[str]:
    """`path` and every group below it, children before parents."""
    for child in subdirs(path):
        yield from tree(child)
    yield path


def procs_of(path: str) -> list[int]:
    """Pids in the group and all below it, as seen from our pid namespace; [] when it has gone."""
    found: list[int] = []
    for group in tree(path):
        try:
            found += [int(line) for line in read(group + "/cgroup.procs").split()]
        except OSError as e:
            if e.errno == errno.EOPNOTSUPP:  # a threaded group: its processes are listed above it
                continue
            if e.errno not in (errno.ENOENT, errno.ENODEV):
                raise
    return [pid for pid in found if pid > 0]  # 0: a process of an outer pid namespace


def pauses(timeout: float) -> Iterator[float]:
    """Sleeps 1, 2, 4 ... 50 ms between the rounds of a loop, until `timeout` seconds are over."""
    end = time.monotonic() + timeout
    pause = 0.001
    while True:
        yield pause
        if time.monotonic() >= end:
            return
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def wait_for(done: Callable[[], bool], timeout: float) -> bool:
    return any(done() for _ in pauses(timeout))


def remove_tree(path: str, timeout: float) -> bool:
    """rmdir of a group and all below it; False when processes were still there at the end of `timeout` seconds."""
    for _ in pauses(timeout):
        busy = False
        for group in tree(path):
            try:
                os.rmdir(group)
            except FileNotFoundError:
                pass
            except OSError as e:
                if e.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                    raise
                busy = True
        if not busy:
            return True
    return False
