# SPDX-License-Identifier: Apache-2.0
"""The removal journal: what has lost its row and is about to lose its files [hot].

`enter` stands in the transaction that deletes the row; `finish` moves the files out of the way and strikes the entry in one further
transaction, then deletes them. Whoever makes the same key again finishes the old removal first, in its own transaction (`settle`),
so the first remover can't hit what was made after it. A crash leaves the entry, and the next command goes on from there.
"""
from __future__ import annotations

import os

from lamina.errors import LaminaError
from lamina.store import presence
from lamina.util.times import now_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamina.store.db import DB
    from lamina.store.open import Store
    from lamina.store.paths import Paths

CONTAINER, VOLUME, BLOB, LAYER_DATA = "container", "volume", "blob", "layer_data"


def files_of(paths: Paths, kind: str, key: str) -> list[str]:
    """The paths that an entry stands for, below the data root."""
    if kind == CONTAINER:
        return [paths.container(key)]
    if kind == VOLUME:
        return [paths.volume(key)]
    if kind == BLOB:
        return [paths.blob(key)]
    if kind == LAYER_DATA:
        return [paths.layer(key)]
    raise LaminaError(f"removal journal: unknown kind {kind!r}")


def enter(db: DB, kind: str, key: str) -> None:
    """Inside the transaction that deletes the row."""
    db.execute("INSERT OR REPLACE INTO removals (kind, key, created_ns) VALUES (?,?,?)", (kind, key, now_ns()))


def pending(db: DB) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in db.execute("SELECT kind, key FROM removals ORDER BY created_ns")]


def settle(store: Store, kind: str, key: str) -> list[str]:
    """Inside a transaction: moves the files of a pending removal to the trash and strikes the entry. What to delete afterwards.

    StoreError if something is mounted in there; then nothing has moved.
    """
    from lamina.store import trash

    assert store.db.in_transaction
    if store.db.one("SELECT 1 FROM removals WHERE kind=? AND key=?", (kind, key)) is None:
        return []
    moved = [trash.move(store, path) for path in files_of(store.paths, kind, key)]
    store.db.execute("DELETE FROM removals WHERE kind=? AND key=?", (kind, key))
    return [path for path in moved if path]


def finish(store: Store, kind: str, key: str) -> bool:
    """Deletes the files of an entry. True if it was this call that did it. Idempotent, and safe beside others doing the same."""
    from lamina.store import trash

    if kind == CONTAINER:
        _leave_runroot(store.paths, key)
    if store.db.one("SELECT 1 FROM removals WHERE kind=? AND key=?", (kind, key)) is None:
        return False
    for path in files_of(store.paths, kind, key):
        if os.path.lexists(path):
            trash.refuse_mounts(path)  # before the transaction: reading the mount table of a busy host takes a while
    with store.db.write(durable=False):
        moved = settle(store, kind, key)
    for path in moved:
        trash.remove_path(path)
    return True


def _leave_runroot(paths: Paths, container_id: str) -> None:
    """A container's mount point and run-time directory. Its ids are never used again, so nobody races for them."""
    from lamina.store import trash

    rootfs = paths.rootfs(container_id)
    if os.path.lexists(rootfs):
        trash.detach(rootfs)
        trash.remove_path(rootfs)
    run = paths.run_container(container_id)
    if os.path.lexists(run):
        trash.remove_path(run)


def finish_all(store: Store, only: str = "") -> list[str]:
    """Every pending removal (of one kind); the messages of those that couldn't be finished (they stay in the journal)."""
    failed = []
    for kind, key in pending(store.db):
        if only and kind != only:
            continue
        try:
            finish(store, kind, key)
        except (LaminaError, OSError) as error:
            failed.append(str(error))
            if presence.undone(error):
                store.give_up()
    return failed
