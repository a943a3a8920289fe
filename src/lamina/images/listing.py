# SPDX-License-Identifier: Apache-2.0
"""`images`: ImageSummary of API v1.44, newest first."""
from __future__ import annotations

from lamina.spec.reference import familiar_name
from lamina.util import steps
from lamina.util.times import now_ns

from .platforms import NAMED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .filters import Filters
    from .store import Image, ImageStore

KNOWN = ("dangling", "label", "before", "since", "reference", "until")


def list_images(images: ImageStore, *, all: bool = False, filters: Filters | None = None) -> list[dict[str, Any]]:
    """A dict an image: Id ParentId RepoTags RepoDigests Created Size SharedSize Labels Containers.

    Without `all`, an image without a name that is only a step to another (a child has it as Parent) is left out.
    """
    filters = filters or {}
    dangling = before = since = until = None
    if filters:
        from . import filters as f  # dates and patterns: half of the time of a command that needs neither

        f.check_known(filters, KNOWN)
        dangling = f.boolean(filters, "dangling")
        before = _bounds(images, filters, "before")
        since = _bounds(images, filters, "since")
        until = f.until(filters, now_ns())
    db = images.store.db
    tags: dict[str, list[tuple[str, str]]] = {}
    digests: dict[str, list[tuple[str, str]]] = {}
    for image_id, repo, tag in db.execute(f"SELECT image_id, repo, tag FROM ({NAMED}) ORDER BY repo, tag"):
        tags.setdefault(image_id, []).append((familiar_name(repo), tag))
    for image_id, repo, digest in db.execute("SELECT image_id, repo, digest FROM repo_digests ORDER BY repo, digest"):
        digests.setdefault(image_id, []).append((familiar_name(repo), digest))
    parents = {row[0] for row in db.execute("SELECT DISTINCT parent FROM images WHERE parent != ''")}
    result = []
    for image in images.all():
        if before is not None and not image.created_ns < before or since is not None and not image.created_ns > since:
            continue
        if until is not None and image.created_ns >= until:
            continue
        labels = image.run_config.get("Labels")
        if "label" in filters and not f.labels_match(filters["label"], labels):
            continue
        names = [(f"{repo}:{tag}", repo) for repo, tag in tags.get(image.id, [])]
        with_digest = [(f"{repo}@{digest}", repo) for repo, digest in digests.get(image.id, [])]
        if filters.get("reference"):
            names = [n for n in names if any(f.name_matches(p, n[1], n[0]) for p in filters["reference"])]
            with_digest = [n for n in with_digest if any(f.name_matches(p, n[1], n[0]) for p in filters["reference"])]
            if not names and not with_digest:
                continue
        if not names and not with_digest:
            if not all and image.id in parents or dangling is False:
                continue
            if dangling and image.id in parents:
                continue
        elif dangling:
            continue
        result.append(_summary(image, [n[0] for n in names], [n[0] for n in with_digest], labels))
    if steps.tell is not None:
        steps.tell(f"read the images and their names from the database; {steps.count(len(result), 'image')} to show")
    return result


def _summary(image: Image, names: list[str], digests: list[str], labels: dict[str, str] | None) -> dict[str, Any]:
    return {
        "Containers": -1, "Created": image.created_ns // 10**9, "Id": image.id, "Labels": labels or None, "ParentId": image.parent,
        "RepoDigests": digests, "RepoTags": names, "SharedSize": -1, "Size": image.size,
    }  # fmt: skip


def _bounds(images: ImageStore, filters: Filters, name: str) -> int | None:
    """The time of the image that `before` or `since` names; with several, docker takes the strictest for before, the last for since."""
    times = [images.resolve(ref).created_ns for ref in filters.get(name, ())]
    if not times:
        return None
    return min(times) if name == "before" else max(times)
