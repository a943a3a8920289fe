# SPDX-License-Identifier: Apache-2.0
"""Columns as docker lays them out: left aligned, at least 10 wide, three spaces between, the last one not padded. [hot]"""
from __future__ import annotations

MIN_WIDTH = 10
PADDING = 3


def render(rows: list[list[str]], *, min_width: int = MIN_WIDTH) -> str:
    """Lines for rows of cells (the header first), each ended by a newline. Rows may differ in length."""
    widths: list[int] = []
    for row in rows:
        for i, cell in enumerate(row[:-1]):
            if i == len(widths):
                widths.append(min_width)
            width = len(cell) + PADDING
            if width > widths[i]:
                widths[i] = width
    lines = []
    for row in rows:
        lines.append("".join([cell.ljust(widths[i]) for i, cell in enumerate(row[:-1])] + row[-1:]))
    return "\n".join(lines) + "\n"


def short_id(full: str) -> str:
    """The first 12 digits, without the algorithm's name."""
    return full[7:19] if full.startswith("sha256:") else full[:12]


def ellipsis(text: str, width: int) -> str:
    """At most `width` characters; what is cut off shows as one character."""
    return text if len(text) <= width else text[: width - 1] + "\u2026"


def quote(text: str) -> str:
    """Go's strconv.Quote: printable characters as they are, the rest escaped, in double quotes."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(_quoted(c) for c in text) + '"'


def _quoted(c: str) -> str:
    if c in '"\\':
        return "\\" + c
    if c.isprintable():
        return c
    code = ord(c)
    short = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r"}.get(code)
    if short:
        return short
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
