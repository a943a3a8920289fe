# SPDX-License-Identifier: Apache-2.0
"""/dev of a container: nodes, the usual links, the terminal. In the child, below the fd of a fresh /dev; links are never followed."""
from __future__ import annotations

import errno
import os
from stat import S_IFBLK, S_IFCHR, S_IFIFO, S_IFMT, S_ISCHR

from lamina.errors import StartError
from lamina.linux import fs, tty
from lamina.linux import mount as m

from . import defaults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

LINKS = (("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2"),
         ("ptmx", "pts/ptmx"))
_TYPES = {"c": S_IFCHR, "u": S_IFCHR, "b": S_IFBLK, "p": S_IFIFO}
_PTMX = os.makedev(5, 2)


def populate(root: int, extra: Sequence[dict[str, Any]], proc: int) -> None:
    """Makes the default nodes, `extra` (linux.devices) and the links. Expects umask 0. StartError if /dev is a symbolic link."""
    try:
        dev = fs.open_beneath(root, "dev", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as e:
        raise StartError(f"error during container init: /dev of the container can't be used: {e.strerror}")
    for path, major, minor in defaults.DEVICES:
        _node(dev, path[5:], S_IFCHR | 0o666, os.makedev(major, minor), path)
    for entry in extra:
        _extra(root, dev, entry)
    for name, target in LINKS:
        _link(dev, name, target)
    try:
        os.stat("kcore", dir_fd=proc, follow_symlinks=False)
        _link(dev, "core", "/proc/kcore")
    except FileNotFoundError:
        pass
    os.close(dev)


def _link(dev: int, name: str, target: str) -> None:
    try:
        os.symlink(target, name, dir_fd=dev)
    except FileExistsError:
        pass  # a bind or the image's own /dev has it


def _node(directory: int, name: str, mode: int, number: int, source: str, uid: int = 0, gid: int = 0) -> None:
    try:
        os.mknod(name, mode, number, dir_fd=directory)
    except FileExistsError:
        st = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if S_IFMT(st.st_mode) != S_IFMT(mode) or st.st_rdev != number:
            raise StartError(f'error during container init: error creating device nodes: "{source}" is something else already')
        return
    except PermissionError:
        _bind_node(directory, name, number, source)  # an outer engine's device cgroup or user namespace forbids mknod
        return
    if (uid, gid) != (0, 0):
        os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)


def _bind_node(directory: int, name: str, number: int, source: str) -> None:
    tree = m.open_tree(m.AT_FDCWD, source, m.OPEN_TREE_CLONE | m.AT_SYMLINK_NOFOLLOW)
    st = os.fstat(tree)
    if st.st_rdev != number:
        os.close(tree)
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), source)
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=directory))
    target = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    m.attach(tree, target)
    os.close(target)
    os.close(tree)


def _extra(root: int, dev: int, entry: dict[str, Any]) -> None:
    path, kind = str(entry.get("path")), _TYPES.get(str(entry.get("type")))
    if kind is None or not path.startswith("/"):
        raise StartError(f"error during container init: invalid device {path!r}")
    number = 0 if kind == S_IFIFO else os.makedev(int(entry.get("major") or 0), int(entry.get("minor") or 0))
    mode = entry.get("fileMode")
    parts = path[5:].rpartition("/") if path.startswith("/dev/") else path.rpartition("/")
    base = dev if path.startswith("/dev/") else root
    directory = fs.mkdirs_beneath(base, parts[0])
    try:
        _node(directory, parts[2], kind | (0o666 if mode is None else int(mode) & 0o7777), number, path,
              int(entry.get("uid") or 0), int(entry.get("gid") or 0))
    finally:
        os.close(directory)


def open_pty(root: int, size: dict[str, Any] | None) -> tuple[int, int]:
    """(master, slave) of a new pty in the container's own devpts; what stands at /dev/pts/ptmx is checked by fd before it is used."""
    try:
        node = fs.open_beneath(root, "dev/pts/ptmx", os.O_PATH | os.O_NOFOLLOW)
    except OSError as e:
        raise StartError(f"error during container init: the container has no terminals at /dev/pts: {e.strerror}")
    st = os.fstat(node)
    if not S_ISCHR(st.st_mode) or st.st_rdev != _PTMX or fs.magic(node) != fs.DEVPTS_SUPER_MAGIC:
        raise StartError("error during container init: /dev/pts/ptmx of the container is not a terminal multiplexer")
    os.close(node)
    # Opened a second time by name, then checked again on the very fd that is used: no /proc is needed for it.
    master = fs.open_beneath(root, "dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_NOFOLLOW)
    st = os.fstat(master)
    if not S_ISCHR(st.st_mode) or st.st_rdev != _PTMX or fs.magic(master) != fs.DEVPTS_SUPER_MAGIC:
        raise StartError("error during container init: /dev/pts/ptmx of the container is not a terminal multiplexer")
    master, slave, _ = tty.unlocked(master)
    if size and size.get("height") and size.get("width"):
        tty.set_winsize(master, int(size["height"]), int(size["width"]))
    return master, slave


def bind_console(root: int, slave: int) -> None:
    """Mounts the terminal at /dev/console: source and target are fds, so nothing can be put in their places (CVE-2025-52565)."""
    dev = fs.open_beneath(root, "dev", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.close(os.open("console", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=dev))
    except FileExistsError:
        pass
    target = os.open("console", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dev)
    if (os.fstat(target).st_mode & 0o170000) not in (0o100000, S_IFCHR):
        raise StartError("error during container init: /dev/console of the container is not a file")
    tree = m.open_tree(slave, "", m.OPEN_TREE_CLONE | m.AT_EMPTY_PATH)
    m.attach(tree, target)
    for fd in (tree, target, dev):
        os.close(fd)
