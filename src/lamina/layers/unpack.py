# SPDX-License-Identifier: Apache-2.0
"""Between the drivers and layers/tar: extraction into an active change set with its tar-map, and lists of changes."""
from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .tar.extract import Extracted
    from .tar.lower import LowerView
    from .tar.source import Readable


def open_directory(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def unpack(active: str, stream: Readable, mode: str, parents: Sequence[str]) -> Extracted:
    """Extracts `stream` into <active>/diff and writes <active>/tarmap.z. Errors as `extract`; the caller removes what is there then."""
    from .tar.lower import Lower

    with Lower(parents) as lower:
        return _unpack(active, stream, mode, lower if parents else None)


def unpack_alone(active: str, stream: Readable) -> Extracted:
    """As `unpack` of an overlay layer whose parents aren't there yet. tar.lower.AloneError if it can't be laid out without them; else
    `inherit_root` is still to be done, unless the result says that the tar tells of the root."""
    from .tar.lower import Alone

    return _unpack(active, stream, "layer-overlay", Alone())


def inherit_root(active: str, parents: Sequence[str]) -> bool:
    """Gives the root of a layer that was laid out alone what it has from below; whether that shapes it."""
    from .tar.attributes import DEFAULT_ACL
    from .tar.extract import inherit_root as inherit
    from .tar.lower import Lower

    root = open_directory(active + "/diff")
    try:
        with Lower(parents) as below:
            acl = inherit(root, below)
        if acl:
            os.setxattr(root, DEFAULT_ACL, acl)
        return acl is not None
    finally:
        os.close(root)


def _unpack(active: str, stream: Readable, mode: str, lower: LowerView | None) -> Extracted:
    from .tar.extract import extract
    from .tar.tarmap import Recorder

    root = open_directory(active + "/diff")
    try:
        with open(active + "/tarmap.z", "xb") as out:
            return extract(stream, root, mode=mode, lower=lower, recorder=Recorder(out))
    finally:
        os.close(root)


def overlay_changes(active: str, parents: Sequence[str]) -> list[tuple[str, bytes]]:
    from .tar.changes import changes_overlay

    opened: list[int] = []
    try:
        for path in (active + "/diff", *parents):
            opened.append(open_directory(path))
        return changes_overlay(opened[0], opened[1:])
    finally:
        for fd in opened:
            os.close(fd)


def tree_changes(old: int, new: int) -> list[tuple[str, bytes]]:
    from .tar.changes import changes_tree

    return changes_tree(old, new)
