# SPDX-License-Identifier: Apache-2.0
"""Lock files by flock(2) [hot].

A lock belongs to the open file, so the kernel drops it when its owner dies, however it dies; there is nothing stale to clean up.
The file stays: unlinking a lock file lets two owners hold "the same" lock. It's opened without following a link, so that nobody
who can write to the directory makes us create or lock something else (attack 68).
"""
from __future__ import annotations

import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


class FileLock:
    """`with FileLock(path): ...` waits for the exclusive lock; `FileLock(path, shared=True)` for a shared one."""

    __slots__ = ("path", "shared", "_fd")

    def __init__(self, path: str, *, shared: bool = False) -> None:
        self.path = path
        self.shared = shared
        self._fd = -1

    @property
    def held(self) -> bool:
        return self._fd >= 0

    def acquire(self) -> None:
        """Waits. OSError with the path if the file can't be opened."""
        self._take(0)

    def try_acquire(self) -> bool:
        """False at once when another holds it."""
        try:
            self._take(fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)  # the last descriptor of this open file: drops the lock

    def _take(self, flags: int) -> None:
        assert self._fd < 0, f"{self.path}: taken twice by one object"
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX) | flags)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def __enter__(self) -> FileLock:
        self._take(0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()
