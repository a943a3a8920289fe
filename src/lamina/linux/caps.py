# SPDX-License-Identifier: Apache-2.0
"""Capabilities: names, numbers as bit masks, and the calls that read and set the five sets of this thread.

A mask is an int with bit n for capability n. Names are OCI's ("CAP_CHOWN").
"""
from __future__ import annotations

import errno
from _struct import pack, unpack

from . import _libc, prctl
from ._libc import syscall
from .capnames import NAMES, NUMBERS, SYS_ADMIN, mask, names

__all__ = (
    "NAMES", "NUMBERS", "SYS_ADMIN", "bounding", "get", "last_cap", "limit_bounding", "mask", "names", "set_", "set_ambient",
)  # fmt: skip
_VERSION_3 = 0x20080522


def last_cap() -> int:
    """Number of the last capability this kernel knows; found by prctl, so that no /proc is needed."""
    low, high = 0, 63
    while low < high:
        middle = (low + high + 1) // 2
        try:
            prctl.bounding_has(middle)
            low = middle
        except OSError as e:
            if e.errno != errno.EINVAL:
                raise
            high = middle - 1
    return low


def get() -> tuple[int, int, int]:
    """(effective, permitted, inheritable) masks of this thread."""
    data = bytearray(24)
    syscall(_libc.CAPGET, bytearray(pack("=Ii", _VERSION_3, 0)), data)
    e0, p0, i0, e1, p1, i1 = unpack("=6I", data)
    return e0 | e1 << 32, p0 | p1 << 32, i0 | i1 << 32


def set_(effective: int, permitted: int, inheritable: int) -> None:
    """Sets three sets of this thread at once."""
    low = 0xFFFFFFFF
    data = pack("=6I", effective & low, permitted & low, inheritable & low, effective >> 32, permitted >> 32, inheritable >> 32)
    syscall(_libc.CAPSET, bytearray(pack("=Ii", _VERSION_3, 0)), bytearray(data))


def bounding() -> int:
    """Mask of this thread's bounding set."""
    return sum(1 << n for n in range(last_cap() + 1) if prctl.bounding_has(n))


def limit_bounding(keep: int, last: int) -> None:
    """Drops every capability up to number `last` that isn't in `keep` from the bounding set (needs CAP_SETPCAP)."""
    for number in range(last + 1):
        if not keep >> number & 1:
            prctl.bounding_drop(number)


def set_ambient(bits: int) -> None:
    """Makes `bits` the ambient set; each must be permitted and inheritable."""
    prctl.ambient_clear()
    number = 0
    while bits >> number:
        if bits >> number & 1:
            prctl.ambient_raise(number)
        number += 1
