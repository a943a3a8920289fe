# SPDX-License-Identifier: Apache-2.0
"""Who a process is: (pid, start time, boot id) [hot].

A pid alone is reused. Start time is field 22 of /proc/<pid>/stat in clock ticks since boot; two processes of one boot that share both
don't exist in practice, and a record of another boot is never believed. For acting on a process (signals) the caller opens a
pidfd first and checks again after opening.
"""
from __future__ import annotations

import os

_boot: str | None = None
_self: tuple[int, int] = (0, 0)


def boot_id() -> str:
    """The kernel's id of this boot, read once per process."""
    global _boot
    if _boot is None:
        _boot = _read("/proc/sys/kernel/random/boot_id").strip().decode()
    return _boot


def start_time(pid: int) -> int:
    """Clock ticks after boot at which the process began. FileNotFoundError or ProcessLookupError if there is none; a zombie counts."""
    stat = _read(f"/proc/{pid}/stat")
    # The name in parentheses may hold anything, also ") ": fields are counted after the last parenthesis, from field 3 on.
    return int(stat[stat.rindex(b")") + 2:].split(None, 20)[19])


def my_start_time() -> int:
    """start_time of this process, read once (again after a fork)."""
    global _self
    pid = os.getpid()
    if _self[0] != pid:
        _self = (pid, start_time(pid))
    return _self[1]


def is_alive(pid: int, start: int, boot: str) -> bool:
    """Is this very process there and not yet a zombie? What can't be read counts as gone, except by lack of permission."""
    if pid <= 0 or boot != boot_id():
        return False
    try:
        stat = _read(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return False
    fields = stat[stat.rindex(b")") + 2:].split(None, 20)
    return int(fields[19]) == start and fields[0] not in (b"Z", b"X")


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)
