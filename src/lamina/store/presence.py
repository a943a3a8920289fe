# SPDX-License-Identifier: Apache-2.0
"""Who is at work: an empty file in the runroot for each command that changes something, and for each monitor, as long as it does. [hot]

The name says who: `<pid>-<start time>`, with `-<container id>` where it is about one container, and behind that `-<exec id>` for an exec
or `-new` while the container is made: one that was cut off in that is removed, since nobody was ever told its id. One whose process is
gone was cut off there; so every command learns by one look at a directory, which is nearly always empty, whether there is something to
tidy up. A start is handed over by a rename: from the command to the monitor, or from a dead command to whoever tidies up after it.
Exactly one of them gets it.
"""
from __future__ import annotations

import errno
import os
import select
import time

from lamina.errors import StoreError
from lamina.util.identity import boot_id, is_alive, my_start_time

DIRECTORY = "active"
NEW = "new"
CLOSELY = 3


class Marker:
    """One who is or was at work: its file, and what that says."""

    __slots__ = ("container", "path", "what")

    def __init__(self, path: str, container: str, what: str) -> None:
        self.path = path
        self.container = container
        self.what = what


def name_of(pid: int, start_time: int, container: str = "", what: str = "") -> str:
    """what: an exec's id, or NEW."""
    return "-".join([str(pid), str(start_time), *([container] if container else ()), *([what] if what else ())])


def enter(runroot: str, container: str = "", what: str = "") -> str:
    """This process begins; the file's path, for `leave`. Idempotent."""
    path = f"{runroot}/{DIRECTORY}/{name_of(os.getpid(), my_start_time(), container, what)}"
    make(path)
    return path


def make(path: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:  # a runroot that an older lamina made
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    os.close(fd)


def leave(path: str) -> None:
    """Idempotent."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def undone(error: BaseException | None) -> bool:
    """Whether who failed so may have left something: then its marker stays, and the next command looks after it. Not for the errors that
    users make, after which everything has been put back; but a full disk, say, may have kept even that from being done."""
    while error is not None:
        if isinstance(error, (StoreError, KeyboardInterrupt, MemoryError)):
            return True
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
            return True
        error = error.__context__
    return False


def take(path: str, name: str) -> str:
    """The file becomes that of another process: its new path. FileNotFoundError when somebody else was faster."""
    target = f"{os.path.dirname(path)}/{name}"
    os.rename(path, target)
    return target


def containers(runroot: str) -> set[str]:
    """Ids of the containers that somebody, living or dead, is at work on."""
    return {name.split("-")[2] for name in os.listdir(f"{runroot}/{DIRECTORY}") if name.count("-") > 1}


def cut_off(runroot: str, container: str = "") -> list[Marker]:
    """Those whose process is gone; of one container only, if it is named. For each command's end, so it asks no more than it must: whether
    a pid has become another process's costs some 50 us to see, so where many are at work it is asked of a few, others each time."""
    directory = f"{runroot}/{DIRECTORY}"
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    found = []
    own = f"{os.getpid()}-"
    first = time.time_ns() % len(names) if len(names) > CLOSELY else 0
    for at, name in enumerate(names):
        if name.startswith(own):
            continue
        pid, _, rest = name.partition("-")
        start, _, rest = rest.partition("-")
        if not rest.startswith(container) or not pid.isdigit() or not start.isdigit():
            continue
        closely = container or (at - first) % len(names) < CLOSELY
        if has_ended(int(pid)) or closely and not is_alive(int(pid), int(start), boot_id()):
            named, _, what = rest.partition("-")
            found.append(Marker(f"{directory}/{name}", named, what))
    return found


def has_ended(pid: int) -> bool:
    """No process has this pid, or only a dead one that nobody has waited for."""
    if pid <= 0:
        return True
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except OSError:
        return False  # forbidden, or no descriptors left: not known
    try:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        return bool(poller.poll(0))
    finally:
        os.close(fd)
