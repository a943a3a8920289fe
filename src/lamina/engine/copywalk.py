# SPDX-License-Identifier: Apache-2.0
"""What `cp` copies, as members of an archive: from a tree of a view, or from a tar; and as a tar again.

A piece is (member, its data): the data is an iterator that must be used up, or left, before the next piece is asked for. Times are whole
seconds, as docker's client has them, and so are the sizes that it shows.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator

from lamina.errors import ArchiveError
from lamina.layers.tar import header as h
from lamina.layers.tar.compress import decompress
from lamina.layers.tar.names import join, shown
from lamina.layers.tar.output import Output
from lamina.layers.tar.reader import Member, TarReader
from lamina.layers.tar.source import Readable, Source
from lamina.layers.tar.writer import TarWriter
from lamina.linux import fs

from .copyview import Found, View, readable

Piece = tuple[Member, Iterator[memoryview]]
_SECOND = 1_000_000_000
_DEPTH = 512
_BUFFER = 1 << 18
_NOT_CARRIED = (b"trusted.", b"user.overlay.", b"security.selinux", b"security.ima", b"security.evm", b"security.SMACK64", b"btrfs.",
                b"system.nfs4")  # fmt: skip
_KINDS = {
    stat.S_IFREG: h.REG, stat.S_IFDIR: h.DIR, stat.S_IFLNK: h.SYM, stat.S_IFCHR: h.CHR, stat.S_IFBLK: h.BLK, stat.S_IFIFO: h.FIFO,
}  # fmt: skip
_NOTHING: tuple[memoryview, ...] = ()


def of_tree(view: View, found: Found, top: bytes) -> Iterator[Piece]:
    """A file or a whole tree; the object itself is called `top` ("." or "/": what is in it has no name above its own). Sockets are left
    out, and what is mounted in the tree unless the view says otherwise. What vanishes meanwhile is left out, too."""
    links: dict[tuple[int, int], bytes] = {}
    status = found.status
    assert status is not None
    if not found.is_dir:
        yield from _piece(found.fd, status, top, links)
        return
    # One level each: descriptor, real path, name in the archive, device, names still to come.
    stack: list[tuple[int, bytes, bytes, int, Iterator[bytes]]] = []

    def enter(fd: int, real: bytes, name: bytes, device: int) -> None:
        inner = readable(fd, stat.S_IFDIR)
        stack.append((inner, real, name, device, iter(sorted(map(os.fsencode, os.listdir(inner))))))

    try:
        yield _member(found.fd, status, top), iter(_NOTHING)
        enter(found.fd, found.real, top, status.st_dev)
        while stack:
            here, real, name, device, names = stack[-1]
            entry = next(names, None)
            if entry is None:
                os.close(stack.pop()[0])
                continue
            try:
                fd, child = view.step(here, real, entry)
            except FileNotFoundError:
                continue
            try:
                status = os.fstat(fd)
                label = b"/" + entry if name == b"/" else join(name, entry)
                if not stat.S_ISDIR(status.st_mode):
                    yield from _piece(fd, status, label, links)
                    continue
                if len(stack) > _DEPTH:
                    raise ArchiveError(f"{shown(label)}: more than {_DEPTH} directories deep")
                yield _member(fd, status, label), iter(_NOTHING)
                if status.st_dev == device or view.cross or child in view.points:
                    enter(fd, child, label, status.st_dev)
            finally:
                os.close(fd)
    finally:
        for level in stack:
            os.close(level[0])


def _piece(fd: int, status: os.stat_result, name: bytes, links: dict[tuple[int, int], bytes]) -> Iterator[Piece]:
    """Anything but a directory."""
    if stat.S_ISSOCK(status.st_mode):
        return
    if stat.S_ISREG(status.st_mode):
        if status.st_nlink > 1:
            first = links.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                member = _member(fd, status, name)
                member.type, member.linkname, member.size = h.LINK, first, 0
                yield member, iter(_NOTHING)
                return
        data = readable(fd, stat.S_IFREG)
        try:
            status = os.fstat(data)
            member = _member(data, status, name)
            if not status.st_size and fs.magic(data) in (fs.PROC_SUPER_MAGIC, fs.SYSFS_MAGIC):
                text = _made_up(data)
                member.size = member.data_size = len(text)
                yield member, iter((memoryview(text),))
            else:
                yield member, _data(data, status.st_size)
        finally:
            os.close(data)
        return
    member = _member(fd, status, name)
    if member.type == h.SYM:
        member.linkname = os.readlink(b"", dir_fd=fd)
    yield member, iter(_NOTHING)


def _data(fd: int, size: int) -> Iterator[memoryview]:
    """Exactly `size` bytes: one that shrinks meanwhile is filled up with zeros, as the archive's header has promised its size."""
    buffer = bytearray(min(size, _BUFFER))
    view = memoryview(buffer)
    while size:
        got = os.readv(fd, [view[: min(size, _BUFFER)]])
        if not got:
            buffer[:] = bytes(len(buffer))
            got = min(size, len(buffer))
        yield view[:got]
        size -= got


def _made_up(fd: int) -> bytes:
    """What the kernel makes up as it is read, and gives no size of; 1 MiB of it at most, nothing that has to be waited for."""
    text = b""
    try:
        while len(text) < 1 << 20 and (more := os.read(fd, 1 << 16)):
            text += more
    except BlockingIOError:
        pass
    return text


def _member(fd: int, status: os.stat_result, name: bytes) -> Member:
    member = Member()
    kind = stat.S_IFMT(status.st_mode)
    member.type = _KINDS[kind]
    member.name = name if kind != stat.S_IFDIR or name.endswith(b"/") else name + b"/"
    member.mode = 0o777 if kind == stat.S_IFLNK else stat.S_IMODE(status.st_mode)
    member.uid, member.gid = status.st_uid, status.st_gid
    member.size = member.data_size = status.st_size if kind == stat.S_IFREG else 0
    member.mtime_ns = status.st_mtime_ns // _SECOND * _SECOND
    member.linkname = member.uname = member.gname = b""
    device = kind in (stat.S_IFCHR, stat.S_IFBLK)
    member.devmajor, member.devminor = (os.major(status.st_rdev), os.minor(status.st_rdev)) if device else (0, 0)
    member.sparse, member.raw, member.note = None, None, ""
    member.xattrs = _xattrs(fd) if kind in (stat.S_IFREG, stat.S_IFDIR) else {}
    return member


def _xattrs(fd: int) -> dict[bytes, bytes]:
    """What a copy should keep: capabilities, ACLs and users' own."""
    path = f"/proc/self/fd/{fd}"  # an O_PATH descriptor can't be asked itself
    try:
        names = [os.fsencode(name) for name in os.listxattr(path)]
        return {name: os.getxattr(path, name) for name in names if not name.startswith(_NOT_CARRIED)}
    except OSError:
        return {}  # no file system for them (or changed meanwhile)


def of_tar(stream: Readable) -> Iterator[Piece]:
    """A tar, plain or compressed, in any format that `import` reads. ArchiveError if it is none."""
    plain, _ = decompress(stream)
    reader = TarReader(Source(plain))
    for member in reader:
        if member.sparse is not None:
            raise ArchiveError(f"archive: {shown(member.name)}: sparse files can't be copied; make the archive without --sparse")
        yield member, reader.data()


def to_tar(pieces: Iterator[Piece], write: Callable[[memoryview], object]) -> None:
    with Output(write, hashed=False) as out:
        tar = TarWriter(out)
        for m, data in pieces:
            tar.member(m.name, type=m.type, mode=m.mode, uid=m.uid, gid=m.gid, size=m.size, mtime_ns=m.mtime_ns, linkname=m.linkname,
                       devmajor=m.devmajor, devminor=m.devminor, xattrs=m.xattrs)  # fmt: skip
            for view in data:
                out.put(view)
            tar.pad(m.size)
        tar.end()
        out.finish()


class Counted:
    """Passes pieces on; `size` is what their tar would have, which is what docker calls the size of a copy."""

    def __init__(self, pieces: Iterator[Piece]) -> None:
        self._pieces = pieces
        self.size = 0

    def __iter__(self) -> Iterator[Piece]:
        for member, data in self._pieces:
            self.size += h.BLOCK + -(-member.size // h.BLOCK) * h.BLOCK + (2 * h.BLOCK if len(member.name) > 100 else 0)
            yield member, data
        self.size += 2 * h.BLOCK
