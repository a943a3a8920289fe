# SPDX-License-Identifier: Apache-2.0
"""`tag`: one more name for an image."""
from __future__ import annotations

from lamina.errors import NotFound
from lamina.spec.reference import parse, parse_repository
from lamina.store.db import DB
from lamina.util import steps

from .create import set_tag, tell
from .store import Image, ImageStore, is_id_prefix


def tag(images: ImageStore, source: str, target: str) -> None:
    """Names the image that `source` means `target` ("repo[:tag]", latest by default). What had the name before loses it."""
    name = parse_repository(target).with_default_tag()
    with images.store.db.write() as db:
        image = images.find(source)
        if image is None:
            raise NotFound("No such image: " + images.shown(source))
        set_tag(db, name, image.id, _target(db, image, source))
    if steps.tell is not None:
        steps.tell(f"pointed the name {name.familiar()} to image {image.short_id}")
    tell(images.store, "tag", image.id, name.familiar())


def _target(db: DB, image: Image, source: str) -> str:
    """What the name `source` points to, the new one does, too: an index stays one."""
    if is_id_prefix(image.id, source):
        return ""
    name = parse(source).with_default_tag()
    return name.digest or db.value("SELECT target_digest FROM tags WHERE repo = ? AND tag = ?", (name.name, name.tag)) or ""
