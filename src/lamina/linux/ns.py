# SPDX-License-Identifier: Apache-2.0
"""Namespaces and processes: clone3, unshare, setns, pidfds, and what identifies a process for good.

A process is (pid, start time, boot id); act on it by pidfd. `clone3` is for single-threaded processes only: with threads, a child
hung in 1 of 50 to 150 runs on a lock that another thread held (it asserts by counting /proc/self/task).
"""
from __future__ import annotations

import errno
import os
from _struct import pack, unpack_from

from . import _libc
from ._libc import pointer, syscall, syscall_holding_gil

CLONE_NEWTIME = 0x00000080
CLONE_PIDFD = 0x00001000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000

# OCI's names of namespaces -> the clone flag and the file below /proc/<pid>/ns.
NAMESPACES = {
    "mount": (CLONE_NEWNS, "mnt"), "pid": (CLONE_NEWPID, "pid"), "network": (CLONE_NEWNET, "net"), "ipc": (CLONE_NEWIPC, "ipc"),
    "uts": (CLONE_NEWUTS, "uts"), "cgroup": (CLONE_NEWCGROUP, "cgroup"), "user": (CLONE_NEWUSER, "user"), "time": (CLONE_NEWTIME, "time"),
}

_SIGCHLD = 17
_CLONE_PARENT = 0x8000


def threads() -> int:
    """How many threads this process has, by the kernel's count (not Python's, which knows only its own); 1 where /proc is absent."""
    try:
        return os.stat("/proc/self/task").st_nlink - 2
    except FileNotFoundError:
        return 1


def clone3(flags: int, *, cgroup_fd: int = -1) -> tuple[int, int]:
    """Forks into new namespaces. Parent: (pid, pidfd), the pidfd close-on-exec and the caller's. Child: (0, -1).

    The child must end in exec or os._exit. `cgroup_fd`: directory of a cgroup v2 to be born in.
    """
    count = threads()
    if count != 1:
        raise OSError(errno.EDEADLK, f"clone3 in a process of {count} threads could hang the child")
    pidfd = bytearray(4)
    into = 0
    if cgroup_fd >= 0:
        flags |= CLONE_INTO_CGROUP
        into = cgroup_fd
    args = bytearray(pack("=11Q", flags | CLONE_PIDFD, pointer(pidfd), 0, 0, _SIGCHLD, 0, 0, 0, 0, 0, into))
    pid = syscall_holding_gil(_libc.CLONE3, args, len(args))
    if pid == 0:
        return 0, -1
    return pid, unpack_from("=i", pidfd)[0]


def clone_sibling() -> tuple[int, int]:
    """Forks a child whose parent is ours: (pid, pidfd) here, (0, -1) there.

    By the old clone(2) with no new namespace, which seccomp filters for containers allow where they refuse clone3.
    """
    pidfd = bytearray(4)
    pid = syscall_holding_gil(_libc.CLONE, _CLONE_PARENT | CLONE_PIDFD, 0, pidfd, 0, 0)
    if pid == 0:
        return 0, -1
    return pid, unpack_from("=i", pidfd)[0]


def unshare(flags: int) -> None:
    syscall(_libc.UNSHARE, flags)


def setns(fd: int, flags: int = 0) -> None:
    """setns(2): `fd` is a file of /proc/<pid>/ns, or a pidfd with several CLONE_NEW* at once."""
    syscall(_libc.SETNS, fd, flags)


def pidfd_open(pid: int) -> int:
    return syscall(_libc.PIDFD_OPEN, pid, 0, path=f"pid {pid}")


def pidfd_send_signal(pidfd: int, signal: int) -> None:
    syscall(_libc.PIDFD_SEND_SIGNAL, pidfd, signal, None, 0)


def pid_of(pidfd: int) -> int:
    """The pid as /proc shows it; clone's own answer counts in our pid namespace, which may be a nested one. -1 if it has been reaped."""
    with open(f"/proc/self/fdinfo/{pidfd}", "rb", 0) as f:
        text = f.read(1024)
    return int(text[text.index(b"\nPid:") + 5:].split(None, 1)[0])


def own_pid() -> int:
    """Our pid as /proc shows it, also where we are process 1 of a namespace of our own."""
    return int(os.readlink("/proc/self"))


def start_time(pid: int | str = "self") -> int:
    """When a process started, in clock ticks since boot (field 22 of /proc/<pid>/stat); ProcessLookupError if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb", 0) as f:
            text = f.read(2048)
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, "no such process", f"pid {pid}") from None
    return int(text[text.rindex(b")") + 2:].split(b" ", 20)[19])


def open_process(pid: int, started: int) -> int:
    """A pidfd of exactly the process (pid, start time); ProcessLookupError if it is gone or the pid is another's by now."""
    pidfd = pidfd_open(pid)
    try:
        if start_time(pid) == started:
            return pidfd
    except BaseException:
        os.close(pidfd)
        raise
    os.close(pidfd)
    raise ProcessLookupError(errno.ESRCH, "no such process (its pid is another's by now)", f"pid {pid}")


def boot_id() -> str:
    """The kernel's random id of this boot, 36 characters."""
    with open("/proc/sys/kernel/random/boot_id", "rb", 0) as f:
        return f.read(64).decode().strip()
