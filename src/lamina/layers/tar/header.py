# SPDX-License-Identifier: Apache-2.0
"""One 512-byte header block and one pax record, both ways: bytes <-> values, no I/O, nothing but `ArchiveError` for whatever bytes come.

Read: v7, ustar (with prefix), star, GNU (whose prefix area means something else), octal and base-256 numbers, signed and unsigned
checksums. Written: ustar only; whatever doesn't fit there goes into pax records, the one extension that every reader of today knows.
Sources: POSIX.1-2017 pax, "ustar Interchange Format" and "pax Header Block"; GNU tar manual, "Basic Tar Format" and "Storing Sparse Files".
"""

from __future__ import annotations

import struct
from typing import NamedTuple
from zlib import adler32

from lamina.errors import ArchiveError

BLOCK = 512
ZERO = bytes(BLOCK)

REG, AREG, LINK, SYM, CHR, BLK, DIR, FIFO, CONT = b"0", b"\0", b"1", b"2", b"3", b"4", b"5", b"6", b"7"
GNU_LONGNAME, GNU_LONGLINK, GNU_SPARSE, GNU_LABEL = b"L", b"K", b"S", b"V"
PAX, PAX_GLOBAL, PAX_SOLARIS = b"x", b"g", b"X"

_FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12s")
MAX_OCTAL_11 = 0o77777777777
MAX_OCTAL_7 = 0o7777777


class Header(NamedTuple):
    """The fields of one block. `name` has its ustar prefix; `gnu` tells that bytes 345-511 are GNU's (sparse entries)."""

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    type: bytes
    linkname: bytes
    uname: bytes
    gname: bytes
    devmajor: int
    devminor: int
    gnu: bool


def _text(field: bytes) -> bytes:
    end = field.find(0)
    return field if end < 0 else field[:end]


def number(field: bytes, what: str = "number") -> int:
    """Octal (leading spaces and NULs allowed, ends at NUL or space) or base-256 (two's complement, first bit set). May be negative."""
    text = field.strip(b" \0")
    if text.isdigit():
        try:
            return int(text, 8)
        except ValueError:
            raise ArchiveError(f"archive: the {what} is not octal: {text!r}")
    if not text:
        return 0
    if field[0] & 0x80:
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & ((1 << bits) - 1)
        return value - (1 << bits) if value >> (bits - 1) else value
    head = text.split(b"\0", 1)[0].rstrip(b" ")
    if head.isdigit() and b"8" not in head and b"9" not in head:
        return int(head, 8)
    raise ArchiveError(f"archive: the {what} is not octal: {text[:24]!r}")


def _sum(block: bytes) -> int:
    """sum() of a block, ten times as fast: adler32 begun at 0 has it in its lower half, modulo 65521, which 256 bytes don't reach."""
    return (adler32(block[:256], 0) & 0xFFFF) + (adler32(block[256:], 0) & 0xFFFF)


def _checksum_fits(block: bytes) -> bool:
    stored = number(block[148:156], "checksum")
    plain = _sum(block) - sum(block[148:156]) + 256
    if stored == plain:
        return True
    # some old tars summed signed chars
    high = sum(1 for i, byte in enumerate(block) if byte > 127 and not 148 <= i < 156)
    return stored == plain - 256 * high


def parse(block: bytes) -> Header:
    """Values of one header block (not a zero block). ArchiveError: wrong checksum, a field that is no number."""
    if len(block) != BLOCK:
        raise ArchiveError("archive: cut off within a header")
    if not _checksum_fits(block):
        raise ArchiveError("archive: the header's checksum is wrong; not a tar archive, or damaged")
    name, mode, uid, gid, size, mtime, _sum, kind, link, magic, uname, gname, major, minor, prefix, tail = _FIELDS.unpack(block)
    name = _text(name)
    gnu = False
    if magic[:6] == b"ustar\0":
        if prefix[0]:
            prefix = _text(prefix[:131] if tail[8:] == b"tar\0" else prefix)
            name = prefix + b"/" + name if name else prefix
    elif magic[:6] == b"ustar ":
        gnu = True
    else:
        uname = gname = b""
    devices = kind in (CHR, BLK)
    return Header(
        name, number(mode, "mode") & 0o7777, number(uid, "uid"), number(gid, "gid"), number(size, "size"), number(mtime, "time"), kind,
        _text(link), _text(uname), _text(gname),
        number(major, "device number") if devices else 0, number(minor, "device number") if devices else 0, gnu,
    )  # fmt: skip


def block(
    name: bytes,
    *,
    type: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    linkname: bytes = b"",
    devmajor: int = 0,
    devminor: int = 0,
) -> bytes:
    """One ustar header. The caller has seen to it that every value fits (`fits_name`, MAX_OCTAL_*)."""
    prefix = b""
    if len(name) > 100:
        prefix, name = split_name(name)
    raw = _FIELDS.pack(
        name, b"%07o" % mode, b"%07o" % uid, b"%07o" % gid, b"%011o" % size, b"%011o" % mtime, b"        ", type, linkname,
        b"ustar\00000", b"", b"", b"%07o" % devmajor, b"%07o" % devminor, prefix, b"",
    )  # fmt: skip
    return b"%b%06o\0 %b" % (raw[:148], _sum(raw), raw[156:])


def split_name(name: bytes) -> tuple[bytes, bytes]:
    """(prefix, name) of a name of more than 100 bytes, or (b"", b"") where no slash is in the right place."""
    at = name.rfind(b"/", 0, 156)
    if at <= 0 or not 0 < len(name) - at - 1 <= 100:
        return b"", b""
    return name[:at], name[at + 1 :]


def fits_name(name: bytes) -> bool:
    return len(name) <= 100 or split_name(name) != (b"", b"")


def pax_parse(data: bytes) -> list[tuple[bytes, bytes]]:
    """All records, in order, values as they are (a value may hold any byte). ArchiveError where a record's length lies."""
    found: list[tuple[bytes, bytes]] = []
    at, end = 0, len(data)
    while at < end:
        if data[at] == 0 and not data[at:].strip(b"\0"):
            break  # some writers count the padding in
        space = data.find(b" ", at, at + 21)
        digits = data[at:space] if space > 0 else b""
        if not digits.isdigit():
            raise ArchiveError("archive: a pax record does not begin with its length")
        size = int(digits)
        equal = data.find(b"=", space, at + size)
        if size > end - at or equal <= space + 1 or data[at + size - 1] != 10:
            raise ArchiveError("archive: a pax record's length is wrong")
        found.append((data[space + 1 : equal], data[equal + 1 : at + size - 1]))
        at += size
    return found


def pax_record(key: bytes, value: bytes) -> bytes:
    """`<length> <key>=<value>\\n`, the length counting itself."""
    rest = len(key) + len(value) + 3
    size = rest + len(str(rest))
    if len(str(size)) != len(str(rest)):
        size = rest + len(str(size))
    return b"%d %b=%b\n" % (size, key, value)


def pax_int(value: bytes, what: str) -> int:
    digits = value[1:] if value[:1] == b"-" else value
    if not digits.isdigit() or len(digits) > 20:
        raise ArchiveError(f"archive: the pax {what} is not a number: {value[:24]!r}")
    return int(value)


def pax_time(value: bytes) -> int:
    """Nanoseconds since the epoch; digits beyond nanoseconds are dropped."""
    negative = value[:1] == b"-"
    whole, _, part = value[negative:].partition(b".")
    if not whole.isdigit() or len(whole) > 20 or (part and not part.isdigit()):
        raise ArchiveError(f"archive: the pax time is not a number: {value[:40]!r}")
    ns = int(whole) * 1_000_000_000 + int((part[:9] + b"000000000")[:9])
    return -ns if negative else ns


def format_time(ns: int) -> bytes:
    """Decimal seconds as pax writes them, without trailing zeros."""
    sign = b"-" if ns < 0 else b""
    whole, part = divmod(abs(ns), 1_000_000_000)
    return sign + b"%d" % whole + ((b".%09d" % part).rstrip(b"0") if part else b"")
