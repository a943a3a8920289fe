# SPDX-License-Identifier: Apache-2.0
"""One door to the kernel: `syscall(nr, *args)` over the C extension `_ctypes`, without the `ctypes` package (3 ms of import).

Invariants: every int travels as a C long (ctypes alone would cut it to 32 bits); bytes are passed as const char pointers, a
bytearray as a writable buffer that the kernel may fill; errno is read from ctypes' own copy, so nothing can overwrite it between
the call and the exception. `_ctypes` is private API of CPython: all use of it is in this file, and tests run it on each version.
"""
from __future__ import annotations

import _ctypes
import os
from posix import strerror, uname

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_c: Any = _ctypes
_SimpleCData: Any = _c._SimpleCData
_CFuncPtr: Any = _c.CFuncPtr
_FLAGS = _c.FUNCFLAG_CDECL | _c.FUNCFLAG_USE_ERRNO


class _Long(_SimpleCData):  # type: ignore[misc]
    _type_ = "l"


class _Char(_SimpleCData):  # type: ignore[misc]
    _type_ = "c"


class _Call(_CFuncPtr):  # type: ignore[misc]
    _flags_ = _FLAGS
    _restype_ = _Long


class _CallHoldingGil(_CFuncPtr):  # type: ignore[misc]
    _flags_ = _FLAGS | _c.FUNCFLAG_PYTHONAPI
    _restype_ = _Long


_address = _c.dlsym(_c.dlopen(None, 2), "syscall")
_call = _Call(_address)
_call_holding_gil = _CallHoldingGil(_address)

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
AT_SYMLINK_NOFOLLOW = 0x100

# Calls added since 2018 have one number on every architecture.
PIDFD_SEND_SIGNAL = 424
OPEN_TREE = 428
MOVE_MOUNT = 429
FSOPEN = 430
FSCONFIG = 431
FSMOUNT = 432
PIDFD_OPEN = 434
CLONE3 = 435
CLOSE_RANGE = 436
OPENAT2 = 437
MOUNT_SETATTR = 442

_OLDER = {
    "x86_64": {
        "clone": 56, "capget": 125, "capset": 126, "personality": 135, "fstatfs": 138, "pivot_root": 155, "prctl": 157, "mount": 165,
        "umount2": 166, "setdomainname": 171, "keyctl": 250, "ioprio_set": 251, "unshare": 272, "syncfs": 306, "setns": 308,
        "renameat2": 316, "seccomp": 317, "bpf": 321, "getsockopt": 55, "prlimit64": 302, "sync_file_range": 277,
    },
    "aarch64": {
        "ioprio_set": 30, "umount2": 39, "mount": 40, "pivot_root": 41, "fstatfs": 44, "capget": 90, "capset": 91, "personality": 92,
        "unshare": 97, "setdomainname": 162, "prctl": 167, "keyctl": 219, "clone": 220, "syncfs": 267, "setns": 268, "renameat2": 276,
        "seccomp": 277, "bpf": 280, "getsockopt": 209, "prlimit64": 261, "sync_file_range": 84,
    },
}
_numbers = _OLDER.get(uname().machine)
if _numbers is None:
    raise ImportError(f"lamina runs on x86_64 and aarch64, not on {uname().machine}")
CLONE = _numbers["clone"]
PRCTL = _numbers["prctl"]
GETSOCKOPT = _numbers["getsockopt"]
CAPGET = _numbers["capget"]
CAPSET = _numbers["capset"]
PERSONALITY = _numbers["personality"]
FSTATFS = _numbers["fstatfs"]
PIVOT_ROOT = _numbers["pivot_root"]
MOUNT = _numbers["mount"]
UMOUNT2 = _numbers["umount2"]
SETDOMAINNAME = _numbers["setdomainname"]
UNSHARE = _numbers["unshare"]
SYNCFS = _numbers["syncfs"]
SETNS = _numbers["setns"]
RENAMEAT2 = _numbers["renameat2"]
SECCOMP = _numbers["seccomp"]
BPF = _numbers["bpf"]
KEYCTL = _numbers["keyctl"]
IOPRIO_SET = _numbers["ioprio_set"]
PRLIMIT64 = _numbers["prlimit64"]
SYNC_FILE_RANGE = _numbers["sync_file_range"]


def _array(buffer: bytearray) -> Any:
    kind: Any = _Char
    return (kind * len(buffer)).from_buffer(buffer)


def pointer(buffer: bytearray) -> int:
    """Address of the buffer's bytes; valid while the bytearray lives and isn't resized."""
    return int(_c.addressof(_array(buffer)))


def _argument(value: Any) -> Any:
    if value.__class__ is int:
        return _Long(value)
    if value.__class__ is bytearray:
        return _array(value)
    return value  # bytes as const char *, None as NULL


def syscall(nr: int, *args: int | bytes | bytearray | None, path: Any = None, path2: Any = None) -> int:
    """Calls `nr`; returns its result >= 0, or raises OSError(errno, text, path, None, path2). EINTR isn't retried."""
    result = int(_call(_Long(nr), *[_argument(a) for a in args]))
    if result < 0:
        number = _c.get_errno()
        raise OSError(number, strerror(number), path, None, path2)
    return result


def syscall_holding_gil(nr: int, *args: int | bytes | bytearray | None) -> int:
    """As `syscall`, but the interpreter lock is never released: for calls that return twice."""
    result = int(_call_holding_gil(_Long(nr), *[_argument(a) for a in args]))
    if result < 0:
        number = _c.get_errno()
        raise OSError(number, strerror(number))
    return result


def encode(path: str | bytes) -> bytes:
    """A path as the NUL-free bytes the kernel wants; raises ValueError on an embedded NUL, as `os.open` does."""
    raw = os.fsencode(path)
    if 0 in raw:
        raise ValueError("embedded null byte")
    return raw
