# SPDX-License-Identifier: Apache-2.0
"""A tree copied with all that it has: owners, modes, times, xattrs, hard links, holes, devices, sockets.

For vfs layers and for whoever needs a snapshot. By descriptor, links never followed, without recursion (container trees may be deeper than
Python's stack); bytes are shared (reflink) where the file system can, else copied inside the kernel, holes kept.
"""
from __future__ import annotations

import errno
import os
import stat

from lamina.linux.fs import copy_range, ficlone

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
SKIPPED = ("trusted.overlay.", "security.selinux")
NO_CLONE = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM)


def copy_tree(source_fd: int, target_fd: int) -> None:
    """Copies what `source_fd` holds into the empty directory `target_fd`, whose attributes become the source's. OSError names the path."""
    _Copier().run(source_fd, target_fd)


class _Copier:
    def __init__(self) -> None:
        self.links: dict[tuple[int, int], bytes] = {}  # inode -> its first path in the target
        self.clone = True
        self.target = -1

    def run(self, source_fd: int, target_fd: int) -> None:
        self.target = target_fd
        source = os.open(".", DIRECTORY, dir_fd=source_fd)  # a scan moves the offset: not the caller's
        target = os.open(".", DIRECTORY, dir_fd=target_fd)
        # An entry is (source, target, path, names left to do). Directories get their times last, when nothing is made in them any more.
        stack = [(source, target, b"", self._fill(source, target, b""))]
        try:
            while stack:
                here, there, path, left = stack[-1]
                if left:
                    name = left.pop()
                    inner = os.open(name, DIRECTORY, dir_fd=here)
                    try:
                        os.mkdir(name, 0o700, dir_fd=there)
                        made = os.open(name, DIRECTORY, dir_fd=there)
                    except OSError:
                        os.close(inner)
                        raise
                    below = path + name + b"/"
                    stack.append((inner, made, below, []))
                    stack[-1] = (inner, made, below, self._fill(inner, made, below))
                    continue
                _attributes(os.fstat(here), here, there)
                stack.pop()
                os.close(here)
                os.close(there)
        finally:
            for here, there, _, _ in stack:
                os.close(here)
                os.close(there)

    def _fill(self, here: int, there: int, path: bytes) -> list[bytes]:
        """Copies everything of one directory but its directories; their names."""
        directories = []
        with os.scandir(here) as entries:
            names = [os.fsencode(entry.name) for entry in entries]
        for name in names:
            status = os.stat(name, dir_fd=here, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                directories.append(name)
                continue
            try:
                self._entry(here, there, name, path + name, status)
            except OSError as e:
                raise OSError(e.errno, e.strerror, os.fsdecode(path + name)) from None
        return directories

    def _entry(self, here: int, there: int, name: bytes, path: bytes, status: os.stat_result) -> None:
        if status.st_nlink > 1:
            first = self.links.get((status.st_dev, status.st_ino))
            if first is not None:
                os.link(first, name, src_dir_fd=self.target, dst_dir_fd=there, follow_symlinks=False)
                return
            self.links[status.st_dev, status.st_ino] = path
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG:
            self._file(here, there, name, status)
            return
        if kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=here), name, dir_fd=there)
        else:
            os.mknod(name, kind | stat.S_IMODE(status.st_mode), status.st_rdev, dir_fd=there)
        _path_attributes(status, here, there, name)

    def _file(self, here: int, there: int, name: bytes, status: os.stat_result) -> None:
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=here)
        try:
            target = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=there)
            try:
                self._data(source, target, status.st_size)
                _attributes(status, source, target)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _data(self, source: int, target: int, size: int) -> None:
        if self.clone and size:
            try:
                ficlone(target, source)
                return
            except OSError as e:
                if e.errno not in NO_CLONE:
                    raise
                self.clone = False  # one file system to another of the same kind each time: no use asking again
        at = 0
        while at < size:
            try:
                start = os.lseek(source, at, os.SEEK_DATA)
            except OSError as e:
                if e.errno == errno.ENXIO:
                    break  # a hole up to the end
                if e.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                    raise
                start = at
            try:
                end = min(size, os.lseek(source, start, os.SEEK_HOLE))
            except OSError:
                end = size  # a file system that doesn't tell holes
            os.lseek(source, start, os.SEEK_SET)
            os.lseek(target, start, os.SEEK_SET)
            done = copy_range(source, target, end - start)
            at = start + done
            if not done:
                break
        os.ftruncate(target, size)


def _attributes(status: os.stat_result, source: int, target: int) -> None:
    """Owner first (it clears setuid and capabilities), then mode, xattrs, times."""
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        if not name.startswith(SKIPPED):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _path_attributes(status: os.stat_result, here: int, there: int, name: bytes) -> None:
    """For what can't be opened: links and devices. /proc/self/fd stands in for a dirfd, which xattr calls don't take."""
    os.chown(name, status.st_uid, status.st_gid, dir_fd=there, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=there)
    source = f"/proc/self/fd/{here}/".encode() + name
    target = f"/proc/self/fd/{there}/".encode() + name
    for xattr in os.listxattr(source, follow_symlinks=False):
        if not xattr.startswith(SKIPPED):
            os.setxattr(target, xattr, os.getxattr(source, xattr, follow_symlinks=False), follow_symlinks=False)
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=there, follow_symlinks=False)
