# SPDX-License-Identifier: Apache-2.0
"""The one place that starts other programs.

Absolute path, no shell, an environment that the caller names, stdin from /dev/null unless given, both outputs drained while waiting.
"""
from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from lamina.errors import LaminaError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What programs get when nothing else is said: texts that can be parsed, and no path that the caller's user chose.
CLEAN_ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


class Done:
    """Exit code (negative: killed by that signal) and both outputs."""

    __slots__ = ("code", "out", "err")

    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code = code
        self.out = out
        self.err = err


def run(argv: Sequence[str], *, input: bytes | None = None, env: Mapping[str, str] | None = None, cwd: str | None = None,
        timeout: float | None = None, stdio: Sequence[int] | None = None) -> Done:
    """Runs a program to its end. argv[0] is an absolute path. OSError if it can't be started.

    stdio: three fds that are handed down as they are; then nothing is read here. LaminaError when the time is up; then it has been killed.
    """
    if not argv or not argv[0].startswith("/"):
        raise ValueError(f"not an absolute path: {argv[0] if argv else ''}")
    try:
        if stdio is not None:
            streams: dict[str, Any] = {"stdin": stdio[0], "stdout": stdio[1], "stderr": stdio[2]}
        else:
            streams = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
            streams["capture_output"] = True
        done = subprocess.run(
            list(argv), **streams, env=dict(CLEAN_ENV if env is None else env), cwd=cwd, timeout=timeout, close_fds=True, check=False)
    except subprocess.TimeoutExpired:
        raise LaminaError(f"{argv[0]}: no end after {timeout:g} seconds, so it was killed") from None
    return Done(done.returncode, done.stdout or b"", done.stderr or b"")
