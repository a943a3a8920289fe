# SPDX-License-Identifier: Apache-2.0
"""Names of the UTS namespace and the execution domain."""
from __future__ import annotations

from . import _libc
from ._libc import encode, syscall

PER_LINUX = 0x0000
PER_LINUX32 = 0x0008


def set_domainname(name: str) -> None:
    raw = encode(name)
    syscall(_libc.SETDOMAINNAME, raw, len(raw), path=name)


def set_personality(persona: int) -> None:
    syscall(_libc.PERSONALITY, persona)
