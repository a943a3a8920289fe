# SPDX-License-Identifier: Apache-2.0
"""`TarWriter`: members become bytes, always the same bytes for the same values: ustar headers, pax records only for what doesn't fit there.

No user or group names, no atime or ctime. Fractions of seconds, xattrs, long or non-UTF-8 names, big sizes and ids go to a pax header in
front. What Go's archive/tar (docker, podman), GNU tar and libarchive read alike.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Mapping

from lamina.errors import ArchiveError

from . import header as h
from .output import Output

_SECOND = 1_000_000_000


class TarWriter:
    """Writes to an `Output`; the caller puts exactly `size` bytes of data behind `member(...)`, then calls `pad(size)`."""

    def __init__(self, out: Output) -> None:
        self.out = out

    def member(
        self,
        name: bytes,
        *,
        type: bytes,
        mode: int,
        uid: int = 0,
        gid: int = 0,
        size: int = 0,
        mtime_ns: int = 0,
        linkname: bytes = b"",
        devmajor: int = 0,
        devminor: int = 0,
        xattrs: Mapping[bytes, bytes] | None = None,
    ) -> None:
        """Header block(s) of one member. Directory names end with a slash; `mode` has permission bits only."""
        seconds, fraction = divmod(mtime_ns, _SECOND)
        pax = b""
        if fraction or xattrs or len(name) > 100 or len(linkname) > 100 or size > h.MAX_OCTAL_11 or not 0 <= seconds <= h.MAX_OCTAL_11:
            pax = _records(name, linkname, size, uid, gid, mtime_ns, xattrs)
        elif uid > h.MAX_OCTAL_7 or gid > h.MAX_OCTAL_7:
            pax = _records(name, linkname, size, uid, gid, mtime_ns, xattrs)
        if pax:
            base = name.rstrip(b"/").rpartition(b"/")[2]
            out = self.out
            out.put(h.block(b"PaxHeaders.0/" + base[:80], type=h.PAX, mode=0o644, uid=0, gid=0, size=len(pax), mtime=0))
            out.put(pax)
            self.pad(len(pax))
            if not h.fits_name(name):
                name = name[:100]
            if len(linkname) > 100:
                linkname = linkname[:100]
            seconds = min(max(seconds, 0), h.MAX_OCTAL_11)
        if devmajor > h.MAX_OCTAL_7 or devminor > h.MAX_OCTAL_7:
            raise ArchiveError(f"archive: a device number of {devmajor}:{devminor} can't be written")
        self.out.put(
            h.block(
                name, type=type, mode=mode, uid=uid if uid <= h.MAX_OCTAL_7 else 0, gid=gid if gid <= h.MAX_OCTAL_7 else 0,
                size=size if size <= h.MAX_OCTAL_11 else 0, mtime=seconds, linkname=linkname, devmajor=devmajor, devminor=devminor,
            )
        )  # fmt: skip

    def pad(self, size: int) -> None:
        """Zeros up to the next block, behind `size` bytes of data."""
        over = size % h.BLOCK
        if over:
            self.out.put(h.ZERO[over:])

    def end(self) -> None:
        """The two zero blocks; no padding to 10 KiB records, as docker's own layers."""
        self.out.put(h.ZERO + h.ZERO)


def _records(name: bytes, linkname: bytes, size: int, uid: int, gid: int, mtime_ns: int, xattrs: Mapping[bytes, bytes] | None) -> bytes:
    found: list[tuple[bytes, bytes]] = []
    if not h.fits_name(name):
        found.append((b"path", name))
    if len(linkname) > 100:
        found.append((b"linkpath", linkname))
    if found and not all(_is_utf8(value) for _, value in found):
        found.insert(0, (b"hdrcharset", b"BINARY"))
    if size > h.MAX_OCTAL_11:
        found.append((b"size", b"%d" % size))
    if uid > h.MAX_OCTAL_7:
        found.append((b"uid", b"%d" % uid))
    if gid > h.MAX_OCTAL_7:
        found.append((b"gid", b"%d" % gid))
    if mtime_ns % _SECOND or not 0 <= mtime_ns // _SECOND <= h.MAX_OCTAL_11:
        found.append((b"mtime", h.format_time(mtime_ns)))
    for key, value in sorted((xattrs or {}).items()):
        if b"=" in key:  # a pax keyword ends at the first one
            from urllib.parse import quote_from_bytes  # 2 ms, and rarely needed

            found.append((b"LIBARCHIVE.xattr." + quote_from_bytes(key).encode(), b2a_base64(value, newline=False)))
        else:
            found.append((b"SCHILY.xattr." + key, value))
    return b"".join(h.pax_record(key, value) for key, value in found)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
