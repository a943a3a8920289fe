# SPDX-License-Identifier: Apache-2.0
"""Sizes and durations as docker reads and writes them (the rules of go-units). [hot]

Input sizes are binary ("1k" = 1024), output sizes decimal ("1.98MB"): that asymmetry is docker's, and scripts rely on it.
"""
from __future__ import annotations

SUFFIXES = "kmgtp"
UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")


def parse_bytes(text: str) -> int:
    """Bytes of "512", "512b", "512m", "1.5g", "1 GiB" ...; ValueError with docker's text. Never negative."""
    last = max((i for i, c in enumerate(text) if c in "0123456789. "), default=-1)
    if last < 0:
        raise ValueError(f"invalid size: '{text}'")
    number = text[:last] if text[last] == " " else text[: last + 1]
    suffix = text[last + 1 :].lower()
    whole, dot, fraction = number.partition(".")
    digits = whole + fraction
    if not digits.isascii() or not digits.isdecimal():
        if number[:1] == "-" and number[1:].replace(".", "", 1).isdecimal():
            raise ValueError(f"invalid size: '{text}'")
        raise ValueError(f'strconv.ParseFloat: parsing "{number}": invalid syntax')
    if len(digits) > 400:
        raise ValueError(f"invalid size: '{text}'")
    factor = 1
    if suffix and suffix != "b":
        power = SUFFIXES.find(suffix[0]) + 1
        if not power or suffix[1:] not in ("", "b", "ib"):
            raise ValueError(f"invalid suffix: '{suffix}'")
        factor = 1 << (10 * power)
    value: int = int(digits) * factor // 10 ** len(fraction)
    if value >= 1 << 63:
        raise ValueError(f"invalid size: '{text}'")
    return value


def human_size(size: float, precision: int = 4) -> str:
    """Decimal units with that many significant digits: human_size(1984000, 3) == "1.98MB"."""
    i = 0
    while size >= 1000 and i < len(UNITS) - 1:
        size /= 1000
        i += 1
    return f"{size:.{precision}g}{UNITS[i]}"


def human_duration(seconds: float) -> str:
    """A length of time in words: "Less than a second", "42 seconds", "About a minute", "2 hours", "3 weeks" ..."""
    whole = int(seconds)
    minutes, hours = int(seconds / 60), int(seconds / 3600 + 0.5)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"
