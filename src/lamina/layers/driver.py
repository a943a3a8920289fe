# SPDX-License-Identifier: Apache-2.0
"""[hot] What a layer driver is: it keeps change sets in directories, and returns mounts; callers mount.

An *active* change set is a directory that the caller names (in tmp/ while a layer is made, rw/ in a container's bundle), with the tree
in `diff`. `parents` are the directories of the stack below it, top first, as `chain.lowers` gives them. tests/layers runs one
contract over every driver.
"""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, Protocol

    from .tar.extract import Extracted
    from .tar.source import Readable

    class Driver(Protocol):
        name: str
        version: int  # of the data on disk: a layer of another version is made anew
        whole_trees: bool  # each directory is a full tree; data keys are chain ids

        def prepare(self, active: str, parents: Sequence[str]) -> None:
            """Makes an empty change set on top of `parents`. The root directory has the attributes of the topmost parent's."""

        def mounts(self, active: str, parents: Sequence[str]) -> Mount:
            """How to mount the union of an active change set and its parents, writable."""

        def view(self, parents: Sequence[str]) -> Mount:
            """How to mount a stack read-only."""

        def apply(self, active: str, parents: Sequence[str], stream: Readable) -> Extracted:
            """Extracts an uncompressed layer tar into a fresh active set, with its tar-map; digest and size are in the result."""

        def diff(self, active: str, parents: Sequence[str], write: Callable[[memoryview], object]) -> None:
            """The change set as a deterministic OCI layer tar."""

        def changes(self, active: str, parents: Sequence[str]) -> list[tuple[str, bytes]]:
            """(A|C|D, absolute path) as `docker diff` shows them."""

        def commit(self, active: str, name: str) -> bool:
            """Seals an active set as the layer data `name`, atomically. False if that exists: then `active` stays for the caller to
            remove."""

        def usage(self, directory: str) -> Usage:
            """What a change set (active, or of layer data) takes on disk."""

        def remove(self, name: str) -> None:
            """Deletes layer data; no error when it is gone already."""

        def walk(self) -> Iterator[str]:
            """Keys of all layer data on disk, whichever driver made it, sorted."""

        def cleanup(self, known: Sequence[str]) -> list[str]:
            """Removes layer data whose key isn't in `known`; which those were. The caller holds off all writers."""


class Mount:
    """One mount, as data: `type` "overlay" or "bind", `source`, `options` in mount(8)'s words ("lowerdir+=..." once a layer, top first)."""

    __slots__ = ("type", "source", "options")

    def __init__(self, type_: str, source: str, options: list[str]) -> None:
        self.type = type_
        self.source = source
        self.options = options

    def values(self, key: str) -> list[str]:
        prefix = key + "="
        return [option[len(prefix):] for option in self.options if option.startswith(prefix)]

    def plan(self, volatile: bool = False) -> dict[str, Any]:
        """The form that a monitor's plan holds; see docs/on-disk.md."""
        if self.type == "bind":
            return {"type": "bind", "source": self.source, "readonly": "ro" in self.options}
        upper, work = self.values("upperdir"), self.values("workdir")
        return {"type": "overlay", "lowers": self.values("lowerdir+"), "upper": upper[0] if upper else None,
                "work": work[0] if work else None, "volatile": volatile}

    def open_root(self) -> int:
        """As `open`, but an fd that can be listed and changed."""
        import os

        fd = self.open()
        try:
            return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
        finally:
            os.close(fd)  # the mount lives as long as anything in it is open

    def open(self) -> int:
        """The mount, detached (nobody else sees it), as an O_PATH fd for `attach`; closing it unmounts."""
        from lamina.linux import mount

        if self.type == "bind":
            fd = mount.open_tree(-100, self.source, mount.OPEN_TREE_CLONE)
            if "ro" in self.options:
                mount.mount_setattr(fd, "", 0, mount.MOUNT_ATTR_RDONLY)
            return fd
        upper, work = self.values("upperdir"), self.values("workdir")
        return mount.overlay(self.values("lowerdir+"), upper[0] if upper else None, work[0] if work else None,
                             readonly="ro" in self.options)


class Usage:
    """Bytes allocated on disk and number of inodes."""

    __slots__ = ("bytes", "inodes")

    def __init__(self, bytes_: int, inodes: int) -> None:
        self.bytes = bytes_
        self.inodes = inodes


def measure(directory: str) -> Usage:
    """What `du` says about a tree, each inode counted once; never follows links."""
    import os

    seen: set[tuple[int, int]] = set()
    total = 0
    todo = [directory]
    while todo:
        here = todo.pop()
        entries = [os.lstat(here)] if here == directory else []
        try:
            listing = list(os.scandir(here))
        except FileNotFoundError:
            continue
        for entry in listing:
            try:
                entries.append(entry.stat(follow_symlinks=False))
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
            except FileNotFoundError:
                continue  # a container may be running in it
        for status in entries:
            key = (status.st_dev, status.st_ino)
            if key not in seen:
                seen.add(key)
                total += status.st_blocks * 512
    return Usage(total, len(seen))
