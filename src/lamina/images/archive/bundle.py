# SPDX-License-Identifier: Apache-2.0
"""An archive that is to be loaded, as names with bytes: a tar (in a file, compressed, or from a pipe), or a directory.

Nothing is unpacked: a tar's members are stretches of its file, found by going from header to header. A compressed archive, or one that
comes through a pipe, is first written to a file of the store that has no name. Names never become paths of ours. Links are followed
within the archive only, in a directory not at all.
"""
from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from lamina.errors import ArchiveError, StoreError
from lamina.layers.tar import header
from lamina.layers.tar.beneath import open_file
from lamina.layers.tar.compress import decompress, recognise
from lamina.layers.tar.limits import Limits
from lamina.layers.tar.names import clean, shown
from lamina.layers.tar.reader import TarReader
from lamina.layers.tar.source import Readable, Source
from lamina.store.open import Store
from lamina.util.atomic import nameless, write_all
from lamina.util.slices import Slice

LIMITS = Limits(members=50_000, depth=32, header=1 << 16)
_HOPS = 8
_PIECE = 1 << 20


class Bundle:
    """A context manager, closes what it opened. Names are text as in an archive: "blobs/sha256/0f3c..."."""

    def names(self) -> list[str]:
        """Of regular files (and links to them), sorted."""
        raise NotImplementedError

    def find(self, name: str) -> Slice | None:
        """A file's bytes, None if there is none. ArchiveError if the name is something else."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def get(self, name: str) -> Slice:
        found = self.find(name)
        if found is None:
            raise ArchiveError(f"archive: {name} is missing")
        return found

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class TarBundle(Bundle):
    """Takes the descriptor over."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._files: dict[bytes, tuple[int, int]] = {}
        self._links: dict[bytes, bytes] = {}
        try:
            self._scan()
        except BaseException:
            self.close()
            raise

    def _scan(self) -> None:
        whole = Slice(self._fd, 0, os.fstat(self._fd).st_size, "archive")

        def forward(size: int) -> bool:
            if whole.at + size > whole.size:
                return False
            whole.at += size
            return True

        source = Source(whole, seek=forward)
        for member in TarReader(source, limits=LIMITS):
            name = clean(member.name, LIMITS)
            if member.type == header.DIR:
                continue
            if name in self._files or name in self._links:
                raise ArchiveError(f"archive: {shown(name)} is in it twice")
            if member.type == header.SYM:
                self._links[name] = _beside(name, member.linkname)
            elif member.type == header.LINK:
                self._links[name] = clean(member.linkname, LIMITS)
            elif member.type == header.REG and member.sparse is None:
                self._files[name] = source.position, member.size

    def names(self) -> list[str]:
        return sorted(os.fsdecode(name) for name in [*self._files, *self._links])

    def find(self, name: str) -> Slice | None:
        at = clean(os.fsencode(name), LIMITS)
        for _ in range(_HOPS):
            if at in self._files:
                return Slice(self._fd, *self._files[at], what=f"{name} of the archive")
            if at not in self._links:
                return None
            at = self._links[at]
        raise ArchiveError(f"archive: {name}: too many symbolic links")

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _beside(name: bytes, target: bytes) -> bytes:
    """Where a symbolic link leads, which may not be out of the archive."""
    parent = name.rpartition(b"/")[0]
    return clean(target if target.startswith(b"/") or not parent else parent + b"/" + target, LIMITS)


class DirectoryBundle(Bundle):
    def __init__(self, path: str) -> None:
        self._path = path
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: dict[str, Slice] = {}

    def names(self) -> list[str]:
        found: list[str] = []
        todo = [""]
        while todo:
            here = todo.pop()
            with os.scandir(f"{self._path}/{here}") as entries:
                for entry in entries:
                    name = here + entry.name
                    if entry.is_dir(follow_symlinks=False) and name.count("/") < LIMITS.depth:
                        todo.append(name + "/")
                    elif not entry.is_dir(follow_symlinks=False):
                        found.append(name)
                    if len(found) > LIMITS.members:
                        raise ArchiveError(f"{self._path}: more than {LIMITS.members} files")
        return sorted(found)

    def find(self, name: str) -> Slice | None:
        if name in self._open:
            return self._open[name]
        try:
            fd = open_file(self._root, clean(os.fsencode(name), LIMITS))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            if error.errno == errno.ELOOP:
                raise ArchiveError(f"{self._path}/{name}: is a symbolic link, which is not followed")
            raise
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise ArchiveError(f"{self._path}/{name}: is no regular file")
        self._open[name] = Slice(fd, 0, status.st_size, f"{self._path}/{name}")
        return self._open[name]

    def close(self) -> None:
        opened, self._open = self._open, {}
        for piece in opened.values():
            os.close(piece.fd)
        root, self._root = self._root, -1
        if root >= 0:
            os.close(root)


def open_path(store: Store, path: str, *, tell: Callable[[int], None] | None = None) -> Bundle:
    """A file or a directory. OSError if it can't be opened."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        return DirectoryBundle(path)
    try:
        return open_fd(store, fd, tell=tell)
    finally:
        os.close(fd)


def open_fd(store: Store, fd: int, *, tell: Callable[[int], None] | None = None) -> Bundle:
    """A tar from where `fd` stands, plain or compressed in any way that is known; the descriptor stays the caller's. `tell` hears how many
    bytes were copied, where they have to be."""
    if stat.S_ISREG(os.fstat(fd).st_mode) and os.lseek(fd, 0, os.SEEK_CUR) == 0:
        head = os.pread(fd, 6, 0)
        if not head:
            raise ArchiveError("the archive is empty")
        if recognise(head) == "none":
            return TarBundle(os.dup(fd))
    with open(fd, "rb", buffering=0, closefd=False) as stream:
        return TarBundle(_spool(store, stream, tell or (lambda done: None)))


def _spool(store: Store, stream: Readable, tell: Callable[[int], None]) -> int:
    """The uncompressed stream in a nameless file of the store; nothing is left of it when its last descriptor is closed."""
    plain, _ = decompress(stream)
    fd = nameless(store.paths.tmp)
    done = 0
    try:
        while data := plain.read(_PIECE):
            write_all(fd, data)
            done += len(data)
            tell(done)
        if not done:
            raise ArchiveError("the archive is empty")
        return fd
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(f"{store.paths.tmp}: {error.strerror}, after {done} bytes of the archive",
                             hint="free some space below the data root, or load from an uncompressed file; nothing was loaded")
        raise
    except BaseException:
        os.close(fd)
        raise
    finally:
        close = getattr(plain, "close", None)
        if plain is not stream and close is not None:
            close()


def digest_slice(piece: Slice, digest: str) -> None:
    """Reads a blob; ArchiveError unless it is what its name says."""
    from lamina.util.digest import VerifyingReader

    VerifyingReader(Slice(piece.fd, piece.offset, piece.size, piece.what), digest, piece.size, piece.what).drain()

