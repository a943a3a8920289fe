# SPDX-License-Identifier: Apache-2.0
"""[hot] Layers as directories that the kernel's overlay file system unites.

A layer's `diff` holds only its change set, in overlay's own form: a removed path is a character device 0:0, a directory that hides
what is below has trusted.overlay.opaque=y. Mounted with the new API, a `lowerdir+` per layer: no 4 KiB limit, up to 500 layers.
"""
from __future__ import annotations

import os

from lamina.layers.driver import Mount

from .base import Directories, copy_root_attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lamina.layers.tar.extract import Extracted
    from lamina.layers.tar.source import Readable

MAX_LAYERS = 500  # OVL_MAX_STACK of the kernel


class Overlay(Directories):
    name = "overlay"
    version = 1
    whole_trees = False

    def prepare(self, active: str, parents: Sequence[str]) -> None:
        os.makedirs(active, 0o700, exist_ok=True)
        os.mkdir(active + "/diff", 0o755)
        os.chmod(active + "/diff", 0o755)  # whatever the umask is
        os.mkdir(active + "/work", 0o700)
        if parents:
            copy_root_attributes(parents[0], active + "/diff")

    def mounts(self, active: str, parents: Sequence[str]) -> Mount:
        if not parents:
            return Mount("bind", active + "/diff", ["bind", "rw"])
        options = ["lowerdir+=" + path for path in parents]
        return Mount("overlay", "overlay", [*options, f"upperdir={active}/diff", f"workdir={active}/work"])

    def view(self, parents: Sequence[str]) -> Mount:
        if len(parents) == 1:
            return Mount("bind", parents[0], ["bind", "ro"])
        return Mount("overlay", "overlay", [*("lowerdir+=" + path for path in parents), "ro"])

    def apply(self, active: str, parents: Sequence[str], stream: Readable) -> Extracted:
        from lamina.layers.unpack import unpack

        return unpack(active, stream, "layer-overlay", parents)

    def diff(self, active: str, parents: Sequence[str], write: Callable[[memoryview], object]) -> None:
        from lamina.layers.tar.pack import pack_overlay

        upper = os.open(active + "/diff", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            pack_overlay(upper, write)
        finally:
            os.close(upper)

    def changes(self, active: str, parents: Sequence[str]) -> list[tuple[str, bytes]]:
        from lamina.layers.unpack import overlay_changes

        return overlay_changes(active, parents)
