# SPDX-License-Identifier: Apache-2.0
"""Where monitors live: a cgroup of the engine's, so that neither a logout nor the kill of a CI job's cgroup takes them along.

A process is born into it. Entering the v2 tree later would cost 8 to 15 ms (the kernel waits for an RCU grace period), and on v1 only
a task that writes "0" into `tasks` gets in quickly.
"""
from __future__ import annotations

import errno
import os

from lamina.linux import ns
from lamina.runtime.cgroups import Cgroup, Layout, detect

_layout: Layout | None = None
_unsettled: tuple[Cgroup, bool] | None = None


def layout() -> Layout:
    """This host's hierarchies; asked once, and inherited by a forked monitor."""
    global _layout
    if _layout is None:
        _layout = detect()
    return _layout


def fork_into(path: str | None, *, own_pidns: bool = False) -> int:
    """fork(2) with a child that is born into the cgroup `path` of the v2 tree (None: none), and enters those of v1 by `settle`.
    Returns the child's pid, 0 in the child. For single-threaded processes; neither Python's nor the C library's fork handlers run.

    own_pidns: the child is process 1 of a new pid namespace, and the kernel kills all that it made when it ends, however it ends. (The
    parent death signal alone isn't enough: it is lost as soon as a process changes its user or executes a set-id program.)
    """
    global _unsettled
    flags = ns.CLONE_NEWPID if own_pidns else 0
    if not path:
        return _fork(flags)
    group = Cgroup.create(path, {}, layout=layout(), exist_ok=True)
    fd = group.clone_fd()
    if fd >= 0:
        try:
            pid, pidfd = ns.clone3(flags, cgroup_fd=fd)
        except OSError as e:
            if e.errno not in (errno.ENOSYS, errno.EINVAL, errno.E2BIG, errno.EOPNOTSUPP, errno.EBUSY, errno.EBADF, errno.EPERM):
                raise
            os.close(fd)
        else:
            os.close(fd)
            if pid:
                os.close(pidfd)
            else:
                _unsettled = (group, True)
            return pid
    pid = _fork(flags)
    if pid == 0:
        _unsettled = (group, False)
    return pid


def _fork(flags: int) -> int:
    if not flags:
        return os.fork()
    pid, pidfd = ns.clone3(flags)
    if pid:
        os.close(pidfd)
    return pid


def settle() -> None:
    """Enters what is left of the monitors' cgroup: some 0.4 ms, for a moment in which one has to wait anyway."""
    global _unsettled
    if _unsettled is not None:
        group, born_in = _unsettled
        _unsettled = None
        group.enter_self(cloned_into=born_in)
