# SPDX-License-Identifier: Apache-2.0
"""`commit`: what a container changed becomes a layer, and an image on top of the container's.

The new image's config is the container's (which has its image's in it since create), changed by `--change`; container_config says how the
committed container was run (W3.3). A container that changed nothing gives a history entry without a layer, as docker does.
The layer is deterministic: the same state gives the same diff id, whenever it is committed.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from lamina.errors import ArchiveError
from lamina.spec import imageconfig, platform
from lamina.util.digest import digest_of
from lamina.util.times import now_ns, rfc3339nano

from . import create
from .changes import apply_changes
from .store import Image, ImageStore

OWN_KEYS = frozenset((
    "architecture", "os", "variant", "created", "author", "comment", "container", "container_config", "config", "docker_version", "rootfs",
    "history", "id", "parent", "throwaway", "moby.buildkit.buildinfo.v1", "moby.buildkit.cache.v0",
))  # fmt: skip


class Committed(Protocol):
    """What commit needs of a container's row (containers.store.Record)."""

    id: str
    image_id: str
    layer_chain: str
    driver: str

    @property
    def config(self) -> dict[str, Any]: ...


def commit_image(images: ImageStore, record: Committed, *, repository: str = "", author: str = "", message: str = "",
                 changes: Sequence[str] = (), config: dict[str, Any] | None = None) -> str:
    """The new image's id. The caller pauses the container, if it runs and should be. `config`: the request body's, in place of the
    container's.

    Name and changes are checked before anything is read. All is under a lease; on failure nothing stays.
    """
    store = images.store
    name = create.target_name(repository)
    ran = imageconfig.run_config(record.config.get("Config") or {})
    new = apply_changes(ran if config is None else {**ran, **{k: v for k, v in config.items() if v is not None}}, changes)
    base = images.by_id(record.image_id) if record.image_id else None
    with create.making(images, f"commit {record.id[:12]}") as lease:
        layer = images.layers.add_from_container(record.id, record.layer_chain, record.driver, lease)
        empty = layer.diff_id == imageconfig.EMPTY_TAR
        top = record.layer_chain if empty else layer.chain_id
        created_ns = now_ns()
        created = rfc3339nano(created_ns)
        below = _document(images, base, record.layer_chain)
        entry = imageconfig.history_entry(created, author=author, created_by=" ".join(ran["Cmd"] or []), comment=message, empty_layer=empty)
        diff_ids = [*below["rootfs"]["diff_ids"], *([] if empty else [layer.diff_id])]
        data = imageconfig.build(
            platform=_platform(below), created=created, diff_ids=diff_ids, history=[*(below.get("history") or []), entry], config=new,
            container_config=ran, container=record.id, author=author, comment=message,
            extra={key: value for key, value in below.items() if key not in OWN_KEYS and value is not None},
        )  # fmt: skip
        imageconfig.check(data)  # what we write must be what we would take: limits grow with every commit
        image_id = digest_of(data)
        size = images.layers.size(top)
        create.insert(store, image_id, data, chain_id=top, parent=base.id if base else "", size=size, created_ns=created_ns, name=name)
    if empty:
        images.layers.remove_unused()
    create.tell(store, "create", image_id, name.familiar() if name else "")
    return image_id


def _document(images: ImageStore, base: Image | None, chain: str) -> dict[str, Any]:
    """The config to build upon: the image's, or, where it was removed by force, what its layers still say."""
    if base is not None:
        document = dict(base.document)
        rootfs = document.get("rootfs")
        if not isinstance(rootfs, dict) or not isinstance(rootfs.get("diff_ids"), list):
            if chain:
                raise ArchiveError(f"image {base.id}: its config has no layers, the store has")
            document["rootfs"] = {"type": "layers", "diff_ids": []}
        return document
    diff_ids = [layer.diff_id for layer in reversed(images.layers.chain(chain))]
    return {"rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": []}


def _platform(document: dict[str, Any]) -> platform.Platform:
    host = platform.host()
    if not document.get("architecture"):
        return host
    return platform.Platform(document.get("os") or host.os, document["architecture"], document.get("variant") or "")
