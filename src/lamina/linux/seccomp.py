# SPDX-License-Identifier: Apache-2.0
"""Loads a compiled seccomp filter into this thread; what the filter says is decided in `runtime.seccomp`."""
from __future__ import annotations

import errno
from _struct import pack

from . import _libc
from ._libc import pointer, syscall

_SET_MODE_FILTER = 1
FLAG_TSYNC = 1
FLAG_LOG = 2
FLAG_SPEC_ALLOW = 4


def load(program: bytes, flags: int = 0) -> None:
    """Installs `program` (struct sock_filter[], 8 bytes each); needs no_new_privs or CAP_SYS_ADMIN. Can't be undone."""
    if not program or len(program) % 8 or len(program) > 4096 * 8:
        raise OSError(errno.EINVAL, f"a seccomp filter has 1 to 4096 instructions of 8 bytes, not {len(program)} bytes")
    code = bytearray(program)
    syscall(_libc.SECCOMP, _SET_MODE_FILTER, flags, bytearray(pack("=H6xQ", len(program) // 8, pointer(code))), path="seccomp filter")
