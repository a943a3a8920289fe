# SPDX-License-Identifier: Apache-2.0
"""Archives to order, byte by byte: honest writers refuse what these tests need."""

from __future__ import annotations

import os
from pathlib import Path

from lamina.layers.tar import header as h


def member(name: bytes, data: bytes = b"", **fields: object) -> bytes:
    """One raw member; unlike TarWriter it writes whatever it is told."""
    values = {"type": h.REG, "mode": 0o644, "uid": 0, "gid": 0, "size": len(data), "mtime": 1_000_000_000, **fields}
    return h.block(name, **values) + data + bytes(-len(data) % 512)  # type: ignore[arg-type]


def pax(records: dict[bytes, bytes], type: bytes = h.PAX) -> bytes:
    data = b"".join(h.pax_record(k, v) for k, v in records.items())
    return member(b"pax", data, type=type)


END = bytes(1024)


def pax_many(records: list[tuple[bytes, bytes]]) -> bytes:
    """Like `pax`, for keys that come more than once."""
    return member(b"pax", b"".join(h.pax_record(k, v) for k, v in records), type=h.PAX)


def gnu_long(name: bytes, type: bytes = h.GNU_LONGNAME) -> bytes:
    return member(b"././@LongLink", name + b"\0", type=type)


def resum(block: bytes) -> bytes:
    """A header block with its checksum made right again."""
    raw = bytearray(block)
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


def snapshot(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything that a tar should give back: type, mode, owner, times, data, links, xattrs, by path."""
    found: dict[str, tuple[object, ...]] = {}
    for here, dirs, files in os.walk(root):
        for name in [*dirs, *files]:
            path = os.path.join(here, name)
            st = os.lstat(path)
            data: object = None
            if os.path.islink(path):
                data = os.readlink(path)
            elif os.path.isfile(path):
                data = Path(path).read_bytes()
            xattrs = {n: os.getxattr(path, n, follow_symlinks=False) for n in os.listxattr(path, follow_symlinks=False)}
            found[os.path.relpath(path, root)] = (
                st.st_mode,
                st.st_uid,
                st.st_gid,
                st.st_rdev,
                st.st_mtime_ns,
                data,
                tuple(sorted(xattrs.items())),
            )
    return found
