# SPDX-License-Identifier: Apache-2.0
"""A mount of one container for another: `--ipc container:ID` shares /dev/shm, which is mounted in the donor's mount namespace only.

No mount of the host is needed for it: a helper enters the donor's mount namespace, clones the mount there, and hands the detached clone
over by its descriptor. Paths are resolved among the donor's own files; what comes back is checked to be a tmpfs.
"""
from __future__ import annotations

import errno
import os

from lamina.errors import StartError
from lamina.linux import fds, fs, ns
from lamina.linux import mount as m

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

_TMPFS_MAGIC = 0x01021994


def shm_of(pid: int, started: int) -> int:
    """/dev/shm of the running process (pid, start time) as a detached, private mount's fd. StartError when it can't be had."""
    space = -1
    try:
        space = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)  # by /proc: the monitor has a pid namespace of its own
        if ns.start_time(pid) != started:
            raise ProcessLookupError
    except (FileNotFoundError, ProcessLookupError):
        if space >= 0:
            os.close(space)
        raise StartError("failed to join IPC namespace: the container is not running") from None
    ours, theirs = fds.socketpair()
    try:
        child = os.fork()
        if child == 0:
            _child(space, theirs)
        theirs.close()
        message, found = fds.recv_fds(ours, 64, 1)
        os.waitpid(child, 0)
    finally:
        os.close(space)
        ours.close()
        theirs.close()
    if not found:
        why = os.strerror(int(message or b"0") or errno.ESRCH).lower()
        raise StartError(f"failed to join IPC namespace: /dev/shm of the container: {why}")
    return found[0]


def _child(space: int, sock: _socket.socket) -> None:
    try:
        ns.setns(space, ns.CLONE_NEWNS)
        tree = m.open_tree(m.AT_FDCWD, "/dev/shm", m.OPEN_TREE_CLONE | m.AT_SYMLINK_NOFOLLOW)
        if fs.magic(tree) != _TMPFS_MAGIC:
            raise OSError(errno.ENODEV, "not a tmpfs")
        m.mount_setattr(tree, "", propagation=m.MS_PRIVATE)
        fds.send_fds(sock, b"0", [tree])
    except OSError as e:
        fds.send_fds(sock, str(e.errno or 0).encode(), [])
    finally:
        os._exit(0)
