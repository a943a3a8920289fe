# SPDX-License-Identifier: Apache-2.0
"""[hot] The layer drivers: overlay (the default) and vfs (anywhere)."""
from __future__ import annotations

from lamina.errors import NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamina.layers.driver import Driver
    from lamina.store.open import Store

NAMES = ("overlay", "vfs")  # in the order in which they are probed


def load(name: str, store: Store) -> Driver:
    """The driver of that name for this store; only its own module is imported."""
    if name == "overlay":
        from .overlay import Overlay

        return Overlay(store)
    if name == "vfs":
        from .vfs import Vfs

        return Vfs(store)
    raise NotSupported(f"layer driver {name} is not supported", hint="overlay and vfs are")
