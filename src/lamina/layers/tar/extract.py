# SPDX-License-Identifier: Apache-2.0
"""A tar stream becomes a tree beneath a directory: by descriptor only, never outside it, the archive's digest on the way.

Modes: `layer-overlay` (OCI whiteouts become overlay's: char 0:0, trusted.overlay.opaque), `layer-apply` (whiteouts delete from the full
tree that is there), `plain` (no whiteouts). In a layer, a whiteout concerns what lies below it only: what the same layer brings stays, in
either order. Later members win over earlier ones of the same name; a directory met by a directory is kept. Parents that are symbolic links
are followed within the root, as a container would. Missing parents are made 0755 root:root, or as the layer below has them.
Whatever fails raises `ArchiveError` with the member's name (or `StoreError`: the disk is full); the caller removes the directory. Nothing
is synced.
"""

from __future__ import annotations

import errno
import os
import stat

from lamina.errors import ArchiveError, InvalidArgument, StoreError

from . import header as h
from .attributes import DEFAULT_ACL, by_fd, by_name, check_xattrs, copy_attributes, set_xattrs
from .beneath import Beneath, open_file
from .hashing import Hasher
from .limits import DEFAULT, Limits
from .lower import OPAQUE_XATTR, is_whiteout
from .names import META, OPAQUE, WHITEOUT, clean, join, shown, split
from .output import write_all
from .reader import Member, TarReader
from .removal import remove_tree
from .source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .lower import LowerView
    from .source import Readable
    from .tarmap import Recorder

MODES = ("layer-overlay", "layer-apply", "plain")
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_THE_DISK = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO))
_THE_MEMBER = frozenset(
    (errno.ENAMETOOLONG, errno.EINVAL, errno.EFBIG, errno.EOVERFLOW, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENOENT, errno.EPERM,
    errno.EXDEV,
     errno.EMLINK, errno.EEXIST, errno.ENOTEMPTY, errno.EOPNOTSUPP, errno.EILSEQ)
)  # fmt: skip
_CHECK_EVERY = 64 << 20


class Extracted:
    """`files` counts members, `bytes` file data and the lengths of symbolic links, as docker's listings sum them; `digest` is
    "sha256:..." of the uncompressed archive of `size` bytes; `root_told`: the archive has the root's attributes."""

    __slots__ = ("files", "bytes", "digest", "size", "shaped_by_parent", "root_told", "notes")

    def __init__(self, files: int = 0, bytes: int = 0, digest: str = "", size: int = 0, shaped_by_parent: bool = False) -> None:
        self.files = files
        self.bytes = bytes
        self.digest = digest
        self.size = size
        self.shaped_by_parent = shaped_by_parent
        self.root_told = False
        self.notes: list[str] = []


def extract(
    fileobj: Readable,
    root_fd: int,
    *,
    mode: str = "layer-overlay",
    lower: LowerView | None = None,
    limits: Limits = DEFAULT,
    recorder: Recorder | None = None,
    hashed: bool = True,
) -> Extracted:
    """Extract an uncompressed tar from `fileobj` (read to its end) below `root_fd`. `recorder` gets what the tar-map needs and is finished
    here."""
    if mode not in MODES:
        raise InvalidArgument(f"extract mode {mode!r} is none of {', '.join(MODES)}")
    with Hasher() as hasher:
        source = Source(fileobj, hasher=hasher if hashed or recorder else None, limit=limits.total)
        with _Extractor(source, root_fd, mode, lower, limits, recorder) as work:
            work.run()
            done = work.result
        hexdigest = source.finish()
        done.digest = f"sha256:{hexdigest}" if hexdigest else ""
        done.size = source.position
        if recorder:
            recorder.finish(done.size, hexdigest)
    return done


class _Extractor:
    def __init__(self, source: Source, root_fd: int, mode: str, lower: LowerView | None, limits: Limits, recorder: Recorder | None) -> None:
        self.result = Extracted()
        self._root = root_fd
        self._overlay = mode == "layer-overlay"
        self._apply = mode == "layer-apply"
        self._layer = mode != "plain"
        self._lower = lower if self._overlay else None
        self._limits = limits
        self._recorder = recorder
        self._reader = TarReader(source, limits=limits, keep_raw=recorder is not None, on_skipped=recorder.literal if recorder else None)
        self._dirs = Beneath(root_fd, self._implicit, self._lower, whiteouts=self._overlay)
        self._times: dict[bytes, int] = {}
        self._default_acls: dict[bytes, bytes] = {}
        self._touched: set[bytes] = set()
        self._hide_root = False
        self._root_told = False
        self._now = 0
        self._since = _CHECK_EVERY

    def __enter__(self) -> _Extractor:
        return self

    def __exit__(self, *exc: object) -> None:
        self._dirs.__exit__()

    def run(self) -> None:
        reader, recorder, result = self._reader, self._recorder, self.result
        while (m := reader.next()) is not None:
            if recorder and m.raw:
                recorder.literal(m.raw)
            result.files += 1
            self._now = m.mtime_ns
            if m.note and len(result.notes) < 100:
                result.notes.append(f"{shown(m.name)}: {m.note}")
            try:
                self._member(m)
            except OSError as error:
                self._tell(m.name, error)
                raise
        if recorder:
            recorder.literal(reader.rest())
        try:
            self._close()
        except OSError as error:
            self._tell(b"directory times", error)
            raise
        result.shaped_by_parent |= self._dirs.followed_lower
        result.root_told = self._root_told

    @staticmethod
    def _tell(name: bytes, error: OSError) -> None:
        """Raise what the user can understand; return where it is none of the archive's or the disk's fault (the stream's, say)."""
        if error.errno in _THE_DISK:
            raise StoreError(f"{shown(name)} can't be extracted: {error.strerror}") from error
        if error.errno in _THE_MEMBER:
            raise ArchiveError(f"archive: {shown(name)} can't be extracted: {error.strerror}") from error

    def _room(self, size: int) -> None:
        """Every 64 MiB (a member counts 16 KiB): is the reserve still free? Bombs end here, before the disk is full."""
        self._since += size + 16384
        if self._since < _CHECK_EVERY:
            return
        self._since = 0
        free = os.fstatvfs(self._root)
        if free.f_bavail * free.f_frsize < self._limits.reserve_bytes + min(size, _CHECK_EVERY):
            kept = self._limits.reserve_bytes >> 20
            raise StoreError("not enough space left to extract the archive", hint=f"free some space: {kept} MiB stay free for what runs")
        if free.f_files and free.f_favail < self._limits.reserve_inodes:
            raise StoreError("not enough inodes left to extract the archive")

    # -- one member

    def _member(self, m: Member) -> None:
        self._room(0)
        path = clean(m.name, self._limits)
        if self._layer:
            if WHITEOUT in path and (path.startswith(WHITEOUT) or b"/.wh." in path):
                self._whiteout(m, path)
                return
        if m.xattrs:
            check_xattrs(m)
        kind = m.type
        if not path:
            if kind != h.DIR:
                raise ArchiveError(f"archive: {shown(m.name)}: only a directory can be the root")
            self._attributes(self._root, b"", m)
            self._root_told = True
            return
        if kind == h.LINK:
            self._hard_link(m, path)
            return
        parent, base = split(path)
        dir_fd, parent = self._dirs.directory(parent)
        real = join(parent, base)
        if self._apply:
            self._touch(real)
        if kind == h.REG:
            self._file(m, dir_fd, base, real)
        elif kind == h.DIR:
            self._directory(m, dir_fd, base, real)
        elif kind == h.SYM:
            if not m.linkname:
                raise ArchiveError(f"archive: {shown(m.name)}: a symbolic link to nothing")
            try:
                os.symlink(m.linkname, base, dir_fd=dir_fd)
            except FileExistsError:
                dir_fd = self._clear(parent, base, real)
                os.symlink(m.linkname, base, dir_fd=dir_fd)
            by_name(dir_fd, base, m, chmod=False)
            self.result.bytes += len(m.linkname)
        else:
            self._node(m, parent, base, real)

    def _file(self, m: Member, dir_fd: int, base: bytes, real: bytes) -> None:
        try:
            fd = os.open(base, _CREATE, m.mode & 0o777, dir_fd=dir_fd)
        except FileExistsError:
            dir_fd = self._clear(split(real)[0], base, real)
            fd = os.open(base, _CREATE, m.mode & 0o777, dir_fd=dir_fd)
        try:
            if m.data_size and self._recorder:
                self._recorder.file(real, m.data_size, m.sparse)
            if m.sparse is not None:
                self._sparse(m, fd)
            else:
                for piece in self._reader.data():
                    done = os.write(fd, piece)
                    if done != len(piece):
                        write_all(fd, piece[done:])
                    if done > 65536:
                        self._room(done)
            by_fd(fd, m)
        finally:
            os.close(fd)
        self.result.bytes += m.size

    def _sparse(self, m: Member, fd: int) -> None:
        os.ftruncate(fd, m.size)
        pieces: Iterator[tuple[int, int]] = iter(m.sparse or ())
        offset = left = 0
        for data in self._reader.data():
            self._room(len(data))
            at = 0
            while at < len(data):
                if not left:
                    offset, left = next(pieces)
                done = os.pwrite(fd, data[at : at + left], offset)
                at += done
                offset += done
                left -= done

    def _directory(self, m: Member, dir_fd: int, base: bytes, real: bytes) -> None:
        parent = split(real)[0]
        hides = False
        try:
            os.mkdir(base, 0o700, dir_fd=dir_fd)
        except FileExistsError:
            st = os.stat(base, dir_fd=dir_fd, follow_symlinks=False)
            if not stat.S_ISDIR(st.st_mode):
                dir_fd = self._clear(parent, base, real)
                os.mkdir(base, 0o700, dir_fd=dir_fd)
                hides = self._overlay
        fd = self._dirs.open(real)
        if hides:
            self._set_opaque(fd, real)
        self._attributes(fd, real, m)

    def _attributes(self, fd: int, real: bytes, m: Member) -> None:
        os.fchown(fd, m.uid, m.gid)
        os.fchmod(fd, m.mode)
        if m.xattrs:
            set_xattrs(fd, m)
            if DEFAULT_ACL in m.xattrs:
                self._default_acls[real] = m.xattrs[DEFAULT_ACL]
        self._times[real] = m.mtime_ns

    def _node(self, m: Member, parent: bytes, base: bytes, real: bytes) -> None:
        dir_fd = self._dirs.open(parent) if parent else self._root
        kind = {h.CHR: stat.S_IFCHR, h.BLK: stat.S_IFBLK, h.FIFO: stat.S_IFIFO}[m.type]
        device = 0 if m.type == h.FIFO else os.makedev(m.devmajor, m.devminor)
        if self._layer and m.type == h.CHR and device == 0:
            raise ArchiveError(f"archive: {shown(m.name)}: a character device 0:0, which would be a whiteout to the overlay file system")
        try:
            os.mknod(base, kind | 0o600, device, dir_fd=dir_fd)
        except FileExistsError:
            dir_fd = self._clear(parent, base, real)
            os.mknod(base, kind | 0o600, device, dir_fd=dir_fd)
        by_name(dir_fd, base, m, chmod=True)

    # -- hard links

    def _hard_link(self, m: Member, path: bytes) -> None:
        """Links the name itself, never what a symbolic link there points to, and changes no attribute: the target has its own."""
        target = clean(m.linkname, self._limits)
        if not target:
            raise ArchiveError(f"archive: {shown(m.name)}: a hard link to the root")
        if self._layer and (target.startswith(WHITEOUT) or b"/.wh." in target):
            raise ArchiveError(f"archive: {shown(m.name)}: a hard link to a whiteout, {shown(target)}")
        dir_fd, parent = self._dirs.directory(split(path)[0])
        base = split(path)[1]
        real = join(parent, base)
        src_fd, source = self._target(m, target)
        try:
            if self._apply:
                self._touch(real)
            dir_fd = self._dirs.open(parent) if parent else self._root
            name = split(source)[1]
            try:
                os.link(name, base, src_dir_fd=src_fd, dst_dir_fd=dir_fd, follow_symlinks=False)
            except FileExistsError:
                there = os.stat(base, dir_fd=dir_fd, follow_symlinks=False)
                if os.path.samestat(there, os.stat(name, dir_fd=src_fd, follow_symlinks=False)):
                    return
                dir_fd = self._clear(parent, base, real)
                os.link(name, base, src_dir_fd=src_fd, dst_dir_fd=dir_fd, follow_symlinks=False)
        finally:
            os.close(src_fd)

    def _target(self, m: Member, target: bytes) -> tuple[int, bytes]:
        """(fd of its parent, to be closed; real path) of a hard link's target; brought up from the layers below if it is there."""
        above, name = split(target)
        create = self._lower is not None
        try:
            fd, above = self._dirs.directory(above, create=False)
        except FileNotFoundError:
            fd, above = -1, above
        if fd >= 0:
            try:
                st = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if not (self._overlay and is_whiteout(st)):
                    return os.dup(fd), join(above, name)
                create = False
            except FileNotFoundError:
                pass
        if create:
            fd, above = self._dirs.directory(split(target)[0])
            real = join(above, name)
            if self._copy_up(real, name, fd):
                fd = self._dirs.open(above) if above else self._root
                return os.dup(fd), real
        raise ArchiveError(f"archive: {shown(m.name)}: a hard link to {shown(target)}, which is not there")

    def _copy_up(self, real: bytes, name: bytes, dir_fd: int) -> bool:
        """What the layers below have at `real` (a regular file) is copied into this layer, as overlay would."""
        st = self._dirs.lower_stat(real)
        if st is None or self._lower is None or not stat.S_ISREG(st.st_mode):
            return False
        self.result.shaped_by_parent = True
        source = self._lower.open(real)
        try:
            fd = os.open(name, _CREATE, 0o600, dir_fd=dir_fd)
            try:
                while data := os.read(source, 1 << 20):
                    self._room(len(data))
                    write_all(fd, memoryview(data))
                copy_attributes(source, fd, st)
                os.utime(fd, ns=(st.st_mtime_ns, st.st_mtime_ns))
            finally:
                os.close(fd)
        finally:
            os.close(source)
        return True

    # -- what was there before

    def _implicit(self, real: bytes, fd: int) -> None:
        """A directory that the archive uses but doesn't tell of."""
        below = self._dirs.lower_stat(real)
        if self._apply:
            self._touch(real)
        if below is not None and stat.S_ISDIR(below.st_mode) and self._lower is not None:
            self.result.shaped_by_parent = True
            source = self._lower.open(real)
            try:
                if acl := copy_attributes(source, fd, below):
                    self._default_acls[real] = acl
            finally:
                os.close(source)
            self._times[real] = below.st_mtime_ns
            return
        os.fchown(fd, 0, 0)
        os.fchmod(fd, 0o755)
        self._times[real] = self._now

    def _clear(self, parent: bytes, base: bytes, real: bytes) -> int:
        """Remove whatever is at this name; gives the parent's descriptor, which is valid again."""
        dir_fd = self._dirs.open(parent) if parent else self._root
        if stat.S_ISDIR(os.stat(base, dir_fd=dir_fd, follow_symlinks=False).st_mode):
            remove_tree(dir_fd, base, real, self._gone)
        else:
            self._gone(real)
            os.unlink(base, dir_fd=dir_fd)
        self._dirs.forget(real)
        return self._dirs.open(parent) if parent else self._root

    def _gone(self, real: bytes) -> None:
        self._times.pop(real, None)
        self._default_acls.pop(real, None)
        self._dirs.opaque.discard(real)
        if self._recorder:
            self._recorder.gone(real, lambda: open_file(self._root, real))

    def _touch(self, real: bytes) -> None:
        while real and real not in self._touched:
            self._touched.add(real)
            real = split(real)[0]

    # -- whiteouts

    def _whiteout(self, m: Member, path: bytes) -> None:
        parent, base = split(path)
        if any(part.startswith(META) and part != OPAQUE for part in path.split(b"/")):
            return  # what aufs kept for itself; its data goes to the tar-map like all that is skipped
        if parent.startswith(WHITEOUT) or b"/.wh." in parent:
            raise ArchiveError(f"archive: {shown(m.name)}: lies below a whiteout")
        if base == OPAQUE:
            self._opaque(parent)
            return
        name = base[len(WHITEOUT) :]
        if name in (b"", b".", b".."):
            raise ArchiveError(f"archive: {shown(m.name)}: a whiteout of nothing that has a name")
        if self._apply:
            try:
                dir_fd, parent = self._dirs.directory(parent, create=False)
            except FileNotFoundError:
                return
            self._prune(dir_fd, parent, name)
            return
        dir_fd, parent = self._dirs.directory(parent)
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=dir_fd)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode):
                real = join(parent, name)
                self._set_opaque(self._dirs.open(real), real)

    def _opaque(self, parent: bytes) -> None:
        if self._apply:
            try:
                _, real = self._dirs.directory(parent, create=False)
            except FileNotFoundError:
                return
            self._prune_below(real)
            return
        fd, real = self._dirs.directory(parent)
        if real:
            self._set_opaque(fd, real)
        else:
            self._hide_root = True  # overlay has no opaque roots: done by whiteouts, when all of this layer is there

    def _set_opaque(self, fd: int, real: bytes) -> None:
        os.setxattr(fd, OPAQUE_XATTR, b"y")
        self._dirs.opaque.add(real)

    def _prune(self, dir_fd: int, parent: bytes, name: bytes) -> None:
        """Apply: remove `name`, except what this layer brought."""
        real = join(parent, name)
        try:
            st = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        if real not in self._touched:
            self._clear(parent, name, real)
        elif stat.S_ISDIR(st.st_mode):
            self._prune_below(real)

    def _prune_below(self, real: bytes) -> None:
        todo = [real]
        while todo:
            here = todo.pop()
            fd = self._dirs.open(here) if here else self._root
            for entry in os.listdir(fd):
                name = os.fsencode(entry)
                child = join(here, name)
                if child not in self._touched:
                    fd = self._dirs.open(here) if here else self._root
                    self._clear(here, name, child)
                    fd = self._dirs.open(here) if here else self._root
                elif stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                    todo.append(child)

    # -- the end

    def _close(self) -> None:
        """Root's whiteouts and attributes, then the directories' default ACLs, then their times, which everything before has changed."""
        if self._hide_root and self._lower is not None:
            self.result.shaped_by_parent = True
            for name in self._lower.listdir(b""):
                try:
                    os.mknod(name, stat.S_IFCHR, 0, dir_fd=self._root)
                except FileExistsError:
                    if stat.S_ISDIR(os.stat(name, dir_fd=self._root, follow_symlinks=False).st_mode):
                        self._set_opaque(self._dirs.open(name), name)
        if not self._root_told:
            self._inherit_root()
        for real, acl in self._default_acls.items():
            os.setxattr(self._dirs.open(real) if real else self._root, DEFAULT_ACL, acl)
        for real, ns in self._times.items():
            fd = self._dirs.open(real) if real else self._root
            os.utime(fd, ns=(ns, ns))

    def _inherit_root(self) -> None:
        if self._lower is not None and (found := inherit_root(self._root, self._lower)) is not None:
            self.result.shaped_by_parent = True
            if found:
                self._default_acls[b""] = found


def inherit_root(root_fd: int, lower: LowerView) -> bytes | None:
    """A layer that doesn't tell of its root has the one below; only what differs from 0755 root:root shapes it.

    None if nothing was taken over; else the default ACL, b"" for none, which the caller sets when all members are there.
    """
    below = lower.stat(b"")
    if below is None:
        return None
    source = lower.open(b"")
    try:
        plain = (stat.S_IMODE(below.st_mode), below.st_uid, below.st_gid) == (0o755, 0, 0)
        if plain and not any(not name.startswith("trusted.overlay.") for name in os.listxattr(source)):
            return None
        return copy_attributes(source, root_fd, below) or b""
    finally:
        os.close(source)
