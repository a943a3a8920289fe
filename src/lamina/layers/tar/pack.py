# SPDX-License-Identifier: Apache-2.0
"""A tree becomes a tar: the change set in an overlay's upper directory as an OCI layer, or a whole tree flat, as `export` gives it.

The same state gives the same bytes: a directory's entries in byte order, each directory before what is in it, numeric ids, no atime or
ctime. In a layer char 0:0 becomes `.wh.NAME`, an opaque directory has `.wh..wh..opq` first, trusted.overlay.* is never written; a redirect
or a metacopy can't be said in a tar and is refused. Sockets are left out, as docker does. A file that shrinks or grows meanwhile has
the size it had when it was opened, as GNU tar does (noted). With `copy_to` the same tree, overlay's form kept, is laid there in the same
pass.
"""

from __future__ import annotations

import errno
import os
import stat

from lamina.errors import StoreError

from . import header as h
from .attributes import DEFAULT_ACL, own
from .lower import OPAQUE_XATTR, is_whiteout
from .names import OPAQUE, WHITEOUT, join, shown, split
from .output import Output, write_all
from .tarmap import write_canonical
from .writer import TarWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from .output import Write

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DEPTH = 512
_OVERLAY = (b"trusted.overlay.", b"user.overlay.")
_OF_THIS_HOST = (b"security.selinux", b"security.ima", b"security.evm", b"security.SMACK64", b"btrfs.", b"system.nfs4")
_NO_XATTRS: dict[bytes, bytes] = {}


class Packed:
    """`digest` "sha256:..." and `size` of the tar; `files` members, `bytes` of file data and of symbolic links."""

    __slots__ = ("files", "bytes", "digest", "size", "notes")

    def __init__(self) -> None:
        self.files = 0
        self.bytes = 0
        self.digest = ""
        self.size = 0
        self.notes: list[str] = []


def pack_overlay(upper_fd: int, write: Write | None, *, copy_to: int | None = None, tarmap: BinaryIO | None = None) -> Packed:
    """The layer that an overlay's upper directory is. `write(view)` gets the tar; `tarmap` (a new file) gets the short map that gives it
    again from `copy_to`'s tree. The root itself is no member, as in docker's layers."""
    with Output(write) as out:
        done = pack_into(upper_fd, out, copy_to=copy_to)
        done.digest, done.size = f"sha256:{out.finish()}", out.size
        if tarmap is not None:
            write_canonical(tarmap, out.size, out.digest)
    return done


def pack_tree(root_fd: int, write: Write | None, *, copy_to: int | None = None) -> Packed:
    """Everything below `root_fd`, flat; what is mounted there is an empty directory."""
    with Output(write) as out:
        packer = Packer(out, copy_to, overlay=False)
        packer.walk(root_fd, b"")
        done = packer.end()
        done.digest, done.size = f"sha256:{out.finish()}", out.size
    return done


def pack_into(upper_fd: int, out: Output, *, copy_to: int | None = None) -> Packed:
    """`pack_overlay` without finishing the output."""
    packer = Packer(out, copy_to, overlay=True)
    packer.walk(upper_fd, b"")
    return packer.end()


class Packer:
    """Puts entries of a tree, one by one or a whole directory, into a tar (and into a copy)."""

    def __init__(self, out: Output, copy_to: int | None, *, overlay: bool) -> None:
        self.done = Packed()
        self._out = out
        self._tar = TarWriter(out)
        self._root_copy = copy_to
        self._overlay = overlay
        self._links: dict[tuple[int, int], bytes] = {}
        self._default_acls: dict[bytes, bytes] = {}

    def end(self) -> Packed:
        self._tar.end()
        return self.done

    def walk(self, fd: int, path: bytes) -> None:
        """Everything below the directory `fd`, which is `path` in the tar; its copy exists already."""
        device = os.fstat(fd).st_dev
        copy = self._root_copy
        stack: list[tuple[int, int | None, bytes, os.stat_result | None, Iterator[tuple[bytes, bool, bool]]]] = [
            (fd, copy, path, None, _entries(fd))
        ]
        try:
            while stack:
                here, copy, where, st, names = stack[-1]
                entry = next(names, None)
                if entry is None:
                    stack.pop()
                    if st is not None:
                        os.close(here)
                        if copy is not None:
                            if where in self._default_acls:
                                os.setxattr(copy, DEFAULT_ACL, self._default_acls.pop(where))
                            os.utime(copy, ns=(st.st_mtime_ns, st.st_mtime_ns))
                            os.close(copy)
                    continue
                name, is_file, is_dir = entry
                child = join(where, name)
                try:
                    if is_file:
                        self.file(here, name, child, copy)
                    elif is_dir:
                        if len(stack) > _DEPTH:
                            raise StoreError(f"{shown(child)}: more than {_DEPTH} directories deep")
                        inner = os.open(name, _OPEN | os.O_DIRECTORY, dir_fd=here)
                        try:
                            dst = os.fstat(inner)
                            inner_copy = self.directory(inner, dst, child, name, copy)
                        except BaseException:
                            os.close(inner)
                            raise
                        stack.append((inner, inner_copy, child, dst, _entries(inner) if dst.st_dev == device else iter(())))
                    else:
                        self.other(here, name, child, copy)
                except FileNotFoundError:
                    self._note(child, "vanished while it was being read")
                except OSError as error:
                    raise OSError(error.errno, error.strerror, os.fsdecode(child)) from error
        finally:
            for here, copy, _, st, _ in stack:
                if st is not None:
                    os.close(here)
                    if copy is not None:
                        os.close(copy)

    def _note(self, path: bytes, text: str) -> None:
        if len(self.done.notes) < 100:
            self.done.notes.append(f"{shown(path)}: {text}")

    # -- entries

    def directory(self, fd: int, st: os.stat_result, path: bytes, name: bytes, copy: int | None) -> int | None:
        """The member, its opaque marker, and its copy (whose descriptor is given; times are set when it is full)."""
        xattrs, opaque = self._xattrs(fd, path)
        self._member(path + b"/", h.DIR, st, xattrs=xattrs)
        if opaque:
            self._tar.member(join(path, OPAQUE), type=h.REG, mode=0o600)
            self.done.files += 1
        if copy is None:
            return None
        os.mkdir(name, 0o700, dir_fd=copy)
        made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=copy)
        try:
            _attributes(made, st, xattrs)
            if DEFAULT_ACL in xattrs:
                self._default_acls[path] = xattrs[DEFAULT_ACL]
            if opaque:
                os.setxattr(made, OPAQUE_XATTR, b"y")
        except BaseException:
            os.close(made)
            raise
        return made

    def file(self, dir_fd: int, name: bytes, path: bytes, copy: int | None) -> None:
        try:
            fd = os.open(name, _OPEN | os.O_NOATIME, dir_fd=dir_fd)
        except PermissionError:
            fd = os.open(name, _OPEN, dir_fd=dir_fd)  # not ours: its atime may change
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO):
                raise
            self.other(dir_fd, name, path, copy)  # replaced since the directory was read
            return
        try:
            st = os.fstat(fd)
            if not stat.S_ISREG(st.st_mode):
                self.other(dir_fd, name, path, copy)
                return
            if st.st_nlink > 1 and self._linked(st, path, name, copy):
                return
            xattrs, _ = self._xattrs(fd, path)
            size = st.st_size
            self._member(path, h.REG, st, size=size, xattrs=xattrs)
            if copy is None:
                self._data(fd, st, path, -1)
            else:
                made = os.open(name, _CREATE, st.st_mode & 0o777, dir_fd=copy)
                try:
                    self._data(fd, st, path, made)
                    _attributes(made, st, xattrs)
                    os.utime(made, ns=(st.st_mtime_ns, st.st_mtime_ns))
                finally:
                    os.close(made)
            self._tar.pad(size)
            self.done.bytes += size
        finally:
            os.close(fd)

    def _data(self, fd: int, st: os.stat_result, path: bytes, made: int) -> None:
        size = st.st_size
        if not size:
            return
        out = self._out
        if st.st_blocks * 512 < size and size > 4096:
            self._with_holes(fd, size, path, made)
            return
        got = out.read_from(fd, size, (lambda piece: write_all(made, piece)) if made >= 0 else None)
        if got < size:
            self._short(path, size - got, made, size)

    def _short(self, path: bytes, missing: int, made: int, size: int) -> None:
        self._note(path, f"shrank by {missing} bytes while it was being read; padded with zeros")
        self._out.zeros(missing)
        if made >= 0:
            os.ftruncate(made, size)

    def _with_holes(self, fd: int, size: int, path: bytes, made: int) -> None:
        """Holes cost no reading, and stay holes in the copy."""
        out = self._out
        if made >= 0:
            os.ftruncate(made, size)
        at = 0
        while at < size:
            try:
                start = min(os.lseek(fd, at, os.SEEK_DATA), size)
                stop = min(os.lseek(fd, start, os.SEEK_HOLE), size) if start < size else size
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                start = stop = size  # a hole up to the end
            out.zeros(start - at)
            if start < stop:
                os.lseek(fd, start, os.SEEK_SET)
                if made >= 0:
                    os.lseek(made, start, os.SEEK_SET)
                got = out.read_from(fd, stop - start, (lambda piece: write_all(made, piece)) if made >= 0 else None)
                if got < stop - start:
                    self._short(path, stop - start - got, made, size)
            at = stop

    def _linked(self, st: os.stat_result, path: bytes, name: bytes, copy: int | None) -> bool:
        """True if an earlier member is the same inode, and this one was written as a link to it."""
        first = self._links.setdefault((st.st_dev, st.st_ino), path)
        if first == path:
            return False
        xattrs = _NO_XATTRS
        self._member(path, h.LINK, st, linkname=first, xattrs=xattrs)
        if copy is not None:
            os.link(first, name, src_dir_fd=self._root_copy, dst_dir_fd=copy, follow_symlinks=False)
        return True

    def other(self, dir_fd: int, name: bytes, path: bytes, copy: int | None) -> None:
        """Links, devices, fifos; and whiteouts."""
        st = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        kind = stat.S_IFMT(st.st_mode)
        if self._overlay and is_whiteout(st):
            self.whiteout(path)
            if copy is not None:
                os.mknod(name, stat.S_IFCHR, 0, dir_fd=copy)
            return
        if kind == stat.S_IFSOCK:
            return
        if kind in (stat.S_IFREG, stat.S_IFDIR):
            raise StoreError(f"{shown(path)}: changed its type while it was being read")
        if st.st_nlink > 1 and self._linked(st, path, name, copy):
            return
        xattrs, _ = self._xattrs(b"/proc/self/fd/%d/%b" % (dir_fd, name), path)
        if kind == stat.S_IFLNK:
            target = os.readlink(name, dir_fd=dir_fd)
            self._member(path, h.SYM, st, linkname=target, mode=0o777, xattrs=xattrs)
            self.done.bytes += len(target)
            if copy is not None:
                os.symlink(target, name, dir_fd=copy)
        else:
            code = {stat.S_IFCHR: h.CHR, stat.S_IFBLK: h.BLK, stat.S_IFIFO: h.FIFO}[kind]
            self._member(path, code, st, device=st.st_rdev, xattrs=xattrs)
            if copy is not None:
                os.mknod(name, kind | 0o600, st.st_rdev, dir_fd=copy)
        if copy is not None:
            _copied_node(copy, name, st, xattrs, chmod=kind != stat.S_IFLNK)

    def whiteout(self, path: bytes) -> None:
        """The marker that `path` is gone; its times are those of overlay's shared whiteout and say nothing: left out."""
        parent, base = split(path)
        self._tar.member(join(parent, WHITEOUT + base), type=h.REG, mode=0o600)
        self.done.files += 1

    def _member(
        self,
        path: bytes,
        type: bytes,
        st: os.stat_result,
        *,
        size: int = 0,
        linkname: bytes = b"",
        mode: int = -1,
        device: int = 0,
        xattrs: dict[bytes, bytes],
    ) -> None:
        if self._overlay and b".wh." in path and split(path.rstrip(b"/"))[1].startswith(WHITEOUT):
            raise StoreError(f"{shown(path)}: names that begin with .wh. mean whiteouts in a layer, so that this file can't be in one")
        self._tar.member(
            path, type=type, mode=stat.S_IMODE(st.st_mode) if mode < 0 else mode, uid=st.st_uid, gid=st.st_gid, size=size,
            mtime_ns=st.st_mtime_ns, linkname=linkname, devmajor=os.major(device), devminor=os.minor(device), xattrs=xattrs,
        )  # fmt: skip
        self.done.files += 1

    def _xattrs(self, target: int | bytes, path: bytes) -> tuple[dict[bytes, bytes], bool]:
        """(those that belong into a tar, whether it is an opaque directory)."""
        follow = isinstance(target, int)
        try:
            names = os.listxattr(target, follow_symlinks=follow)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            return _NO_XATTRS, False
        if not names:
            return _NO_XATTRS, False
        found: dict[bytes, bytes] = {}
        opaque = False
        for text in names:
            name = os.fsencode(text)
            if name.startswith(_OVERLAY):
                short = name.rpartition(b".overlay.")[2] if name.count(b".overlay.") == 1 else b""
                if self._overlay and short in (b"redirect", b"metacopy") and name.startswith(b"trusted."):
                    raise StoreError(
                        f"{shown(path)}: overlay's {short.decode()} can't be said in a layer",
                        hint="mount with redirect_dir=off,metacopy=off",
                    )
                opaque |= short == b"opaque" and os.getxattr(target, name, follow_symlinks=follow) == b"y"
            elif not name.startswith(_OF_THIS_HOST):
                found[name] = os.getxattr(target, name, follow_symlinks=follow)
        return found, opaque and self._overlay


def _entries(fd: int) -> Iterator[tuple[bytes, bool, bool]]:
    """(name, is a regular file, is a directory), in byte order."""
    with os.scandir(fd) as found:
        return iter(sorted((os.fsencode(e.name), e.is_file(follow_symlinks=False), e.is_dir(follow_symlinks=False)) for e in found))


def _attributes(fd: int, st: os.stat_result, xattrs: dict[bytes, bytes]) -> None:
    own(fd, st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode))
    for name, value in xattrs.items():
        if name != DEFAULT_ACL:
            os.setxattr(fd, name, value)


def _copied_node(copy: int, name: bytes, st: os.stat_result, xattrs: dict[bytes, bytes], *, chmod: bool) -> None:
    os.chown(name, st.st_uid, st.st_gid, dir_fd=copy, follow_symlinks=False)
    if chmod:
        os.chmod(name, stat.S_IMODE(st.st_mode), dir_fd=copy)  # just made by us, in a directory that nobody else reaches
    for key, value in xattrs.items():
        os.setxattr(b"/proc/self/fd/%d/%b" % (copy, name), key, value, follow_symlinks=False)
    os.utime(name, ns=(st.st_mtime_ns, st.st_mtime_ns), dir_fd=copy, follow_symlinks=False)
