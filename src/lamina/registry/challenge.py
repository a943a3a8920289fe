# SPDX-License-Identifier: Apache-2.0
"""WWW-Authenticate (RFC 9110, 11.6.1): the challenges in its lines. Written for bad input: what isn't understood is left out."""
from __future__ import annotations

LIMIT = 16 << 10
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class Challenge:
    """scheme in lower case; parameters by lower-case name."""

    __slots__ = ("scheme", "params")

    def __init__(self, scheme: str, params: dict[str, str]) -> None:
        self.scheme = scheme
        self.params = params

    def __repr__(self) -> str:
        return f"Challenge({self.scheme!r}, {self.params!r})"


def parse(lines: list[str]) -> list[Challenge]:
    """All challenges, in order. A line that breaks off keeps the challenges before the break; of equal parameters the first counts."""
    found: list[Challenge] = []
    for line in lines:
        if len(line) <= LIMIT:
            _parse_line(line, found)
    return found


def _parse_line(line: str, found: list[Challenge]) -> None:
    at = 0
    current: Challenge | None = None
    while True:
        at = _skip(line, at, " \t,")
        word, at = _word(line, at)
        if not word:
            return
        after = _skip(line, at, " \t")
        if after < len(line) and line[after] == "=" and current is not None:
            value, at = _value(line, _skip(line, after + 1, " \t"))
            if value is None:
                return
            current.params.setdefault(word.lower(), value)
            continue
        if at < len(line) and line[at] not in " \t,":
            return
        current = Challenge(word.lower(), {})
        found.append(current)


def _skip(text: str, at: int, chars: str) -> int:
    while at < len(text) and text[at] in chars:
        at += 1
    return at


def _word(text: str, at: int) -> tuple[str, int]:
    start = at
    while at < len(text) and text[at] in _TOKEN:
        at += 1
    return text[start:at], at


def _value(text: str, at: int) -> tuple[str | None, int]:
    """A token or a quoted string; None for one that never ends."""
    if at >= len(text) or text[at] != '"':
        return _word(text, at)
    at += 1
    out: list[str] = []
    while at < len(text):
        char = text[at]
        if char == '"':
            return "".join(out), at + 1
        if char == "\\" and at + 1 < len(text):
            at += 1
            char = text[at]
        out.append(char)
        at += 1
    return None, at
