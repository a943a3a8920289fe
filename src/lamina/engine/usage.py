# SPDX-License-Identifier: Apache-2.0
"""What images, containers and volumes take on disk: `GET /system/df`."""
from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

from .sizes import tree_size

if TYPE_CHECKING:
    from .engine import Engine


def usage(engine: Engine) -> dict[str, Any]:
    """{"LayersSize", "Images", "Containers", "Volumes", "BuildCache"}: summaries as the lists give them, with what only this shows:
    SharedSize (bytes of layers that other images have, too) and Containers of an image, UsageData of a volume; "Partials": bytes of
    downloads that a later pull goes on with, which Docker's API has no word for."""
    layers = engine.layer_store.list()
    size_of = {layer.chain_id: layer.size for layer in layers}
    parent_of = {layer.chain_id: layer.parent for layer in layers}
    db = engine.store.db
    tops: dict[str, str] = dict(db.execute("SELECT id, chain_id FROM images"))
    chains: dict[str, list[str]] = {}
    for image, top in tops.items():
        chain = chains[image] = []
        while top:
            chain.append(top)
            top = parent_of[top]
    holders = Counter(chain_id for chain in chains.values() for chain_id in chain)
    containers = engine.containers.list(all=True, size=True)
    users = Counter(row["ImageID"] for row in containers)
    images = engine.images.list()
    for row in images:
        row["SharedSize"] = sum(size_of[chain_id] for chain_id in chains[row["Id"]] if holders[chain_id] > 1)
        row["Containers"] = users[row["Id"]]
    links = Counter(name for row in containers for name in {m["Name"] for m in row["Mounts"] if m["Type"] == "volume"})
    volumes = engine.volumes.list()
    for row in volumes:
        row["UsageData"] = {"RefCount": links[row["Name"]], "Size": tree_size(row["Mountpoint"])}
    return {
        "LayersSize": sum(size_of[chain_id] for chain_id in holders), "Images": images, "Containers": containers, "Volumes": volumes,
        "BuildCache": [], "Partials": partials(engine.store.paths.partials),
    }  # fmt: skip


def partials(directory: str) -> int:
    """Bytes of the files in it; some may go meanwhile."""
    found = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            try:
                found += entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue
    return found
