# SPDX-License-Identifier: Apache-2.0
"""Making the init layer of an image: the places that the engine mounts its own files over, as far as the image lacks them.

The image's tree is a stranger's: everything is made through a temporary writable union, by descriptor, resolved inside its root
(attacks R2). Directories that overlay copies up on the way keep mode, owner, xattrs and times. The result depends on the image alone:
files of
fixed content, mode and time.
"""
from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

from lamina.linux.fs import mkdirs_beneath, open_beneath
from lamina.store import removal, trash
from lamina.store.lease import Lease
from lamina.store.open import Store
from lamina.util.atomic import fsync_dir
from lamina.util.ids import new_id

from . import driver as drivers
from .ingest import sync

# Path, kind, mode: docker's modes. What is there already stays; a link in place of a file would send the mount elsewhere and is replaced.
PLACES: tuple[tuple[str, str, int], ...] = (
    ("dev/pts", "dir", 0o755), ("dev/shm", "dir", 0o755), ("proc", "dir", 0o755), ("sys", "dir", 0o755),
    (".dockerenv", "file", 0o755), ("etc/resolv.conf", "file", 0o755), ("etc/hosts", "file", 0o755), ("etc/hostname", "file", 0o755),
    ("dev/console", "file", 0o755), ("etc/mtab", "/proc/mounts", 0),
)  # fmt: skip


def make(store: Store, driver: drivers.Driver, key: str, parents: Sequence[str], lease: Lease) -> None:
    """Makes layers/<key>/diff on top of the image's `parents`. Two makers at once: one wins, both results are the same."""
    token = "init-" + new_id()
    lease.add("tmp", token)
    active = store.paths.temp(token)
    try:
        driver.prepare(active, parents)
        root = driver.mounts(active, parents).open_root()
        try:
            populate(root)
        finally:
            os.close(root)
        trash.discard(store, active + "/work")
        sync(active)
        with store.db.write(durable=False):
            # An init layer of the same image that was removed a moment ago goes first.
            moved = removal.settle(store, removal.LAYER_DATA, key)
            driver.commit(active, key)
        fsync_dir(store.paths.layers)
        for path in moved:
            trash.remove_path(path)
    finally:
        if os.path.lexists(active):
            trash.discard(store, active)


def populate(root: int) -> None:
    """Makes what is missing of PLACES beneath `root`."""
    for path, kind, mode in PLACES:
        parent, _, name = path.rpartition("/")
        with _Parent(root, parent) as directory:
            if directory.fd >= 0:
                _place(directory, name, kind, mode)


def _place(directory: _Parent, name: str, kind: str, mode: int) -> None:
    try:
        found = os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_mode
    except FileNotFoundError:
        pass
    else:
        if not stat.S_ISLNK(found) or kind.startswith("/"):
            return
        if kind == "dir" and _is_directory(directory, name):
            return
        os.unlink(name, dir_fd=directory.fd)
        directory.changed = True
    directory.changed = True
    if kind == "dir":
        os.mkdir(name, 0o700, dir_fd=directory.fd)
        os.chmod(name, mode, dir_fd=directory.fd)
        os.utime(name, ns=(directory.time, directory.time), dir_fd=directory.fd)
    elif kind == "file":
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory.fd)
        try:
            os.fchmod(fd, mode)
            os.utime(fd, ns=(directory.time, directory.time))
        finally:
            os.close(fd)
    else:
        os.symlink(kind, name, dir_fd=directory.fd)
        os.utime(name, ns=(directory.time, directory.time), dir_fd=directory.fd, follow_symlinks=False)


def _is_directory(directory: _Parent, name: str) -> bool:
    try:
        os.close(open_beneath(directory.root, f"{directory.path}/{name}", os.O_PATH | os.O_DIRECTORY))
    except OSError:
        return False
    return True


class _Parent:
    """A directory of the image, opened (made if need be) inside its root, whose times are as before when it is left.

    `fd` is -1 where the image has something else in its place: then there is nothing to mount over, and the container's start says so.
    """

    def __init__(self, root: int, path: str) -> None:
        self.root = root
        self.path = path
        self.fd = -1
        self.changed = self.made = False
        self.time = os.fstat(root).st_mtime_ns

    def __enter__(self) -> _Parent:
        try:
            if not self.path:
                self.fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.root)
            else:
                before = os.fstat(self.root)
                try:
                    handle = open_beneath(self.root, self.path, os.O_PATH | os.O_DIRECTORY)
                except FileNotFoundError:
                    handle = mkdirs_beneath(self.root, self.path, 0o755)
                    self.made = True
                try:
                    self.fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=handle)
                finally:
                    os.close(handle)
                os.utime(self.root, ns=(before.st_atime_ns, before.st_mtime_ns))
        except OSError as e:
            if e.errno not in (errno.ENOTDIR, errno.ELOOP, errno.ENOENT):
                raise
        if self.fd >= 0:
            self.before = os.fstat(self.fd)
        return self

    def __exit__(self, *exc: object) -> None:
        if self.fd < 0:
            return
        if self.made:
            os.utime(self.fd, ns=(self.time, self.time))
        elif self.changed:
            os.utime(self.fd, ns=(self.before.st_atime_ns, self.before.st_mtime_ns))
        os.close(self.fd)
