# SPDX-License-Identifier: Apache-2.0
"""Leases: what a living process is working on and nobody may sweep [hot].

A lease is named by its owner (pid, start time, boot id) and lists (kind, key) pairs. A dead owner's lease holds nothing: it is dropped
by whoever looks. Take the lease before the first byte is written; in the transaction that relies on something existing, insert the
reference; whoever removes asks `held` in the transaction that removes the row.
"""
from __future__ import annotations

import os

from lamina.store import removal
from lamina.util.identity import boot_id, is_alive, my_start_time
from lamina.util.ids import new_id
from lamina.util.times import now_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from lamina.store.db import DB
    from lamina.store.open import Store

    Item = tuple[str, str]

VOLUME = "volume"  # of a container that is being made: an anonymous one that nobody else can know of


class Lease:
    """`with Lease(store, "pull ubuntu:24.04") as lease: lease.add("blob", digest)`; ends with the block, or with the process."""

    __slots__ = ("store", "what", "id")

    def __init__(self, store: Store, what: str) -> None:
        self.store = store
        self.what = what
        self.id = ""

    def take(self, items: Sequence[Item] = ()) -> Lease:
        """Not durable: after a power cut its owner is dead anyway. In the caller's transaction if there is one."""
        assert not self.id, "taken twice"
        if self.store.db.in_transaction:
            self._insert(self.store.db, items)
        else:
            with self.store.db.write(durable=False) as db:
                self._insert(db, items)
        return self

    def _insert(self, db: DB, items: Sequence[Item]) -> None:
        lease = new_id()
        db.execute("INSERT INTO leases (id, pid, start_time, boot_id, what, created_ns) VALUES (?,?,?,?,?,?)",
                   (lease, os.getpid(), my_start_time(), boot_id(), self.what, now_ns()))
        for kind, key in items:
            db.execute("INSERT INTO lease_items VALUES (?,?,?)", (lease, kind, key))
        self.id = lease

    def add(self, kind: str, key: str) -> None:
        """Holds one more thing; in the caller's transaction if there is one (so that "found and held" is one step)."""
        assert self.id, "not taken"
        db = self.store.db
        if db.in_transaction:
            db.execute("INSERT OR IGNORE INTO lease_items VALUES (?,?,?)", (self.id, kind, key))
        else:
            with db.write(durable=False):
                db.execute("INSERT OR IGNORE INTO lease_items VALUES (?,?,?)", (self.id, kind, key))

    def release(self) -> None:
        """Idempotent. In the caller's transaction it counts with that; if that fails, call it again."""
        if self.id and self.store.db.in_transaction:
            _drop(self.store.db, self.id)
        elif self.id:
            lease, self.id = self.id, ""
            with self.store.db.write(durable=False) as db:
                _drop(db, lease)

    def __enter__(self) -> Lease:
        return self if self.id else self.take()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


def _drop(db: DB, lease: str) -> None:
    db.execute("DELETE FROM lease_items WHERE lease_id=?", (lease,))
    db.execute("DELETE FROM leases WHERE id=?", (lease,))


def held(db: DB, kind: str, key: str) -> str:
    """What the living holder of a thing is doing, or "". Ask inside the transaction that removes the thing's row."""
    for pid, start, boot, what in db.execute(
            "SELECT pid, start_time, boot_id, what FROM leases JOIN lease_items ON id=lease_id WHERE kind=? AND key=?", (kind, key)):
        if is_alive(pid, start, boot):
            return what or "a running command"
    return ""


def held_keys(db: DB, kind: str) -> set[str]:
    """All keys of a kind that living owners hold."""
    alive: dict[tuple[int, int, str], bool] = {}
    keys = set()
    for pid, start, boot, key in db.execute(
            "SELECT pid, start_time, boot_id, key FROM leases JOIN lease_items ON id=lease_id WHERE kind=?", (kind,)):
        owner = (pid, start, boot)
        if owner not in alive:
            alive[owner] = is_alive(pid, start, boot)
        if alive[owner]:
            keys.add(key)
    return keys


def stale(db: DB) -> list[str]:
    """Ids of leases whose owner is gone."""
    return [row[0] for row in db.execute("SELECT id, pid, start_time, boot_id FROM leases") if not is_alive(row[1], row[2], row[3])]


def drop_stale(store: Store) -> int:
    """Forgets the leases of the dead, and anonymous volumes that were made for a container which never came; how many leases."""
    if not stale(store.db):
        return 0
    volumes = []
    with store.db.write(durable=False) as db:
        gone = stale(db)
        for lease in gone:
            for (name,) in db.execute("SELECT key FROM lease_items WHERE lease_id=? AND kind=?", (lease, VOLUME)):
                if db.changes("DELETE FROM volumes WHERE name=?1 AND anonymous=1 "
                              "AND NOT EXISTS (SELECT 1 FROM container_volumes WHERE volume_name=?1)", (name,)):
                    removal.enter(db, removal.VOLUME, name)
                    volumes.append(name)
            _drop(db, lease)
    for name in volumes:
        removal.finish(store, removal.VOLUME, name)
    return len(gone)


def drop_own(store: Store) -> None:
    """Forgets the leases of this process: for who was interrupted between any two steps, and lets a sweep undo all of it."""
    with store.db.write(durable=False) as db:
        for (lease,) in db.execute("SELECT id FROM leases WHERE pid=? AND start_time=? AND boot_id=?",
                                   (os.getpid(), my_start_time(), boot_id())):
            _drop(db, lease)
