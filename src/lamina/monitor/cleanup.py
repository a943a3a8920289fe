# SPDX-License-Identifier: Apache-2.0
"""Taking things away: mount points and trees, never across a mount, never through a link.

For the end of a container, where nobody waits any more: what can't be removed stays, and the next command of the engine finds it in
its removal journal.
"""
from __future__ import annotations

import errno
import os

from lamina.errors import LaminaError
from lamina.linux import mount


def unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def unmount_all(target: str) -> None:
    """Takes everything off a mount point that is ours. Lazily: a shell of the host's that stands in it must not hold us up."""
    while True:
        try:
            mount.umount(target, mount.MNT_DETACH)
        except OSError as e:
            if e.errno in (errno.EINVAL, errno.ENOENT):
                return
            raise


def remove_mount(target: str) -> None:
    """Unmounts and removes the mount point."""
    unmount_all(target)
    try:
        os.rmdir(target)
    except FileNotFoundError:
        pass


def remove_tree(path: str) -> None:
    """Removes a file or a tree, without crossing a mount or following a link. What can't be removed is left where it is."""
    from lamina.store import trash

    try:
        parent = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        trash.refuse_mounts(path)
        trash.remove_at(parent, os.path.basename(path), path)
    except (OSError, LaminaError):
        pass
    finally:
        os.close(parent)
