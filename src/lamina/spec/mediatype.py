# SPDX-License-Identifier: Apache-2.0
"""[hot] Media types of manifests, configs and layers, and which of them mean the same.

Docker schema 2 and OCI name the same documents differently; both are read, and what was read is kept as it came.
"""
from __future__ import annotations

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

INDEXES = frozenset((OCI_INDEX, DOCKER_LIST))
MANIFESTS = frozenset((OCI_MANIFEST, DOCKER_MANIFEST))
CONFIGS = frozenset((OCI_CONFIG, DOCKER_CONFIG))


def layer_compression(media_type: str) -> str | None:
    """"none", "gzip" or "zstd" of a layer's media type; None when it isn't a layer's."""
    for base in (OCI_LAYER, DOCKER_LAYER, "application/vnd.oci.image.layer.nondistributable.v1.tar",
                 "application/vnd.docker.image.rootfs.foreign.diff.tar"):
        if media_type == base:
            return "none"
        if media_type in (base + "+gzip", base + ".gzip"):
            return "gzip"
        if media_type in (base + "+zstd", base + ".zstd"):
            return "zstd"
    return None
