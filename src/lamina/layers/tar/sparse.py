# SPDX-License-Identifier: Apache-2.0
"""Sparse maps of GNU tar: the old header form, and pax forms 0.0, 0.1 and 1.0. Bytes -> list of (offset, length), checked.

A map says where in the file the member's data lies; everything else is a hole. It is believed only if its pieces ascend without overlap
within the file's size and add up to exactly the data that the member has: then nothing outside can be read or written by it.
Source: GNU tar manual, appendix "Storing Sparse Files".
"""

from __future__ import annotations

from collections.abc import Callable

from lamina.errors import ArchiveError

from .header import BLOCK, number

Map = list[tuple[int, int]]


def checked(pieces: Map, real_size: int, data_size: int) -> Map:
    """The same map without its empty pieces; ArchiveError if it lies."""
    at = total = 0
    for offset, length in pieces:
        if offset < at or length < 0 or offset + length > real_size:
            raise ArchiveError("archive: the sparse map overlaps itself or leaves the file")
        at = offset + length
        total += length
    if total != data_size:
        raise ArchiveError(f"archive: the sparse map tells of {total} bytes, the member has {data_size}")
    return [piece for piece in pieces if piece[1]]


def _entries(raw: bytes, count: int) -> tuple[Map, bool]:
    found: Map = []
    for i in range(count):
        entry = raw[24 * i : 24 * i + 24]
        if not entry[0]:
            return found, False
        found.append((number(entry[:12], "sparse offset"), number(entry[12:], "sparse length")))
    return found, True


def old_gnu(block: bytes, more: Callable[[], bytes]) -> tuple[Map, int]:
    """(map, real size) of a type `S` header; `more()` gives the next extension block."""
    found, _ = _entries(block[386:482], 4)
    extended = block[482]
    while extended:
        raw = more()
        part, _ = _entries(raw, 21)
        found += part
        extended = raw[504]
    return found, number(block[483:495], "sparse size")


def _numbers(words: list[bytes]) -> list[int]:
    if not all(word.isdigit() and len(word) <= 20 for word in words):
        raise ArchiveError("archive: the sparse map is not made of numbers")
    return [int(word) for word in words]


def pax_map(text: bytes) -> Map:
    """Form 0.1: `offset,length,offset,length...`"""
    values = _numbers(text.split(b",")) if text else []
    if len(values) % 2:
        raise ArchiveError("archive: the sparse map has an odd number of values")
    return list(zip(values[::2], values[1::2], strict=True))


def pax_pairs(records: list[tuple[bytes, bytes]]) -> Map:
    """Form 0.0: repeated GNU.sparse.offset and GNU.sparse.numbytes."""
    offsets = _numbers([v for k, v in records if k == b"GNU.sparse.offset"])
    lengths = _numbers([v for k, v in records if k == b"GNU.sparse.numbytes"])
    if len(offsets) != len(lengths):
        raise ArchiveError("archive: the sparse map has offsets without lengths")
    return list(zip(offsets, lengths, strict=True))


def in_data(more: Callable[[], bytes], limit: int) -> tuple[Map, int]:
    """Form 1.0: the map is decimal lines at the head of the data, padded to a block. Gives (map, bytes it took)."""
    raw = more()
    used = BLOCK
    words = raw.split(b"\n")
    count = _numbers(words[:1])[0] if len(words) > 1 else -1
    if count < 0 or count * 4 > limit:
        raise ArchiveError("archive: the sparse map's length is wrong")
    lines, rest = words[1:-1], words[-1]
    while len(lines) < 2 * count:
        if used >= limit:
            raise ArchiveError("archive: the sparse map is too long")
        words = (rest + more()).split(b"\n")
        used += BLOCK
        lines += words[:-1]
        rest = words[-1]
        if len(rest) > 20 and len(lines) < 2 * count:
            raise ArchiveError("archive: the sparse map is not made of numbers")
    values = _numbers(lines[: 2 * count])
    return list(zip(values[::2], values[1::2], strict=True)), used
