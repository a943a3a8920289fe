# SPDX-License-Identifier: Apache-2.0
"""Rows of containers, their names, and their removal [hot].

The row is inserted before the bundle is filled and removed before the bundle is, so a directory without row, removal entry or
open transaction is garbage. Removal: one transaction moves the row into the journal and frees name, addresses and references; the
files follow (`discard`), and whoever comes next finishes what was cut off. Rows of `--rm` containers that have ended are shown to
nobody and reaped by the next command.
"""
from __future__ import annotations

import os

from lamina.containers.state import State, load
from lamina.errors import Conflict, InvalidArgument, NotFound
from lamina.store import removal
from lamina.store.db import IntegrityError
from lamina.util import fastjson
from lamina.util.ids import is_hex_prefix, is_id, new_name
from lamina.util.times import now_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from lamina.store.db import Row
    from lamina.store.lease import Lease
    from lamina.store.open import Store

_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_REST = _FIRST | frozenset("_.-")
_COLUMNS = "id, name, image_id, image_ref, layer_chain, driver, created_ns, auto_remove, config, removing"


class Record:
    """One row. `config` is the JSON value as the engine stored it; parsed on first use."""

    __slots__ = ("id", "name", "image_id", "image_ref", "layer_chain", "driver", "created_ns", "auto_remove", "removing", "_text",
                 "_config")

    def __init__(self, id: str, name: str, *, image_id: str = "", image_ref: str = "", layer_chain: str = "", driver: str = "overlay",
                 created_ns: int = 0, auto_remove: bool = False, config: dict[str, Any] | None = None) -> None:
        self.id = id
        self.name = name
        self.image_id = image_id
        self.image_ref = image_ref
        self.layer_chain = layer_chain
        self.driver = driver
        self.created_ns = created_ns or now_ns()
        self.auto_remove = auto_remove
        self.removing = False
        self._text: str | None = None
        self._config = {} if config is None else config

    @property
    def config(self) -> dict[str, Any]:
        if self._text is not None:
            self._config, self._text = fastjson.loads(self._text), None
        return self._config

    def config_text(self) -> str:
        return self._text if self._text is not None else fastjson.dumps(self._config)


if TYPE_CHECKING:  # inside the class `list` is the method
    Records = list[Record]
    Joined = list[tuple[Record, State]]
    Strings = list[str]


def _record(row: Row) -> Record:
    record = Record(row[0], row[1], image_id=row[2], image_ref=row[3], layer_chain=row[4], driver=row[5], created_ns=row[6],
                    auto_remove=bool(row[7]))
    record._text = row[8]
    record.removing = bool(row[9])
    return record


def check_name(name: str) -> str:
    """The name without docker's leading slash. InvalidArgument with docker's text."""
    bare = name[1:] if name.startswith("/") else name
    if len(bare) < 2 or bare[0] not in _FIRST or not _REST.issuperset(bare):
        raise InvalidArgument(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return bare


def no_such(ref: str) -> NotFound:
    return NotFound(f"No such container: {ref}")


class ContainerStore:
    """Over a Store; keeps nothing itself."""

    __slots__ = ("store",)

    def __init__(self, store: Store) -> None:
        self.store = store

    # -- making
    def insert(self, record: Record, *, volumes: Sequence[str] = (), image_must_exist: bool = True, durable: bool = True,
               lease: Lease | None = None, made_up: bool = False) -> None:
        """Adds the row, its references and an empty bundle directory (0700), in one transaction.

        Conflict with docker's text if the name is taken (one that was `made_up` becomes another one then); NotFound if the image or a
        volume went away since it was looked up. Durable unless the container is `--rm`, or the caller sees to it (DB.sync). lease: held
        its volumes until now.
        """
        check_name(record.name)
        bundle = self.store.paths.container(record.id)
        while True:
            with self.store.db.write(durable=durable and not record.auto_remove) as db:
                if image_must_exist and record.image_id and db.one("SELECT 1 FROM images WHERE id=?", (record.image_id,)) is None:
                    raise NotFound(f"No such image: {record.image_ref or record.image_id}")
                holder = db.one(f"SELECT {_COLUMNS} FROM containers WHERE name=?", (record.name,))
                if holder is not None and made_up:  # another command has made up the same one meanwhile
                    record.name, holder = new_name(self.name_taken), None
                if holder is None:
                    try:
                        db.execute(f"INSERT INTO containers ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,0)", (
                            record.id, record.name, record.image_id, record.image_ref, record.layer_chain, record.driver, record.created_ns,
                            int(record.auto_remove), record.config_text()))
                    except IntegrityError:
                        raise Conflict(f"container id {record.id} is already in use") from None
                    self.add_volumes(record.id, volumes)
                    if lease is not None:
                        lease.release()
                    # Inside the transaction, so that a sweep, which takes the write lock, never meets the directory without its row.
                    try:
                        os.mkdir(bundle, 0o700)
                    except FileExistsError:
                        if os.listdir(bundle):
                            raise Conflict(f"container id {record.id}: its directory {bundle} is not empty") from None
                    return
            self._give_way(_record(holder), record.name)

    def _give_way(self, holder: Record, name: str) -> None:
        """The holder of a name was a `--rm` container that has ended: removed for good. Otherwise docker's conflict."""
        if not self.is_over(holder):
            raise Conflict(f'Conflict. The container name "/{name}" is already in use by container "{holder.id}". '
                           "You have to remove (or rename) that container to be able to reuse that name.")
        self.remove(holder.id, anonymous_volumes=True)

    def add_volumes(self, container_id: str, volumes: Sequence[str]) -> None:
        """References to volumes, inside the caller's transaction. NotFound for one that doesn't exist (any more)."""
        db = self.store.db
        for volume in volumes:
            if db.one("SELECT 1 FROM volumes WHERE name=?", (volume,)) is None:
                raise NotFound(f"get {volume}: no such volume")
            db.execute("INSERT OR IGNORE INTO container_volumes VALUES (?,?)", (container_id, volume))

    def name_taken(self, name: str) -> bool:
        """For making up names; `insert` decides."""
        return self.store.db.one("SELECT 1 FROM containers WHERE name=?", (name,)) is not None

    # -- finding
    def find(self, ref: str) -> Record | None:
        """By full id, else exact name, else unique prefix of an id, in docker's order. None if there is none that may be seen.

        InvalidArgument when the prefix is ambiguous.
        """
        if not ref:
            raise InvalidArgument('invalid name or ID supplied: ""')
        db = self.store.db
        bare = ref[1:] if ref.startswith("/") else ref
        row = None
        if is_id(ref):
            row = db.one(f"SELECT {_COLUMNS} FROM containers WHERE id=?", (ref,))
        if row is None:
            row = db.one(f"SELECT {_COLUMNS} FROM containers WHERE name=?", (bare,))
            if row is not None and row[7] and self.is_over(_record(row)):
                row = None  # the name is free, so it may be somebody's prefix
        if row is not None:
            record = _record(row)
            return None if self.is_over(record) else record
        if not is_hex_prefix(ref):
            return None
        seen = [r for r in map(_record, db.execute(
            f"SELECT {_COLUMNS} FROM containers WHERE id >= ? AND id < ? LIMIT 64", (ref, ref + "g"))) if not self.is_over(r)]
        if len(seen) > 1:
            raise InvalidArgument(f"multiple IDs found with provided prefix: {ref}")
        return seen[0] if seen else None

    def get(self, ref: str) -> Record:
        """`find`, or NotFound "No such container: <ref>"."""
        record = self.find(ref)
        if record is None:
            raise no_such(ref)
        return record

    def list(self) -> Records:
        """All that may be seen, newest first."""
        return [record for record, _ in self.list_with_state()]

    def list_with_state(self) -> Joined:
        """Rows joined with state files, newest first: what `ps` shows. Waits for no lock."""
        joined = []
        for row in self.store.db.execute(f"SELECT {_COLUMNS} FROM containers WHERE removing=0 ORDER BY created_ns DESC, id"):
            record = _record(row)
            state = self.state(record.id)
            if not (record.auto_remove and self._is_over(record, state)):
                joined.append((record, state))
        return joined

    def state(self, container_id: str) -> State:
        return load(self.store.paths, container_id)

    def using_image(self, image_id: str) -> Records:
        """Containers made from an image, also stopped ones."""
        rows = self.store.db.execute(f"SELECT {_COLUMNS} FROM containers WHERE image_id=? ORDER BY created_ns", (image_id,))
        return [r for r in map(_record, rows) if not self.is_over(r)]

    # -- changing
    def rename(self, ref: str, new_name: str) -> Record:
        """Conflict if the name is taken, NotFound if there is no such container; docker's texts."""
        record = self.get(ref)
        bare = check_name(new_name)
        if bare == record.name:
            raise InvalidArgument("Renaming a container with the same name as its current name")
        while True:
            with self.store.db.write() as db:
                holder = db.one(f"SELECT {_COLUMNS} FROM containers WHERE name=?", (bare,))
                if holder is None:
                    if not db.changes("UPDATE containers SET name=? WHERE id=?", (bare, record.id)):
                        raise no_such(ref)
                    record.name = bare
                    return record
            self._give_way(_record(holder), bare)

    def update_config(self, container_id: str, config: dict[str, Any]) -> None:
        """Replaces the stored request (docker update, restart policy)."""
        with self.store.db.write() as db:
            if not db.changes("UPDATE containers SET config=? WHERE id=?", (fastjson.dumps(config), container_id)):
                raise no_such(container_id)

    # -- ending
    def is_over(self, record: Record) -> bool:
        """A `--rm` container that has ended (or one under removal): its row is only waiting to be reaped."""
        if record.removing:
            return True
        return record.auto_remove and self._is_over(record, self.state(record.id))

    def _is_over(self, record: Record, state: State) -> bool:
        # insert() makes the directory with the row, so without it the monitor has already tidied up.
        return state.ended or (not state.live and not os.path.isdir(self.store.paths.container(record.id)))

    def delete(self, container_id: str, *, anonymous_volumes: bool = False) -> bool:
        """Row -> removal journal, in one transaction: name, addresses, image and volume references are free when it returns.

        anonymous_volumes: also those that only this container used (`rm -v`, `--rm`). False if there was no such row. The files
        are `discard`'s.
        """
        row = self.store.db.one("SELECT auto_remove FROM containers WHERE id=?", (container_id,))
        if row is None:
            return False
        with self.store.db.write(durable=not row[0]) as db:
            if not db.changes("DELETE FROM containers WHERE id=?", (container_id,)):
                return False
            volumes = db.execute("SELECT volume_name FROM container_volumes WHERE container_id=?", (container_id,))
            if volumes:
                db.execute("DELETE FROM container_volumes WHERE container_id=?", (container_id,))
            if anonymous_volumes:
                for (name,) in volumes:
                    if db.changes("DELETE FROM volumes WHERE name=?1 AND anonymous=1 "
                                  "AND NOT EXISTS (SELECT 1 FROM container_volumes WHERE volume_name=?1)", (name,)):
                        removal.enter(db, removal.VOLUME, name)
            db.execute("DELETE FROM endpoints WHERE container_id=?", (container_id,))
            removal.enter(db, removal.CONTAINER, container_id)
        return True

    def discard(self, container_id: str) -> None:
        """The files of a container whose row is in the journal: bundle and run-time directory, then the entry. Idempotent.

        A root that a dead monitor left mounted is unmounted. StoreError if something else is mounted in there; the entry stays then.
        """
        removal.finish(self.store, removal.CONTAINER, container_id)

    def remove(self, container_id: str, *, anonymous_volumes: bool = False) -> bool:
        """delete, then discard with all that is pending."""
        gone = self.delete(container_id, anonymous_volumes=anonymous_volumes)
        if gone:
            self.discard(container_id)
            if anonymous_volumes:
                removal.finish_all(self.store)
        return gone

    def over(self) -> Records:
        """`--rm` rows that have ended and wait for `reap`."""
        return [r for r in map(_record, self.store.db.execute(
            f"SELECT {_COLUMNS} FROM containers WHERE auto_remove=1 OR removing=1")) if self.is_over(r)]

    def reap(self) -> Strings:
        """Finishes what others began: rows of ended `--rm` containers, then every pending removal. Messages of what didn't work.

        Each command calls it once, after its reply; nothing to do costs two short reads.
        """
        for record in self.over():
            self.delete(record.id, anonymous_volumes=True)
        return removal.finish_all(self.store)
