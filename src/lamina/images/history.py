# SPDX-License-Identifier: Apache-2.0
"""`history`: how an image came to be, top first (API v1.44, `GET /images/{name}/history`)."""
from __future__ import annotations

from lamina.util import steps
from lamina.util.times import parse_rfc3339

from .store import ImageStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MISSING = "<missing>"


def history(images: ImageStore, ref: str) -> list[dict[str, Any]]:
    """A dict an entry: Id Created CreatedBy Tags Size Comment. Ids are known only along Parent; the others are "<missing>"."""
    image = images.resolve(ref)
    layers = list(reversed(images.layers.chain(image.chain_id)))
    if steps.tell is not None:
        steps.tell(f"read image {image.short_id} and its layers, bottom first: {steps.shorts(layer.chain_id for layer in layers)}")
    entries: list[dict[str, Any]] = []
    used = 0
    for step in image.document.get("history") or []:
        size = 0
        if not step.get("empty_layer") and used < len(layers):
            size, used = layers[used].size, used + 1
        entries.append(_entry(_seconds(step.get("created")), step.get("created_by") or "", size, step.get("comment") or ""))
    for layer in layers[used:]:
        # More layers than history tells of: they are shown, since they are there.
        entries.append(_entry(layer.created_ns // 10**9, "", layer.size, ""))
    entries.reverse()
    at = image
    for entry in entries:
        entry["Id"] = at.id
        entry["Tags"] = images.tags(at.id) or None
        below = images.by_id(at.parent) if at.parent else None
        if below is None:
            break
        at = below
    return entries


def _entry(created: int, created_by: str, size: int, comment: str) -> dict[str, Any]:
    return {"Comment": comment, "Created": created, "CreatedBy": created_by, "Id": MISSING, "Size": size, "Tags": None}


def _seconds(text: str | None) -> int:
    try:
        return parse_rfc3339(text) // 10**9 if text else 0
    except ValueError:
        return 0
