# SPDX-License-Identifier: Apache-2.0
"""Mounting: the old mount(2), the new API by file descriptors, overlay, and the mount table.

For layers (union mounts), the runtime (container mounts) and the checker (what is mounted). New API first: it takes any number of
overlay layers, needs no escaping and names targets by fd, so nobody can swap a path between check and mount. All fds returned are
close-on-exec and owned by the caller. Raises OSError with the path concerned; fsconfig's own message is put into the text.
"""
from __future__ import annotations

import errno
import os
from _struct import pack

from . import _libc
from ._libc import AT_EMPTY_PATH as AT_EMPTY_PATH
from ._libc import AT_FDCWD as AT_FDCWD
from ._libc import AT_RECURSIVE as AT_RECURSIVE
from ._libc import AT_SYMLINK_NOFOLLOW as AT_SYMLINK_NOFOLLOW
from ._libc import encode, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SILENT = 32768
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

MNT_FORCE = 1
MNT_DETACH = 2
MNT_EXPIRE = 4
UMOUNT_NOFOLLOW = 8

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_SYMLINKS = 0x01
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_SYMLINKS = 0x10
MOVE_MOUNT_T_EMPTY_PATH = 0x40
FSMOUNT_CLOEXEC = 1
FSOPEN_CLOEXEC = 1

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x00
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

_SET_FLAG, _SET_STRING, _SET_FD, _CMD_CREATE = 0, 1, 5, 6


def mount(source: str | bytes | None, target: str | bytes, fstype: str | None = None, flags: int = 0,
          data: str | bytes | None = None) -> None:
    """mount(2). `data` is the file system's own option string."""
    syscall(_libc.MOUNT, None if source is None else encode(source), encode(target), None if fstype is None else encode(fstype), flags,
            None if data is None else encode(data), path=target)


def umount(target: str | bytes, flags: int = 0) -> None:
    """umount2(2); never follows a last component that is a symbolic link."""
    syscall(_libc.UMOUNT2, encode(target), flags | UMOUNT_NOFOLLOW, path=target)


def pivot_root(new_root: str, put_old: str) -> None:
    syscall(_libc.PIVOT_ROOT, encode(new_root), encode(put_old), path=new_root)


def open_tree(dirfd: int, path: str, flags: int = 0) -> int:
    """open_tree(2) -> fd. With OPEN_TREE_CLONE (| AT_RECURSIVE) the fd is a detached copy that vanishes with its last fd."""
    return syscall(_libc.OPEN_TREE, dirfd, encode(path), flags | OPEN_TREE_CLOEXEC, path=path or f"fd {dirfd}")


def move_mount(from_fd: int, from_path: str, to_fd: int, to_path: str, flags: int = 0) -> None:
    """move_mount(2). Empty paths mean the fds themselves; the two EMPTY_PATH flags are added for them."""
    if not from_path:
        flags |= MOVE_MOUNT_F_EMPTY_PATH
    if not to_path:
        flags |= MOVE_MOUNT_T_EMPTY_PATH
    syscall(_libc.MOVE_MOUNT, from_fd, encode(from_path), to_fd, encode(to_path), flags, path=to_path or f"fd {to_fd}")


def attach(mount_fd: int, target: str | int) -> None:
    """Puts a detached mount onto a path, or onto the directory or file that an fd stands for (no path is walked then)."""
    if isinstance(target, int):
        move_mount(mount_fd, "", target, "")
    else:
        move_mount(mount_fd, "", AT_FDCWD, target)


def mount_setattr(dirfd: int, path: str, flags: int = 0, attr_set: int = 0, attr_clr: int = 0, propagation: int = 0,
                  userns_fd: int = 0) -> None:
    """mount_setattr(2): `flags` of AT_RECURSIVE, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH (added for an empty path); propagation is MS_*."""
    if not path:
        flags |= AT_EMPTY_PATH
    raw = bytearray(pack("=QQQQ", attr_set, attr_clr, propagation, userns_fd))
    syscall(_libc.MOUNT_SETATTR, dirfd, encode(path), flags, raw, len(raw), path=path or f"fd {dirfd}")


def fsopen(fstype: str) -> int:
    return syscall(_libc.FSOPEN, encode(fstype), FSOPEN_CLOEXEC, path=fstype)


def _config(fs_fd: int, command: int, key: str | None, value: bytes | None, aux: int) -> None:
    try:
        syscall(_libc.FSCONFIG, fs_fd, command, None if key is None else encode(key), value, aux)
    except OSError as e:
        what = key if value is None else f"{key}={os.fsdecode(value)}"
        raise OSError(e.errno, _explained(fs_fd, e), what) from None


def _explained(fs_fd: int, error: OSError) -> str:
    """The kernel's own sentence about a failed mount, if it left one in the context's log, behind the errno's text."""
    said = []
    while True:
        try:
            line = os.read(fs_fd, 4096)
        except OSError:
            break
        said.append(line.decode("utf-8", "replace").strip())
    return f"{error.strerror} ({'; '.join(said)})" if said else (error.strerror or "")


def fsconfig_string(fs_fd: int, key: str, value: str) -> None:
    _config(fs_fd, _SET_STRING, key, encode(value), 0)


def fsconfig_flag(fs_fd: int, key: str) -> None:
    _config(fs_fd, _SET_FLAG, key, None, 0)


def fsconfig_fd(fs_fd: int, key: str, fd: int) -> None:
    _config(fs_fd, _SET_FD, key, None, fd)


def fsconfig_create(fs_fd: int) -> None:
    _config(fs_fd, _CMD_CREATE, None, None, 0)


def fsmount(fs_fd: int, flags: int = FSMOUNT_CLOEXEC, attrs: int = 0) -> int:
    """The created file system as a detached mount fd."""
    try:
        return syscall(_libc.FSMOUNT, fs_fd, flags, attrs)
    except OSError as e:
        raise OSError(e.errno, _explained(fs_fd, e)) from None


def new_mount(fstype: str, options: Sequence[str] = (), *, source: str | None = None, attrs: int = 0) -> int:
    """A fresh file system as a detached mount fd; options are "key" or "key=value"."""
    fs_fd = fsopen(fstype)
    try:
        if source is not None:
            fsconfig_string(fs_fd, "source", source)
        for option in options:
            key, equals, value = option.partition("=")
            if equals:
                fsconfig_string(fs_fd, key, value)
            else:
                fsconfig_flag(fs_fd, key)
        fsconfig_create(fs_fd)
        return fsmount(fs_fd, FSMOUNT_CLOEXEC, attrs)
    finally:
        os.close(fs_fd)


def overlay(lowers: Sequence[str], upper: str | None, work: str | None, *, volatile: bool = False, source: str = "overlay",
            readonly: bool = False) -> int:
    """A union of `lowers` (top first) below `upper`, as a detached mount fd.

    Without `upper` the union is read-only and needs two lowers or more (one is a plain bind; the kernel refuses it otherwise).
    redirect_dir, metacopy and index are off, so that the upper directory alone says what changed. `volatile` skips syncs: for
    trees that are thrown away only.
    """
    if upper is None and len(lowers) < 2:
        raise OSError(errno.EINVAL, "an overlay without an upper directory needs two lower ones", lowers[0] if lowers else None)
    options = ["redirect_dir=off", "metacopy=off", "index=off"]
    if volatile and upper is not None:
        options.append("volatile")
    fs_fd = fsopen("overlay")
    try:
        try:
            known = _lowers(fs_fd, lowers)
            if known:
                _more_options(fs_fd, upper, work, options, source)
                fsconfig_create(fs_fd)
        except OSError as e:
            # Before 6.5: `lowerdir+` fails in the end, or when a page is full of options.
            if e.errno != errno.EINVAL or not _takes_any_option():
                raise
            known = False
        if known:
            return fsmount(fs_fd, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY if readonly else 0)
    finally:
        os.close(fs_fd)
    return _old_overlay(lowers, upper, work, options, source, readonly)


def _more_options(fs_fd: int, upper: str | None, work: str | None, options: Sequence[str], source: str) -> None:
    fsconfig_string(fs_fd, "source", source)
    if upper is not None and work is not None:
        fsconfig_string(fs_fd, "upperdir", upper)
        fsconfig_string(fs_fd, "workdir", work)
    for option in options:
        key, equals, value = option.partition("=")
        if equals:
            fsconfig_string(fs_fd, key, value)
        else:
            fsconfig_flag(fs_fd, key)


def _old_overlay(lowers: Sequence[str], upper: str | None, work: str | None, options: Sequence[str], source: str, readonly: bool) -> int:
    from .oldoverlay import union

    fd = union(lowers, upper, work, options, source)
    if readonly:
        mount_setattr(fd, "", 0, MOUNT_ATTR_RDONLY)
    return fd


def _takes_any_option() -> bool:
    """Whether this kernel's overlayfs (before 6.5) collects options unread, a page of them."""
    fs_fd = fsopen("overlay")
    try:
        fsconfig_flag(fs_fd, "no_such_option")
        return True
    except OSError:
        return False
    finally:
        os.close(fs_fd)


def _lowers(fs_fd: int, lowers: Sequence[str], *, one_by_one: bool = True) -> bool:
    """Adds each lower by `lowerdir+` (Linux 6.7). Older kernels take one string of at most 255 bytes without a comma, else it's False."""
    if one_by_one:
        try:
            for lower in lowers:
                fsconfig_string(fs_fd, "lowerdir+", lower)
            return True
        except OSError as e:
            if e.errno != errno.EINVAL or lower is not lowers[0]:
                raise
    joined = ":".join(path.replace("\\", "\\\\").replace(":", "\\:") for path in lowers)
    if len(encode(joined)) > 255 or "," in joined:
        return False
    fsconfig_string(fs_fd, "lowerdir", joined)
    return True


class MountInfo:
    """One line of /proc/<pid>/mountinfo, proc(5)'s fields; octal escapes are undone."""

    __slots__ = ("device", "fstype", "id", "options", "parent", "propagation", "root", "source", "super_options", "target")

    def __init__(self, line: str) -> None:
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        self.id = int(fields[0])
        self.parent = int(fields[1])
        self.device = fields[2]
        self.root = _unescape(fields[3])
        self.target = _unescape(fields[4])
        self.options = fields[5].split(",")
        self.propagation = fields[6:]
        kind, source, supers = right.split(" ", 2)
        self.fstype = kind
        self.source = _unescape(source)
        self.super_options = supers.split(",")


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    out, parts = [], text.split("\\")
    out.append(parts[0])
    for part in parts[1:]:
        digits = part[:3]
        if len(digits) == 3 and all("0" <= c <= "7" for c in digits):
            out.append(chr(int(digits, 8)) + part[3:])
        else:
            out.append("\\" + part)
    return "".join(out)


def mountinfo(pid: int | str = "self") -> list[MountInfo]:
    """The mount table of a process's mount namespace, in the kernel's order (parents before children)."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
        return [MountInfo(line.rstrip("\n")) for line in f]

