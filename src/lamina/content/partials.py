# SPDX-License-Identifier: Apache-2.0
"""Downloads that aren't whole yet: a row, and the bytes that came so far in `partials/<hex>`, for the next pull to go on with.

Nothing here is believed: who goes on hashes again from byte 0. A file is written by whoever holds its lock (flock: the kernel frees it
when its holder dies), so that two pulls of one layer download it once; who comes second finds it whole. It goes with the image's
transaction, or a week after it was last used.
"""
from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Mapping

from lamina.store.open import Store
from lamina.util.atomic import write_all
from lamina.util.digest import PREFIX, new_sha256
from lamina.util.times import now_ns

_PIECE = 1 << 20


class Partial:
    """One blob that is to come: `size` bytes of `digest`; `validator` (an ETag) of those that are there. For one thread at a time."""

    def __init__(self, path: str, digest: str, size: int, validator: str) -> None:
        self.path = path
        self.digest = digest
        self.size = size
        self.validator = validator
        self.at = 0  # bytes that are there and hashed
        self._fd = -1
        self._hash = new_sha256()

    def open(self, pause: Callable[[], None]) -> None:
        """Takes the file's lock and hashes what is there. `pause` is called while another holds it, and may raise."""
        while True:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            while not self._lock():
                pause()
            status = os.fstat(self._fd)
            if status.st_nlink or status.st_size == self.size:
                break
            self.close()  # removed meanwhile, and not whole
        if status.st_size > self.size:
            self.restart()
        while data := os.pread(self._fd, _PIECE, self.at):
            self._hash.update(data)
            self.at += len(data)

    def _lock(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def write(self, data: bytes) -> None:
        """OSError names the file."""
        os.lseek(self._fd, self.at, os.SEEK_SET)
        try:
            write_all(self._fd, data)
        except OSError as error:
            error.filename = self.path
            raise
        self._hash.update(data)
        self.at += len(data)

    def restart(self) -> None:
        """From byte 0, in a file without a name: another pull, which was told another size, may still be reading the old one."""
        try:
            if os.stat(self.path, follow_symlinks=False).st_ino == os.fstat(self._fd).st_ino:
                os.unlink(self.path)
        except FileNotFoundError:
            pass  # swept, or removed by who was done with it
        fresh = os.open(os.path.dirname(self.path), os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        self.close()
        self._fd, self._hash, self.at = fresh, new_sha256(), 0

    @property
    def found(self) -> str:
        """Digest of what is there."""
        return PREFIX + self._hash.hexdigest()

    def handle(self) -> int:
        """A descriptor of the bytes, for who reads them; the caller closes it. It stays good when the file is removed."""
        return os.dup(self._fd)

    def unlock(self) -> None:
        """Lets the next one have it: a lock belongs to the open file, which `handle` shares."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class Partials:
    """Rows are for one thread, as the store is."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def enter(self, sizes: Mapping[str, int]) -> list[Partial]:
        """Rows for these (digest -> size), before the first byte."""
        found = []
        with self._store.db.write(durable=False) as db:
            for digest, size in sizes.items():
                row = db.one("SELECT size, validator FROM partials WHERE digest = ?", (digest,))
                validator = row[1] if row is not None and row[0] == size else ""
                db.execute("INSERT INTO partials (digest, size, validator, used_ns) VALUES (?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE SET "
                           "size = excluded.size, validator = excluded.validator, used_ns = excluded.used_ns",
                           (digest, size, validator, now_ns()))
                found.append(Partial(self._store.paths.partial(digest), digest, size, validator))
        return found

    def note(self, digest: str, validator: str) -> None:
        """Which version of it the bytes are of."""
        with self._store.db.write(durable=False) as db:
            db.execute("UPDATE partials SET validator = ?, used_ns = ? WHERE digest = ?", (validator, now_ns(), digest))

    def remove(self, digests: Iterable[str]) -> None:
        """They have become layers, or can't be used. In the caller's transaction, if there is one."""
        if self._store.db.in_transaction:
            for digest in digests:
                self._store.db.execute("DELETE FROM partials WHERE digest = ?", (digest,))
                try:
                    os.unlink(self._store.paths.partial(digest))
                except FileNotFoundError:
                    pass  # who pulled the same has removed it
            return
        with self._store.db.write(durable=False):
            self.remove(digests)
