# SPDX-License-Identifier: Apache-2.0
"""Member names: what they mean below a root, and how they are shown to people.

A name is bytes. `clean` gives it the meaning docker does: a leading slash is below the root, `.` and empty components vanish, `a/../b` is
`b`; but a name that leads out of the root at any point is refused. The result has no empty, `.` or `..` component: b"" is the root.
"""

from __future__ import annotations

from lamina.errors import ArchiveError

from .limits import DEFAULT, Limits

WHITEOUT = b".wh."
META = b".wh..wh."
OPAQUE = b".wh..wh..opq"


def shown(name: bytes) -> str:
    """For messages: printable, on one line, at most 200 characters, and two different names never look the same by control characters."""
    text = name.decode("utf-8", "backslashreplace")
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return text if len(text) <= 200 else f"{text[:190]}... ({len(name)} bytes)"


def clean(name: bytes, limits: Limits = DEFAULT) -> bytes:
    """The path below the root, or ArchiveError: empty, a NUL, too long, too deep, or out of the root."""
    if not name:
        raise ArchiveError("archive: a member has an empty name")
    if len(name) > limits.path:
        raise ArchiveError(f"archive: {shown(name)}: the name is longer than {limits.path} bytes")
    if b"\0" in name:
        raise ArchiveError(f"archive: {shown(name)}: the name has a NUL in it")
    if b"//" not in name and b"/." not in name and name[:1] not in b"./" and name[-1:] != b"/" and name.count(b"/") < limits.depth:
        return name
    kept: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not kept:
                raise ArchiveError(f"archive: {shown(name)}: the name leads out of the root")
            kept.pop()
        elif part and part != b".":
            kept.append(part)
    if len(kept) > limits.depth:
        raise ArchiveError(f"archive: {shown(name)}: more than {limits.depth} directories deep")
    return b"/".join(kept)


def split(path: bytes) -> tuple[bytes, bytes]:
    """(parent, base) of a clean path; the parent of a top-level name is b""."""
    parent, _, base = path.rpartition(b"/")
    return parent, base


def join(parent: bytes, base: bytes) -> bytes:
    return parent + b"/" + base if parent else base
