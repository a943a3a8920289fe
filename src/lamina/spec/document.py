# SPDX-License-Identifier: Apache-2.0
"""JSON documents of strangers: manifests, image configs, indexes. Strict where `json` is generous (attacks 46 and 54).

Refused with ArchiveError: documents beyond a limit, duplicate keys (two readers would see two images), NaN and infinities (also by
overflow), nesting without end, a byte order mark, lone surrogates, anything that isn't UTF-8. Off the hot path: what is in the
store was read by this once, and is read from there with util.fastjson.
"""
from __future__ import annotations

import json
from collections.abc import Iterator

from lamina.errors import ArchiveError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CONFIG_LIMIT = 8 << 20
MANIFEST_LIMIT = 4 << 20
MAX_DEPTH = 100


def parse(data: bytes, what: str, limit: int = CONFIG_LIMIT) -> dict[str, Any]:
    """The JSON object in `data`; `what` names it in the ArchiveError ("image config", "manifest")."""
    value = parse_value(data, what, limit)
    if not isinstance(value, dict):
        raise ArchiveError(f"{what} must be a JSON object")
    return value


def parse_value(data: bytes, what: str, limit: int = CONFIG_LIMIT) -> Any:
    """As `parse`, where it may be something else than an object."""
    if len(data) > limit:
        raise ArchiveError(f"{what} is too large: {len(data)} bytes, at most {limit} are read")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise ArchiveError(f"{what} is nested too deeply")
    except MemoryError:
        raise ArchiveError(f"{what} needs more memory than there is")
    except ValueError as e:
        raise ArchiveError(f"{what} is not valid JSON: {_short(e)}")
    for depth, text in _walk(value):
        if depth > MAX_DEPTH:
            raise ArchiveError(f"{what} is nested too deeply")
        if not text.isascii():
            try:
                text.encode("utf-8")
            except UnicodeEncodeError:
                raise ArchiveError(f"{what} holds a string that is not Unicode text (a lone surrogate)")
    return value


def _walk(value: Any) -> Iterator[tuple[int, str]]:
    """Depth and text of every string and key, without recursion."""
    todo: list[tuple[int, Any]] = [(1, value)]
    while todo:
        depth, item = todo.pop()
        if isinstance(item, str):
            yield depth, item
        elif isinstance(item, dict):
            yield depth, ""
            for key, inner in item.items():
                yield depth, key
                todo.append((depth + 1, inner))
        elif isinstance(item, list):
            yield depth, ""
            todo.extend((depth + 1, inner) for inner in item)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key[:80]!r} occurs twice")
            seen.add(key)
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:40]} is out of range")
    return number


def _short(error: ValueError) -> str:
    text = str(error)
    return text if len(text) <= 200 else text[:200] + "..."
