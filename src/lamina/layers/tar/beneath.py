# SPDX-License-Identifier: Apache-2.0
"""Directories beneath a root, by descriptor: one component at a time, O_NOFOLLOW, the last ones kept open (layers are in tree order).

A parent that is a symbolic link is followed as the container would see it (absolute targets and `..` end at the root), by reading the link
and walking on from the root's descriptor; the kernel never follows one for us, so nothing outside can be reached, whoever changes the tree
meanwhile. Real paths are clean paths without links. A kept descriptor is right as long as `forget` is called for every directory that is
removed.
"""

from __future__ import annotations

import errno
import os
import stat

from lamina.errors import ArchiveError

from .lower import OPAQUE_XATTR, is_whiteout
from .names import join, shown, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .lower import LowerView

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT = 64
_HOPS = 40
_DETOURS = 5_000_000
"""components walked behind links, in one archive: a bound on time that honest layers never come near"""


class Beneath:
    """`made(real, fd, lower)` is called for every directory that had to be made because a member lies in it; the fd is the caller's to
    read only. A context manager: closes what it keeps, never the root."""

    def __init__(
        self, root_fd: int, made: Callable[[bytes, int], None], lower: LowerView | None = None, *, whiteouts: bool = False
    ) -> None:
        self._root = root_fd
        self._made = made
        self._lower = lower
        self._whiteouts = whiteouts
        self._fds: dict[bytes, int] = {}
        self._alias: dict[bytes, bytes] = {}
        self.opaque: set[bytes] = set()
        self.followed_lower = False
        self._detours = 0

    def __enter__(self) -> Beneath:
        return self

    def __exit__(self, *exc: object) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def directory(self, path: bytes, *, create: bool = True) -> tuple[int, bytes]:
        """(fd, real path) of the directory at a clean path, valid until the next call. Missing ones are made, or FileNotFoundError."""
        if not path:
            return self._root, b""
        real = self._alias.get(path, path)
        fd = self._fds.get(real)
        if fd is not None:
            return fd, real
        real = self._walk(path, create)
        if real != path:
            if len(self._alias) > 4096:
                self._alias.clear()
            self._alias[path] = real
        return self.open(real), real

    def open(self, real: bytes) -> int:
        """The descriptor of a real directory that exists; the cache owns it."""
        fd = self._fds.get(real)
        if fd is not None:
            return fd
        at = len(real)
        fd = self._root
        while (at := real.rfind(b"/", 0, at)) > 0:
            kept = self._fds.get(real[:at])
            if kept is not None:
                fd = kept
                break
        at = max(at, 0)
        while at < len(real):
            stop = real.find(b"/", at + 1)
            stop = len(real) if stop < 0 else stop
            start = at + 1 if at else 0
            fd = os.open(real[start:stop], DIRECTORY, dir_fd=fd)
            self._keep(real[:stop], fd)
            at = stop
        return fd

    def _keep(self, real: bytes, fd: int) -> None:
        if len(self._fds) >= _KEPT:
            oldest = next(iter(self._fds))
            os.close(self._fds.pop(oldest))
        self._fds[real] = fd

    def forget(self, real: bytes) -> None:
        """This name was removed or replaced (whatever it was): no kept descriptor below it and no followed link is believed any more."""
        self._alias.clear()
        inside = real + b"/"
        for path in [p for p in self._fds if p == real or p.startswith(inside)]:
            os.close(self._fds.pop(path))

    def lower_stat(self, real: bytes) -> os.stat_result | None:
        """What the layers below have at a real path, as far as this layer doesn't hide it."""
        if self._lower is None:
            return None
        if self.opaque:
            above = real
            while above:
                above = split(above)[0]
                if above in self.opaque:
                    return None
        return self._lower.stat(real)

    def _walk(self, path: bytes, create: bool) -> bytes:
        todo = path.split(b"/")[::-1]
        real = b""
        hops = 0
        while todo:
            part = todo.pop()
            if hops:
                self._detours += 1
                if self._detours > _DETOURS:
                    raise ArchiveError(f"archive: {shown(path)}: the archive goes through symbolic links too often")
            if part == b"..":
                real = split(real)[0]
                continue
            if part in (b"", b"."):
                continue
            child = join(real, part)
            if child in self._fds:
                real = child
                continue
            link = self._step(real, part, child, create)
            if link is None:
                real = child
                continue
            hops += 1
            if hops > _HOPS or len(todo) > 4096:
                raise ArchiveError(f"archive: {shown(path)}: too many symbolic links")
            if link[:1] == b"/":
                real = b""
            todo += link.split(b"/")[::-1]
        return real

    def _step(self, parent: bytes, part: bytes, child: bytes, create: bool) -> bytes | None:
        """Into one component: None if it is a directory (now), the target if it is a link."""
        parent_fd = self.open(parent) if parent else self._root
        try:
            self._keep(child, os.open(part, DIRECTORY, dir_fd=parent_fd))
            return None
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
        parent_fd = self.open(parent) if parent else self._root
        hidden = False
        try:
            st = os.stat(part, dir_fd=parent_fd, follow_symlinks=False)
        except FileNotFoundError:
            below = self.lower_stat(child)
            if below is not None and stat.S_ISLNK(below.st_mode) and self._lower is not None:
                self.followed_lower = True
                return self._lower.readlink(child)
        else:
            if stat.S_ISLNK(st.st_mode):
                return os.readlink(part, dir_fd=parent_fd)
            if not (self._whiteouts and is_whiteout(st)):
                raise ArchiveError(f"archive: {shown(child)} is not a directory, but a member lies in it")
            hidden = True
        if not create:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), child)
        if hidden:
            os.unlink(part, dir_fd=parent_fd)
        os.mkdir(part, 0o700, dir_fd=parent_fd)
        fd = os.open(part, DIRECTORY, dir_fd=parent_fd)
        self._keep(child, fd)
        if hidden:
            os.setxattr(fd, OPAQUE_XATTR, b"y")
            self.opaque.add(child)
        self._made(child, fd)
        return None


def open_file(root_fd: int, real: bytes, flags: int = os.O_RDONLY) -> int:
    """Open what lies at a real path, following nothing at all. OSError with the path."""
    parent, base = split(real)
    fd = root_fd
    try:
        for part in parent.split(b"/") if parent else ():
            deeper = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            if fd != root_fd:
                os.close(fd)
            fd = deeper
        return os.open(base, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=fd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fsdecode(real)) from None
    finally:
        if fd != root_fd:
            os.close(fd)
