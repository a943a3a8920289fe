# SPDX-License-Identifier: Apache-2.0
"""Resource limits by OCI's names ("RLIMIT_NOFILE"); values are ints, unlimited is 2**64 - 1 as the kernel has it.

prlimit(2) itself: Python's `resource` is a shared library, and half a millisecond of every start.
"""
from __future__ import annotations

import os
from _struct import pack, unpack

from lamina.linux._libc import PRLIMIT64, syscall

NUMBERS = {"RLIMIT_" + name: number for number, name in enumerate(
    "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME".split())}
UNLIMITED = 2**64 - 1


def get(name: str) -> tuple[int, int]:
    """(soft, hard) of this process; KeyError for a name that isn't a limit."""
    now = bytearray(16)
    syscall(PRLIMIT64, 0, NUMBERS[name], None, now)
    soft, hard = unpack("=QQ", now)
    return soft, hard


def set_(name: str, soft: int, hard: int) -> None:
    """Sets both; PermissionError when `hard` is raised without CAP_SYS_RESOURCE, OSError EINVAL when soft > hard."""
    try:
        syscall(PRLIMIT64, 0, NUMBERS[name], pack("=QQ", soft, hard), None)
    except OSError as e:
        raise OSError(e.errno, os.strerror(e.errno or 0), name) from None
