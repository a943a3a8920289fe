# SPDX-License-Identifier: Apache-2.0
"""Signal names and numbers, as the kernel has them on x86-64 and arm64. [hot: the `signal` module costs 4 ms]"""
from __future__ import annotations

from lamina.errors import InvalidArgument

NAMES = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ "
    "VTALRM PROF WINCH IO PWR SYS"
).split()
NUMBERS = {name: i + 1 for i, name in enumerate(NAMES)}
NUMBERS.update(IOT=6, POLL=29, CLD=17)
RTMIN, RTMAX = 34, 64  # 32 and 33 are the C library's own

SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGPIPE, SIGTERM, SIGCHLD, SIGURG, SIGWINCH = 1, 2, 3, 9, 13, 15, 17, 23, 28


def parse(text: str | int) -> int:
    """The number of "TERM", "SIGTERM", "sigterm", "15", "RTMIN+3"; InvalidArgument with docker's text for anything else."""
    word = str(text).strip()
    if word.isascii() and word.isdigit():
        number = int(word)
        if 1 <= number <= RTMAX:
            return number
        if number:
            raise InvalidArgument(f"the linux daemon does not support signal {number}")
    else:
        name = word.upper().removeprefix("SIG")
        if name in NUMBERS:
            return NUMBERS[name]
        for base, sign in (("RTMIN", 1), ("RTMAX", -1)):
            if name == base:
                return RTMIN if sign > 0 else RTMAX
            mark = base + ("+" if sign > 0 else "-")
            if name.startswith(mark) and name[len(mark):].isdigit():
                number = (RTMIN if sign > 0 else RTMAX) + sign * int(name[len(mark):])
                if RTMIN <= number <= RTMAX:
                    return number
    raise InvalidArgument(f"invalid signal: {text}")
