# SPDX-License-Identifier: Apache-2.0
"""One monitor at a time for a container, cleaning up included.

The exit code is told before the root is unmounted and files are removed. Whoever then starts or removes the container takes this
lock, and so comes after that. Light: the engine's verbs import it.
"""
from __future__ import annotations

import fcntl
import os
import time

import lamina.errors as errors

LOCK_WAIT = 15.0


def lock_path(run_dir: str) -> str:
    """Locked (flock) by the monitor from its first step to its last, cleaning up included."""
    return os.path.join(run_dir, "monitor.lock")


def lock(run_dir: str, timeout: float = LOCK_WAIT) -> int:
    """Waits until no monitor is at work in `run_dir`, and keeps others from it: an fd that holds the lock. Conflict after `timeout`."""
    fd = os.open(lock_path(run_dir), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    end = time.monotonic() + timeout
    pause = 0.001
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() >= end:
                os.close(fd)
                raise errors.Conflict("the container is running, or its monitor hasn't finished cleaning up")
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
