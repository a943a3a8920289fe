# SPDX-License-Identifier: Apache-2.0
"""What `layer ls` and `layer tree` show: every read-only layer with its place, its data and who uses it."""
from __future__ import annotations

from lamina.util.times import rfc3339nano

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .store import LayerStore


def tree(layers: LayerStore) -> list[dict[str, Any]]:
    """A dict a layer, parents before children: ChainId DiffId Parent Key Driver Size Created Path Depth Images Containers.

    `Images` are the ids of all images whose chain holds the layer, `Containers` those of containers that stand on one of them.
    """
    db = layers.store.db
    driver = {key: name for key, name in db.execute("SELECT key, driver FROM layer_data")}
    rows = {layer.chain_id: layer for layer in layers.list()}
    images: dict[str, list[str]] = {chain: [] for chain in rows}
    containers: dict[str, list[str]] = {chain: [] for chain in rows}
    for users, query in ((images, "SELECT chain_id, id FROM images ORDER BY created_ns, id"),
                         (containers, "SELECT layer_chain, id FROM containers ORDER BY created_ns, id")):
        for chain, user in db.execute(query):
            while chain in rows:
                users[chain].append(user)
                chain = rows[chain].parent
    children: dict[str, list[str]] = {}
    for layer in rows.values():
        children.setdefault(layer.parent, []).append(layer.chain_id)
    result: list[dict[str, Any]] = []
    todo = [(chain, 0) for chain in reversed(children.get("", []))]
    while todo:
        chain, depth = todo.pop()
        layer = rows[chain]
        result.append({
            "ChainId": chain, "DiffId": layer.diff_id, "Parent": layer.parent, "Key": layer.data_key,
            "Driver": driver.get(layer.data_key, ""), "Size": layer.size, "Created": rfc3339nano(layer.created_ns),
            "Path": layers.store.paths.layer_diff(layer.data_key), "Depth": depth, "Images": images[chain], "Containers": containers[chain],
        })  # fmt: skip
        todo += [(child, depth + 1) for child in reversed(children.get(chain, []))]
    return result
