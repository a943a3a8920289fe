# SPDX-License-Identifier: Apache-2.0
"""The filters of `images` and `image prune`: {"name": ["value", ...]}; values of one filter are alternatives, except labels, which all
must hold."""
from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence

from lamina.errors import InvalidArgument
from lamina.util.times import parse_rfc3339

from .changes import parse_duration

TRUE = frozenset(("1", "true"))
FALSE = frozenset(("0", "false"))
Filters = Mapping[str, Sequence[str]]


def check_known(filters: Filters, known: Iterable[str]) -> None:
    """InvalidArgument with docker's text for a filter that this verb doesn't have."""
    for name in filters:
        if name not in known:
            raise InvalidArgument(f"invalid filter '{name}'")


def boolean(filters: Filters, name: str, default: bool | None = None) -> bool | None:
    values = list(filters.get(name, ()))
    if not values:
        return default
    told = {value in TRUE for value in values if value in TRUE or value in FALSE}
    if len(told) != 1 or any(value not in TRUE and value not in FALSE for value in values):
        raise InvalidArgument(f"invalid filter '{name}=[{' '.join(values)}]'")
    return told.pop()


def labels_match(wanted: Sequence[str], labels: Mapping[str, str] | None) -> bool:
    """Each of "key" or "key=value" holds."""
    have = labels or {}
    for item in wanted:
        key, equals, value = item.partition("=")
        if key not in have or (equals and have[key] != value):
            return False
    return True


def name_matches(pattern: str, name: str, tagged: str) -> bool:
    """docker's FamiliarMatch: the pattern (path.Match: `*` and `?` stop at slashes) fits the name with or without tag or digest."""
    expression = _pattern(pattern)
    return expression.fullmatch(name) is not None or expression.fullmatch(tagged) is not None


def _pattern(pattern: str) -> re.Pattern[str]:
    out, at = [], 0
    while at < len(pattern):
        char = pattern[at]
        if char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            end = pattern.find("]", at + 2)
            if end < 0:
                raise InvalidArgument(f"invalid pattern {pattern!r}: syntax error in pattern")
            inner = pattern[at + 1:end]
            negate = inner.startswith("^")
            body = re.sub(r"([\\\]\[^&~|])", r"\\\1", inner[1:] if negate else inner)
            out.append(f"[{'^' if negate else ''}{body}]")
            at = end
        elif char == "\\" and at + 1 < len(pattern):
            at += 1
            out.append(re.escape(pattern[at]))
        else:
            out.append(re.escape(char))
        at += 1
    try:
        return re.compile("".join(out))
    except re.error:
        raise InvalidArgument(f"invalid pattern {pattern!r}: syntax error in pattern")


def until(filters: Filters, now_ns: int) -> int | None:
    """Nanoseconds before which an image must have been made. One value at most, as docker."""
    values = list(filters.get("until", ()))
    if not values:
        return None
    if len(values) > 1:
        raise InvalidArgument("more than one until filter specified")
    return moment(values[0], now_ns)


def moment(text: str, now_ns: int) -> int:
    """docker's GetTimestamp: a Go duration back from now, RFC 3339 (zone, seconds, time may be missing: UTC then), or Unix seconds."""
    try:
        return now_ns - parse_duration(text)
    except InvalidArgument:
        pass
    seconds, dot, fraction = text.partition(".")
    if seconds.lstrip("-").isdigit() and (not dot or fraction.isdigit()):
        if len(seconds) > 12:
            raise InvalidArgument(f"failed to parse value as time: {text}")
        return int(seconds) * 10**9 + int((fraction + "0" * 9)[:9] if dot else 0)
    try:
        return parse_rfc3339(text)
    except (ValueError, IndexError):
        pass
    for form in ("%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H", "%Y-%m-%d"):
        try:
            parsed = datetime.datetime.strptime(text.removesuffix("Z"), form).replace(tzinfo=datetime.UTC)
        except ValueError:
            continue
        delta = parsed - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        return (delta.days * 86400 + delta.seconds) * 10**9 + delta.microseconds * 1000
    raise InvalidArgument(f"failed to parse value as time or duration: \"{text}\"")
