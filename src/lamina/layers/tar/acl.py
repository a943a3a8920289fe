# SPDX-License-Identifier: Apache-2.0
"""POSIX ACLs: the text that star and GNU tar store (SCHILY.acl.access, .default) -> the value of system.posix_acl_access, _default.

Only numeric entries can be believed: a name means nobody in particular inside an image. Text: `user::rwx,user:joe:r-x:1000,mask::r-x`,
entries divided by commas or newlines, the id after the third colon where the name is a word. Binary: acl(5) in Linux's posix_acl_xattr.h:
u32 version 2, then entries of u16 tag, u16 permissions, u32 id, little-endian, sorted by tag and id.
"""

from __future__ import annotations

import struct

_LONG = {b"user": (0x01, 0x02), b"group": (0x04, 0x08), b"mask": (0x10, 0x10), b"other": (0x20, 0x20)}
_TAGS = {**_LONG, **{word[:1]: tags for word, tags in _LONG.items()}}
_NO_ID = 0xFFFFFFFF
_BITS = {ord("r"): 4, ord("w"): 2, ord("x"): 1, ord("-"): 0}


def to_xattr(text: bytes) -> bytes | None:
    """The xattr's value; None where the text is broken, or names somebody without a number."""
    entries: set[tuple[int, int, int]] = set()
    for line in text.replace(b",", b"\n").split(b"\n"):
        line = line.split(b"#", 1)[0].strip()
        if not line:
            continue
        parts = line.split(b":")
        if len(parts) < 3 or parts[0] not in _TAGS or any(c not in _BITS for c in parts[2]):
            return None
        own, named = _TAGS[parts[0]]
        permissions = 0
        for c in parts[2]:
            permissions |= _BITS[c]
        if not parts[1]:
            entries.add((own, permissions, _NO_ID))
            continue
        identity = parts[3] if len(parts) > 3 and parts[3].isdigit() else parts[1]
        if named == own or not identity.isdigit() or len(identity) > 10 or int(identity) >= _NO_ID:
            return None
        entries.add((named, permissions, int(identity)))
    if not entries:
        return None
    ordered = sorted(entries, key=lambda e: (e[0], e[2]))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in ordered)
