# SPDX-License-Identifier: Apache-2.0
"""The verbs of layers: `layer ls`, `layer tree`, `layer path`. A picture of what every image and container is made of."""

from __future__ import annotations

from lamina.spec.reference import familiar_name
from lamina.util import steps
from lamina.util.times import parse_rfc3339

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lamina.containers.store import Record

    from .engine import Engine


class Layers:
    __slots__ = ("engine",)

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def ls(self) -> list[dict[str, Any]]:
        """Every read-only layer, parents before children: ChainId DiffId Parent Key Driver Size Created (Unix seconds) Path Depth, Images
        (names of all that have it in their chain), TopOf (names of those that end there), Containers (ids of those on one of them)."""
        store = self.engine.store
        names: dict[str, list[str]] = {}
        for image, repo, tag in store.db.execute("SELECT image_id, repo, tag FROM tags ORDER BY repo, tag"):
            names.setdefault(image, []).append(f"{familiar_name(repo)}:{tag}")
        tops: dict[str, str] = {row[0]: row[1] for row in store.db.execute("SELECT id, chain_id FROM images")}
        rows = self.engine.layer_store.tree()
        if steps.tell is not None:
            steps.tell(f"read {steps.count(len(rows), 'layer')} from the database, with what stands on each")
        for row in rows:
            images = row["Images"]
            row["Created"] = parse_rfc3339(row["Created"]) // 1_000_000_000
            row["TopOf"] = [name for image in images if tops.get(image) == row["ChainId"] for name in names.get(image, [short(image)])]
            row["Images"] = [name for image in images for name in names.get(image, [short(image)])]
        return rows

    def tree(self, ref: str | None = None) -> list[dict[str, Any]]:
        """As `ls`, for all or for what one image or container stands on; a container adds its read-write layer at the end."""
        rows = self.ls()
        if ref is None:
            return rows
        top, record = self.top_of(ref)
        chain = {layer.chain_id for layer in self.engine.layer_store.chain(top)}
        rows = [row for row in rows if row["ChainId"] in chain]
        if record is not None:
            from .sizes import tree_size

            path = self.engine.store.paths.container_upper(record.id)
            rows.append({"ChainId": record.id, "DiffId": "", "Parent": top, "Key": record.id, "Driver": record.driver,
                "Size": tree_size(path),
                         "Created": record.created_ns // 1_000_000_000, "Path": path, "Depth": len(rows), "Images": [],
                         "TopOf": [f"container {record.name} (read-write)"], "Containers": [record.id]})  # fmt: skip
        return rows

    def path(self, ref: str) -> list[str]:
        """Directories on the host, the top one first: of a layer itself, of all layers of an image, or of a container (its read-write
        layer, the init layer, then the image's)."""
        layers = self.engine.layer_store
        record = self.engine.containers.records.find(ref)
        if record is not None:
            upper = self.engine.store.paths.container_upper(record.id)
            if steps.tell is not None:
                steps.tell(f"found container {steps.short(record.id)}: its read-write layer, its init layer, its image's layers")
            return [upper, *layers.container_parents(record.layer_chain, driver=record.driver)]
        found = [layer for layer in layers.list() if ref in (layer.chain_id, layer.diff_id) or is_prefix(ref, layer.chain_id)]
        if found:
            if steps.tell is not None:
                steps.tell(f"found layer {steps.short(found[0].chain_id)}")
            return [layers.path(found[0].chain_id)]
        image = self.engine.image_store.resolve(ref)
        if steps.tell is not None:
            steps.tell(f"found image {image.short_id}, and follows its layers from the top, layer {steps.short(image.chain_id)}, down")
        return layers.lowers(image.chain_id)

    def top_of(self, ref: str) -> tuple[str, Record | None]:
        """(top chain id, container's record or None) of a container or image."""
        record = self.engine.containers.records.find(ref)
        if record is not None:
            return record.layer_chain, record
        return self.engine.image_store.resolve(ref).chain_id, None


def is_prefix(ref: str, digest: str) -> bool:
    """Whether `ref` is at least 12 leading hex digits of a digest, with or without the algorithm."""
    return len(ref.removeprefix("sha256:")) >= 12 and digest.removeprefix("sha256:").startswith(ref.removeprefix("sha256:"))


def short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]
