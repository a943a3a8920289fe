# SPDX-License-Identifier: Apache-2.0
"""`load`: the layers of an archive's images come in, then one transaction makes all images and names, or none."""
from __future__ import annotations

from collections.abc import Callable

from lamina.content.blobs import BlobStore
from lamina.images import create
from lamina.images.store import ImageStore
from lamina.layers.chain import chain_ids
from lamina.layers.stack import Incoming, Stack
from lamina.layers.store import Layer
from lamina.spec.platform import Platform
from lamina.spec.reference import parse
from lamina.store.lease import Lease
from lamina.util.slices import Slice
from lamina.util.times import parse_rfc3339

from .bundle import Bundle
from .plan import Plan, PlannedImage, PlannedLayer, make

Tell = Callable[[str, str, int, int], None]
"""tell(diff id, "loading" | "exists" | "done", bytes read, of so many)"""
KEEP_PIECE = 1 << 20


class Loaded:
    """`images`: ids of those without a name; `names`: (familiar name, id of the image that had it before, or "")."""

    def __init__(self) -> None:
        self.images: list[str] = []
        self.names: list[tuple[str, str]] = []


def load(images: ImageStore, bundle: Bundle, *, platform: Platform | None = None, keep_blobs: bool = False,
         tell: Tell | None = None, commit: Callable[[], None] | None = None) -> Loaded:
    """Loads everything that is in the archive (for one platform, if it is given). Durable when it returns; on any error nothing stays.

    `commit` is called when everything is there but the last transaction. keep_blobs: keep compressed layers as they came, too, so that
    what is saved or pushed again has the same manifest digest.
    """
    plan = make(bundle, platform)
    done = Loaded()
    with create.making(images, "load") as lease:
        verified: set[tuple[int, int]] = set()
        sizes = {image.id: _layers(images, image, lease, verified, keep_blobs, tell) for image in plan.images.values()}
        if commit is not None:
            commit()
        _insert(images, plan, sizes, done)
    for image in plan.images.values():
        create.tell(images.store, "load", image.id, image.id)
    return done


def _layers(images: ImageStore, image: PlannedImage, lease: Lease, verified: set[tuple[int, int]], keep_blobs: bool,
            tell: Tell | None) -> int:
    """Makes the image's layers; the sum of their sizes. `verified`: (descriptor, offset) of the bytes that this load has read already."""

    def told(place: int, what: str, at: int, size: int) -> None:
        if tell is not None and _key(image.layers[place]) not in verified:  # else it was told of with an image before
            tell(image.layers[place].diff_id, what, at, size)

    layers: list[Layer] = []
    if image.layers:
        with Stack(images.store, images.layers.driver, [layer.diff_id for layer in image.layers], lease, tell=told) as stack:
            for place, layer in enumerate(image.layers):
                seen = stack.is_known(place) and _key(layer) in verified
                stack.put(place, None if seen else _incoming(layer))
            layers = stack.finish()
    verified.update(_key(layer) for layer in image.layers)
    if keep_blobs:
        for layer in image.layers:
            if layer.digest and layer.digest != layer.diff_id:
                _keep(images, layer)
    return sum(layer.size for layer in layers)


def _key(layer: PlannedLayer) -> tuple[int, int]:
    return layer.source.fd, layer.source.offset


def _incoming(layer: PlannedLayer) -> Incoming:
    source = layer.source
    return Incoming(source.fd, source.offset, source.size, digest=layer.digest, what=source.what)


def _keep(images: ImageStore, layer: PlannedLayer) -> None:
    blobs = BlobStore(images.store)
    known = blobs.find(layer.digest)
    if known is not None and known.kept:
        return
    source = Slice(layer.source.fd, layer.source.offset, layer.source.size, layer.source.what)
    with blobs.writer(layer.digest, source.size) as writer:
        while data := source.read(KEEP_PIECE):
            writer.write(data)
        writer.commit(media_type=layer.media_type, diff_id=layer.diff_id)


def _insert(images: ImageStore, plan: Plan, sizes: dict[str, int], done: Loaded) -> None:
    blobs = BlobStore(images.store)
    with images.store.db.write() as db:
        for image in _parents_first(plan):
            chains = chain_ids([layer.diff_id for layer in image.layers])
            parent = image.parent if image.parent in plan.images else ""
            create.insert_row(db, image.id, image.config, chain_id=chains[-1] if chains else "", parent=parent, size=sizes[image.id],
                              created_ns=_created(image))
            create.insert_manifests(db, image.id, image.manifests)
            for layer in image.layers:
                if layer.digest:
                    blobs.record_in(layer.digest, layer.source.size, media_type=layer.media_type, diff_id=layer.diff_id)
        named: set[str] = set()
        for full, (image_id, target) in plan.names.items():
            name = parse(full)
            had = db.value("SELECT image_id FROM tags WHERE repo = ? AND tag = ?", (name.name, name.tag))
            create.set_tag(db, name, image_id, target)
            done.names.append((name.familiar(), had if had is not None and had != image_id else ""))
            named |= _named(plan, image_id, target)
        below = {image.parent for image in plan.images.values()}
        done.images += [image_id for image_id in plan.images if image_id not in named and image_id not in below]


def _named(plan: Plan, image_id: str, target: str) -> set[str]:
    """The images that a name stands for: of an index, all that were loaded."""
    return {image_id, *(image.id for image in plan.images.values() if target and target in image.manifests)}


def _parents_first(plan: Plan) -> list[PlannedImage]:
    order: dict[str, PlannedImage] = {}
    for image in plan.images.values():
        chain = [image]
        while (above := plan.images.get(chain[-1].parent)) is not None and above.id not in order and above not in chain:
            chain.append(above)
        for step in reversed(chain):
            order.setdefault(step.id, step)
    return list(order.values())


def _created(image: PlannedImage) -> int:
    """When the image says it was made; 0 where that is no time."""
    try:
        created = parse_rfc3339(image.document.get("created") or "")
        return created if abs(created) < 1 << 63 else 0
    except ValueError:
        return 0

