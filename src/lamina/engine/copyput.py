# SPDX-License-Identifier: Apache-2.0
"""The other end of `cp`: pieces become files below a directory of a view, never outside the view, as docker lets one thing replace another.

A directory and something else never replace each other; whatever else is there is removed first. Links on the way to a member are
followed as the view's owner would see them, the last component's never. Objects are made new (O_EXCL, O_NOFOLLOW) and changed by
descriptor only, so that who swaps names meanwhile gets an error, or changes what is his own.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable

from lamina.errors import ArchiveError, Conflict
from lamina.layers.tar import header as h
from lamina.layers.tar.names import clean, shown, split
from lamina.layers.tar.output import write_all
from lamina.layers.tar.reader import Member

from .copyview import Found, View
from .copywalk import Piece

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT = 64
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL)


class Overwrite(Conflict):
    """A directory would have to make way for something else, or something else for a directory."""


class Placer:
    """keep_owner: give things their numeric owner; else they are ours, and set-id bits and capabilities of strangers' files are lost
    (a container must not be able to leave a set-uid program of the caller's behind). `shown_as`: the directory's name in messages."""

    def __init__(self, view: View, directory: Found, *, keep_owner: bool, shown_as: str) -> None:
        self._view = view
        self._base = directory.real
        self._keep_owner = keep_owner
        self._shown = shown_as
        self._open: dict[bytes, tuple[int, bytes]] = {}
        self._times: dict[bytes, int] = {}

    def run(self, pieces: Iterable[Piece]) -> None:
        """OSError with the path as messages should name it; LaminaError for what the rules forbid."""
        try:
            for member, data in pieces:
                path = clean(member.name)
                if path:
                    try:
                        self._put(member, path, data)
                    except OSError as error:
                        raise OSError(error.errno, error.strerror, self._name(path)) from error
            self._set_times()
        finally:
            for fd, _ in self._open.values():
                os.close(fd)
            self._open.clear()

    def _name(self, path: bytes) -> str:
        return f"{self._shown.rstrip('/')}/{shown(path)}"

    # -- directories

    def _parent(self, path: bytes) -> tuple[int, bytes]:
        """(fd, real path) of the directory that a member lies in; missing ones are made. Valid until the next call."""
        kept = self._open.get(path)
        if kept is not None:
            return kept
        try:
            found = self._view.find(path, start=self._base)
        except FileNotFoundError:
            self._view.make_directories(path, self._base)
            found = self._view.find(path, start=self._base)
        with found:
            if not found.is_dir:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self._name(path))
            if len(self._open) >= _KEPT:
                os.close(self._open.pop(next(iter(self._open)))[0])
            kept = self._open[path] = (os.open(".", _DIRECTORY, dir_fd=found.fd), found.real)
        return kept

    def _forget(self, path: bytes) -> None:
        """What `path` was has been replaced: kept directories at or below it are no more what their names say."""
        for kept in [p for p in self._open if p == path or p.startswith(path + b"/")]:
            os.close(self._open.pop(kept)[0])

    # -- one member

    def _put(self, m: Member, path: bytes, data: Iterable[memoryview]) -> None:
        above, base = split(path)
        parent, real = self._parent(above)
        try:
            there = os.stat(base, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            there = None
        is_dir = there is not None and stat.S_ISDIR(there.st_mode)
        if there is not None and is_dir != (m.type == h.DIR):
            old, new = ("directory", "non-directory") if is_dir else ("non-directory", "directory")
            raise Overwrite(f'cannot overwrite {old} "{self._name(path)}" with {new} "{self._shown}"')
        if there is not None and not is_dir:
            self._check_mount(parent, real, base)
            os.unlink(base, dir_fd=parent)
            self._forget(path)
        if m.type == h.DIR:
            self._directory(m, path, parent, real, base, made=there is None)
        elif m.type == h.REG:
            self._file(m, parent, base, data)
        elif m.type == h.LINK:
            self._hard_link(m, parent, base)
        elif m.type == h.SYM:
            os.symlink(m.linkname, base, dir_fd=parent)
            self._node(m, parent, base)
        else:
            kind = {h.CHR: stat.S_IFCHR, h.BLK: stat.S_IFBLK, h.FIFO: stat.S_IFIFO}[m.type]
            os.mknod(base, kind | 0o600, 0 if m.type == h.FIFO else os.makedev(m.devmajor, m.devminor), dir_fd=parent)
            self._node(m, parent, base)

    def _check_mount(self, parent: int, real: bytes, base: bytes) -> None:
        """The kernel lets a name be removed that is a mount point in another namespace only, and unmounts it there."""
        fd, child = self._view.step(parent, real, base)
        try:
            if child in self._view.points or mount_id(fd) != mount_id(parent):
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        finally:
            os.close(fd)

    def _directory(self, m: Member, path: bytes, parent: int, real: bytes, base: bytes, *, made: bool) -> None:
        if made:
            os.mkdir(base, 0o700, dir_fd=parent)
        above, _ = self._view.step(parent, real, base)  # of what is mounted there, if so
        try:
            fd = os.open(".", _DIRECTORY, dir_fd=above)
        finally:
            os.close(above)
        try:
            self._attributes(fd, m)
        finally:
            os.close(fd)
        self._times[path] = m.mtime_ns

    def _file(self, m: Member, parent: int, base: bytes, data: Iterable[memoryview]) -> None:
        fd = os.open(base, _CREATE, 0o600, dir_fd=parent)
        try:
            for view in data:
                write_all(fd, view)
            self._attributes(fd, m)
            os.utime(fd, ns=(m.mtime_ns, m.mtime_ns))
        finally:
            os.close(fd)

    def _hard_link(self, m: Member, parent: int, base: bytes) -> None:
        """Links the name itself, whatever it is, as far as it can be reached from the directory that is copied to."""
        above, name = split(clean(m.linkname))
        if not name:
            raise ArchiveError(f"archive: {shown(m.name)}: a hard link to the root")
        with self._view.find(above, start=self._base) as found:
            os.link(name, base, src_dir_fd=found.fd, dst_dir_fd=parent, follow_symlinks=False)

    # -- attributes: owner, mode, extended attributes, times, in the order that loses none

    def _same_owner(self, m: Member) -> bool:
        return self._keep_owner or (m.uid, m.gid) == (os.geteuid(), os.getegid())

    def _mode(self, m: Member) -> int:
        return m.mode if self._same_owner(m) else m.mode & 0o1777

    def _attributes(self, fd: int, m: Member) -> None:
        if self._keep_owner:
            os.fchown(fd, m.uid, m.gid)
        os.fchmod(fd, self._mode(m))
        for name, value in m.xattrs.items():
            if name.startswith(b"trusted.") or (name == b"security.capability" and not self._same_owner(m)):
                continue
            try:
                os.setxattr(fd, name, value)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise

    def _node(self, m: Member, parent: int, base: bytes) -> None:
        if self._keep_owner:
            os.chown(base, m.uid, m.gid, dir_fd=parent, follow_symlinks=False)
        if m.type != h.SYM:
            fd = os.open(base, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                if not stat.S_ISLNK(os.fstat(fd).st_mode):
                    os.chmod(f"/proc/self/fd/{fd}", self._mode(m))
            finally:
                os.close(fd)
        os.utime(base, ns=(m.mtime_ns, m.mtime_ns), dir_fd=parent, follow_symlinks=False)

    def _set_times(self) -> None:
        """Of directories, last, as what came into them has changed theirs; one that was swapped meanwhile keeps what it has."""
        for path, ns in reversed(self._times.items()):
            try:
                with self._view.find(path, start=self._base, follow=False) as found:
                    if found.is_dir:
                        fd = os.open(".", _DIRECTORY, dir_fd=found.fd)
                        try:
                            os.utime(fd, ns=(ns, ns))
                        finally:
                            os.close(fd)
            except OSError:
                continue


def mount_id(fd: int) -> int:
    """Which mount a descriptor's object was reached through."""
    with open(f"/proc/self/fdinfo/{fd}", "rb", 0) as file:
        text = file.read(1024)
    return int(text[text.index(b"mnt_id:") + 7 :].split(None, 1)[0])
