# SPDX-License-Identifier: Apache-2.0
"""Blobs: files named by their sha256, which go in verified and come out the same.

Ingest: written to tmp/ (locked by its living writer), digest and size verified, fsync, then renamed with its row in one transaction.
Removal the other way round. A row without `kept` records what we once decompressed and verified (size, media type, diff id, origin)
although the bytes were dropped: only such a record lets a layer be reused without a download.
"""
from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

from lamina.errors import ArchiveError, Conflict, NotFound
from lamina.store import removal
from lamina.store.lease import held
from lamina.store.open import Store
from lamina.util.atomic import fsync_dir, write_all
from lamina.util.digest import PREFIX, VerifyingReader, check_digest, new_sha256
from lamina.util.ids import is_id, new_id

if TYPE_CHECKING:
    from lamina.store.db import Row

_COLUMNS = "digest, size, media_type, diff_id, origin, kept"


class Blob:
    """A row: what is known of a digest. `kept`: the bytes are here."""

    __slots__ = ("digest", "size", "media_type", "diff_id", "origin", "kept")

    def __init__(self, row: Row) -> None:
        self.digest: str = row[0]
        self.size: int = row[1]
        self.media_type: str | None = row[2]
        self.diff_id: str | None = row[3]
        self.origin: str | None = row[4]
        self.kept = bool(row[5])


class BlobWriter:
    """`with blobs.writer(digest, size) as w: w.write(...); w.commit()`. Left without commit, nothing stays."""

    def __init__(self, store: Store, digest: str | None, size: int | None) -> None:
        self._store = store
        self._expected = None if digest is None else check_digest(digest)
        self._size = size
        self._hash = new_sha256()
        self.written = 0
        self.path = store.paths.temp(f"blob-{new_id()}")
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)  # the sweep leaves locked files alone

    @property
    def digest(self) -> str:
        """Of what was written so far."""
        return PREFIX + self._hash.hexdigest()

    def write(self, data: bytes) -> int:
        """ArchiveError as soon as more comes than was promised."""
        if self._size is not None and self.written + len(data) > self._size:
            raise ArchiveError(f"blob {self._expected or ''} is longer than the {self._size} bytes it should have")
        self._hash.update(data)
        write_all(self._fd, data)
        self.written += len(data)
        return len(data)

    def commit(self, *, media_type: str | None = None, diff_id: str | None = None, origin: str | None = None) -> str:
        """Verifies, makes durable, and only then lets the store know. ArchiveError if digest or size are not as promised."""
        digest = self.digest
        if self._size is not None and self.written != self._size:
            raise ArchiveError(f"blob {self._expected or digest} has {self.written} bytes instead of {self._size}")
        if self._expected is not None and digest != self._expected:
            raise ArchiveError(f"blob has digest {digest} instead of {self._expected}")
        if diff_id is not None:
            check_digest(diff_id)
        target = self._store.paths.blob(digest)
        os.fchmod(self._fd, 0o400)
        os.fsync(self._fd)
        with self._store.db.write() as db:
            # Rename and row together: a removal of the same digest, which takes the write lock too, sees both or neither.
            db.execute("DELETE FROM removals WHERE kind=? AND key=?", (removal.BLOB, digest))
            os.rename(self.path, target)
            fsync_dir(self._store.paths.blobs)
            _record(self._store, digest, self.written, media_type, diff_id, origin, kept=True)
        self._close()
        return digest

    def abort(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            try:
                os.unlink(self.path)
            except FileNotFoundError:
                pass
            self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        os.close(fd)

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.abort()


def _record(store: Store, digest: str, size: int, media_type: str | None, diff_id: str | None, origin: str | None, *, kept: bool) -> None:
    """Inside a transaction. What was known and isn't said again stays."""
    store.db.execute(
        f"INSERT INTO blobs ({_COLUMNS}) VALUES (?,?,?,?,?,?) ON CONFLICT (digest) DO UPDATE SET size=excluded.size, "
        "media_type=coalesce(excluded.media_type, media_type), diff_id=coalesce(excluded.diff_id, diff_id), "
        "origin=coalesce(excluded.origin, origin), kept=max(kept, excluded.kept)",
        (digest, size, media_type, diff_id, origin, int(kept)))


class BlobStore:
    """Over a Store; keeps nothing itself."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def writer(self, digest: str | None = None, size: int | None = None) -> BlobWriter:
        """Begins an ingest; digest and size are what it must turn out to be, where that is known."""
        return BlobWriter(self.store, digest, size)

    def put(self, data: bytes, *, digest: str | None = None, media_type: str | None = None) -> str:
        """A small blob at once. Returns its digest."""
        with self.writer(digest, len(data)) as writer:
            writer.write(data)
            return writer.commit(media_type=media_type)

    def record(self, digest: str, size: int, *, media_type: str | None = None, diff_id: str | None = None,
               origin: str | None = None) -> None:
        """Notes a blob whose bytes were verified and are not kept. Only for what this engine itself hashed (and decompressed)."""
        check_digest(digest)
        if diff_id is not None:
            check_digest(diff_id)
        with self.store.db.write():
            _record(self.store, digest, size, media_type, diff_id, origin, kept=False)

    def record_in(self, digest: str, size: int, *, media_type: str | None = None, diff_id: str | None = None,
                  origin: str | None = None) -> None:
        """As `record`, inside the caller's transaction."""
        assert self.store.db.in_transaction
        _record(self.store, check_digest(digest), size, media_type, diff_id, origin, kept=False)

    def find(self, digest: str) -> Blob | None:
        row = self.store.db.one(f"SELECT {_COLUMNS} FROM blobs WHERE digest=?", (check_digest(digest),))
        return None if row is None else Blob(row)

    def with_diff_id(self, diff_id: str) -> list[Blob]:
        """Every form in which a layer has been seen and verified."""
        rows = self.store.db.execute(f"SELECT {_COLUMNS} FROM blobs WHERE diff_id=? ORDER BY digest", (check_digest(diff_id),))
        return [Blob(row) for row in rows]

    def open(self, digest: str) -> BinaryIO:
        """The bytes, for reading. NotFound if they aren't kept. Not verified again: `verify` or VerifyingReader do that."""
        try:
            fd = os.open(self.store.paths.blob(digest), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise NotFound(f"blob {digest} is not in the store") from None
        return os.fdopen(fd, "rb")

    def read(self, digest: str) -> bytes:
        """All of a small blob, verified. ArchiveError if the file is damaged."""
        with self.open(digest) as file:
            reader = VerifyingReader(file, digest)
            data = reader.read()
            reader.drain()
            return data

    def verify(self, digest: str) -> None:
        """Reads every byte. NotFound or ArchiveError."""
        blob = self.find(digest)
        with self.open(digest) as file:
            VerifyingReader(file, digest, None if blob is None else blob.size).drain()

    def remove(self, digest: str) -> bool:
        """Row and bytes; False if there was nothing. Conflict while a living process holds it. The caller knows that nothing needs it."""
        with self.store.db.write() as db:
            holder = held(db, "blob", check_digest(digest))
            if holder:
                raise Conflict(f"blob {digest} is in use by: {holder}")
            if not db.changes("DELETE FROM blobs WHERE digest=?", (digest,)):
                return False
            removal.enter(db, removal.BLOB, digest)
        removal.finish(self.store, removal.BLOB, digest)
        return True

    def drop_bytes(self, digest: str) -> bool:
        """Keeps the record, drops the bytes."""
        with self.store.db.write() as db:
            if held(db, "blob", check_digest(digest)) or not db.changes("UPDATE blobs SET kept=0 WHERE digest=? AND kept=1", (digest,)):
                return False
            removal.enter(db, removal.BLOB, digest)
        removal.finish(self.store, removal.BLOB, digest)
        return True

    def walk(self) -> Iterator[tuple[str, int]]:
        """(digest, size) of every file, whatever the rows say."""
        with os.scandir(self.store.paths.blobs) as entries:
            for entry in entries:
                if is_id(entry.name) and entry.is_file(follow_symlinks=False):
                    yield PREFIX + entry.name, entry.stat(follow_symlinks=False).st_size
