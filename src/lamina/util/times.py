# SPDX-License-Identifier: Apache-2.0
"""Points in time as integers: nanoseconds since 1970, UTC [hot].

Integers compare, subtract and store without rounding; text is made only at the faces. `datetime` is avoided for its import
cost and because it has no nanoseconds.
"""
from __future__ import annotations

import time

BILLION = 1_000_000_000
ZERO = "0001-01-01T00:00:00Z"  # Go's zero time: what docker shows for "never"
_DIGITS = frozenset("0123456789")


def now_ns() -> int:
    return time.time_ns()


def rfc3339nano(ns: int | None) -> str:
    """As Go's time.RFC3339Nano in UTC: the fraction without trailing zeros, absent when zero. None and 0 are Go's zero time."""
    if not ns:
        return ZERO
    seconds, fraction = divmod(ns, BILLION)
    y, mo, d, h, mi, s, *_ = time.gmtime(seconds)
    tail = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{y:04d}-{mo:02d}-{d:02d}T{h:02d}:{mi:02d}:{s:02d}{tail}Z"


def parse_rfc3339(text: str) -> int:
    """Nanoseconds of an RFC 3339 time with zone ("Z" or an offset). ValueError otherwise; digits beyond the ninth are dropped.

    Go's zero time gives 0, so that it survives the way there and back.
    """
    wrong = ValueError(f"invalid time {text!r}: not RFC 3339")
    date, sep, rest = text[:10], text[10:11], text[11:]
    if sep not in ("T", "t", " ") or len(rest) < 9 or date[4] != "-" or date[7] != "-" or rest[2] != ":" or rest[5] != ":":
        raise wrong
    clock, rest = rest[:8], rest[8:]
    fraction = ""
    if rest[0] == ".":
        end = 1
        while end < len(rest) and rest[end] in _DIGITS:
            end += 1
        fraction, rest = rest[1:end], rest[end:]
        if not fraction:
            raise wrong
    if rest in ("Z", "z"):
        offset = 0
    elif len(rest) == 6 and rest[0] in "+-" and rest[3] == ":":
        offset = (_number(rest[1:3], 23, wrong) * 60 + _number(rest[4:6], 59, wrong)) * (60 if rest[0] == "+" else -60)
    else:
        raise wrong
    year, month, day = _number(date[:4], 9999, wrong), _number(date[5:7], 12, wrong), _number(date[8:10], 31, wrong)
    seconds = (_number(clock[:2], 23, wrong) * 60 + _number(clock[3:5], 59, wrong)) * 60 + _number(clock[6:8], 60, wrong)
    if not month or not 1 <= day <= _days_in(year, month):
        raise wrong
    if (year, month, day, seconds, offset) == (1, 1, 1, 0, 0) and not fraction.strip("0"):
        return 0
    return (days_from_civil(year, month, day) * 86400 + seconds - offset) * BILLION + int((fraction + "000000000")[:9])


def days_from_civil(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the proleptic Gregorian calendar: years begin in March, so that the leap day is the last."""
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468


def _days_in(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def _number(digits: str, limit: int, wrong: ValueError) -> int:
    if not digits or not _DIGITS.issuperset(digits) or int(digits) > limit:
        raise wrong
    return int(digits)
