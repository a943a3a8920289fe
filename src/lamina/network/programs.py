# SPDX-License-Identifier: Apache-2.0
"""Runs the few host programs that own state which no kernel interface of ours reaches (firewalld, legacy iptables).

For `firewalld` and `legacy`; off the hot path. Programs are looked for in fixed system directories, never on the caller's PATH.
"""
from __future__ import annotations

import os

from lamina.errors import LaminaError

_DIRECTORIES = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
_TIMEOUT = 20.0


def find(name: str) -> str:
    """Absolute path of a program, "" if the host doesn't have it."""
    for directory in _DIRECTORIES:
        path = f"{directory}/{name}"
        if os.access(path, os.X_OK):
            return path
    return ""


def run(name: str, *arguments: str) -> str | None:
    """Standard output, or None if the program is missing, failed, or did not end in time."""
    path = find(name)
    if not path:
        return None
    from lamina.util import proc  # subprocess and all: only on hosts that have such a program to ask
    try:
        done = proc.run([path, *arguments], timeout=_TIMEOUT)
    except (LaminaError, OSError):
        return None
    return done.out.decode("utf-8", "replace") if done.code == 0 else None
