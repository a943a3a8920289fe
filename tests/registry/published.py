# SPDX-License-Identifier: Apache-2.0
"""Images on the test's registry, made by hand: honest ones, and what a test turns them into."""
from __future__ import annotations

import gzip
import json
from typing import Any

from .registry_server import INDEX, MANIFEST, RegistryServer, sha

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def config_of(diff_ids: list[str], **more: Any) -> bytes:
    return json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/true"]},
                       "rootfs": {"type": "layers", "diff_ids": diff_ids}, **more}).encode()


def manifest_of(server: RegistryServer, repository: str, tars: list[bytes], **more: Any) -> dict[str, Any]:
    """The document of a manifest whose blobs are there; layers compressed by gzip."""
    blobs = [server.add_blob(repository, gzip.compress(tar, 1, mtime=0)) for tar in tars]
    config = server.add_blob(repository, config_of([sha(tar) for tar in tars], **more))
    return {"schemaVersion": 2, "mediaType": MANIFEST, "config": {"mediaType": CONFIG, **config},
            "layers": [{"mediaType": LAYER, **blob} for blob in blobs]}


def publish(server: RegistryServer, repository: str, tag: str, tars: list[bytes], **more: Any) -> dict[str, Any]:
    """The descriptor of an image's manifest. `more` goes to the config."""
    return server.add_manifest(repository, manifest_of(server, repository, tars, **more), tag)


def publish_index(server: RegistryServer, repository: str, tag: str, images: dict[str, list[bytes]]) -> dict[str, Any]:
    """An index of images by platform ("linux/arm64")."""
    entries = []
    for platform, tars in images.items():
        system, architecture = platform.split("/")
        entry = server.add_manifest(repository, manifest_of(server, repository, tars, os=system, architecture=architecture))
        entries.append({**entry, "platform": {"os": system, "architecture": architecture}})
    return server.add_manifest(repository, {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}, tag, media_type=INDEX)
