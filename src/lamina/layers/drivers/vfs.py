# SPDX-License-Identifier: Apache-2.0
"""[hot] Layers as whole trees: a copy of the parent's, then changed. Slow and large, but it works on any file system.

Copies share extents where the file system can (reflink: btrfs, xfs), else bytes are copied in the kernel. What a change set is follows
from comparing
two trees.
"""
from __future__ import annotations

import os

from lamina.layers.driver import Mount

from .base import Directories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lamina.layers.tar.extract import Extracted
    from lamina.layers.tar.source import Readable


class Vfs(Directories):
    name = "vfs"
    version = 1
    whole_trees = True

    def prepare(self, active: str, parents: Sequence[str]) -> None:
        os.makedirs(active, 0o700, exist_ok=True)
        diff = active + "/diff"
        os.mkdir(diff, 0o755)
        os.chmod(diff, 0o755)
        if not parents:
            return
        from lamina.layers.copytree import copy_tree

        target = os.open(diff, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            source = self.view(parents).open_root()
            try:
                copy_tree(source, target)
            finally:
                os.close(source)
        finally:
            os.close(target)

    def mounts(self, active: str, parents: Sequence[str]) -> Mount:
        return Mount("bind", active + "/diff", ["bind", "rw"])

    def view(self, parents: Sequence[str]) -> Mount:
        if len(parents) == 1:
            return Mount("bind", parents[0], ["bind", "ro"])
        # Overlay's layers are below: whole trees are one directory each.
        return Mount("overlay", "overlay", [*("lowerdir+=" + path for path in parents), "ro"])

    def apply(self, active: str, parents: Sequence[str], stream: Readable) -> Extracted:
        from lamina.layers.unpack import unpack

        done = unpack(active, stream, "layer-apply", ())
        done.shaped_by_parent = True  # by construction: the parent's tree is in it
        return done

    def diff(self, active: str, parents: Sequence[str], write: Callable[[memoryview], object]) -> None:
        from lamina.layers.tar.packdiff import pack_diff

        new = os.open(active + "/diff", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            old = self._old(parents)
            try:
                pack_diff(old, new, write)
            finally:
                os.close(old)
        finally:
            os.close(new)

    def changes(self, active: str, parents: Sequence[str]) -> list[tuple[str, bytes]]:
        from lamina.layers.unpack import tree_changes

        new = os.open(active + "/diff", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            old = self._old(parents)
            try:
                return tree_changes(old, new)
            finally:
                os.close(old)
        finally:
            os.close(new)

    def _old(self, parents: Sequence[str]) -> int:
        """The tree below, or an empty one, as a directory fd."""
        if parents:
            return self.view(parents).open_root()
        from lamina.linux.mount import new_mount

        fd = new_mount("tmpfs", ["mode=0755"])
        try:
            return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
        finally:
            os.close(fd)
