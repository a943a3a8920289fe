# SPDX-License-Identifier: Apache-2.0
"""The exact tar of a layer, byte for byte as its diff id says, from its tree and tar-map."""
from __future__ import annotations

import os
from collections.abc import Callable

from lamina.errors import StoreError
from lamina.store.open import Store

from .store import Layer
from .tar.tarmap import assemble
from .unpack import open_directory


def export_tar(store: Store, layer: Layer, write: Callable[[memoryview], object] | None) -> tuple[str, int]:
    """(diff id, size of the tar). `write` None verifies only. StoreError if tree and map don't give the diff id."""
    paths = store.paths
    try:
        root = open_directory(paths.layer_diff(layer.data_key))
    except FileNotFoundError as e:
        raise StoreError(f"layer {layer.chain_id} has no data on disk ({e.filename})", hint="lamina system check")
    try:
        hexdigest, size = assemble(paths.layer_tarmap(layer.data_key), root, write)
    except FileNotFoundError as e:
        raise StoreError(f"layer {layer.chain_id}: {e.filename} is missing", hint="lamina system check")
    finally:
        os.close(root)
    diff_id = hexdigest if hexdigest.startswith("sha256:") else "sha256:" + hexdigest
    if diff_id != layer.diff_id:
        raise StoreError(f"layer {layer.chain_id}: the data has diff id {diff_id} instead of {layer.diff_id}")
    return diff_id, size
