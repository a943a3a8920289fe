# SPDX-License-Identifier: Apache-2.0
"""Removing a tree beneath a descriptor: never follows, never leaves the file system it began on, tells of every name before it goes.

One descriptor per level is held (`Limits.depth` bounds what an archive can make); each directory is listed once, so the cost is linear.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from .names import join

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(dir_fd: int, base: bytes, real: bytes, gone: Callable[[bytes], None]) -> None:
    """Remove the directory `base` in `dir_fd`, known as `real`. `gone(path)` is called for every entry before it is unlinked.
    OSError(EXDEV) at a mount: then nothing of that mount was touched."""
    device = os.fstat(dir_fd).st_dev
    stack: list[tuple[bytes, bytes, int, list[str]]] = []

    def enter(name: bytes, path: bytes, parent: int) -> None:
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
        if os.fstat(fd).st_dev != device:
            os.close(fd)
            raise OSError(errno.EXDEV, "a file system is mounted there", os.fsdecode(path))
        stack.append((name, path, fd, os.listdir(fd)))

    enter(base, real, dir_fd)
    try:
        while stack:
            name, path, fd, names = stack[-1]
            if names:
                child = os.fsencode(names.pop())
                if stat.S_ISDIR(os.stat(child, dir_fd=fd, follow_symlinks=False).st_mode):
                    enter(child, join(path, child), fd)
                else:
                    gone(join(path, child))
                    os.unlink(child, dir_fd=fd)
                continue
            stack.pop()
            os.close(fd)
            gone(path)
            os.rmdir(name, dir_fd=stack[-1][2] if stack else dir_fd)
    finally:
        for _, _, fd, _ in stack:
            os.close(fd)
