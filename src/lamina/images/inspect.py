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
    document = image.document
    rootfs: dict[str, Any] = {"Type": "layers"}
    diff_ids = (document.get("rootfs") or {}).get("diff_ids") or []
    if diff_ids:
        rootfs["Layers"] = diff_ids
    last = image.meta.get("LastTagTime")
    result: dict[str, Any] = {
        "Id": image.id, "RepoTags": images.tags(image.id), "RepoDigests": images.digests(image.id), "Parent": image.parent,
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
    result["Size"] = image.size
    result["GraphDriver"] = graph_driver(images, image)
    result["RootFS"] = rootfs
    result["Metadata"] = {"LastTagTime": rfc3339nano(last)}
    return result


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
