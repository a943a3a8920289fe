# SPDX-License-Identifier: Apache-2.0
"""Runs a payload in a forked child, with or without the default seccomp filter: each attack test runs both."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from collections.abc import Callable

from lamina.linux import seccomp
from lamina.linux.prctl import set_no_new_privs
from lamina.runtime import profile

DOCKER_CAPS = frozenset(
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID CAP_SETUID CAP_SETFCAP CAP_SETPCAP "
    "CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE".split()
)
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def syscall(nr: int, *args: int | bytes | None) -> int:
    """Result >= 0, or -errno."""
    result = int(_libc.syscall(ctypes.c_long(nr), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args]))
    return result if result >= 0 else -ctypes.get_errno()


def int80(nr: int, *args: int) -> int:
    """A system call by the i386 gate, from machine code: 3 arguments, result or -errno. Pointers must be below 4 GiB (`low`)."""
    # push rbx; mov eax,edi; mov ebx,esi; xchg ecx,edx; int 0x80; movsxd rax,eax; pop rbx; ret
    code = bytes.fromhex("53 89f8 89f3 87d1 cd80 4863c0 5b c3")
    page = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    function = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_uint] * 4)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    return int(function(nr, *args, *(0,) * (3 - len(args))))


def low(data: bytes) -> int:
    """Address below 4 GiB of a copy of `data`; lives until the process ends."""
    _libc.mmap.restype = ctypes.c_void_p
    address = int(_libc.mmap(None, ctypes.c_size_t(4096), 3, 0x22 | 0x40, -1, ctypes.c_long(0)))
    ctypes.memmove(address, data, len(data))
    return address


def run(payload: Callable[[], int], *, filtered: bool, caps: frozenset[str] = DOCKER_CAPS, compat32: bool = False) -> int:
    """What `payload` returned in a child of its own: >= 0 or -errno. A child killed by a signal gives -1000 - signal."""
    code = profile.default_bpf(caps, None, compat32=compat32) if filtered else b""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if filtered:
                set_no_new_privs()
                seccomp.load(code)
            try:
                value = payload()
            except OSError as e:
                value = -(e.errno or 999)
            os.write(into, struct.pack("q", value))
        finally:
            os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as f:
        data = f.read()
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return -1000 - os.WTERMSIG(status)
    return int(struct.unpack("q", data)[0])


def name(value: int) -> str:
    return "ok" if value >= 0 else errno.errorcode.get(-value, str(value))
