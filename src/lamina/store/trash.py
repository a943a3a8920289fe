# SPDX-License-Identifier: Apache-2.0
"""Deleting trees, without ever deleting what isn't ours. [hot, in the monitor]

A tree is renamed into `trash/` first, so it is gone from its place at once; then unlinked by descriptor. Links are unlinked, never
followed; a directory on another mount, also a bind mount of the same file system, is never entered (attack 66): before anything is
moved the mount table is asked, and each directory's mount id is compared again when it is opened.
"""
from __future__ import annotations

import errno
import os
import stat

from lamina.errors import StoreError
from lamina.linux.mount import MNT_DETACH, UMOUNT_NOFOLLOW, mountinfo, umount
from lamina.util.ids import is_id, new_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamina.store.open import Store

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def discard(store: Store, path: str) -> None:
    """Removes a file or tree of this store. No error if there is none. StoreError if something is mounted in it; then nothing is moved."""
    moved = move(store, path)
    if moved:
        remove_path(moved)


def move(store: Store, path: str) -> str:
    """The first half: a rename into trash/, so that it is gone at once. Where it is now, or "" if there is nothing left to delete.

    What can't be renamed there (the runroot, a part of the data root on a disk of its own) is deleted in place.
    """
    paths = store.paths
    root = paths.root + "/"
    if not path.startswith((root, paths.runroot + "/")) or "/../" in path + "/":
        raise StoreError(f"{path}: outside of the store, not removed")
    if not os.path.lexists(path):
        return ""
    refuse_mounts(path)
    if not path.startswith(root):
        _remove(path)
        return ""
    target = f"{paths.trash}/{new_id()}"
    try:
        os.rename(path, target)
    except FileNotFoundError:
        return ""  # another command was faster
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise mounted(path) from None
        if error.errno != errno.EXDEV:
            raise
        _remove(path)
        return ""
    return target


def empty(store: Store) -> int:
    """Deletes everything in trash/; how many entries. Several commands may do so at once: each takes what is still there."""
    count = 0
    for name in os.listdir(store.paths.trash):
        if not is_id(name):
            continue  # `move` names everything; what else is here isn't ours
        path = f"{store.paths.trash}/{name}"
        remove_path(path)
        count += 1
    return count


def mounts_below(path: str) -> list[str]:
    """Mount points at or below a path, in this mount namespace. The path's parent is resolved; a link at its end is not followed."""
    parent, name = os.path.split(path)
    real = os.path.realpath(parent).rstrip("/") + "/" + name
    return [mount.target for mount in mountinfo() if mount.target == real or mount.target.startswith(real + "/")]


def detach(path: str) -> None:
    """Unmounts what is mounted at exactly this path (a container's root that its dead monitor left); nothing if nothing is."""
    parent, name = os.path.split(path)
    real = os.path.realpath(parent).rstrip("/") + "/" + name
    while any(mount.target == real for mount in mountinfo()):
        umount(real, MNT_DETACH | UMOUNT_NOFOLLOW)


def refuse_mounts(path: str) -> None:
    """StoreError if anything is mounted at or below the path."""
    found = mounts_below(path)
    if found:
        raise mounted(found[0])


def mounted(path: str) -> StoreError:
    return StoreError(f"{path}: something is mounted there, and removing the directory would empty it", hint=f"umount {path}")


def remove_path(path: str) -> None:
    """Deletes a tree where it is, with the same care; for what never goes through trash/."""
    refuse_mounts(path)
    _remove(path)


def _remove(path: str) -> None:
    parent = os.open(os.path.dirname(path), _DIRECTORY)
    try:
        remove_at(parent, os.path.basename(path), path)
    finally:
        os.close(parent)


def remove_at(parent: int, name: str, shown: str) -> None:
    """Unlinks one entry of an open directory, whatever it is, and all below it. Silent about what is already gone.

    Iterative: a container may have nested directories deeper than Python's stack, and deeper than PATH_MAX.
    """
    try:
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            _unlink(parent, name, shown)
            return
        top = os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        return
    mount = mount_id(parent)
    stack: list[tuple[int, str, list[str]]] = []  # open directory, its name in the one before, sub-directories left to do
    try:
        stack.append((top, name, _clear(top, mount, shown)))
        while stack:
            fd, own, left = stack[-1]
            if left:
                child = left.pop()
                if len(stack) >= 64:  # descriptors are limited: hoist a deep tree up instead of holding all of its parents open
                    stack[0][2].append(_hoist(fd, child, stack[0][0]))
                    continue
                try:
                    inner = os.open(child, _DIRECTORY, dir_fd=fd)
                except FileNotFoundError:
                    continue
                stack.append((inner, child, []))
                stack[-1] = (inner, child, _clear(inner, mount, f"{shown}/…/{child}"))
                continue
            stack.pop()
            os.close(fd)
            above = stack[-1][0] if stack else parent
            _rmdir(above, own, shown)
    finally:
        for fd, _, _ in stack:
            os.close(fd)


def _hoist(fd: int, child: str, top: int) -> str:
    name = new_id()
    os.rename(child, name, src_dir_fd=fd, dst_dir_fd=top)
    return name


def _clear(fd: int, mount: int, shown: str) -> list[str]:
    """Unlinks everything but directories; their names."""
    if mount_id(fd) != mount:
        raise mounted(shown)
    directories = []
    with os.scandir(fd) as entries:
        listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_dir in listed:
        if is_dir:
            directories.append(name)
        else:
            _unlink(fd, name, shown)
    return directories


def _unlink(fd: int, name: str, shown: str) -> None:
    try:
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise mounted(f"{shown}/{name}") from None
        if error.errno == errno.EPERM:
            raise StoreError(f"{shown}/{name}: can't be removed (immutable?)", hint="lsattr shows it, chattr -ia lifts it") from None
        raise


def _rmdir(fd: int, name: str, shown: str) -> None:
    try:
        os.rmdir(name, dir_fd=fd)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise mounted(shown) from None
        if error.errno != errno.ENOTEMPTY:  # somebody still writes into it: the next sweep comes for the rest
            raise


def mount_id(fd: int) -> int:
    """The kernel's number of the mount that an open file is on: tells bind mounts of one file system apart, which st_dev doesn't."""
    info = os.open(f"/proc/self/fdinfo/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for line in os.read(info, 4096).split(b"\n"):
            if line.startswith(b"mnt_id:"):
                return int(line[7:])
    finally:
        os.close(info)
    raise StoreError("/proc/self/fdinfo tells no mnt_id: is /proc mounted?")
