# SPDX-License-Identifier: Apache-2.0
"""Runs `lamina` in this interpreter with somebody standing in every door to the world, who can kill the process or say that the disk
is full: `python3 -I -S inject.py JOB -- ARGUMENTS`. Nothing of it is in the product: it replaces functions of `os`, of the sockets, of
SQLite and of lamina.linux._libc before lamina is imported, and forked processes (monitor, init) inherit it.

JOB is a JSON file: {"src", "doors": {"os": [...], "fcntl": [...]}, "reading": [names of system calls], "log": path of the map that is
written, "do": {"process", "point", "number", "when": "before" or "after", "what": "kill" or "full", "ever"} or null}.
From "full" on the disk takes nothing more from that process and its children; without "ever" it is only that one call that fails.

A process is named by its descent: "c" is the command, "c0" its first child, "c00" that one's first. A point is a chain of callers,
`door file:line function < file:line function < ...`; its number counts the passages through it by one process, from 0. In the map,
each process has a region of its own: lines of "point\n". No descriptor is needed for it, so a process that closes all
it has, and one in a namespace without that file, write on.
"""

from __future__ import annotations

import _signal
import _socket
import ctypes
import errno
import fcntl
import json
import mmap
import os
import sys
from posix import getpid, kill

REGION, FAN = 1 << 17, 6
SLOTS = 1 + FAN + FAN**2 + FAN**3 + FAN**4


def slot_of(process: str) -> int:
    """The region of a process; a few descendants of descendants share none, since nothing of ours forks that deep."""
    slot = 0
    for digit in process[1:]:
        slot = slot * FAN + 1 + min(int(digit), FAN - 1)
    return slot


class Doors:
    def __init__(self, job: dict) -> None:  # type: ignore[type-arg]
        self.process, self.children, self.at = "c", 0, 0
        self.counts: dict[str, int] = {}
        self.do = job["do"]
        self.reading = frozenset(job["reading"])
        self.full = False
        fd = os.open(job["log"], os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(fd, REGION * SLOTS)
        self.map = mmap.mmap(fd, REGION * SLOTS)
        os.close(fd)

    def born(self) -> None:
        """In a new child."""
        self.process += str(min(self.children, 9))
        self.children, self.at, self.counts = 0, 0, {}

    def chain(self, door: str) -> str:
        parts: list[str] = []
        frame = sys._getframe(2)
        while frame is not None and len(parts) < 4:
            _, ours, name = frame.f_code.co_filename.partition("/src/lamina/")
            if ours and name != "linux/_libc.py":
                parts.append(f"{name}:{frame.f_lineno} {frame.f_code.co_name}")
            frame = frame.f_back  # type: ignore[assignment]
        return f"{door} {' < '.join(parts)}"

    def write(self, text: str) -> None:
        data = text.encode()
        if self.at + len(data) < REGION and len(self.process) < 6:
            start = slot_of(self.process) * REGION + self.at
            self.map[start : start + len(data)] = data
            self.at += len(data)

    def passes(self, point: str) -> int:
        number = self.counts.get(point, 0)
        self.counts[point] = number + 1
        if number < 3:
            self.write(point + "\n")
        return number

    def strike(self, point: str, number: int, when: str) -> None:
        do = self.do
        if do is None or do["when"] != when or do["point"] != point or do["process"] != self.process:
            return
        if do["what"] == "kill":
            if do["number"] == number:
                self.write("!\n")
                die()
        elif number == do["number"]:
            self.write("!\n")
            self.full = True

    def door(self, name: str, function):  # type: ignore[no-untyped-def]
        """`function`, watched. fork and its like return twice; the child counts anew."""
        def watched(*args, **kw):  # type: ignore[no-untyped-def]
            point = self.chain(name)
            if point.endswith(" "):
                return function(*args, **kw)  # not called by lamina
            number = self.passes(point)
            self.strike(point, number, "before")
            if self.full and on_disk(name, args):
                self.full = self.do["ever"]
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            result = function(*args, **kw)
            if name in FORKS and result == 0:
                self.born()
                return result
            if name in FORKS:
                self.children += 1
            self.strike(point, number, "after")
            return result
        return watched


ON_DISK = (
    "os.open", "os.mkdir", "os.write", "os.symlink", "os.link", "os.mknod", "os.mkfifo", "os.rename", "os.setxattr", "os.fsync",
    "os.fdatasync", "os.copy_file_range", "os.truncate", "os.ftruncate", "sqlite.execute",
)  # fmt: skip
FORKS = ("os.fork", "syscall.CLONE3", "syscall.CLONE")


def on_disk(name: str, args) -> bool:  # type: ignore[no-untyped-def]
    """Whether a full disk can be the answer: not for a write to a pipe, say."""
    if name == "os.write":
        return os.fstat(args[0]).st_mode & 0o170000 == 0o100000
    return name in ON_DISK


def die() -> None:
    """As kill -9: nothing runs any more. Process 1 of a pid namespace can't kill itself by a signal, but the kernel ends it on a fault."""
    if getpid() != 1:
        kill(getpid(), _signal.SIGKILL)
    _signal.signal(_signal.SIGSEGV, _signal.SIG_DFL)
    ctypes.string_at(0)


def stand_in(job: dict) -> Doors:  # type: ignore[type-arg]
    import _sqlite3

    doors = Doors(job)
    for name in job["doors"]["os"]:
        if name not in ("open", "makedirs"):
            setattr(os, name, doors.door(f"os.{name}", getattr(os, name)))
    real_open = os.open
    creating = doors.door("os.open", real_open)

    def watched_open(path, flags, mode=0o777, *, dir_fd=None):  # type: ignore[no-untyped-def]
        return (creating if flags & os.O_CREAT else real_open)(path, flags, mode, dir_fd=dir_fd)

    os.open = watched_open
    for name in job["doors"]["fcntl"]:
        setattr(fcntl, name, doors.door(f"fcntl.{name}", getattr(fcntl, name)))

    class Socket(_socket.socket):
        pass

    for name in job["methods"]:
        setattr(Socket, name, doors.door(f"socket.{name}", getattr(_socket.socket, name)))
    _socket.socket = Socket  # type: ignore[misc]

    full = doors.do is not None and doors.do["what"] != "kill"
    execute, close = _sqlite3.Connection.execute, _sqlite3.Connection.close

    def run(connection, sql, *more):  # type: ignore[no-untyped-def]
        try:
            return watched_execute(connection, sql, *more)
        except OSError:
            raise _sqlite3.OperationalError("database or disk is full") from None

    watched_execute = doors.door("sqlite.execute", execute)

    class Connection(_sqlite3.Connection):
        def execute(self, sql, *more):  # type: ignore[no-untyped-def]
            if sql.split(None, 1)[0] in ("SELECT", "ROLLBACK") or (full and sql.startswith("PRAGMA")):
                return execute(self, sql, *more)
            return run(self, sql, *more)

    Connection.close = doors.door("sqlite.close", close)
    connect = _sqlite3.connect
    _sqlite3.connect = lambda *args, **kw: connect(*args, **kw, factory=Connection)

    sys.path.append(job["src"])
    from lamina.linux import _libc

    numbers = {name: value for name, value in vars(_libc).items() if name.isupper() and isinstance(value, int)}
    names = {number: name for name, number in numbers.items() if not name.startswith("AT_")}
    for attribute in ("_call", "_call_holding_gil"):
        setattr(_libc, attribute, system_calls(doors, names, getattr(_libc, attribute)))
    return doors


def system_calls(doors: Doors, names: dict[int, str], function):  # type: ignore[no-untyped-def]
    """One door for each number, before the C function `syscall`."""
    watched: dict[int, object] = {}

    def call(number, *args):  # type: ignore[no-untyped-def]
        nr = number.value
        if nr not in watched:
            name = names.get(nr, str(nr))
            watched[nr] = function if name in doors.reading else doors.door(f"syscall.{name}", as_int(function))
        return watched[nr](number, *args)
    return call


def as_int(function):  # type: ignore[no-untyped-def]
    def call(*args):  # type: ignore[no-untyped-def]
        result = function(*args)
        return result if result.__class__ is int else result.value
    return call


def main() -> None:
    with open(sys.argv[1]) as file:
        job = json.load(file)
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.argv = ["lamina", *sys.argv[3:]]
    stand_in(job)
    from lamina.__main__ import run

    run()


if __name__ == "__main__":
    main()
