# SPDX-License-Identifier: Apache-2.0
"""What changed between two trees, as `docker diff` tells it: [(kind, path)], kind A, C or D, paths absolute, parents first, in byte order.

Docker's rules (20.10, overlay2 and vfs alike; compared live): an entry is changed if type, mode, owner, device or file capability differ,
or, for all but directories, size or mtime; a directory is also changed (C) if anything below it is. Directory times don't count, nor does
the root itself. A removed directory is one D; a directory that replaces a non-directory is C with its entries A, one that became a file is
C alone.
"""

from __future__ import annotations

import os
import stat

from lamina.errors import StoreError

from .lower import is_opaque, is_whiteout
from .names import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEPTH = 400
_SECOND = 1_000_000_000
Change = tuple[str, bytes]


def changes_overlay(upper_fd: int, lower_fds: Sequence[int]) -> list[Change]:
    """An overlay's upper directory against its lower ones (top first; for a container the init layer is one of them)."""
    return _Comparison(overlay=True).run(upper_fd, lower_fds)


def changes_tree(old_fd: int, new_fd: int) -> list[Change]:
    """Two full trees."""
    return _Comparison(overlay=False).run(new_fd, [old_fd])


class _Comparison:
    def __init__(self, *, overlay: bool) -> None:
        self._overlay = overlay
        self._found: list[Change] = []

    def run(self, new_fd: int, old_fds: Sequence[int]) -> list[Change]:
        self._below(new_fd, list(old_fds), b"", complete=not self._overlay, depth=0)
        return self._found

    def _below(self, new: int, olds: list[int], path: bytes, *, complete: bool, depth: int) -> None:
        """Compare what is in one directory; `olds` are the same directory in the layers below, as far as they can be seen. `complete`: what
        the new one doesn't list is gone (a full tree, or opaque)."""
        if depth > _DEPTH:
            raise StoreError(f"{shown(path)}: more than {_DEPTH} directories deep")
        names = {os.fsencode(name): True for name in os.listdir(new)}
        if complete:
            for name in self._visible(olds):
                names.setdefault(name, False)
        for name in sorted(names):
            child = path + b"/" + name
            if not names[name]:
                self._found.append(("D", child))
                continue
            try:
                st = os.stat(name, dir_fd=new, follow_symlinks=False)
            except FileNotFoundError:
                continue  # a running container removed it just now
            old, at = self._old(olds, name)
            if self._overlay and is_whiteout(st):
                if old is not None:
                    self._found.append(("D", child))
                continue
            self._entry(new, name, st, olds, old, at, child, complete=complete, depth=depth)

    def _entry(
        self,
        new: int,
        name: bytes,
        st: os.stat_result,
        olds: list[int],
        old: os.stat_result | None,
        at: int,
        child: bytes,
        *,
        complete: bool,
        depth: int,
    ) -> None:
        place = len(self._found)
        kind = "A" if old is None else "C" if _differ(st, old) or _capability(new, name, st) != _capability(olds[at], name, old) else ""
        if kind:
            self._found.append((kind, child))
        if not stat.S_ISDIR(st.st_mode):
            return
        inner = os.open(name, _DIRECTORY, dir_fd=new)
        below: list[int] = []
        try:
            if old is not None and stat.S_ISDIR(old.st_mode):
                below = self._open(olds, name)
            self._below(inner, below, child, complete=complete or (self._overlay and is_opaque(inner)), depth=depth + 1)
        finally:
            os.close(inner)
            for fd in below:
                os.close(fd)
        if not kind and len(self._found) > place:
            self._found.insert(place, ("C", child))

    def _old(self, olds: list[int], name: bytes) -> tuple[os.stat_result | None, int]:
        """What the layers below show under a name, and which of them."""
        for i, fd in enumerate(olds):
            try:
                st = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            return (None, -1) if self._overlay and is_whiteout(st) else (st, i)
        return None, -1

    def _open(self, olds: list[int], name: bytes) -> list[int]:
        """The same subdirectory in all layers where it can be seen; the caller closes them."""
        found: list[int] = []
        for fd in olds:
            try:
                inner = os.open(name, _DIRECTORY, dir_fd=fd)
            except FileNotFoundError:
                continue
            except NotADirectoryError:
                break  # a file or a whiteout hides what is further down
            found.append(inner)
            if self._overlay and is_opaque(inner):
                break
        return found

    def _visible(self, olds: list[int]) -> list[bytes]:
        names: dict[bytes, bool] = {}
        for fd in olds:
            with os.scandir(fd) as entries:
                for entry in entries:
                    name = os.fsencode(entry.name)
                    if name not in names:
                        names[name] = not (self._overlay and not entry.is_file() and is_whiteout(entry.stat(follow_symlinks=False)))
        return [name for name, there in names.items() if there]


def _differ(new: os.stat_result, old: os.stat_result) -> bool:
    if (new.st_mode, new.st_uid, new.st_gid, new.st_rdev) != (old.st_mode, old.st_uid, old.st_gid, old.st_rdev):
        return True
    if stat.S_ISDIR(new.st_mode):
        return False
    return new.st_size != old.st_size or not _same_time(new.st_mtime_ns, old.st_mtime_ns)


def _same_time(a: int, b: int) -> bool:
    """Equal, or equal in seconds where one of them has come through a tar without fractions."""
    return a == b or (a // _SECOND == b // _SECOND and (not a % _SECOND or not b % _SECOND))


def _capability(dir_fd: int, name: bytes, st: os.stat_result) -> bytes:
    if not stat.S_ISREG(st.st_mode):
        return b""
    try:
        return os.getxattr(b"/proc/self/fd/%d/%b" % (dir_fd, name), b"security.capability", follow_symlinks=False)
    except OSError:
        return b""
