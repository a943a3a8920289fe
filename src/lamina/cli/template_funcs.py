# SPDX-License-Identifier: Apache-2.0
"""The functions of Go templates (built in, and docker's own), and Go's ways of writing values: %v, printf, JSON."""
from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from .table import quote


class FuncError(Exception):
    """What a function says about its arguments; `argument` is the index of the one to blame, if it is one."""

    def __init__(self, message: str, argument: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.argument = argument


class GoMap(dict[str, Any]):
    """A JSON object that is a map in docker's types (Labels, Ports ...): a missing key is no error there."""


class NilMap(GoMap):
    """A map that is null in JSON and map[] when printed."""


class NilList(list[Any]):
    """A list that is null in JSON and [] when printed."""


class _NoValue:
    def __bool__(self) -> bool:
        return False


NO_VALUE = _NoValue()


class Nil:
    """A pointer that is nil in docker's types, and left out of its JSON under `name`."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __bool__(self) -> bool:
        return False

MAPS = frozenset((
    "Labels", "Ports", "Networks", "Volumes", "ExposedPorts", "PortBindings", "Options", "DriverOpts", "Sysctls", "Tmpfs", "Data",
))
LISTS = frozenset((
    "Env", "Cmd", "Args", "Entrypoint", "OnBuild", "Binds", "CapAdd", "CapDrop", "Dns", "DnsOptions", "DnsSearch", "ExtraHosts",
    "GroupAdd", "Links", "Mounts", "Devices", "Ulimits", "SecurityOpt", "VolumesFrom", "RepoTags", "RepoDigests", "Layers", "ExecIDs",
    "Shell", "Aliases", "MaskedPaths", "ReadonlyPaths", "DeviceCgroupRules", "DeviceRequests", "DNSNames",
))  # fmt: skip


# Fields that docker's JSON leaves out when they are empty, and its types have all the same.
OMITTED: dict[str, Any] = {
    "Variant": "", "OsVersion": "", "StopSignal": "",
    **{name: Nil(name) for name in ("Health", "Healthcheck", "StopTimeout", "SizeRw")},
    "SizeRootFs": Nil("SizeRootFs"), "ExposedPorts": GoMap(), "Shell": NilList(), "Annotations": GoMap(), "Mounts": NilList(),
    "Layers": NilList(), "StorageOpt": GoMap(), "Sysctls": GoMap(), "Tmpfs": GoMap(), "Init": Nil("Init"), "NetworkDisabled": False,
    "ArgsEscaped": False,
}  # fmt: skip


def typed(value: Any, name: str = "") -> Any:
    """API JSON with what docker's types would add: which objects are maps, and which nulls are empty lists."""
    if isinstance(value, dict):
        made = {k: typed(v, "" if name in MAPS else k) for k, v in value.items()}
        return GoMap(made) if name in MAPS else made
    if isinstance(value, list):
        return [typed(v) for v in value]
    if value is None and name in LISTS:
        return NilList()
    if value is None and name in MAPS:
        return NilMap()
    return value


def truth(value: Any) -> bool:
    return bool(value)


def to_text(value: Any, *, top: bool = False) -> str:
    """Go's %v; `top` for what stands alone in an action, where nothing is `<no value>`."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is NO_VALUE or (top and value is None):
        return "<no value>"
    if value is None or isinstance(value, Nil):
        return "<nil>"
    if isinstance(value, float):
        return go_float(value)
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(to_text(v) for v in value) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{k}:{to_text(value[k])}" for k in sorted(value)) + "]"
    return str(value)


def go_float(value: float) -> str:
    if value == int(value) and abs(value) < 1e21:
        return str(int(value)) if abs(value) < 1e6 else f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return repr(value)


def to_json(value: Any) -> str:
    """Compact JSON; maps sorted by key as Go does, other objects in the order of their fields."""
    if isinstance(value, (NilList, NilMap, Nil)) or value is NO_VALUE:
        return "null"
    rows = getattr(value, "template_fields", None)
    if rows is not None:
        text = json.dumps(rows(), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    if isinstance(value, dict):
        keys = sorted(value) if isinstance(value, GoMap) else list(value)
        return "{" + ",".join(f"{json.dumps(k, ensure_ascii=False)}:{to_json(value[k])}" for k in keys) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(to_json(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _index(item: Any, *keys: Any) -> Any:
    for key in keys:
        if item is None or item is NO_VALUE or isinstance(item, NilList):
            raise FuncError("index of untyped nil")
        if isinstance(item, dict):
            if not isinstance(key, str):
                raise FuncError(f"value has type {_type(key)}; should be string")
            item = item.get(key, NO_VALUE)
        elif isinstance(item, (list, tuple, str)):
            if not isinstance(key, int) or isinstance(key, bool):
                raise FuncError(f"cannot index slice/array with type {_type(key)}")
            if not 0 <= key < len(item):
                raise FuncError(f"index out of range: {key}")
            item = ord(item[key]) if isinstance(item, str) else item[key]
        else:
            raise FuncError(f"can't index item of type {_type(item)}")
    return item


def _slice(item: Any, *bounds: Any) -> Any:
    if not isinstance(item, (str, list)):
        raise FuncError(f"can't slice item of type {_type(item)}")
    for bound in bounds:
        if not isinstance(bound, int) or isinstance(bound, bool):
            raise FuncError(f"cannot index slice/array with type {_type(bound)}")
        if not 0 <= bound <= len(item):
            raise FuncError(f"index out of range: {bound}")
    low, high = bounds[0] if bounds else 0, bounds[1] if len(bounds) > 1 else len(item)
    if low > high:
        raise FuncError(f"invalid slice index: {low} > {high}")
    return item[low:high]


def _len(item: Any) -> int:
    if isinstance(item, str):
        return len(item.encode("utf-8", "surrogateescape"))
    if isinstance(item, (list, tuple, dict)):
        return len(item)
    if item is None or item is NO_VALUE:
        raise FuncError("len of nil pointer")
    raise FuncError(f"len of type {_type(item)}")


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float64"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "[]interface {}"
    return "map[string]interface {}" if isinstance(value, dict) else "<nil>"


def _comparable(a: Any, b: Any) -> None:
    kinds = ["number" if isinstance(v, (int, float)) and not isinstance(v, bool) else type(v).__name__ for v in (a, b)]
    if kinds[0] != kinds[1] and None not in (a, b):
        raise FuncError("incompatible types for comparison")
    if isinstance(a, (dict, list)):
        raise FuncError("non-comparable type")


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise FuncError("missing argument for comparison")
    found = False
    for other in others:
        _comparable(first, other)
        found = found or first == other
    return found


def _ordered(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(a: Any, b: Any) -> bool:
        _comparable(a, b)
        if not isinstance(a, (int, float, str)) or isinstance(a, bool):
            raise FuncError("invalid type for comparison")
        return test(a, b)

    return compare


def _strings(value: Any, argument: int) -> list[str]:
    if isinstance(value, (list, tuple)):
        return [to_text(v) for v in value]
    if value is None or value is NO_VALUE:
        return []
    raise FuncError(f"wrong type for value; expected []string; got {_type(value)}", argument)


def _string(value: Any, argument: int = 0) -> str:
    if isinstance(value, str):
        return value
    raise FuncError(f"wrong type for value; expected string; got {_type(value)}", argument)


def _title(text: str) -> str:
    return re.sub(r"(^|\s)(\S)", lambda m: m.group(1) + m.group(2).upper(), _string(text))


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if _string(text) else text


def _truncate(text: str, width: int) -> str:
    return _string(text)[: max(width, 0)]


def _print(*values: Any) -> str:
    """fmt.Sprint: a space between two operands when neither is a string."""
    out: list[str] = []
    for i, value in enumerate(values):
        if i and not isinstance(value, str) and not isinstance(values[i - 1], str):
            out.append(" ")
        out.append(to_text(value))
    return "".join(out)


def _printf(form: str, *values: Any) -> str:
    rest = list(values)

    def one(match: re.Match[str]) -> str:
        flags, width, precision, verb = match.groups()
        if verb == "%":
            return "%"
        if width == "*":
            width = str(rest.pop(0)) if rest else ""
        if not rest:
            return f"%!{verb}(MISSING)"
        value = rest.pop(0)
        text = _verb(verb, value, flags, precision)
        if text is None:
            return f"%!{verb}({_type(value)}={to_text(value)})"
        size = int(width or 0)
        if "-" in flags:
            return text.ljust(size)
        if "0" in flags and verb in "dxXobfeg":
            return text.zfill(size)
        return text.rjust(size)

    done = re.sub(r"%([-+# 0]*)(\d+|\*)?(?:\.(\d+))?([a-zA-Z%])", one, _string(form))
    if rest:
        done += "%!(EXTRA " + ", ".join(f"{_type(v)}={to_text(v)}" for v in rest) + ")"
    return done


def _verb(verb: str, value: Any, flags: str, precision: str | None) -> str | None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    sign = "+" if "+" in flags else " " if " " in flags else ""
    if verb in "sv":
        if verb == "s" and (number or isinstance(value, bool)):
            return None
        text = to_text(value)
        return text[: int(precision)] if precision and verb == "s" else text
    if verb == "q":
        if isinstance(value, list):
            return "[" + " ".join(quote(to_text(v)) for v in value) + "]"
        return quote(value) if isinstance(value, str) else None
    if verb == "t":
        return to_text(value) if isinstance(value, bool) else None
    if verb == "T":
        return _type(value)
    if verb in "dxXobc" and isinstance(value, int) and not isinstance(value, bool):
        if verb == "c":
            return chr(value)
        return format(value, ("+" if sign == "+" else "") + ("#" if "#" in flags and verb != "d" else "") + verb)
    if verb in "xX" and isinstance(value, str):
        digits = value.encode("utf-8", "surrogateescape").hex()
        return digits.upper() if verb == "X" else digits
    if verb in "feEgG" and isinstance(value, float):
        return format(value, f"{'+' if sign == '+' else ''}.{precision or 6}{verb}") if precision or verb != "g" else go_float(value)
    return None


def _html(*values: Any) -> str:
    text = _print(*values)
    for raw, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;"), ("'", "&#39;")):
        text = text.replace(raw, safe)
    return text


def _urlquery(*values: Any) -> str:
    from urllib.parse import quote_plus

    return quote_plus(_print(*values))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": lambda first, *rest: next((v for v in (first, *rest) if not truth(v)), (first, *rest)[-1]),
    "or": lambda first, *rest: next((v for v in (first, *rest) if truth(v)), (first, *rest)[-1]),
    "not": lambda value: not truth(value),
    "len": _len,
    "index": _index,
    "slice": _slice,
    "print": _print,
    "printf": _printf,
    "println": lambda *values: " ".join(to_text(v) for v in values) + "\n",
    "html": _html,
    "js": lambda *values: json.dumps(_print(*values), ensure_ascii=False)[1:-1].replace("'", "\\'"),
    "urlquery": _urlquery,
    "eq": _eq,
    "ne": lambda a, b: not _eq(a, b),
    "lt": _ordered(lambda a, b: bool(a < b)),
    "le": _ordered(lambda a, b: bool(a <= b)),
    "gt": _ordered(lambda a, b: bool(a > b)),
    "ge": _ordered(lambda a, b: bool(a >= b)),
    "json": to_json,
    "split": lambda text, separator: _string(text).split(_string(separator, 1)) if separator else list(_string(text)),
    "join": lambda items, separator: _string(separator, 1).join(_strings(items, 0)),
    "title": _title,
    "lower": lambda text: _string(text).lower(),
    "upper": lambda text: _string(text).upper(),
    "pad": _pad,
    "truncate": _truncate,
}

# For the header line of `table ...`: functions leave the column's name as it is.
HEADER_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **FUNCTIONS,
    **{name: (lambda value, *rest: value) for name in ("json", "split", "join", "title", "lower", "upper", "truncate")},
}
