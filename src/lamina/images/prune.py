# SPDX-License-Identifier: Apache-2.0
"""`image prune`: images that nobody names (or, with dangling=false, that no container uses) go, each by the rules of `rmi`."""
from __future__ import annotations

from typing import Any

from lamina.errors import Conflict, NotFound
from lamina.spec.reference import familiar_name
from lamina.util import steps
from lamina.util.times import now_ns

from . import filters as f
from .platforms import NAMED
from .remove import Removal
from .store import ImageStore

KNOWN = ("dangling", "label", "label!", "until")


def prune_images(images: ImageStore, filters: f.Filters | None = None) -> dict[str, Any]:
    """{"ImagesDeleted": [{"Untagged"|"Deleted"}] or None, "SpaceReclaimed": bytes}. dangling=true is the default."""
    filters = filters or {}
    f.check_known(filters, KNOWN)
    dangling = f.boolean(filters, "dangling", True)
    before = f.until(filters, now_ns())
    db = images.store.db
    deleted: list[dict[str, str]] = []
    reclaimed = 0
    children = {row[0] for row in db.execute("SELECT DISTINCT parent FROM images WHERE parent != ''")}
    named = {row[0] for row in db.execute(f"SELECT DISTINCT image_id FROM ({NAMED})")}
    for image in images.all():
        names = Removal.names(db, image.id)
        if dangling and image.id in named or not names and image.id in children:
            continue  # a step below another image goes with that image, or not at all
        if before is not None and image.created_ns >= before:
            continue
        labels = image.run_config.get("Labels")
        if "label" in filters and not f.labels_match(filters["label"], labels):
            continue
        if any(f.labels_match([item], labels) for item in filters.get("label!", ())):
            continue
        refs = [f"{familiar_name(repo)}{'@' if is_digest else ':'}{what}" for repo, what, is_digest in names] or [image.id]
        for ref in refs:
            work = Removal(images)
            try:
                with db.write():
                    work.remove(db, ref)
            except (Conflict, NotFound):
                continue  # used, or gone meanwhile or with another of its names
            work.finish()
            deleted += work.records
            reclaimed += work.reclaimed
    if steps.tell is not None:
        steps.tell(f"looked at every image: {steps.count(len(deleted), 'name or image')} removed")
    return {"ImagesDeleted": deleted or None, "SpaceReclaimed": reclaimed}
