# SPDX-License-Identifier: Apache-2.0
"""JSON at a tenth of the import cost of `json` [hot].

The C accelerators of CPython are used directly; `json` itself (with `re` and `enum` behind it) is imported only where they
are missing. Strict on both sides: NaN and infinities are refused, every failure is a ValueError (also nesting that is too deep,
bytes that aren't UTF-8, and numbers of absurd length), so that callers who read foreign documents catch one thing.
"""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _refuse_object(obj: object) -> Any:
    raise ValueError(f"{type(obj).__name__} can't be written as JSON")


class _Context:
    """What `_json.make_scanner` reads its settings from."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_refuse_constant)
    memo: dict[str, str] = {}


def _accelerated() -> tuple[Callable[[str, int], tuple[Any, int]], Callable[[Any, bool], str]]:
    from _json import encode_basestring, make_encoder, make_scanner

    context: Any = _Context()
    scan = make_scanner(context)
    unsorted = make_encoder(None, _refuse_object, encode_basestring, None, ":", ",", False, False, False)
    ordered = make_encoder(None, _refuse_object, encode_basestring, None, ":", ",", True, False, False)

    def encode(obj: Any, sort_keys: bool) -> str:
        return "".join((ordered if sort_keys else unsorted)(obj, 0))

    return scan, encode


def _portable() -> tuple[Callable[[str, int], tuple[Any, int]], Callable[[Any, bool], str]]:
    import json

    def encode(obj: Any, sort_keys: bool) -> str:
        return json.dumps(obj, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=sort_keys, default=_refuse_object)

    decoder: Any = json.JSONDecoder(parse_constant=_refuse_constant)
    return decoder.scan_once, encode


try:
    _scan, _encode = _accelerated()
except (ImportError, TypeError, AttributeError):  # another Python, or another shape of its private module
    _scan, _encode = _portable()


def loads(data: bytes | bytearray | memoryview | str) -> Any:
    """The value of one JSON document. ValueError for anything else; of equal keys the last counts, as in `json`."""
    try:
        text = data if isinstance(data, str) else str(data, "utf-8")  # UnicodeDecodeError is a ValueError
        text = text.strip(" \t\r\n")
        value, end = _scan(text, 0)
    except StopIteration as stop:
        raise ValueError(f"not JSON: a value is missing at character {stop.value}") from None
    except RecursionError:
        raise ValueError("not JSON that we take: nested too deeply") from None
    if end != len(text):
        raise ValueError(f"not JSON: more follows the value at character {end}")
    return value


def dumps(obj: Any, *, sort_keys: bool = False) -> str:
    """Compact JSON; non-ASCII stays as it is. Keys in insertion order, or sorted where bytes must be the same each time."""
    try:
        return _encode(obj, sort_keys)
    except RecursionError:
        raise ValueError("can't be written as JSON: nested too deeply, or circular") from None
    except TypeError as error:  # keys that are no strings
        raise ValueError(str(error)) from None


def dump_bytes(obj: Any, *, sort_keys: bool = False) -> bytes:
    """`dumps` as UTF-8. ValueError for lone surrogates: what is stored must be readable by everyone."""
    return dumps(obj, sort_keys=sort_keys).encode()
