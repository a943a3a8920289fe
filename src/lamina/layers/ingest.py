# SPDX-License-Identifier: Apache-2.0
"""How bytes become a layer: decompress, hash, extract and map in one pass, sync, rename, row; under a lease, and nothing left on failure.

Order (docs/on-disk.md): the lease stands before the first byte; everything is written below tmp/; the file system is synced before the
rename, the rename before the row; a durable transaction of the caller (the image's) follows and makes all of it count. Data that is
already there is used again only because these very bytes were hashed to its diff id: never by a name that somebody claims.
"""
from __future__ import annotations

import os
import stat

from lamina.errors import ArchiveError, StoreError
from lamina.linux.fs import syncfs
from lamina.store import removal, trash
from lamina.store.lease import Lease
from lamina.store.open import Store
from lamina.util import steps
from lamina.util.atomic import fsync_dir
from lamina.util.digest import check_digest
from lamina.util.ids import new_id
from lamina.util.times import now_ns

from . import placement
from .chain import chain_id, lowers
from .drivers.base import copy_root_attributes
from .store import Layer
from .unpack import open_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .driver import Driver
    from .tar.extract import Extracted
    from .tar.source import Readable

LEASE_LAYER = "layer"
LEASE_TMP = "tmp"


def add(store: Store, driver: Driver, stream: Readable, parent: str, lease: Lease, expected: str = "") -> Layer:
    """The layer of a tar (compressed in any way that is known) on top of the chain `parent` ("" for none).

    `expected`: the diff id it must have, else ArchiveError. Raises ArchiveError naming the member that can't be believed, StoreError when
    the disk or the parent is the reason. The lease holds the layer until the caller's row refers to it.
    """
    from .known import find as find_known
    from .tar.compress import decompress

    if expected:
        check_digest(expected)
    if not parent:
        known = find_known(store, stream, lease, LEASE_LAYER)
        if known is not None:
            if expected and expected != known.diff_id:  # the stream is at its end: nothing else can come of it
                raise ArchiveError(f"layer has digest {known.diff_id} instead of {expected}")
            if steps.tell is not None:
                steps.tell(f"hashed the tar: it is that of layer {steps.short(known.chain_id)}, which is here, so nothing was laid out")
            return known
    plain, _ = decompress(stream)
    return _make(store, driver, parent, lease, lambda active, parents: driver.apply(active, parents, plain), expected)


def add_from_upper(store: Store, driver: Driver, upper: str, parent: str, lease: Lease) -> Layer:
    """The layer of an overlay upper directory; each file is read once: hashed into the tar and copied on the way."""

    def copy(active: str, parents: Sequence[str]) -> Extracted:
        from .tar.extract import Extracted
        from .tar.pack import pack_overlay

        source, target = open_directory(upper), open_directory(active + "/diff")
        try:
            with open(active + "/tarmap.z", "xb") as out:
                packed = pack_overlay(source, None, copy_to=target, tarmap=out)
        finally:
            os.close(source)
            os.close(target)
        return Extracted(files=packed.files, bytes=packed.bytes, digest=packed.digest, size=packed.size,
                         shaped_by_parent=_inherit_root(active, parents))

    return _make(store, driver, parent, lease, copy, "")


def add_from_active(store: Store, driver: Driver, theirs: Driver, active: str, parents: Sequence[str], top: str, lease: Lease) -> Layer:
    """The layer of an active change set of any driver: its diff as a tar, then as from anywhere else."""
    token = "diff-" + new_id()
    lease.add(LEASE_TMP, token)
    path = store.paths.temp(token)
    with open(path, "xb+") as file:
        os.unlink(path)
        theirs.diff(active, parents, file.write)
        file.seek(0)
        return add(store, driver, file, top, lease)


def _make(store: Store, driver: Driver, parent: str, lease: Lease, fill: Callable[[str, Sequence[str]], Extracted], expected: str) -> Layer:
    token = "layer-" + new_id()
    workspace = store.paths.temp(token)
    lease.add(LEASE_TMP, token)
    parents = lowers(store.db, store.paths, parent)
    if parent:
        lease.add(LEASE_LAYER, parent)
    try:
        active = placement.choose(workspace)
        # Overlay's change set must not depend on what is below unless the extractor says so: the root's attributes come from the tar.
        driver.prepare(active, parents if driver.whole_trees else ())
        done = fill(active, parents)
        if expected and done.digest != expected:
            raise ArchiveError(f"layer has digest {done.digest} instead of {expected}")
        remove_work(store, active)
        sync(active)
        if steps.tell is not None:
            steps.tell(f"laid out {steps.count(done.files, 'file')}, {done.bytes} bytes, and synced them; "
                       f"the digest of their tar (the diff id) is {steps.short(done.digest)}")
        layer = Layer(chain_id(parent, done.digest), done.digest, parent, "", done.bytes, now_ns())
        shaped = driver.whole_trees or done.shaped_by_parent
        layer.data_key = (layer.chain_id if shaped else layer.diff_id)[7:]
        return publish(store, driver, active, layer, lease)
    finally:
        trash.discard(store, workspace)


def _inherit_root(active: str, parents: Sequence[str]) -> bool:
    """A layer's tar doesn't tell of the root: it is as below. True if that is anything but the usual, and so shapes the data."""
    if not parents:
        return False
    status = os.stat(parents[0])
    usual = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o755, 0, 0)
    if usual and not any(not name.startswith("trusted.overlay.") for name in os.listxattr(parents[0])):
        return False
    copy_root_attributes(parents[0], active + "/diff")
    return True


def remove_work(store: Store, active: str) -> None:
    if os.path.isdir(active + "/work"):
        os.rmdir(active + "/work")


def sync(active: str) -> None:
    fd = open_directory(active)
    try:
        syncfs(fd)
    finally:
        os.close(fd)


def publish(store: Store, driver: Driver, active: str, layer: Layer, lease: Lease) -> Layer:
    """Rename and rows, as one step for everybody else. Not durable by itself: the row that will refer to the layer is."""
    moved: list[str] = []
    with store.db.write(durable=False) as db:
        lease.add(LEASE_LAYER, layer.chain_id)
        known = db.one("SELECT diff_id, data_key, size, created_ns FROM layers WHERE chain_id = ?", (layer.chain_id,))
        if known is not None:
            layer.data_key, layer.size, layer.created_ns = known[1], known[2], known[3]
        else:
            moved += _insert(store, driver, active, layer)
    fsync_dir(store.paths.layers)  # also for what another process has just renamed there: it may not have got that far itself
    for path in moved:
        if path:
            trash.remove_path(path)
    if known is None and steps.tell is not None:
        steps.tell(f"made layer {steps.short(layer.chain_id)} on {'layer ' + steps.short(layer.parent) if layer.parent else 'nothing'}: "
                   + store.paths.layer_diff(layer.data_key))
    return layer


def _insert(store: Store, driver: Driver, active: str, layer: Layer) -> list[str]:
    """Inside the transaction: the rename, unless the data is there already, and the rows. What to delete afterwards."""
    db, key, moved = store.db, layer.data_key, []
    ready = db.one("SELECT diff_id FROM layer_data WHERE key = ? AND state = 'ready'", (key,))
    if ready is not None and ready[0] != layer.diff_id:
        raise StoreError(f"layer data {key} is recorded with another diff id", hint="lamina system check")
    if ready is None:
        moved += removal.settle(store, removal.LAYER_DATA, key)
        if not driver.commit(active, key):
            # Left by a crash between rename and row: nobody refers to it, and ours is whole.
            left = store.paths.layer(key)
            moved.append(trash.move(store, left))
            if not driver.commit(active, key):
                raise StoreError(f"{left}: is in the way of a new layer")
        db.execute("INSERT INTO layer_data (key, driver, version, diff_id, size, state) VALUES (?, ?, ?, ?, ?, 'ready')",
                   (key, driver.name, driver.version, layer.diff_id, layer.size))
    db.execute("INSERT INTO layers (chain_id, diff_id, parent, data_key, size, created_ns) VALUES (?, ?, ?, ?, ?, ?)",
               (layer.chain_id, layer.diff_id, layer.parent, key, layer.size, layer.created_ns))
    return moved
