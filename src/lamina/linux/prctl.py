# SPDX-License-Identifier: Apache-2.0
"""prctl(2) as far as a container runtime needs it; each function is one option."""
from __future__ import annotations

from . import _libc
from ._libc import syscall

_SET_PDEATHSIG, _SET_DUMPABLE, _GET_DUMPABLE, _SET_KEEPCAPS, _SET_NAME = 1, 4, 3, 8, 15
_CAPBSET_READ, _CAPBSET_DROP, _SET_NO_NEW_PRIVS, _SET_CHILD_SUBREAPER, _CAP_AMBIENT = 23, 24, 38, 36, 47
_AMBIENT_RAISE, _AMBIENT_CLEAR_ALL = 2, 4


def set_parent_death_signal(signal: int) -> None:
    """The kernel clears this on every change of credentials and on exec of a set-id program: set it last."""
    syscall(_libc.PRCTL, _SET_PDEATHSIG, signal, 0, 0, 0)


def set_dumpable(on: bool) -> None:
    """Off: no ptrace by equals, and /proc/self belongs to root. A change of uid resets it; exec turns it on again."""
    syscall(_libc.PRCTL, _SET_DUMPABLE, int(on), 0, 0, 0)


def get_dumpable() -> int:
    return syscall(_libc.PRCTL, _GET_DUMPABLE, 0, 0, 0, 0)


def set_keep_caps(on: bool) -> None:
    """On: permitted capabilities outlive the change from uid 0 to another."""
    syscall(_libc.PRCTL, _SET_KEEPCAPS, int(on), 0, 0, 0)


def set_name(name: str) -> None:
    syscall(_libc.PRCTL, _SET_NAME, name.encode()[:15], 0, 0, 0)


def set_no_new_privs() -> None:
    syscall(_libc.PRCTL, _SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def set_child_subreaper(on: bool) -> None:
    syscall(_libc.PRCTL, _SET_CHILD_SUBREAPER, int(on), 0, 0, 0)


def bounding_has(cap: int) -> bool:
    """Whether `cap` is in the bounding set; OSError EINVAL beyond the kernel's last capability."""
    return bool(syscall(_libc.PRCTL, _CAPBSET_READ, cap, 0, 0, 0))


def bounding_drop(cap: int) -> None:
    syscall(_libc.PRCTL, _CAPBSET_DROP, cap, 0, 0, 0)


def ambient_raise(cap: int) -> None:
    syscall(_libc.PRCTL, _CAP_AMBIENT, _AMBIENT_RAISE, cap, 0, 0)


def ambient_clear() -> None:
    syscall(_libc.PRCTL, _CAP_AMBIENT, _AMBIENT_CLEAR_ALL, 0, 0, 0)
