# SPDX-License-Identifier: Apache-2.0
"""`inspect` of an image: ImageInspect of API v1.44, in docker's order of keys, with Container and ContainerConfig as W3.3 wants them."""
from __future__ import annotations

from lamina.spec.imageconfig import run_config
from lamina.util import steps
from lamina.util.times import rfc3339nano

from .store import Image, ImageStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def inspect_image(images: ImageStore, ref: str) -> dict[str, Any]:
    """The image that `ref` means; NotFound "No such image: x"."""
    image = images.resolve(ref)
    if steps.tell is not None:
        steps.tell(f"read image {image.short_id}: its config, whose digest is its id, from the database")
    last = image.meta.get("LastTagTime")
    result = describe(image.document, image.id, images.tags(image.id), images.digests(image.id), image.parent)
    result["Size"] = image.size
    result["GraphDriver"] = graph_driver(images, image)
    result["RootFS"] = rootfs(image.document)
    result["Metadata"] = {"LastTagTime": rfc3339nano(last)}
    return result


def describe(document: dict[str, Any], image_id: str, tags: list[str], digests: list[str], parent: str) -> dict[str, Any]:
    """What a checked config says of an image, wherever that is, in docker's shape."""
    result: dict[str, Any] = {
        "Id": image_id, "RepoTags": tags, "RepoDigests": digests, "Parent": parent,
        "Comment": _comment(document), "Created": document.get("created") or "", "Container": document.get("container") or "",
        "ContainerConfig": run_config(document.get("container_config")), "DockerVersion": document.get("docker_version") or "",
        "Author": document.get("author") or "", "Config": run_config(document.get("config")),
        "Architecture": document.get("architecture") or "",
    }  # fmt: skip
    if document.get("variant"):
        result["Variant"] = document["variant"]
    result["Os"] = document.get("os") or "linux"
    if document.get("os.version"):
        result["OsVersion"] = document["os.version"]
    return result


def rootfs(document: dict[str, Any]) -> dict[str, Any]:
    diff_ids = (document.get("rootfs") or {}).get("diff_ids") or []
    return {"Type": "layers", "Layers": diff_ids} if diff_ids else {"Type": "layers"}


def _comment(document: dict[str, Any]) -> str:
    """The image's own, else that of its last step: OCI has a place only there."""
    comment = document.get("comment")
    if not comment and document.get("history"):
        comment = document["history"][-1].get("comment")
    return comment or ""


def graph_driver(images: ImageStore, image: Image) -> dict[str, Any]:
    """Where the image's layers lie: W2.3. MergedDir is where `image mount` would mount it."""
    layers, paths = images.layers, images.store.paths
    if not image.chain_id:
        return {"Data": None, "Name": layers.driver.name}
    name = layers.driver_of(image.chain_id)
    if name != "overlay":
        return {"Data": None, "Name": name}
    stack = layers.lowers(image.chain_id)
    data = {"LowerDir": ":".join(stack[1:])} if stack[1:] else {}
    data.update(MergedDir=paths.image_mount(image.id[7:19]), UpperDir=stack[0], WorkDir=stack[0].removesuffix("diff") + "work")
    return {"Data": data, "Name": name}
