# SPDX-License-Identifier: Apache-2.0
"""The layers below, as their union would show them: for the few members whose meaning depends on them (missing parents, hard links into a
parent).

Reads overlay's on-disk form (char 0:0 is a whiteout, trusted.overlay.opaque=y an opaque directory) by descriptor, O_NOFOLLOW; no mount is
needed. Paths are real paths (clean, without symbolic links in their parents).
"""

from __future__ import annotations

import os
import stat

from .names import split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
OPAQUE_XATTR = b"trusted.overlay.opaque"


def is_whiteout(st: os.stat_result) -> bool:
    return st.st_rdev == 0 and stat.S_ISCHR(st.st_mode)


def is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, OPAQUE_XATTR) == b"y"
    except OSError:
        return False


if TYPE_CHECKING:

    class LowerView(Protocol):
        def stat(self, path: bytes) -> os.stat_result | None:
            """lstat in the union; None if there is nothing."""

        def readlink(self, path: bytes) -> bytes: ...

        def open(self, path: bytes) -> int:
            """A regular file or directory for reading; the caller closes it. FileNotFoundError, or OSError(ELOOP) for a link."""

        def listdir(self, path: bytes) -> list[bytes]:
            """Names in a directory of the union, sorted."""


class AloneError(Exception):
    """A layer that is laid out alone asked for what is below it."""


class Alone:
    """`LowerView` of layers that aren't there yet: whoever asks learns that the layer has to wait for them. Only the root may be asked
    for: it is nothing for now, and `extract.inherit_root` makes up for it."""

    def stat(self, path: bytes) -> os.stat_result | None:
        if path:
            raise AloneError
        return None

    def readlink(self, path: bytes) -> bytes:
        raise AloneError

    def open(self, path: bytes) -> int:
        raise AloneError

    def listdir(self, path: bytes) -> list[bytes]:
        raise AloneError


class Lower:
    """`LowerView` over layer directories, top first. A context manager that closes what it opened."""

    def __init__(self, directories: Sequence[str | bytes]) -> None:
        self._roots: list[int] = []
        try:
            for directory in directories:
                self._roots.append(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError:
            self.close()
            raise

    def __enter__(self) -> Lower:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        while self._roots:
            os.close(self._roots.pop())

    def _in_layer(self, root: int, parts: list[bytes]) -> tuple[int, bool]:
        """(O_PATH fd or -1, whether layers further down are hidden at this path)."""
        fd = os.dup(root)
        hides = False
        for i, part in enumerate(parts):
            try:
                child = os.open(part, _PATH, dir_fd=fd)
            except FileNotFoundError:
                os.close(fd)
                return -1, hides
            os.close(fd)
            fd = child
            st = os.fstat(fd)
            last = i == len(parts) - 1
            if not stat.S_ISDIR(st.st_mode):
                if not last or is_whiteout(st):
                    os.close(fd)
                    return -1, True
                return fd, True
            if not hides:
                readable = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
                hides = is_opaque(readable)
                os.close(readable)
        return fd, hides

    def _locate(self, path: bytes) -> int:
        parts = path.split(b"/") if path else []
        for root in self._roots:
            fd, hides = self._in_layer(root, parts)
            if fd >= 0:
                return fd
            if hides:
                break
        return -1

    def stat(self, path: bytes) -> os.stat_result | None:
        fd = self._locate(path)
        if fd < 0:
            return None
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def readlink(self, path: bytes) -> bytes:
        fd = self._locate(path)
        if fd < 0:
            raise FileNotFoundError(2, "No such file or directory", path)
        try:
            return os.readlink(b"", dir_fd=fd)
        finally:
            os.close(fd)

    def open(self, path: bytes) -> int:
        parent, base = split(path)
        parts = parent.split(b"/") if parent else []
        for root in self._roots:
            found, hides = self._in_layer(root, [*parts, base] if base else parts)
            if found >= 0:
                os.close(found)
                above, _ = self._in_layer(root, parts)
                try:
                    return os.open(base or b".", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=above)
                finally:
                    os.close(above)
            if hides:
                break
        raise FileNotFoundError(2, "No such file or directory", path)

    def listdir(self, path: bytes) -> list[bytes]:
        names: dict[bytes, bool] = {}
        parts = path.split(b"/") if path else []
        for root in self._roots:
            fd, hides = self._in_layer(root, parts)
            if fd >= 0:
                try:
                    if not stat.S_ISDIR(os.fstat(fd).st_mode):
                        break
                    readable = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
                    try:
                        for entry in os.scandir(readable):
                            names.setdefault(os.fsencode(entry.name), not is_whiteout(entry.stat(follow_symlinks=False)))
                    finally:
                        os.close(readable)
                finally:
                    os.close(fd)
            if hides:
                break
        return sorted(name for name, there in names.items() if there)
