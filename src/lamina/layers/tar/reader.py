# SPDX-License-Identifier: Apache-2.0
"""`TarReader`: a stream becomes members, one after the other, with every byte between their data at hand for the tar-map.

What isn't understood is refused, never guessed (two readers that see different members in one archive are an attack): a lone zero block
inside, an unknown member type, a header of more than 1 MiB, a size that lies. Tolerated as GNU tar does: no end-of-archive blocks, anything
behind them. Every failure is an `ArchiveError` that names the member, or the one before.
"""

from __future__ import annotations

from binascii import a2b_base64

from lamina.errors import ArchiveError

from . import header as h
from . import sparse
from .acl import to_xattr
from .limits import DEFAULT, Limits
from .names import shown
from .source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NO_XATTRS: dict[bytes, bytes] = {}
_HEADER_ONLY = frozenset((h.LINK, h.SYM, h.CHR, h.BLK, h.DIR, h.FIFO))
_KNOWN = _HEADER_ONLY | {h.REG, h.AREG, h.CONT, h.GNU_SPARSE}
_ACLS = {b"SCHILY.acl.access": b"system.posix_acl_access", b"SCHILY.acl.default": b"system.posix_acl_default"}
MAX_ID = 0xFFFFFFFE
_MAX_TIME = (1 << 63) - 1


class Member:
    """One member. `name` as written; `type` one of REG LINK SYM CHR BLK DIR FIFO; `size` is that of the file, `data_size` of what the
    archive holds of it; `sparse` the map of a sparse file; `raw` all bytes since the previous member's data (None unless kept)."""

    __slots__ = (
        *("name", "type", "mode", "uid", "gid", "size", "data_size", "mtime_ns", "linkname", "devmajor", "devminor"),
        *("uname", "gname", "xattrs", "sparse", "raw", "note"),
    )

    name: bytes
    type: bytes
    mode: int
    uid: int
    gid: int
    size: int
    data_size: int
    mtime_ns: int
    linkname: bytes
    devmajor: int
    devminor: int
    uname: bytes
    gname: bytes
    xattrs: dict[bytes, bytes]
    sparse: sparse.Map | None
    raw: bytes | None
    note: str

    def __repr__(self) -> str:
        return f"<Member {shown(self.name)} type={self.type!r} size={self.size}>"


class TarReader:
    """Iterate; for each member take its data with `data()` or let the next step skip it. `keep_raw` for the tar-map: then `on_skipped` gets
    the data that nobody took."""

    def __init__(
        self, source: Source, *, limits: Limits = DEFAULT, keep_raw: bool = False, on_skipped: Callable[[bytes], None] | None = None
    ) -> None:
        self._source = source
        self._limits = limits
        self._raw: bytearray | None = bytearray() if keep_raw else None
        self._on_skipped = on_skipped
        self._globals: dict[bytes, bytes] = {}
        self._left = 0
        self._pad = 0
        self._count = 0
        self._header_bytes = 0
        self._last = b""

    def __iter__(self) -> Iterator[Member]:
        while True:
            member = self.next()
            if member is None:
                return
            yield member

    # -- data

    def data(self) -> Iterator[memoryview]:
        """The member's data in pieces, each valid until the next one is asked for. ArchiveError where the archive ends within."""
        view = self._source.view
        while self._left:
            piece = view(self._left)
            if not piece:
                raise ArchiveError(f"archive: {shown(self._last)}: cut off, {self._left} bytes of its data are missing")
            self._left -= len(piece)
            yield piece

    def _skip_data(self) -> None:
        if self._on_skipped is None and self._source.skip(self._left):
            self._left = 0
            return
        for piece in self.data():
            if self._on_skipped:
                self._on_skipped(bytes(piece))

    def _block(self, what: str = "header") -> bytes:
        raw = self._source.take(h.BLOCK)
        if len(raw) < h.BLOCK:
            raise ArchiveError(f"archive: {self._where()}: cut off within its {what}")
        if self._raw is not None:
            self._raw += raw
        return raw

    def _where(self) -> str:
        return shown(self._last) if self._last else "first member"

    # -- headers

    def next(self) -> Member | None:
        """The next member, None at the end (everything behind it is then consumed)."""
        if self._left:
            self._skip_data()
        if self._pad:
            raw = self._source.take(self._pad)
            if len(raw) < self._pad:
                raise ArchiveError(f"archive: {shown(self._last)}: cut off behind its data")
            if self._raw is not None:
                self._raw += raw
            self._pad = 0
        self._header_bytes = 0
        records: list[tuple[bytes, bytes]] = []
        longname: bytes | None = None
        longlink: bytes | None = None
        extended = False
        while True:
            raw = self._source.take(h.BLOCK)
            if self._raw is not None:
                self._raw += raw
            if len(raw) < h.BLOCK or raw == h.ZERO:
                if raw and len(raw) < h.BLOCK:
                    raise ArchiveError(f"archive: cut off within the header that follows {self._where()}")
                if extended:
                    raise ArchiveError(f"archive: ends after {self._where()} with an extended header that no member follows")
                if raw:
                    self._end()
                return None
            try:
                head = h.parse(raw)
                kind = head.type
                if kind in (h.PAX, h.PAX_SOLARIS):
                    records += h.pax_parse(self._extra(head))
                elif kind == h.PAX_GLOBAL:
                    self._set_globals(h.pax_parse(self._extra(head)))
                    continue
                elif kind == h.GNU_LONGNAME:
                    longname = self._extra(head).split(b"\0", 1)[0]
                elif kind == h.GNU_LONGLINK:
                    longlink = self._extra(head).split(b"\0", 1)[0]
                elif kind == h.GNU_LABEL:
                    continue
                else:
                    return self._member(head, raw, records, longname, longlink)
            except ArchiveError as error:
                if self._count and not error.message.startswith("archive: member"):
                    error.message = f"{error.message} (behind {self._where()})"
                    error.args = (error.message,)
                raise
            extended = True

    def _extra(self, head: h.Header) -> bytes:
        """Data of an extension header, padding consumed."""
        self._header_bytes += head.size
        if head.size < 0 or self._header_bytes > self._limits.header:
            raise ArchiveError(f"archive: {shown(head.name)}: an extended header of {head.size} bytes, allowed are {self._limits.header}")
        padded = -(-head.size // h.BLOCK) * h.BLOCK
        raw = self._source.take(padded)
        if len(raw) < padded:
            raise ArchiveError(f"archive: {shown(head.name)}: cut off within its extended header")
        if self._raw is not None:
            self._raw += raw
        return raw[: head.size]

    def _map_block(self) -> bytes:
        self._header_bytes += h.BLOCK
        if self._header_bytes > self._limits.header:
            raise ArchiveError("archive: the sparse map is too long")
        return self._block("sparse map")

    def _set_globals(self, records: list[tuple[bytes, bytes]]) -> None:
        for key, value in records:
            if value:
                self._globals[key] = value
            else:
                self._globals.pop(key, None)
        if sum(len(k) + len(v) for k, v in self._globals.items()) > self._limits.header:
            raise ArchiveError("archive: the global pax records are too long")

    def _end(self) -> None:
        """After one zero block: a second one or the stream's end must follow; then everything else is ballast, but part of the digest."""
        raw = self._source.take(h.BLOCK)
        self._keep(raw)
        if raw.strip(b"\0"):
            raise ArchiveError(f"archive: a single zero block behind {self._where()}, then more; is the archive damaged?")
        while piece := self._source.view(1 << 20):
            self._keep(bytes(piece))

    def _keep(self, raw: bytes) -> None:
        if self._raw is None:
            return
        self._raw += raw
        if self._on_skipped and len(self._raw) > 1 << 20:
            self._on_skipped(bytes(self._raw))
            self._raw.clear()

    def rest(self) -> bytes:
        """With `keep_raw`: the bytes kept since the last member."""
        return bytes(self._raw or b"")

    def _member(
        self, head: h.Header, raw: bytes, records: list[tuple[bytes, bytes]], longname: bytes | None, longlink: bytes | None
    ) -> Member:
        self._count += 1
        if self._count > self._limits.members:
            raise ArchiveError(f"archive: more than {self._limits.members} members")
        m = Member()
        m.name = head.name if longname is None else longname
        m.linkname = head.linkname if longlink is None else longlink
        m.mode, m.uid, m.gid, m.size, m.devmajor, m.devminor = head.mode, head.uid, head.gid, head.size, head.devmajor, head.devminor
        m.uname, m.gname = head.uname, head.gname
        m.mtime_ns = head.mtime * 1_000_000_000
        m.xattrs, m.sparse, m.note = _NO_XATTRS, None, ""
        pax = self._globals
        if records:
            pax = {**pax, **dict(records)} if pax else dict(records)
        if pax:
            self._apply_pax(m, pax)
        self._last = m.name
        try:
            self._finish(m, head, raw, records, pax)
        except ArchiveError as error:
            text = error.message.removeprefix("archive: ")
            raise ArchiveError(f"archive: member {shown(m.name)}: {text}") from None
        return m

    def _finish(self, m: Member, head: h.Header, raw: bytes, records: list[tuple[bytes, bytes]], pax: dict[bytes, bytes]) -> None:
        """Type, size, sparse map and ranges."""
        kind = head.type
        if kind not in _KNOWN:
            raise ArchiveError(f"archive: unknown member type {kind!r}")
        if m.size < 0:
            raise ArchiveError(f"archive: a negative size, {m.size}")
        m.data_size = m.size
        if kind in _HEADER_ONLY:
            m.size = m.data_size = 0
        else:
            m.type = h.REG
            if kind == h.GNU_SPARSE and head.gnu:
                pieces, m.size = sparse.old_gnu(raw, self._map_block)
                m.sparse = sparse.checked(pieces, m.size, m.data_size)
            elif pax and (b"GNU.sparse.major" in pax or b"GNU.sparse.size" in pax or b"GNU.sparse.realsize" in pax):
                self._pax_sparse(m, records, pax)
            elif kind != h.GNU_SPARSE and m.name[-1:] == b"/" and not head.gnu and kind != h.CONT:
                kind = h.DIR  # v7 has no type for directories
                m.size = 0
        if kind in _HEADER_ONLY:
            m.type = kind
        if m.size > self._limits.file_size:
            raise ArchiveError(f"archive: a file of {m.size} bytes, allowed are {self._limits.file_size}")
        if not (0 <= m.uid <= MAX_ID and 0 <= m.gid <= MAX_ID):
            raise ArchiveError(f"archive: owner {m.uid}:{m.gid} is out of range")
        if not -_MAX_TIME <= m.mtime_ns // 1_000_000_000 <= _MAX_TIME:
            raise ArchiveError("archive: its time is out of range")
        if not (0 <= m.devmajor < 1 << 12 and 0 <= m.devminor < 1 << 20):  # what Linux has
            raise ArchiveError("archive: its device number is out of range")
        if b"\0" in m.name or b"\0" in m.linkname:
            raise ArchiveError("archive: a name with a NUL in it")
        if kind == h.DIR and m.data_size:
            # a v7 directory with data: what it is of is not ours to guess
            raise ArchiveError("archive: a directory with data")
        self._left = m.data_size
        self._pad = -self._left % h.BLOCK
        m.raw = None
        if self._raw is not None:
            m.raw = bytes(self._raw)
            self._raw.clear()

    def _pax_sparse(self, m: Member, records: list[tuple[bytes, bytes]], pax: dict[bytes, bytes]) -> None:
        name = pax.get(b"GNU.sparse.name")
        if name:
            m.name = self._last = name
        size = pax.get(b"GNU.sparse.realsize") or pax.get(b"GNU.sparse.size") or b"%d" % m.data_size
        if b"GNU.sparse.major" in pax:
            if (pax[b"GNU.sparse.major"], pax.get(b"GNU.sparse.minor", b"0")) != (b"1", b"0"):
                raise ArchiveError("archive: an unknown version of GNU's sparse format")
            if m.data_size < h.BLOCK:
                raise ArchiveError("archive: the sparse map is missing")
            pieces, used = sparse.in_data(self._map_block, min(m.data_size, self._limits.header))
            m.data_size -= used
        elif b"GNU.sparse.map" in pax:
            pieces = sparse.pax_map(pax[b"GNU.sparse.map"])
        else:
            pieces = sparse.pax_pairs(records)
        m.size = h.pax_int(size, "sparse size")
        m.sparse = sparse.checked(pieces, m.size, m.data_size)

    def _apply_pax(self, m: Member, pax: dict[bytes, bytes]) -> None:
        get = pax.get
        if value := get(b"path"):
            m.name = value
        if value := get(b"linkpath"):
            m.linkname = value
        if value := get(b"size"):
            m.size = h.pax_int(value, "size")
        if value := get(b"uid"):
            m.uid = h.pax_int(value, "uid")
        if value := get(b"gid"):
            m.gid = h.pax_int(value, "gid")
        if value := get(b"mtime"):
            m.mtime_ns = h.pax_time(value)
        m.uname = get(b"uname") or m.uname
        m.gname = get(b"gname") or m.gname
        for key, value in pax.items():
            if key.startswith(b"SCHILY.xattr."):
                self._xattr(m, key[13:], value)
            elif key.startswith(b"LIBARCHIVE.xattr."):
                from urllib.parse import unquote_to_bytes  # 2 ms, and rarely needed

                name = unquote_to_bytes(key[17:])
                if b"SCHILY.xattr." + name not in pax:
                    self._xattr(m, name, _base64(value))
            elif key in _ACLS:
                acl = to_xattr(value)
                if acl is None:
                    m.note = "its ACL names users or groups without numbers; it was left out"
                elif b"SCHILY.xattr." + _ACLS[key] not in pax:
                    self._xattr(m, _ACLS[key], acl)

    def _xattr(self, m: Member, name: bytes, value: bytes) -> None:
        if m.xattrs is _NO_XATTRS:
            m.xattrs = {}
        if not name or len(name) > 255 or b"\0" in name or len(value) > self._limits.xattr_value or len(m.xattrs) >= self._limits.xattrs:
            raise ArchiveError(f"archive: member {shown(m.name)}: its extended attribute {shown(name)} is out of bounds")
        m.xattrs[name] = value


def _base64(value: bytes) -> bytes:
    try:
        return a2b_base64(value + b"=" * (-len(value) % 4))
    except ValueError:
        raise ArchiveError("archive: an extended attribute is not base64")
