# SPDX-License-Identifier: Apache-2.0
"""A name that points to an index stands for all of its images that are here: one is the name's own, the others go by it, too.

`tags.image_id` is the one that runs here (or was asked for); `image_manifests` leads from each image to its manifest and to the indexes
above it, and `tags.target_digest` from the name to one of those.
"""
from __future__ import annotations

from lamina.spec import reference
from lamina.spec.platform import Platform, best, host
from lamina.store.db import DB

from .store import Image, ImageStore, is_id_prefix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# (repo, tag, image id) of every name and every image that it stands for.
NAMED = """SELECT repo, tag, image_id FROM tags
           UNION SELECT t.repo, t.tag, m.image_id FROM tags t JOIN image_manifests m ON m.digest = t.target_digest"""


def platform_of(config: dict[str, Any]) -> Platform:
    """Of a checked config; what it doesn't say is this host's."""
    here = host()
    variant = config.get("variant") or ""
    if config.get("architecture") == "arm64" and variant == "v8":
        variant = ""
    return Platform(config.get("os") or here.os, config.get("architecture") or here.architecture, variant)


def others(db: DB, repo: str, tag: str) -> list[str]:
    """Ids of the images that go by a name without being its own."""
    return [row[0] for row in db.execute(
        "SELECT m.image_id FROM tags t JOIN image_manifests m ON m.digest = t.target_digest "
        "WHERE t.repo = ? AND t.tag = ? AND m.image_id != t.image_id ORDER BY m.image_id", (repo, tag))]


def for_platform(images: ImageStore, ref: str, image: Image, wanted: Platform) -> Image:
    """The image for a platform, of those that a name stands for; `image`, its own, if there is none (the caller tells)."""
    if best(wanted, [platform_of(image.document)]) == 0 or is_id_prefix(image.id, ref):
        return image
    name = reference.parse(ref).with_default_tag()
    found = [one for one in map(images.by_id, others(images.store.db, name.name, name.tag)) if one is not None]
    place = best(wanted, [platform_of(one.document) for one in found])
    return image if place < 0 else found[place]

