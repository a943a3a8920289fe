# SPDX-License-Identifier: Apache-2.0
"""Volumes of the local driver: a directory with a name, and the rows that say who uses it.

`_data` is what containers see (root, 0755, as docker makes it). A volume is used as long as a container's row refers to it, running or
not; removal and that check are one transaction. Names of removed volumes are free at once.
"""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lamina.errors import Conflict, InvalidArgument, NotFound
from lamina.store import removal, trash
from lamina.store.open import Store
from lamina.store.paths import is_volume_name
from lamina.util import fastjson
from lamina.util.atomic import fsync_dir
from lamina.util.ids import new_id
from lamina.util.times import now_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamina.store.db import DB, Row
    from lamina.store.lease import Lease

_COLUMNS = "name, created_ns, driver, labels, options, anonymous"
ANONYMOUS_LABEL = "com.docker.volume.anonymous"  # docker's mark, so that `volume ls` filters and prune agree with it


@dataclass(frozen=True)
class Volume:
    """One volume. `mountpoint` is the directory that containers get."""

    name: str
    created_ns: int
    driver: str
    mountpoint: str
    labels: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    anonymous: bool = False


def check_name(name: str) -> str:
    """InvalidArgument with docker's text for what can't be a volume's name."""
    if len(name) == 1:
        raise InvalidArgument(f"create {name}: volume name is too short, names should be at least two alphanumeric characters")
    if not is_volume_name(name):
        raise InvalidArgument(f'create {name}: "{name}" includes invalid characters for a local volume name, only '
                              '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path')
    return name


class VolumeStore:
    """Over a Store; keeps nothing itself."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def create(self, name: str | None = None, *, driver: str = "local", labels: Mapping[str, str] | None = None,
               options: Mapping[str, str] | None = None, lease: Lease | None = None) -> Volume:
        """Makes a volume, durably; without a name an anonymous one. An existing one of that name is returned as it is, as docker does.

        lease: holds an anonymous one, which goes with its owner unless a container refers to it by then.
        InvalidArgument for a bad name or an option (none exist yet); NotFound for another driver; Conflict for an existing one's driver.
        """
        anonymous = not name
        name = name or new_id()
        check_name(name)
        if driver not in ("", "local"):
            raise NotFound(f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found')
        for option in options or ():
            raise InvalidArgument(f'create {name}: invalid option: "{option}"')
        existing = self.find(name)
        if existing is not None:
            return existing
        volume = Volume(name, now_ns(), "local", self.store.paths.volume_data(name), dict(labels or {}), {}, anonymous)
        if anonymous:
            volume.labels.setdefault(ANONYMOUS_LABEL, "")
        leftover: list[str] = []
        with self.store.db.write() as db:
            raced = self.find(name)
            if raced is not None:
                return raced
            leftover = removal.settle(self.store, removal.VOLUME, name)  # a volume of that name whose files are still on their way out
            self._make_directory(name)
            db.execute(f"INSERT INTO volumes ({_COLUMNS}) VALUES (?,?,'local',?,'{{}}',?)",
                       (name, volume.created_ns, fastjson.dumps(volume.labels), int(anonymous)))
            if lease is not None and anonymous:
                if not lease.id:
                    lease.take()
                lease.add("volume", name)
        for path in leftover:
            trash.remove_path(path)
        return volume

    def _make_directory(self, name: str) -> None:
        """Inside the transaction: no sweep sees the directory without its row. A directory with data that lost its row is taken over."""
        path = self.store.paths.volume(name)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            if os.path.islink(path) or not os.path.isdir(path):
                raise Conflict(f"create {name}: {path} is there and is no directory") from None
        data = path + "/_data"
        try:
            os.mkdir(data, 0o755)
            os.chmod(data, 0o755)  # whatever the umask
        except FileExistsError:
            if os.path.islink(data) or not os.path.isdir(data):
                raise Conflict(f"create {name}: {data} is there and is no directory") from None
        fsync_dir(path)
        fsync_dir(self.store.paths.volumes)

    def find(self, name: str) -> Volume | None:
        row = self.store.db.one(f"SELECT {_COLUMNS} FROM volumes WHERE name=?", (name,))
        return None if row is None else self._volume(row)

    def get(self, name: str) -> Volume:
        """NotFound with docker's text."""
        volume = self.find(name)
        if volume is None:
            raise NotFound(f"get {name}: no such volume")
        return volume

    def list(self) -> Sequence[Volume]:
        """All, by name."""
        return [self._volume(row) for row in self.store.db.execute(f"SELECT {_COLUMNS} FROM volumes ORDER BY name")]

    def unused(self, *, anonymous_only: bool = True) -> Sequence[Volume]:
        """What prune would take: no container refers to it."""
        return [self._volume(row) for row in self.store.db.execute(
            f"SELECT {_COLUMNS} FROM volumes WHERE (anonymous=1 OR ?=0) "
            "AND NOT EXISTS (SELECT 1 FROM container_volumes WHERE volume_name=name) ORDER BY name", (int(anonymous_only),))]

    def used_by(self, name: str) -> Sequence[str]:
        """Ids of the containers that refer to it."""
        rows = self.store.db.execute("SELECT container_id FROM container_volumes WHERE volume_name=? ORDER BY 1", (name,))
        return [row[0] for row in rows]

    def of_container(self, container_id: str) -> Sequence[Volume]:
        rows = self.store.db.execute(
            f"SELECT {_COLUMNS} FROM volumes WHERE name IN (SELECT volume_name FROM container_volumes WHERE container_id=?) ORDER BY name",
            (container_id,))
        return [self._volume(row) for row in rows]

    def use(self, db: DB, container_id: str, name: str) -> None:
        """Adds a reference, inside the caller's transaction. NotFound if the volume has gone."""
        if db.one("SELECT 1 FROM volumes WHERE name=?", (name,)) is None:
            raise NotFound(f"get {name}: no such volume")
        db.execute("INSERT OR IGNORE INTO container_volumes VALUES (?,?)", (container_id, name))

    def remove(self, name: str, *, force: bool = False) -> bool:
        """Row and data; the data is gone when it returns. Conflict while a container refers to it, also with force.

        NotFound if there is none; with force that is no error (False).
        """
        with self.store.db.write() as db:
            users = self.used_by(name)
            if users:
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
            if not db.changes("DELETE FROM volumes WHERE name=?", (name,)):
                if force:
                    return False
                raise NotFound(f"get {name}: no such volume")
            removal.enter(db, removal.VOLUME, name)
        removal.finish(self.store, removal.VOLUME, name)
        return True

    def _volume(self, row: Row) -> Volume:
        name, created_ns, driver, labels, options, anonymous = row
        return Volume(name, created_ns, driver, self.store.paths.volume_data(name), fastjson.loads(labels), fastjson.loads(options),
                      bool(anonymous))
