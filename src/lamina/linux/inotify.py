# SPDX-License-Identifier: Apache-2.0
"""inotify(7): being told that files in a directory change, instead of asking again and again."""
from __future__ import annotations

import os
from posix import uname

from ._libc import encode, syscall

IN_MODIFY = 0x2
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_ONLYDIR = 0x01000000
_INIT1, _ADD_WATCH = (26, 27) if uname().machine == "aarch64" else (294, 254)


def watch(directory: str, mask: int) -> int:
    """A close-on-exec, non-blocking descriptor that becomes readable when one of the events in `mask` happens in the directory.

    The caller closes it. OSError with the path; EMFILE and ENOSPC where the user's limit of instances or watches is reached.
    """
    fd = syscall(_INIT1, os.O_CLOEXEC | os.O_NONBLOCK, path=directory)
    try:
        syscall(_ADD_WATCH, fd, encode(directory), mask | IN_ONLYDIR, path=directory)
    except BaseException:
        os.close(fd)
        raise
    return fd


def drain(fd: int) -> None:
    """Takes all waiting events away; for those who look at the files themselves."""
    try:
        while os.read(fd, 65536):
            pass
    except BlockingIOError:
        pass
