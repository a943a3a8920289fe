# SPDX-License-Identifier: Apache-2.0
"""The verbs of volumes, with the API's Volume objects."""

from __future__ import annotations

import re

from lamina.errors import InvalidArgument, LaminaError
from lamina.images.filters import boolean
from lamina.util import steps
from lamina.util.times import rfc3339nano
from lamina.volumes.store import Volume, VolumeStore

from .sizes import tree_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .engine import Engine

LIST_FILTERS = ("dangling", "driver", "label", "name")
PRUNE_FILTERS = ("all", "label", "label!")


class Volumes:
    __slots__ = ("engine", "store")

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.store = VolumeStore(engine.store)

    def create(
        self, name: str | None = None, *, driver: str = "local", labels: dict[str, str] | None = None, options: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """A new volume, or the one of that name if there is one (docker: no error)."""
        known = self.store.find(name) if name else None
        volume = self.store.create(name, driver=driver, labels=labels, options=options)
        if known is None:
            self.event("create", volume.name)
        if steps.tell is not None:
            steps.tell(f"{'made' if known is None else 'found'} volume {volume.name}: {volume.mountpoint}")
        return shown(volume)

    def list(self, filters: dict[str, list[str]] | None = None) -> list[dict[str, Any]]:
        """All volumes by name; filters dangling, driver, label, name."""
        filters = filters or {}
        check(filters, LIST_FILTERS)
        dangling = boolean(filters, "dangling")
        found = []
        if steps.tell is not None:
            steps.tell("read the volumes, and which containers refer to them, from the database")
        for volume in self.store.list():
            if dangling is not None and (not self.store.used_by(volume.name)) is not dangling:
                continue
            if "driver" in filters and volume.driver not in filters["driver"]:
                continue
            if not all(has(volume, label) for label in filters.get("label", [])):
                continue
            if "name" in filters and not any(matches(volume.name, value) for value in filters["name"]):
                continue
            found.append(shown(volume))
        return found

    def inspect(self, name: str) -> dict[str, Any]:
        if steps.tell is not None:
            steps.tell(f"read the row of volume {name} from the database")
        return shown(self.store.get(name))

    def remove(self, name: str, *, force: bool = False) -> None:
        if self.store.remove(name, force=force):
            if steps.tell is not None:
                steps.tell(f"removed volume {name} and its files")
            self.event("destroy", name)

    def prune(self, filters: dict[str, Strings] | None = None) -> dict[str, Any]:
        """Removes volumes that no container refers to, anonymous ones unless `all`: {"VolumesDeleted","SpaceReclaimed"}."""
        from lamina.store import events

        filters = filters or {}
        check(filters, PRUNE_FILTERS)
        everything = boolean(filters, "all")
        deleted, space = [], 0
        for volume in self.store.unused(anonymous_only=not everything):
            wanted, unwanted = filters.get("label", []), filters.get("label!", [])
            if not all(has(volume, label) for label in wanted) or any(has(volume, label) for label in unwanted):
                continue
            size = tree_size(volume.mountpoint)
            try:
                self.remove(volume.name)
            except LaminaError:
                continue  # taken up or removed by somebody else meanwhile
            deleted.append(volume.name)
            space += size
        events.append(self.engine.store.paths.events, "volume", "prune", "", {"reclaimed": str(space)})
        return {"VolumesDeleted": deleted, "SpaceReclaimed": space}

    def event(self, action: str, name: str) -> None:
        from lamina.store import events

        events.append(self.engine.store.paths.events, "volume", action, name, {"driver": "local"})


if TYPE_CHECKING:  # inside the class `list` is the method
    Strings = list[str]


def shown(volume: Volume) -> dict[str, Any]:
    """The API's Volume."""
    return {
        "CreatedAt": rfc3339nano(volume.created_ns // 1_000_000_000 * 1_000_000_000),
        "Driver": volume.driver,
        "Labels": volume.labels or None,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": volume.options or None,
        "Scope": "local",
    }


def check(filters: dict[str, list[str]], known: tuple[str, ...]) -> None:
    for name in filters:
        if name not in known:
            raise InvalidArgument(f"invalid filter '{name}'")


def has(volume: Volume, wanted: str) -> bool:
    key, eq, value = wanted.partition("=")
    return key in volume.labels and (not eq or volume.labels[key] == value)


def matches(name: str, pattern: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error as e:
        raise InvalidArgument(f"invalid filter 'name={pattern}': {e}") from None
