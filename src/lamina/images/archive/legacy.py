# SPDX-License-Identifier: Apache-2.0
"""Archives of docker before 1.10: a directory for each layer (<id>/layer.tar, json, VERSION), and `repositories` with the names.

Each directory is an image, and its `parent` the one below it. They had ids drawn by lot; as docker 1.10 to 27 do when they load them, a
config is made of each `json`, so that everybody who loads the archive gets the same id. Source: moby's image spec 1.0 and 1.1.
"""
from __future__ import annotations

from lamina.errors import ArchiveError
from lamina.layers.tar.compress import decompress
from lamina.spec import document, imageconfig, reference
from lamina.spec.platform import Platform
from lamina.util.digest import new_sha256
from lamina.util.slices import Slice

from .bundle import Bundle
from .plan import Plan, PlannedImage, PlannedLayer, matches, parse_name, refuse_foreign

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GONE = ("id", "parent", "Size", "parent_id", "layer_id", "throwaway")
# Versions before 1.8.3 wrote fields that are left out when their images are made anew; these stay, in docker's V1Image.
KEPT = ("comment", "created", "container", "container_config", "docker_version", "author", "config", "architecture", "variant", "os")
MAX_PARENTS = imageconfig.MAX_LAYERS


def is_archive(bundle: Bundle) -> bool:
    return any(name.endswith("/layer.tar") for name in bundle.names())


def plan_archive(bundle: Bundle, plan: Plan, wanted: Platform | None) -> None:
    """Adds every layer directory as an image, the lower ones first."""
    ids = sorted({name.split("/")[0] for name in bundle.names() if name.endswith("/json") and name.count("/") == 1})
    loaded: dict[str, PlannedImage] = {}
    for old in ids:
        for step in _up_to(bundle, old, loaded):
            loaded[step] = _image(bundle, step, loaded)
    kept = {image.id for image in loaded.values() if matches(wanted, image.platform)}
    for image in loaded.values():
        if image.id in kept:
            plan.add(image)
    listed = bundle.find("repositories")
    if listed is None:
        return
    for repository, tags in document.parse(listed.read_all(document.MANIFEST_LIMIT), "repositories").items():
        if not isinstance(tags, dict):
            raise ArchiveError("repositories: an entry is no object")
        for tag, old in tags.items():
            if not isinstance(old, str) or old not in loaded:
                raise ArchiveError(f"repositories: invalid target ID: {str(old)[:80]}")
            name = parse_name(f"{repository}:{tag}", "repositories")
            if loaded[old].id in kept:
                plan.name(reference.parse(name.full()), [loaded[old]], "", wanted)


def _json(bundle: Bundle, old: str) -> dict[str, Any]:
    data = bundle.get(f"{old}/json").read_all(document.CONFIG_LIMIT)
    return document.parse(data, f"{old}/json")


def _parent(value: dict[str, Any], old: str) -> str:
    parent = value.get("parent") or ""
    if not isinstance(parent, str) or "/" in parent or parent.startswith("."):
        raise ArchiveError(f"{old}/json: parent is no id")
    return parent


def _up_to(bundle: Bundle, old: str, loaded: dict[str, PlannedImage]) -> list[str]:
    """What isn't loaded yet of a chain, the lowest first."""
    chain: list[str] = []
    while old and old not in loaded:
        if old in chain:
            raise ArchiveError(f"{old}/json: is its own parent")
        chain.append(old)
        if len(chain) > MAX_PARENTS:
            raise ArchiveError(f"archive: more than {MAX_PARENTS} layers on each other")
        if bundle.find(f"{old}/json") is None:
            raise ArchiveError(f"archive: {old}/json, the parent of another layer, is missing")
        old = _parent(_json(bundle, old), old)
    return chain[::-1]


def _image(bundle: Bundle, old: str, loaded: dict[str, PlannedImage]) -> PlannedImage:
    value = _json(bundle, old)
    refuse_foreign(value.get("os") or "linux")
    parent = loaded.get(_parent(value, old))
    source = bundle.get(f"{old}/layer.tar")
    diff_ids = [*(parent.document["rootfs"]["diff_ids"] if parent else ()), _diff_id(source)]
    history = [*(parent.document["history"] if parent else ()), _history(value)]
    config = _config(value, diff_ids, history)
    layers = [*(parent.layers if parent else ()), PlannedLayer(source, diff_ids[-1])]
    image = PlannedImage(config, imageconfig.check(config), layers)
    image.parent = parent.id if parent else ""
    return image


def _diff_id(source: Slice) -> str:
    hasher = new_sha256()
    plain, _ = decompress(Slice(source.fd, source.offset, source.size, source.what))
    while data := plain.read(1 << 20):
        hasher.update(data)
    return "sha256:" + hasher.hexdigest()


def _history(value: dict[str, Any]) -> dict[str, Any]:
    ran = value.get("container_config")
    command = (ran.get("Cmd") if isinstance(ran, dict) else None) or []
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        command = []
    return {key: text for key, text in (
        ("created", value.get("created") or "0001-01-01T00:00:00Z"), ("author", value.get("author")), ("created_by", " ".join(command)),
        ("comment", value.get("comment"))) if text}  # fmt: skip


def _is_old(version: Any) -> bool:
    """Whether docker's version is before 1.8.3 ("" is)."""
    numbers = [int(part) if part.isdigit() else 0 for part in str(version or "0").split("-")[0].split(".")[:3]]
    return [*numbers, 0, 0][:3] < [1, 8, 3]


def _config(value: dict[str, Any], diff_ids: list[str], history: list[dict[str, Any]]) -> bytes:
    if _is_old(value.get("docker_version")):
        value = {key: value[key] for key in KEPT if value.get(key) or key == "created"}
        value["container_config"] = imageconfig.run_config(_object(value, "container_config"))
        if "config" in value:
            value["config"] = imageconfig.run_config(_object(value, "config"))
    made = {key: item for key, item in value.items() if key not in GONE}
    made["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    made["history"] = history
    return imageconfig.encode({key: made[key] for key in sorted(made)})


def _object(value: dict[str, Any], key: str) -> dict[str, Any]:
    found = value.get(key) or {}
    if not isinstance(found, dict):
        raise ArchiveError(f"json: {key} must be an object")
    return found
