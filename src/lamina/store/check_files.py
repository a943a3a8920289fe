# SPDX-License-Identifier: Apache-2.0
"""The checks of files against rows, both ways: every row has its data, every datum has its row or is swept."""
from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable

from lamina.errors import StoreError
from lamina.store import events, lease, removal, trash
from lamina.store.check import Problem
from lamina.store.open import Store, is_ours, read_json
from lamina.store.paths import LAYER_INIT_PREFIX, Paths, is_volume_name
from lamina.store.schema import TABLES
from lamina.util.atomic import TMP_PREFIX, is_abandoned
from lamina.util.ids import is_id
from lamina.util.times import now_ns

PARTIAL_LIFE = 7 * 86400  # seconds that a broken download waits for somebody to go on with it


def base(store: Store) -> list[Problem]:
    """The directories themselves and layout.json."""
    problems = []
    paths = store.paths
    for root, names in ((paths.root, Paths.ROOT_DIRS), (paths.runroot, Paths.RUN_DIRS)):
        if not is_ours(root):
            problems.append(Problem("S1", root, "is not a directory of this user with mode 0700", True, _chmod(root)))
        for name in names:
            if not os.path.isdir(f"{root}/{name}") or os.path.islink(f"{root}/{name}"):
                problems.append(Problem("S1", f"{root}/{name}", "is not there", True, _mkdir(f"{root}/{name}")))
    layout = read_json(paths.layout) or {}
    if layout.get("engine") != store.engine_id:
        problems.append(Problem("S1", paths.layout, f"names engine {layout.get('engine')} instead of {store.engine_id}"))
    try:
        recorded = store.db.value("SELECT value FROM meta WHERE key='layout'")
        tables = {row[0] for row in store.db.execute("SELECT name FROM sqlite_schema WHERE type='table'")}
        if str(layout.get("layout")) != recorded:
            problems.append(Problem("S2", paths.database, f"has layout {recorded}, layout.json says {layout.get('layout')}"))
        problems += [Problem("S2", paths.database, f"has no table {name}") for name in TABLES if name not in tables]
    except StoreError as error:
        problems.append(Problem("S2", paths.database, error.message))
    return problems


def all_checks(store: Store) -> list[Problem]:
    """Inside a transaction: nothing is made or removed meanwhile."""
    return [*_blobs(store), *_partials(store), *_layers(store), *_containers(store), *_volumes(store), *_runroot(store)]


def outside_transaction(store: Store) -> list[Problem]:
    return [*_temporary(store), *_trash(store), *_events(store)]


def _blobs(store: Store) -> list[Problem]:
    problems = []
    present = {name: None for name in _names(store.paths.blobs) if is_id(name)}
    rows = {row[0][7:]: row[1] for row in store.db.execute("SELECT digest, size FROM blobs WHERE kept=1")}
    for name, size in rows.items():
        try:
            status = os.lstat(f"{store.paths.blobs}/{name}")
        except FileNotFoundError:
            problems.append(Problem("S3", f"sha256:{name}", "the blob's bytes should be kept, and are not there", True,
                                    _forget_bytes(store, name)))
            continue
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            problems.append(Problem("S3", f"sha256:{name}", f"the blob has {status.st_size} bytes instead of {size}"))
    going = _removing(store, removal.BLOB)
    for name in present:
        if name not in rows and f"sha256:{name}" not in going:
            problems.append(Problem("S4", f"sha256:{name}", "bytes of a blob that no row knows", True, _sweep(
                store, store.paths.blob(f"sha256:{name}"), "blob", f"sha256:{name}", "SELECT 1 FROM blobs WHERE digest=? AND kept=1")))
    return problems


def _partials(store: Store) -> list[Problem]:
    """Downloads that nobody will go on with."""
    problems = []
    rows = {row[0][7:]: row[1] for row in store.db.execute("SELECT digest, used_ns FROM partials")}
    oldest = now_ns() - PARTIAL_LIFE * 10**9
    for name in _names(store.paths.partials):
        path = f"{store.paths.partials}/{name}"
        if is_id(name) and name not in rows and is_abandoned(path):
            problems.append(Problem("S23", path, "a download that no row knows", True, _expire(store, name)))
        elif not is_id(name):
            problems.append(Problem("S23", path, "is not a download"))
    for name, used in rows.items():
        path = f"{store.paths.partials}/{name}"
        if used < oldest and (is_abandoned(path) or not os.path.lexists(path)):
            problems.append(Problem("S23", path, "a download that nobody went on with for a week", True, _expire(store, name)))
    return problems


def _layers(store: Store) -> list[Problem]:
    problems = []
    present = set(_names(store.paths.layers))
    held = lease.held_keys(store.db, "layer_data")
    rows = {row[0] for row in store.db.execute("SELECT key FROM layer_data")}
    chains = {row[0][7:] for row in store.db.execute("SELECT chain_id FROM layers")} | {"0" * 64}
    going = _removing(store, removal.LAYER_DATA)
    for key in rows - present - held:
        problems.append(Problem("S8", key, f"the layer's data {store.paths.layers}/{key} is not there"))
    for name in present - rows - held - going:
        if name.startswith(TMP_PREFIX):
            continue
        hexes = name.removeprefix(LAYER_INIT_PREFIX)
        path = f"{store.paths.layers}/{name}"
        if not is_id(hexes):
            problems.append(Problem("S9", path, "is not the data of a layer"))
        elif hexes == name:
            problems.append(Problem("S9", path, "layer data that no row knows", True,
                                    _sweep(store, path, "layer_data", name, "SELECT 1 FROM layer_data WHERE key=?")))
        elif hexes not in chains:
            alive = "SELECT 1 FROM layers WHERE chain_id='sha256:' || substr(?, 6)"
            problems.append(Problem("S9", path, "an init layer of an image that isn't there", True,
                                    _sweep(store, path, "layer_data", name, alive)))
    return problems


def _containers(store: Store) -> list[Problem]:
    problems = []
    present = set(_names(store.paths.containers))
    rows = {row[0]: row[1] for row in store.db.execute("SELECT id, auto_remove FROM containers")}
    going = _removing(store, removal.CONTAINER)
    for container, auto_remove in rows.items():
        if container not in present and not auto_remove:  # a --rm container's monitor deletes its directory; the row is reaped
            problems.append(Problem("S11", container, "the container has no directory; `lamina rm -f` removes the rest"))
    for name in present - set(rows) - going:
        path = f"{store.paths.containers}/{name}"
        if is_id(name):
            problems.append(Problem("S12", path, "the directory of a container that isn't there", True,
                                    _sweep(store, path, "container", name, "SELECT 1 FROM containers WHERE id=?")))
        elif not name.startswith(TMP_PREFIX):
            problems.append(Problem("S12", path, "is not the directory of a container"))
    return problems


def _volumes(store: Store) -> list[Problem]:
    problems = []
    present = set(_names(store.paths.volumes))
    rows = {row[0] for row in store.db.execute("SELECT name FROM volumes")}
    going = _removing(store, removal.VOLUME)
    for name in rows:
        if is_volume_name(name) and not os.path.isdir(store.paths.volume_data(name)):
            problems.append(Problem("S14", name, "the volume's data is not there; `lamina volume rm` removes the rest"))
    for name in present - rows - going:
        if name.startswith(TMP_PREFIX):
            continue
        path = f"{store.paths.volumes}/{name}"
        data = path + "/_data"
        if is_volume_name(name) and os.path.isdir(data) and not os.path.islink(data) and os.listdir(data):
            # Somebody's data: it gets its row back instead of being swept.
            problems.append(Problem("S14", name, "a volume with data in it that no row knows", True, _adopt_volume(store, name)))
        elif is_volume_name(name):
            problems.append(Problem("S12", path, "an empty directory of a volume that isn't there", True,
                                    _sweep(store, path, "volume", name, "SELECT 1 FROM volumes WHERE name=?")))
        else:
            problems.append(Problem("S14", path, "is not a volume"))
    return problems


def _runroot(store: Store) -> list[Problem]:
    problems = []
    rows = {row[0] for row in store.db.execute("SELECT id FROM containers")} | _removing(store, removal.CONTAINER)
    for part in ("containers", "rootfs"):
        for name in _names(f"{store.paths.runroot}/{part}"):
            path = f"{store.paths.runroot}/{part}/{name}"
            if is_id(name) and name not in rows:
                problems.append(Problem("S21", path, "belongs to a container that isn't there", True,
                                        _sweep(store, path, "container", name, "SELECT 1 FROM containers WHERE id=?")))
    return problems


def _temporary(store: Store) -> list[Problem]:
    held = lease.held_keys(store.db, "tmp")
    problems = []
    for name in _names(store.paths.tmp):
        path = f"{store.paths.tmp}/{name}"
        if name not in held and (os.path.isdir(path) or is_abandoned(path)):
            problems.append(Problem("S18", path, "a temporary file whose writer is gone", True, _sweep(store, path, "tmp", name, "")))
    for directory in (store.paths.root, store.paths.containers, store.paths.layers, store.paths.volumes, *_bundles(store)):
        for name in _names(directory):
            path = f"{directory}/{name}"
            if name.startswith(TMP_PREFIX) and is_abandoned(path):
                problems.append(Problem("S18", path, "a temporary file whose writer is gone", True, _unlink(path)))
    return problems


def _trash(store: Store) -> list[Problem]:
    problems = []
    for name in _names(store.paths.trash):
        ours = is_id(name)
        problems.append(Problem("S19", f"{store.paths.trash}/{name}", "left in the trash", ours,
                                (lambda: trash.empty(store)) if ours else None))
    return problems


def _events(store: Store) -> list[Problem]:
    problems = []
    numbers = events.segments(store.paths.events) if os.path.isdir(store.paths.events) else []
    for number in numbers[:-1]:  # the last one's tail may be in the middle of being written
        size = os.stat(f"{store.paths.events}/{number:08d}.log").st_size
        whole = events.scan(store.paths.events, number)[1]
        if whole != size:
            problems.append(Problem("S22", f"{store.paths.events}/{number:08d}.log", f"{size - whole} bytes of events can't be read"))
    return problems


def _removing(store: Store, kind: str) -> set[str]:
    return {row[0] for row in store.db.execute("SELECT key FROM removals WHERE kind=?", (kind,))}


def _bundles(store: Store) -> Iterable[str]:
    return (f"{store.paths.containers}/{name}" for name in _names(store.paths.containers) if is_id(name))


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _sweep(store: Store, path: str, kind: str, key: str, row: str) -> Callable[[], object]:
    """Moves a datum away if, in one transaction, it still has neither row nor living lease; then deletes it."""
    def run() -> None:
        trash.refuse_mounts(path)
        with store.db.write(durable=False) as db:
            if row and db.one(row, (key,)) is not None or lease.held(db, kind, key):
                return
            moved = trash.move(store, path)
        if moved:
            trash.remove_path(moved)
    return run


def _expire(store: Store, name: str) -> Callable[[], object]:
    """Row and bytes of a download, unless somebody has taken it up since."""
    def run() -> None:
        path = f"{store.paths.partials}/{name}"
        with store.db.write(durable=False) as db:
            used = db.value("SELECT used_ns FROM partials WHERE digest=?", (f"sha256:{name}",))
            if used is not None and used >= now_ns() - PARTIAL_LIFE * 10**9 or os.path.lexists(path) and not is_abandoned(path):
                return
            db.execute("DELETE FROM partials WHERE digest=?", (f"sha256:{name}",))
            if os.path.lexists(path):
                os.unlink(path)
    return run


def _forget_bytes(store: Store, name: str) -> Callable[[], object]:
    """The record of what was verified stays true without the bytes."""
    def run() -> None:
        with store.db.write() as db:
            if not os.path.lexists(f"{store.paths.blobs}/{name}"):
                db.execute("UPDATE blobs SET kept=0 WHERE digest=?", (f"sha256:{name}",))
    return run


def _adopt_volume(store: Store, name: str) -> Callable[[], object]:
    def run() -> None:
        with store.db.write() as db:
            created = os.stat(store.paths.volume_data(name)).st_mtime_ns
            db.execute("INSERT OR IGNORE INTO volumes (name, created_ns) VALUES (?,?)", (name, created))
    return run


def _unlink(path: str) -> Callable[[], object]:
    def run() -> None:
        if is_abandoned(path):
            os.unlink(path)
    return run


def _chmod(path: str) -> Callable[[], object]:
    return lambda: os.chmod(path, 0o700)


def _mkdir(path: str) -> Callable[[], object]:
    def run() -> None:
        if not os.path.lexists(path):
            os.mkdir(path, 0o700)
    return run
