# SPDX-License-Identifier: Apache-2.0
"""Owner, mode, extended attributes and times of what was extracted, in the one order that is safe: chown (which clears setuid and
capabilities), chmod, xattrs, times.

Regular files and directories by their descriptor; the rest relative to their parent's, never following. An extended attribute that the file
system refuses is an error: a lost file capability or ACL changes what the image does. Left out are only names outside Linux's namespaces
(`com.apple.*`): no kernel has a place for them. `trusted.overlay.*` and `user.overlay.*` would forge redirects and whiteouts: refused.
"""

from __future__ import annotations

import os
import stat

from lamina.errors import ArchiveError

from .names import shown
from .reader import Member

_FORGED = (b"trusted.overlay.", b"user.overlay.")
DEFAULT_ACL = b"system.posix_acl_default"
"""of a directory: set when it is full, or everything made in it would inherit it"""
_SPACES = (b"user.", b"trusted.", b"security.", b"system.")


def check_xattrs(m: Member) -> None:
    """ArchiveError if one of them would forge overlay's own."""
    for name in m.xattrs:
        if name.startswith(_FORGED):
            raise ArchiveError(
                f"archive: {shown(m.name)}: carries the extended attribute {shown(name)}, which belongs to the overlay file system"
            )


def set_xattrs(target: int | bytes, m: Member) -> None:
    """On a descriptor, or on a path that is not followed; all but DEFAULT_ACL, which is the caller's to set last."""
    follow = isinstance(target, int)
    for name, value in m.xattrs.items():
        if name == DEFAULT_ACL or not name.startswith(_SPACES):
            continue
        try:
            os.setxattr(target, name, value, follow_symlinks=follow)
        except OSError as error:
            raise ArchiveError(f"archive: {shown(m.name)}: the extended attribute {shown(name)} can't be set: {error.strerror}")


def own(fd: int, uid: int, gid: int, mode: int) -> None:
    """Owner and mode of a file or directory that was just made: set only where they aren't so already, because each change is a
    journal entry and most files are root's."""
    st = os.fstat(fd)
    if st.st_uid != uid or st.st_gid != gid:
        os.fchown(fd, uid, gid)
    elif stat.S_IMODE(st.st_mode) == mode:
        return
    os.fchmod(fd, mode)


def by_fd(fd: int, m: Member) -> None:
    """All attributes of a regular file just made; times last."""
    own(fd, m.uid, m.gid, m.mode)
    if m.xattrs:
        set_xattrs(fd, m)
    os.utime(fd, ns=(m.mtime_ns, m.mtime_ns))


def by_name(dir_fd: int, base: bytes, m: Member, *, chmod: bool) -> None:
    """Of a link, device or fifo just made at `base`; `chmod` not for links, which have no mode."""
    os.chown(base, m.uid, m.gid, dir_fd=dir_fd, follow_symlinks=False)
    if chmod or m.xattrs:
        node = os.open(base, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
        try:
            if chmod:
                os.chmod(b"/proc/self/fd/%d" % node, m.mode)  # the one way to chmod a node without following or opening it before Linux 6.6
            if m.xattrs:
                set_xattrs(b"/proc/self/fd/%d/%b" % (dir_fd, base), m)
        finally:
            os.close(node)
    os.utime(base, ns=(m.mtime_ns, m.mtime_ns), dir_fd=dir_fd, follow_symlinks=False)


def copy_attributes(source: int, target: int, st: os.stat_result) -> bytes | None:
    """As overlay's copy-up does: owner, mode, extended attributes except overlay's own. Gives the default ACL, which is set last."""
    os.fchown(target, st.st_uid, st.st_gid)
    os.fchmod(target, stat.S_IMODE(st.st_mode))
    default = None
    for text in os.listxattr(source):
        name = os.fsencode(text)
        if name == DEFAULT_ACL:
            default = os.getxattr(source, name)
        elif not name.startswith(b"trusted.overlay."):
            os.setxattr(target, name, os.getxattr(source, name))
    return default
