# SPDX-License-Identifier: Apache-2.0
"""The checks of rows against rows: references, names, digests of stored documents."""
from __future__ import annotations

from collections.abc import Callable

from lamina.store import lease, removal
from lamina.store.check import Problem
from lamina.store.open import Store
from lamina.store.paths import is_volume_name
from lamina.util import fastjson
from lamina.util.digest import digest_of
from lamina.util.ids import is_id


def all_checks(store: Store) -> list[Problem]:
    """Inside a transaction."""
    return [*_references(store), *_layers(store), *_names(store), *_leases(store), *_pending(store)]


# Table, key columns, what it refers to in words, the condition under which the reference dangles; the row alone means nothing then.
_DANGLING = (
    ("S5", "tags", ("repo", "tag"), "image", "image_id NOT IN (SELECT id FROM images)"),
    ("S5", "repo_digests", ("repo", "digest", "image_id"), "image", "image_id NOT IN (SELECT id FROM images)"),
    ("S5", "image_manifests", ("image_id", "digest"), "image or manifest",
     "image_id NOT IN (SELECT id FROM images) OR digest NOT IN (SELECT digest FROM manifests)"),
    ("S13", "container_volumes", ("container_id", "volume_name"), "container or volume",
     "container_id NOT IN (SELECT id FROM containers) OR volume_name NOT IN (SELECT name FROM volumes)"),
    ("S15", "endpoints", ("network_id", "container_id"), "container or network",
     "container_id NOT IN (SELECT id FROM containers) OR network_id NOT IN (SELECT id FROM networks)"),
    ("S16", "lease_items", ("lease_id", "kind", "key"), "lease", "lease_id NOT IN (SELECT id FROM leases)"),
)


def _references(store: Store) -> list[Problem]:
    problems = []
    for code, table, keys, what, condition in _DANGLING:
        for row in store.db.execute(f"SELECT {', '.join(keys)} FROM {table} WHERE {condition}"):
            problems.append(Problem(code, " ".join(row), f"a row of {table} refers to a {what} that isn't there", True,
                                    _delete(store, table, keys, row, condition)))
    for (image, chain) in store.db.execute(
            "SELECT id, chain_id FROM images WHERE chain_id<>'' AND chain_id NOT IN (SELECT chain_id FROM layers)"):
        problems.append(Problem("S6", image, f"the image's top layer {chain} isn't there"))
    for (image, parent) in store.db.execute("SELECT id, parent FROM images WHERE parent<>'' AND parent NOT IN (SELECT id FROM images)"):
        problems.append(Problem("S6", image, f"the image's parent {parent} isn't there", True, _update(
            store, "UPDATE images SET parent='' WHERE id=? AND parent NOT IN (SELECT id FROM images)", (image,))))
    for (container, chain) in store.db.execute(
            "SELECT id, layer_chain FROM containers WHERE layer_chain<>'' AND layer_chain NOT IN (SELECT chain_id FROM layers)"):
        problems.append(Problem("S11", container, f"the container's top layer {chain} isn't there"))
    return problems


def _layers(store: Store) -> list[Problem]:
    problems = []
    db = store.db
    for (chain, parent) in db.execute(
            "SELECT chain_id, parent FROM layers WHERE parent<>'' AND parent NOT IN (SELECT chain_id FROM layers)"):
        problems.append(Problem("S7", chain, f"the layer's parent {parent} isn't there"))
    for (chain, key) in db.execute("SELECT chain_id, data_key FROM layers WHERE data_key NOT IN (SELECT key FROM layer_data)"):
        problems.append(Problem("S7", chain, f"the layer's data {key} isn't known"))
    for (chain, diff, parent) in db.execute("SELECT chain_id, diff_id, parent FROM layers"):
        if chain != (digest_of(f"{parent} {diff}".encode()) if parent else diff):
            problems.append(Problem("S7", chain, "the chain id isn't that of the layer's diff id and parent"))
    problems += _unneeded_layers(store)
    held = lease.held_keys(db, "layer_data")
    for (key, driver) in db.execute("SELECT key, driver FROM layer_data WHERE key NOT IN (SELECT data_key FROM layers)"):
        if key not in held and not key.startswith("init-"):
            problems.append(Problem("S10", key, f"layer data of driver {driver} that no layer refers to", True,
                                    _drop_layer_data(store, key)))
    return problems


def _unneeded_layers(store: Store) -> list[Problem]:
    """Layers below no image, no container and no living lease; the topmost first, as each holds the one below it."""
    db = store.db
    parents: dict[str, str] = dict(db.execute("SELECT chain_id, parent FROM layers"))
    needed: set[str] = set()
    tops = {row[0] for row in db.execute("SELECT chain_id FROM images UNION SELECT layer_chain FROM containers")}
    for top in tops | lease.held_keys(db, "layer"):
        while top in parents and top not in needed:
            needed.add(top)
            top = parents[top]

    def depth(chain: str) -> int:
        seen: set[str] = set()
        while chain in parents and chain not in seen:
            seen.add(chain)
            chain = parents[chain]
        return len(seen)

    return [Problem("S10", chain, "a layer that no image and no container needs", True, _drop_layer(store, chain))
            for chain in sorted(set(parents) - needed, key=depth, reverse=True)]


def _names(store: Store) -> list[Problem]:
    problems = []
    for (container, name) in store.db.execute("SELECT id, name FROM containers"):
        if not is_id(container) or not is_volume_name(name):  # the same letters; containers' names have no limit of their own
            problems.append(Problem("S11", container, f"the container's id or name {name!r} is not one"))
    for (name,) in store.db.execute("SELECT name FROM volumes"):
        if not is_volume_name(name):
            problems.append(Problem("S14", name, "a volume's name that isn't one"))
    return problems


def _leases(store: Store) -> list[Problem]:
    gone = lease.stale(store.db)
    return [Problem("S16", one, "a lease whose owner is gone", True, lambda: lease.drop_stale(store)) for one in gone]


def _pending(store: Store) -> list[Problem]:
    return [Problem("S17", f"{kind} {key}", "a removal that isn't finished", True, _finish(store, kind, key))
            for kind, key in removal.pending(store.db)]


def documents(store: Store) -> list[Problem]:
    """Image configs and manifests are what their digests say, and JSON columns are JSON. Reads, outside a transaction."""
    problems = []
    for (image, config) in store.db.execute("SELECT id, config FROM images"):
        if digest_of(config) != image:
            problems.append(Problem("S5", image, "the image's config isn't the one that its id names"))
    for (digest, content) in store.db.execute("SELECT digest, content FROM manifests"):
        if digest_of(content) != digest:
            problems.append(Problem("S5", digest, "the manifest isn't the one that its digest names"))
    for table, key, column in (("containers", "id", "config"), ("volumes", "name", "labels"), ("volumes", "name", "options"),
                               ("images", "id", "meta"), ("networks", "id", "config")):
        for (name, text) in store.db.execute(f"SELECT {key}, {column} FROM {table}"):
            try:
                fastjson.loads(text)
            except ValueError as error:
                problems.append(Problem("S20", f"{table} {name}", f"{column} can't be read: {error}"))
    return problems


def _delete(store: Store, table: str, keys: tuple[str, ...], row: tuple[object, ...], condition: str) -> Callable[[], object]:
    where = " AND ".join(f"{key}=?" for key in keys)
    return _update(store, f"DELETE FROM {table} WHERE {where} AND ({condition})", row)


def _update(store: Store, sql: str, params: tuple[object, ...]) -> Callable[[], object]:
    def run() -> None:
        with store.db.write() as db:
            db.execute(sql, params)
    return run


def _drop_layer(store: Store, chain: str) -> Callable[[], object]:
    def run() -> None:
        with store.db.write() as db:
            key = db.value("SELECT data_key FROM layers WHERE chain_id=?", (chain,))
            used = ("SELECT 1 FROM images WHERE chain_id=?1 UNION SELECT 1 FROM containers WHERE layer_chain=?1 "
                    "UNION SELECT 1 FROM layers WHERE parent=?1")
            if key is None or lease.held(db, "layer", chain) or db.one(used, (chain,)) is not None:
                return
            db.execute("DELETE FROM layers WHERE chain_id=?", (chain,))
        _drop_layer_data(store, key)()
    return run


def _drop_layer_data(store: Store, key: str) -> Callable[[], object]:
    def run() -> None:
        with store.db.write() as db:
            if lease.held(db, "layer_data", key) or not is_id(key.removeprefix("init-")):
                return
            if db.changes("DELETE FROM layer_data WHERE key=?1 AND NOT EXISTS (SELECT 1 FROM layers WHERE data_key=?1)", (key,)):
                removal.enter(db, removal.LAYER_DATA, key)
        removal.finish(store, removal.LAYER_DATA, key)
    return run


def _finish(store: Store, kind: str, key: str) -> Callable[[], object]:
    return lambda: removal.finish(store, kind, key)
