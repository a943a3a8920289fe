# SPDX-License-Identifier: Apache-2.0
"""Capabilities by name and number, without the calls that set them: what an engine needs that only plans. [hot]

A mask is an int with bit n for capability n. Names are OCI's ("CAP_CHOWN").
"""
from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NAMES = tuple("CAP_" + name for name in (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE").split())
NUMBERS = {name: number for number, name in enumerate(NAMES)}
SYS_ADMIN = NUMBERS["CAP_SYS_ADMIN"]


def mask(names: Iterable[str]) -> int:
    """Bit mask of capability names; ValueError names one that doesn't exist."""
    bits = 0
    for name in names:
        number = NUMBERS.get(name)
        if number is None:
            raise ValueError(f'unknown capability "{name}"')
        bits |= 1 << number
    return bits


def names(bits: int) -> list[str]:
    """The names in a mask, in the kernel's order; bits without a name are left out."""
    return [name for number, name in enumerate(NAMES) if bits >> number & 1]


def own() -> int:
    """This process's effective set, as /proc tells it: without loading what capget takes."""
    fd = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = os.read(fd, 8192)
    finally:
        os.close(fd)
    return int(status.partition(b"\nCapEff:")[2].split(None, 1)[0], 16)
