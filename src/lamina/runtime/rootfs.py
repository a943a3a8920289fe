# SPDX-License-Identifier: Apache-2.0
"""Builds a container's file system tree, in the child, by file descriptors only.

Every target is resolved beneath the root's fd, so no symbolic link of an image and no other container that shares a volume leads a
mount, a node or a new directory out of it. Sources of binds are cloned before anything of the container is looked at, while host
paths still mean the host's. Works when the engine itself stands in a plain chroot: see `own_namespace` and `pivot`.
"""
from __future__ import annotations

import errno
import os
from stat import S_ISCHR, S_ISDIR

from lamina.errors import StartError
from lamina.linux import fs
from lamina.linux import mount as m
from lamina.linux.ns import CLONE_NEWNS, setns

from . import plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CLONE = m.OPEN_TREE_CLONE | m.AT_EMPTY_PATH
_NODE = os.O_PATH | os.O_NOFOLLOW
_SYSFS_ROOT_INO = 1


def clone_sources(ops: Sequence[plan.MountOp]) -> None:
    """Opens each bind's source as a detached copy; it stays a peer of the host's mount until its propagation is set."""
    for op in ops:
        if op.kind == "bind":
            op.tree = m.open_tree(m.AT_FDCWD, op.source, m.OPEN_TREE_CLONE | (m.AT_RECURSIVE if op.recursive else 0))


def private_proc() -> int:
    """A procfs of our pid namespace that no container ever sees or mounts over: where sysctls and oom_score_adj are written."""
    return m.new_mount("proc", source="proc", attrs=m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NODEV | m.MOUNT_ATTR_NOEXEC)


def own_namespace(proc: int) -> None:
    """Enters this process's own mount namespace again, which sets its root to the namespace's: out of any chroot."""
    fd = os.open("self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    setns(fd, CLONE_NEWNS)
    os.close(fd)


def make_private(proc: int) -> None:
    """Cuts the whole mount namespace off from the host's; from a chroot, whose root is no mount, by a step out and back in."""
    try:
        m.mount(None, "/", None, m.MS_REC | m.MS_PRIVATE)
    except OSError as e:
        if e.errno != errno.EINVAL:
            raise
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        own_namespace(proc)
        m.mount(None, "/", None, m.MS_REC | m.MS_PRIVATE)
        os.fchdir(root)
        os.chroot(".")
        os.close(root)


def attach_root(rootfs: str | int) -> int:
    """The container's root as a mount of its own in this namespace; returns an O_PATH fd of it.

    A str is a host directory (what is mounted below comes along), an int a detached mount's fd, put onto this process's root.
    """
    if isinstance(rootfs, int):
        tree, under = rootfs, os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    else:
        under = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        tree = m.open_tree(under, "", _CLONE | m.AT_RECURSIVE)
    m.mount_setattr(tree, "", m.AT_RECURSIVE, propagation=m.MS_PRIVATE)
    m.attach(tree, under)
    os.close(under)
    return tree


def pivot(root: int, proc: int) -> None:
    """Makes `root` this process's "/" and lets go of everything else."""
    os.fchdir(root)
    try:
        m.pivot_root(".", ".")
    except OSError as e:
        if e.errno != errno.EINVAL:
            raise
        own_namespace(proc)  # our root was a chroot, not a mount
        os.fchdir(root)
        m.pivot_root(".", ".")
    m.umount(".", m.MNT_DETACH)
    os.chdir("/")


def mount_all(root: int, ops: Sequence[plan.MountOp], groups: Mapping[str, str] | None, proc: int) -> None:
    """Performs the operations in order. `groups` maps controllers to the container's cgroup directories where it has no cgroup
    namespace, None where it has one."""
    for op in ops:
        try:
            if op.kind == "bind":
                _attach(root, op, op.tree, bind=True)
            elif op.kind == "cgroup":
                _cgroups(root, op, groups, proc)
            else:
                deferred = m.MOUNT_ATTR_RDONLY if op.destination == "/dev" else 0  # nodes are still to be made there
                tree = m.new_mount(op.fstype, op.data, source=op.source, attrs=op.set & ~deferred)
                _attach(root, op, tree)
        except StartError:
            raise
        except OSError as e:
            text = (e.strerror or "").lower()
            raise StartError(f'error during container init: error mounting "{op.source}" to rootfs at "{op.destination}": {text}')


def _attach(root: int, op: plan.MountOp, tree: int, *, bind: bool = False) -> None:
    if bind:
        m.mount_setattr(tree, "", m.AT_RECURSIVE if op.spread else 0, propagation=op.propagation)
        if op.set or op.clear:
            m.mount_setattr(tree, "", 0, op.set, op.clear)
    if op.rset or op.rclear:
        m.mount_setattr(tree, "", m.AT_RECURSIVE, op.rset, op.rclear)
    target = mount_point(root, op.destination, directory=not bind or fs.is_directory(tree))
    _check_target(op, target, tree)
    m.attach(tree, target)
    os.close(target)
    if not bind and op.propagation != m.MS_PRIVATE:
        m.mount_setattr(tree, "", m.AT_RECURSIVE if op.spread else 0, propagation=op.propagation)
    os.close(tree)


def _check_target(op: plan.MountOp, target: int, tree: int) -> None:
    """Nothing but the real thing may cover /proc and /sys, whatever path led there (CVE-2019-16884 and its kin)."""
    magic = fs.magic(target)
    inside_proc = magic == fs.PROC_SUPER_MAGIC or op.destination == "/proc"
    if inside_proc and not plan.over_proc_allowed(op) and fs.magic(tree) != fs.PROC_SUPER_MAGIC:
        raise StartError(f'error during container init: "{op.destination}" cannot be mounted because it is inside /proc')
    over_sys = op.destination == "/sys" or (magic == fs.SYSFS_MAGIC and os.fstat(target).st_ino == _SYSFS_ROOT_INO)
    if over_sys and fs.magic(tree) != fs.SYSFS_MAGIC:
        raise StartError(f'error during container init: "{op.destination}" cannot be mounted because it would cover /sys')


def mount_point(root: int, path: str, *, directory: bool) -> int:
    """An O_PATH fd of the directory or file to mount on, made if missing. On the way to /proc, /sys and /dev no link is followed."""
    if plan.is_api_path(path):
        _refuse_links(root, path)
    if directory:
        return fs.mkdirs_beneath(root, path)
    for _ in range(40):
        try:
            fd = fs.open_beneath(root, path, os.O_PATH)
        except FileNotFoundError:
            pass
        else:
            if fs.is_directory(fd):
                os.close(fd)
                raise OSError(errno.ENOTDIR, "Not a directory", path)
            return fd
        path = _make_file(root, path)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _make_file(root: int, path: str) -> str:
    """Makes an empty file, or returns where the dangling link that is there points to (still to be taken beneath the root)."""
    parent, name = os.path.split(path)
    fd = fs.mkdirs_beneath(root, parent)
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=fd))
        return path
    except FileExistsError:
        return os.path.join(parent, os.readlink(name, dir_fd=fd))
    finally:
        os.close(fd)


def _refuse_links(root: int, path: str) -> None:
    parts = path.strip("/").split("/")
    for n in range(1, len(parts) + 1):
        partial = "/".join(parts[:n])
        try:
            fd = fs.openat2(root, partial, _NODE, 0, fs.RESOLVE_IN_ROOT | fs.RESOLVE_NO_SYMLINKS) if not fs.force_fallback else \
                fs.open_beneath(root, partial, _NODE)
        except FileNotFoundError:
            return
        except OSError as e:
            if e.errno == errno.ENOSYS:
                fd = fs.open_beneath(root, partial, _NODE)
            elif e.errno == errno.ELOOP:
                raise StartError(f'error during container init: "/{partial}" must be mounted on ordinary directory, it is a symbolic link')
            else:
                raise
        mode = os.fstat(fd).st_mode
        os.close(fd)
        if mode & 0o170000 == 0o120000:
            raise StartError(f'error during container init: "/{partial}" must be mounted on ordinary directory, it is a symbolic link')


def _cgroups(root: int, op: plan.MountOp, groups: Mapping[str, str] | None, proc: int) -> None:
    """/sys/fs/cgroup: on v2 the one tree; on v1 a tmpfs with a mount per hierarchy, links for the single names of joined ones."""
    lines = _own_cgroups(proc)
    attrs = op.set | op.rset
    if not any(controllers for controllers, _ in lines):
        if groups is None:
            tree = m.new_mount("cgroup2", source="cgroup", attrs=attrs)
        else:
            tree = m.open_tree(m.AT_FDCWD, groups[""], m.OPEN_TREE_CLONE)
            m.mount_setattr(tree, "", 0, attrs, propagation=m.MS_PRIVATE)
        _attach(root, op, tree)
        return
    top = m.new_mount("tmpfs", ["mode=755"], source="tmpfs", attrs=attrs & ~m.MOUNT_ATTR_RDONLY)
    # On the target, then filled: a detached tmpfs can't take mounts before Linux 6.15.
    target = mount_point(root, op.destination, directory=True)
    m.attach(top, target)
    os.close(target)
    for controllers, _ in lines:
        if not controllers:
            continue
        name = controllers.removeprefix("name=")
        if groups is None:
            tree = m.new_mount("cgroup", controllers.split(",") if "=" not in controllers else ["none", controllers], source="cgroup",
                               attrs=attrs)
        else:
            directory = next((groups[c] for c in (controllers, *controllers.split(",")) if c in groups), None)
            if directory is None:
                continue
            tree = m.open_tree(m.AT_FDCWD, directory, m.OPEN_TREE_CLONE)
            m.mount_setattr(tree, "", 0, attrs, propagation=m.MS_PRIVATE)
        os.mkdir(name, 0o755, dir_fd=top)
        m.move_mount(tree, "", top, name)
        os.close(tree)
        if "," in name:
            for single in name.split(","):
                os.symlink(name, single, dir_fd=top)
    if attrs & m.MOUNT_ATTR_RDONLY:
        m.mount_setattr(top, "", 0, m.MOUNT_ATTR_RDONLY)
    os.close(top)


def _own_cgroups(proc: int) -> list[tuple[str, str]]:
    """(controllers, path) of each hierarchy that this process is in; controllers are "" for v2, "name=x" for a named one."""
    fd = os.open("self/cgroup", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    with open(fd, encoding="utf-8", errors="surrogateescape") as f:
        rows = [line.rstrip("\n").split(":", 2) for line in f]
    return [(row[1], row[2]) for row in rows]


def hide(root: int, masked: Sequence[str], readonly: Sequence[str]) -> tuple[int, int]:
    """Covers `masked` paths (directories by an empty read-only one, all else by a null device) and makes `readonly` ones read-only.
    How many of each there were.

    The null device stands on a tmpfs that no container can reach, and is verified by fd: swapping the container's own /dev/null for
    something else changes nothing (CVE-2025-31133). Paths that don't exist are left out.
    """
    changed = 0
    for path in readonly:
        target = _existing(root, path)
        if target >= 0:
            changed += 1
            tree = m.open_tree(target, "", _CLONE | m.AT_RECURSIVE)
            m.mount_setattr(tree, "", m.AT_RECURSIVE, m.MOUNT_ATTR_RDONLY, propagation=m.MS_PRIVATE)
            m.attach(tree, target)
            os.close(tree)
            os.close(target)
    targets = [fd for fd in (_existing(root, path) for path in masked) if fd >= 0]
    if not targets:
        return 0, changed
    cover = _cover()
    try:
        trees = [_piece(cover, target) for target in targets]
    except OSError as e:
        if e.errno != errno.EINVAL:
            raise
        # Before Linux 6.15 only what is mounted somewhere can be cloned: for this moment it lies over the container's root.
        m.attach(cover, root)
        trees = [_piece(cover, target) for target in targets]
        os.fchdir(cover)
        m.umount(".", m.MNT_DETACH)
        os.fchdir(root)
    for tree, target in zip(trees, targets, strict=True):
        m.attach(tree, target)
        os.close(tree)
        os.close(target)
    os.close(cover)
    return len(targets), changed


def _piece(cover: int, target: int) -> int:
    tree = m.open_tree(cover, "empty" if fs.is_directory(target) else "null", m.OPEN_TREE_CLONE)
    st = os.fstat(tree)
    if not S_ISDIR(st.st_mode) and not is_null(st):
        raise StartError("error during container init: no null device to mask paths with")
    return tree


def _existing(root: int, path: str) -> int:
    try:
        return fs.open_beneath(root, path, os.O_PATH)
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENOTDIR):
            return -1
        raise


def _cover() -> int:
    """A detached, read-only tmpfs with the directory `empty` and the device `null`."""
    attrs = m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NOEXEC
    fd = m.new_mount("tmpfs", ["mode=755", "size=4k"], source="tmpfs", attrs=attrs)
    os.mkdir("empty", 0o555, dir_fd=fd)
    os.mknod("null", 0o020666, os.makedev(1, 3), dir_fd=fd)
    m.mount_setattr(fd, "", 0, m.MOUNT_ATTR_RDONLY)
    return fd


def is_null(st: os.stat_result) -> bool:
    return S_ISCHR(st.st_mode) and st.st_rdev == os.makedev(1, 3)
