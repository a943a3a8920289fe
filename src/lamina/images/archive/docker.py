# SPDX-License-Identifier: Apache-2.0
"""docker-archive: manifest.json is a list of {Config, RepoTags, Layers, Parent}, which name members of the archive.

As docker 1.10 and newer, podman and skopeo write it; source: moby's image spec 1.2, "Combined Image JSON + Filesystem Changeset Format".
"""
from __future__ import annotations

from lamina.errors import ArchiveError, InvalidArgument
from lamina.spec import document
from lamina.spec.platform import Platform
from lamina.util.digest import check_digest
from lamina.util.slices import Slice

from .bundle import Bundle
from .plan import Plan, PlannedImage, PlannedLayer, matches, parse_name, read_config, refuse_foreign

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_IMAGES = 10_000


def is_single(listed: Slice) -> bool:
    """Whether a manifest.json is a manifest itself, as in skopeo's dir:."""
    return isinstance(_read(listed), dict)


def _read(listed: Slice) -> Any:
    return document.parse_value(listed.read_all(document.MANIFEST_LIMIT), "manifest.json", document.MANIFEST_LIMIT)


def plan_archive(bundle: Bundle, plan: Plan, wanted: Platform | None) -> None:
    """Adds every image that manifest.json lists."""
    entries = _read(bundle.get("manifest.json"))
    if not isinstance(entries, list):
        raise ArchiveError("manifest.json must be a list")
    if len(entries) > MAX_IMAGES:
        raise ArchiveError(f"manifest.json lists {len(entries)} images, at most {MAX_IMAGES} are read")
    parents: list[tuple[PlannedImage, str]] = []
    for entry in entries:
        if not isinstance(entry, dict):
            raise ArchiveError("manifest.json: an entry is no object")
        tags, layers, parent = _texts(entry, "RepoTags"), _texts(entry, "Layers"), _text(entry, "Parent")
        config, checked = read_config(bundle.get(_text(entry, "Config")))
        image = PlannedImage(config, checked, [])
        if not matches(wanted, image.platform):
            continue
        refuse_foreign(image.platform.os)
        diff_ids = checked["rootfs"]["diff_ids"]
        if len(layers) != len(diff_ids):
            raise ArchiveError(f"invalid manifest, layers length mismatch: expected {len(layers)}, got {len(diff_ids)}")
        image.layers = [PlannedLayer(_layer(bundle, name), diff_id) for name, diff_id in zip(layers, diff_ids, strict=True)]
        image = plan.add(image)
        for tag in tags:
            plan.name(parse_name(tag, "manifest.json: RepoTags"), [image], "", wanted)
        parents.append((image, parent))
    for image, parent in parents:
        if parent in plan.images and is_step(plan.images[parent].document, image.document):
            image.parent = parent


def is_step(parent: dict[str, Any], child: dict[str, Any]) -> bool:
    """Whether one image is one step of history above another: only then it may have it as its parent."""
    above, below = child["history"], parent["history"]
    return not above and not below or len(above) == len(below) + 1 and above[: len(below)] == below


def _layer(bundle: Bundle, name: str) -> Slice:
    found = bundle.find(name)
    if found is None:
        raise ArchiveError(f"manifest.json: the layer {name} is missing")
    return found


def _text(entry: dict[str, Any], key: str) -> str:
    value = entry.get(key)
    if value is None and key == "Parent":
        return ""
    if not isinstance(value, str) or not value and key != "Parent":
        raise ArchiveError(f"manifest.json: {key} must be a string")
    if key == "Parent" and value:
        try:
            check_digest(value)
        except InvalidArgument as error:
            raise ArchiveError(f"manifest.json: Parent: {error.message}")
    return value


def _texts(entry: dict[str, Any], key: str) -> list[str]:
    value = entry.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value) or len(value) > 4096:
        raise ArchiveError(f"manifest.json: {key} must be a list of strings")
    return value
