# SPDX-License-Identifier: Apache-2.0
"""Layers go when nothing needs them: rows first, in the transaction that removed their last user; data after it, through the trash.

A layer is needed by an image whose top it is, by a layer on top of it, by a container that runs on it, and by a living lease. Data is
needed by every row that shares it.
"""
from __future__ import annotations

import os
from collections.abc import Iterable

from lamina.store import removal as journal
from lamina.store.db import DB
from lamina.store.lease import held
from lamina.store.open import Store
from lamina.util import steps

USED = """SELECT EXISTS (SELECT 1 FROM images WHERE chain_id = ?1) OR EXISTS (SELECT 1 FROM layers WHERE parent = ?1)
          OR EXISTS (SELECT 1 FROM containers WHERE layer_chain = ?1)"""


def drop_unused(store: Store, db: DB, top: str) -> tuple[list[str], list[str]]:
    """Deletes the rows of `top` and of what is below it, down to the first that is still needed. Inside the caller's transaction.

    (chain ids that went, top first; keys of data that nobody needs, now in the removal journal, for `finish` after the commit: layer data,
    and digests of blobs that were a layer's compressed form.)
    """
    assert db.in_transaction
    gone: list[str] = []
    keys: list[str] = []
    while top:
        row = db.one("SELECT parent, data_key, diff_id FROM layers WHERE chain_id = ?", (top,))
        if row is None or db.value(USED, (top,)) or held(db, "layer", top):
            break
        parent, key, diff_id = row
        db.execute("DELETE FROM layers WHERE chain_id = ?", (top,))
        keys += drop_blobs(db, diff_id)
        gone.append(top)
        if not db.value("SELECT EXISTS (SELECT 1 FROM layers WHERE data_key = ?)", (key,)):
            db.execute("DELETE FROM layer_data WHERE key = ?", (key,))
            journal.enter(db, journal.LAYER_DATA, key)
            keys.append(key)
        keys += drop_init(store, db, top)
        top = parent
    return gone, keys


def drop_blobs(db: DB, diff_id: str) -> list[str]:
    """What is known of a layer's compressed forms goes with the last layer of that diff id: without it the record grants nothing."""
    if db.value("SELECT EXISTS (SELECT 1 FROM layers WHERE diff_id = ?)", (diff_id,)):
        return []
    keys = []
    for digest, kept in db.execute("SELECT digest, kept FROM blobs WHERE diff_id = ?", (diff_id,)):
        if held(db, journal.BLOB, digest):
            continue
        db.execute("DELETE FROM blobs WHERE digest = ?", (digest,))
        if kept:
            journal.enter(db, journal.BLOB, digest)
            keys.append(digest)
    return keys


def drop_init(store: Store, db: DB, top: str) -> list[str]:
    """The init layer of a chain that no container stands on any more."""
    key = store.paths.init_key(top)
    if not os.path.lexists(store.paths.layer(key)):
        return []
    journal.enter(db, journal.LAYER_DATA, key)
    return [key]


def finish(store: Store, keys: Iterable[str]) -> None:
    for key in keys:
        if key.startswith("sha256:"):
            journal.finish(store, journal.BLOB, key)
            continue
        journal.finish(store, journal.LAYER_DATA, key)
        if steps.tell is not None:
            steps.tell(f"removed the layer's files: {store.paths.layer(key)}")


def remove_unused(store: Store) -> list[str]:
    """Every layer that nothing needs (left by a crash between layer and image); chain ids of those that went."""
    gone: list[str] = []
    keys: list[str] = []
    with store.db.write() as db:
        for (top,) in db.execute("SELECT chain_id FROM layers WHERE chain_id NOT IN (SELECT parent FROM layers)"):
            chains, data = drop_unused(store, db, top)
            gone += chains
            keys += data
    finish(store, keys)
    return gone
