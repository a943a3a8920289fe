# SPDX-License-Identifier: Apache-2.0
"""The metadata database: SQLite without the `sqlite3` module around it [hot].

One connection per process and thread, never across a fork: each use asserts that. Statements outside `write()` are reads; every change
stands in a `with db.write():` = BEGIN IMMEDIATE, so that a writer waits before it has read anything that may be stale, and never
upgrades a read lock (which could fail halfway). Transactions are short: no layer I/O inside.
"""
from __future__ import annotations

import os

from lamina.errors import InvalidArgument, StoreError
from lamina.store.sqlite import sqlite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType
    from typing import Any

    Row = tuple[Any, ...]

IntegrityError: Any = sqlite.IntegrityError  # a UNIQUE constraint said no
BUSY_SECONDS = 60.0
NO_CKPT_ON_CLOSE = 1006  # sqlite3.h: SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE
_left: list[Any] = []
WAL_LIMIT = 512 * 1024  # beyond this `tidy` writes the WAL back: whoever opens the database alone reads all of it


class DB:
    """A connection that opens on first use. Not for sharing: another thread or a child makes its own."""

    __slots__ = ("path", "_connection", "_pid", "_synchronous", "_write", "_dirty", "announce", "wal")

    def __init__(self, path: str, *, wal: bool = True) -> None:
        self.path = path
        self.wal = wal
        self._connection: Any = None
        self._pid = 0
        self._synchronous = 2  # SQLite's own default: FULL
        self._write = _Write(self)
        self._dirty = False
        self.announce: Callable[[], None] | None = None  # called once, before the first change

    # -- reading
    def execute(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        """All rows of one statement. IntegrityError passes through; any other failure is a StoreError that says what to do."""
        try:
            rows: list[Row] = self._open().execute(sql, params).fetchall()
            return rows
        except IntegrityError:
            raise
        except UnicodeEncodeError:
            raise InvalidArgument("a name or an argument holds bytes that are not UTF-8") from None
        except sqlite.Error as error:
            raise self._explain(error) from None

    def one(self, sql: str, params: Sequence[object] = ()) -> Row | None:
        """The first row, or None."""
        rows = self.execute(sql, params)
        return rows[0] if rows else None

    def value(self, sql: str, params: Sequence[object] = ()) -> Any:
        """The first column of the first row, or None."""
        rows = self.execute(sql, params)
        return rows[0][0] if rows else None

    # -- writing
    def write(self, durable: bool = True) -> _Write:
        """`with db.write() as db:` commits at the end, rolls back on any exception. durable: on disk when it returns.

        Without durable a power cut may lose the transaction, never tear it. Nesting is an error: who calls must know whether the
        change is committed when it returns.
        """
        if self._write.active:
            raise AssertionError("a transaction inside a transaction")
        if self.announce is not None:
            announce, self.announce = self.announce, None
            announce()
        self._write.durable = durable
        return self._write

    @property
    def in_transaction(self) -> bool:
        return self._write.active

    def changes(self, sql: str, params: Sequence[object] = ()) -> int:
        """Runs one INSERT, UPDATE or DELETE inside `write()`; how many rows it changed."""
        try:
            count: int = self._open().execute(sql, params).rowcount
            return count
        except IntegrityError:
            raise
        except sqlite.Error as error:
            raise self._explain(error) from None

    def executemany(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        try:
            self._open().executemany(sql, rows)
        except IntegrityError:
            raise
        except sqlite.Error as error:
            raise self._explain(error) from None

    # -- opening and closing
    def close(self, *, lazy: bool = False) -> None:
        """Idempotent; must come before a fork. The next use opens it again.

        lazy: leave the write-ahead log as it is. SQLite's last connection writes it back with two fsyncs, which `run` doesn't
        wait for; `tidy` does it when the log has grown.
        """
        connection, self._connection = self._connection, None
        if connection is None or self._pid != os.getpid():
            return  # in a child: the parent's; closing it here would be a use
        keeper = None
        if lazy and self.wal and (self._dirty or self._log_size()):
            keeper = self._keep_log(connection)
        connection.close()
        if keeper is not None:
            keeper.close()
        self._dirty = False

    def let_go(self) -> None:
        """For a process that ends now and shall not wait: the kernel closes what is open, and nothing is written back (see `lazy`)."""
        if self._connection is not None:
            _left.append(self._connection)  # a connection that Python frees is closed, and that does write back
            self._connection = None

    def _log_size(self) -> int:
        try:
            return os.stat(self.path + "-wal").st_size
        except FileNotFoundError:
            return 0

    def tidy(self, limit: int = WAL_LIMIT) -> bool:
        """Writes a grown log back into the database, if nobody is in the way. For after the reply; True if it did something."""
        if not self.wal:
            return False
        if self._log_size() <= limit:
            return False
        self.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return True

    def sync(self) -> None:
        """Makes what was committed without `durable` durable: for who has other things to do between the commit and the reply."""
        if not self.wal:
            return
        try:
            fd = os.open(self.path + "-wal", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # written back into the database, which is synced then
        try:
            os.fdatasync(fd)
        finally:
            os.close(fd)

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def _open(self) -> Any:
        if self._connection is not None:
            if self._pid != os.getpid():
                raise AssertionError(f"{self.path}: a database connection crossed a fork")
            return self._connection
        try:
            connection = sqlite.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, cached_statements=64)
        except sqlite.Error as error:
            raise self._explain(error) from None
        self._connection = connection
        self._pid = os.getpid()
        self._synchronous = 2
        return connection

    def _keep_log(self, connection: Any) -> Any:
        """Makes the coming close leave the log alone.

        Python 3.12 can say so. Before that: the connection that closes last must be one that can't write, as only a writer gets the
        exclusive lock that the checkpoint on close needs.
        """
        if hasattr(connection, "setconfig"):
            connection.setconfig(NO_CKPT_ON_CLOSE, True)
            return None
        keeper = None
        try:
            keeper = sqlite.connect(f"file:{_uri(self.path)}?mode=ro", isolation_level=None, uri=True, cached_statements=1)
            keeper.execute("PRAGMA schema_version").fetchall()
        except sqlite.Error:  # it's an optimization: without it close just takes longer
            pass
        return keeper

    def _explain(self, error: Exception) -> StoreError:
        text = str(error)
        if "locked" in text:
            return StoreError(f"{self.path}: another command holds the database for more than {BUSY_SECONDS:.0f} seconds",
                              hint="see who has it open (fuser), then try again")
        if "full" in text:
            return StoreError(f"{self.path}: no space left for the database",
                              hint="free some space below the data root; nothing was changed")
        if "malformed" in text or "not a database" in text:
            return StoreError(f"{self.path}: the database is damaged ({text})", hint="see docs/on-disk.md, 'When the database is damaged'")
        if "no such table" in text or "no such column" in text:
            return StoreError(f"{self.path}: not a database of this layout ({text})")
        return StoreError(f"{self.path}: {text}")


class _Write:
    """The context manager of `DB.write`: one object per connection, as there is never more than one transaction."""

    __slots__ = ("_db", "active", "durable")

    def __init__(self, db: DB) -> None:
        self._db = db
        self.active = False
        self.durable = True

    def __enter__(self) -> DB:
        db = self._db
        connection = db._open()
        wanted = 2 if self.durable else 1
        try:
            if db._synchronous != wanted:  # a pragma has no effect inside a transaction
                connection.execute("PRAGMA synchronous=FULL" if self.durable else "PRAGMA synchronous=NORMAL")
                db._synchronous = wanted
            connection.execute("BEGIN IMMEDIATE")
        except sqlite.Error as error:
            raise db._explain(error) from None
        self.active = True
        db._dirty = True
        return db

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.active = False
        db = self._db
        connection = db._connection
        if connection is None or db._pid != os.getpid():
            raise AssertionError(f"{db.path}: the connection went away inside a transaction")
        if kind is None:
            try:
                connection.execute("COMMIT")
                return
            except sqlite.Error as failure:
                self._rollback(connection)
                raise db._explain(failure) from None
        self._rollback(connection)

    @staticmethod
    def _rollback(connection: Any) -> None:
        if connection.in_transaction:  # SQLite itself rolls back on some errors (disk full)
            connection.execute("ROLLBACK")


def _uri(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
