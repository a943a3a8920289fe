# SPDX-License-Identifier: Apache-2.0
"""Resource limits by OCI's names ("RLIMIT_NOFILE"); values are ints, unlimited is 2**64 - 1 as the kernel has it."""
from __future__ import annotations

import resource

NUMBERS = {"RLIMIT_" + name: number for number, name in enumerate(
    "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME".split())}
UNLIMITED = 2**64 - 1


def get(name: str) -> tuple[int, int]:
    """(soft, hard) of this process; KeyError for a name that isn't a limit."""
    soft, hard = resource.getrlimit(NUMBERS[name])
    return soft % 2**64, hard % 2**64


def set_(name: str, soft: int, hard: int) -> None:
    """Sets both; PermissionError when `hard` is raised without CAP_SYS_RESOURCE, ValueError when soft > hard."""
    try:
        resource.setrlimit(NUMBERS[name], (_signed(soft), _signed(hard)))
    except OSError as e:
        raise OSError(e.errno, e.strerror, name) from None


def _signed(value: int) -> int:
    return resource.RLIM_INFINITY if value >= 2**63 else value
