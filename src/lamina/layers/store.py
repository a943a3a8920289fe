# SPDX-License-Identifier: Apache-2.0
"""[hot] LayerStore: the layers of one data root. Looking up and mounting here; everything that makes or removes is imported when called.

For images (which name chains), containers (which put a read-write change set on one) and the builder. Chains are named by
chain id, "" is the chain without layers.
"""
from __future__ import annotations

import os

from lamina.errors import NotFound, StoreError
from lamina.util import steps
from lamina.util.atomic import fsync_dir

from . import chain
from .drivers import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from lamina.store.db import DB
    from lamina.store.lease import Lease
    from lamina.store.open import Store

    from .driver import Driver, Mount, Usage
    from .tar.source import Readable

COLUMNS = "chain_id, diff_id, parent, data_key, size, created_ns"


class Layer:
    """A row: a change set in its place. `size` is the sum of the sizes of its files and symbolic links, as docker shows it."""

    __slots__ = ("chain_id", "diff_id", "parent", "data_key", "size", "created_ns")

    def __init__(self, chain_id: str, diff_id: str, parent: str, data_key: str, size: int, created_ns: int) -> None:
        self.chain_id = chain_id
        self.diff_id = diff_id
        self.parent = parent
        self.data_key = data_key
        self.size = size
        self.created_ns = created_ns


if TYPE_CHECKING:  # inside the class `list` is the method
    Layers = list[Layer]
    Strings = list[str]
    Changes = list[tuple[str, bytes]]
    Trees = list[dict[str, Any]]


class LayerStore:
    def __init__(self, store: Store) -> None:
        self.store = store
        self._driver: Driver | None = None

    # -- drivers
    @property
    def driver(self) -> Driver:
        """The driver of new layers and containers; probed and stored the first time."""
        if self._driver is None:
            name = self.store.db.value("SELECT value FROM meta WHERE key = 'layer_driver'")
            if name is None:
                from .choice import choose

                name = choose(self.store)
            self._driver = load(str(name), self.store)
        return self._driver

    def use_driver(self, name: str) -> None:
        """Chooses the driver of a new store by name; StoreError if it has another already, NotSupported if it doesn't work here."""
        from .choice import choose

        self._driver = load(choose(self.store, name), self.store)

    # -- looking up
    def get(self, chain_id: str) -> Layer:
        row = self.store.db.one(f"SELECT {COLUMNS} FROM layers WHERE chain_id = ?", (chain_id,))
        if row is None:
            raise NotFound(f"layer {chain_id} does not exist")
        return Layer(*row)

    def list(self) -> Layers:
        """All layers, oldest first."""
        rows = self.store.db.execute(f"SELECT {COLUMNS} FROM layers ORDER BY created_ns, chain_id")
        return [Layer(*row) for row in rows]

    def chain(self, top: str) -> Layers:
        """The layers of a chain, top first."""
        found = []
        while top:
            layer = self.get(top)
            found.append(layer)
            top = layer.parent
        return found

    def size(self, top: str) -> int:
        return sum(layer.size for layer in self.chain(top))

    def lowers(self, top: str) -> Strings:
        """The directories of a chain, top first."""
        return chain.lowers(self.store.db, self.store.paths, top)

    def path(self, chain_id: str) -> str:
        """The directory that holds a layer's own tree."""
        return self.store.paths.layer_diff(self.get(chain_id).data_key)

    def driver_of(self, chain_id: str) -> str:
        """Which driver holds a layer's data."""
        name = self.store.db.value("SELECT driver FROM layer_data JOIN layers ON key = data_key WHERE chain_id = ?", (chain_id,))
        if name is None:
            raise StoreError(f"layer {chain_id} has no data on disk", hint="lamina system check shows what is missing")
        return str(name)

    # -- mounts
    def init_layer(self, top: str) -> str:
        """Key of the init layer of the image whose top chain is `top`; made if it isn't there."""
        paths = self.store.paths
        key = paths.init_key(top)
        if not os.path.isdir(paths.layer_diff(key)):
            from lamina.store.lease import Lease

            from . import initlayer

            with Lease(self.store, "init layer of " + (top or "an empty image")) as lease:
                lease.add("layer_data", key)
                initlayer.make(self.store, self.driver, key, self.lowers(top), lease)
                if steps.tell is not None:
                    steps.tell(f"made the init layer, once for all containers of the image: {paths.layer_diff(key)}")
        return key

    def container_parents(self, top: str, *, driver: str = "") -> Strings:
        """What lies below a container's read-write change set, top first: the init layer, then the image."""
        paths = self.store.paths
        init = paths.layer_diff(self.init_layer(top))
        if (driver or self.driver.name) in chain.WHOLE_TREES:
            return [init]
        return [init, *self.lowers(top)]

    def prepare_container(self, container_id: str, top: str) -> Mount:
        """Makes rw/ in a container's bundle (whose directory exists); how to mount its root."""
        parents = self.container_parents(top)
        active = self.store.paths.container(container_id) + "/rw"
        self.driver.prepare(active, parents)
        return self.driver.mounts(active, parents)

    def sync_container(self, container_id: str, driver: str) -> None:
        """Makes durable what `prepare_container` made, before anybody is told of the container."""
        bundle = self.store.paths.container(container_id)
        if driver in chain.WHOLE_TREES:
            from .ingest import sync

            sync(bundle + "/rw")
        for path in (bundle + "/rw/diff", bundle + "/rw", bundle, self.store.paths.containers):
            fsync_dir(path)

    def container_mount(self, container_id: str, top: str, driver: str) -> Mount:
        """How to mount the root of a container that exists; `driver` is the one in its row."""
        active = self.store.paths.container(container_id) + "/rw"
        return load(driver, self.store).mounts(active, self.container_parents(top, driver=driver))

    def view(self, top: str) -> Mount:
        """How to mount a chain read-only."""
        parents = self.lowers(top)
        if not parents:
            raise NotFound("the image has no layers")
        return self.driver.view(parents)

    # -- what a container changed
    def container_changes(self, container_id: str, top: str, driver: str) -> Changes:
        """(A|C|D, absolute path) against image and init layer, as docker diff."""
        active = self.store.paths.container(container_id) + "/rw"
        return load(driver, self.store).changes(active, self.container_parents(top, driver=driver))

    def container_usage(self, container_id: str, driver: str) -> Usage:
        return load(driver, self.store).usage(self.store.paths.container_upper(container_id))

    # -- making
    def add(self, stream: Readable, parent: str, lease: Lease, expected: str = "") -> Layer:
        """See ingest.add."""
        from . import ingest

        return ingest.add(self.store, self.driver, stream, parent, lease, expected)

    def add_from_container(self, container_id: str, top: str, driver: str, lease: Lease) -> Layer:
        """The layer of what a container changed, on top of its image; the init layer is not in it."""
        from . import ingest

        active = self.store.paths.container(container_id) + "/rw"
        if driver == self.driver.name == "overlay":
            return ingest.add_from_upper(self.store, self.driver, active + "/diff", top, lease)
        return ingest.add_from_active(self.store, self.driver, load(driver, self.store), active,
                                      self.container_parents(top, driver=driver), top, lease)

    def add_from_upper(self, upper: str, parent: str, lease: Lease) -> Layer:
        """See ingest.add_from_upper. Only for upper directories of overlay."""
        from . import ingest

        return ingest.add_from_upper(self.store, self.driver, upper, parent, lease)

    # -- giving back
    def export_tar(self, chain_id: str, write: Callable[[memoryview], object]) -> tuple[str, int]:
        """The exact tar of a layer; (diff id, size). StoreError if the data no longer gives it; what was written until then is wrong."""
        from . import export

        return export.export_tar(self.store, self.get(chain_id), write)

    def verify(self, chain_id: str) -> None:
        """Hashes a layer's data again; StoreError if it isn't what its diff id says."""
        from . import export

        export.export_tar(self.store, self.get(chain_id), None)

    # -- removing
    def drop_unused(self, db: DB, top: str) -> tuple[Strings, Strings]:
        """Inside a transaction, see removal.drop_unused: (diff ids of the layers that went, top first; data keys to `finish`)."""
        from . import removal

        return removal.drop_unused(self.store, db, top)

    def finish_removals(self, keys: Iterable[str]) -> None:
        """After the transaction: the data goes."""
        from . import removal

        removal.finish(self.store, keys)

    def remove_unused(self) -> Strings:
        """Drops every layer that no image, container or lease needs; diff ids of those that went."""
        from . import removal

        return removal.remove_unused(self.store)

    def tree(self) -> Trees:
        """Every layer with what uses it, for `layer ls` and `layer tree`."""
        from . import listing

        return listing.tree(self)

