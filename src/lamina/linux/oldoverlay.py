# SPDX-License-Identifier: Apache-2.0
"""Unions of many layers on kernels before 6.7, which know no `lowerdir+`.  [hot there]

fsconfig(2) takes 255 bytes of lower directories there, mount(2) a page; but mount(2) needs a place in the tree. So the union is mounted in
a mount namespace made for the moment (0.2 ms), where nobody can see or hinder it, and comes back as a detached mount.
"""
from __future__ import annotations

import errno
import os

from . import mount as m
from . import ns
from ._libc import AT_FDCWD, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_PAGE = 4096  # mount(2) reads one page of options, the final NUL included
_PLACE = "/proc"  # where the union stands in that namespace: a directory that is there wherever the engine runs


def union(lowers: Sequence[str], upper: str | None, work: str | None, options: Sequence[str], source: str) -> int:
    """A detached mount fd of the union; `options` are further ones of overlayfs. OSError naming the first lower directory."""
    fds: list[int] = []
    try:
        here = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        fds.append(here)
        root, cwd = _directory("/", fds), _directory(".", fds)
        ns.unshare(ns.CLONE_NEWNS)
        try:
            data = _data(lowers, upper, work, options)
            if not _private() or data is None:
                # By descriptors in a chroot, and where the paths are too long or hold what overlayfs takes for punctuation.
                names = _directory("/proc/self/fd", fds)
                data = _by_fd(lowers, upper, work, options, fds)
                _step_out(fds)
                os.fchdir(names)
            m.mount(source, _PLACE, "overlay", 0, data)
            return m.open_tree(AT_FDCWD, _PLACE, m.OPEN_TREE_CLONE)
        except OSError as e:
            raise OSError(e.errno, e.strerror, lowers[0]) from None
        finally:
            ns.setns(here, ns.CLONE_NEWNS)
            os.fchdir(root)
            os.chroot(".")
            os.fchdir(cwd)
    finally:
        for fd in fds:
            os.close(fd)


def _private() -> bool:
    """Cuts the namespace off from the one it was copied from; False in a chroot, whose root is no mount."""
    try:
        m.mount(None, "/", None, m.MS_REC | m.MS_PRIVATE)
    except OSError as e:
        if e.errno != errno.EINVAL:
            raise
        return False
    return True


def _step_out(fds: list[int]) -> None:
    """To the namespace's own root, if we are in a chroot."""
    fds.append(os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))
    ns.setns(fds[-1], ns.CLONE_NEWNS)
    _private()


def _directory(path: str, fds: list[int]) -> int:
    fds.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    return fds[-1]


def _data(lowers: Sequence[str], upper: str | None, work: str | None, options: Sequence[str]) -> str | None:
    """The option string with full paths, which is what `mount` then shows; None if it can't be."""
    paths = [*lowers, *(p for p in (upper, work) if p is not None)]
    if any(not p.startswith("/") or ":" in p or "," in p or "\\" in p for p in paths):
        return None
    text = _joined(":".join(lowers), upper, work, options)
    return text if len(encode(text)) < _PAGE else None


def _by_fd(lowers: Sequence[str], upper: str | None, work: str | None, options: Sequence[str], fds: list[int]) -> str:
    """The option string with names below /proc/self/fd, four bytes a layer instead of ninety; adds what it opens to `fds`."""
    below = ":".join([str(_directory(path, fds)) for path in lowers])
    above, beside = [None if path is None else str(_directory(path, fds)) for path in (upper, work)]
    text = _joined(below, above, beside, options)
    if len(text) >= _PAGE:
        raise OSError(errno.E2BIG, f"this kernel (before 6.7) can't stack {len(lowers)} layers")
    return text


def _joined(lowers: str, upper: str | None, work: str | None, options: Sequence[str]) -> str:
    parts = ["lowerdir=" + lowers]
    if upper is not None:
        parts += [f"upperdir={upper}", f"workdir={work}"]
    return ",".join([*parts, *options])
