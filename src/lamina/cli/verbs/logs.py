# SPDX-License-Identifier: Apache-2.0
"""`logs`: the stored output of a container, stdout to stdout and stderr to stderr."""
from __future__ import annotations

import time

from lamina.cli.context import Cli, CliError, write_all
from lamina.cli.flags import Opts, Verb
from lamina.util.times import parse_rfc3339

UNITS = {"ns": 1, "us": 10**3, "\u00b5s": 10**3, "\u03bcs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
LAYOUTS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H", "%Y-%m-%d")


def logs(cli: Cli, opts: Opts, args: list[str]) -> int:
    since, until = (limit(name, opts[name]) for name in ("since", "until"))
    tail = opts["tail"]
    pieces = cli.engine.containers.logs(
        args[0],
        follow=opts["follow"],
        stdout=True,
        stderr=True,
        since=since,
        until=until,
        timestamps=opts["timestamps"],
        details=opts["details"],
        tail=int(tail) if tail.isdecimal() and len(tail) < 19 else -1,  # as docker's daemon: what is no number means all
    )
    for stream, data in pieces:
        if stream == "stderr":
            cli.flush()
            write_all(2, data)
        elif opts["follow"]:
            write_all(1, data)
        else:
            cli.out_bytes(data)
    return 0


def limit(name: str, text: str) -> int | None:
    try:
        return moment(text) if text else None
    except CliError as e:
        raise CliError(f'invalid value for "{name}": {e.message}')


def moment(text: str) -> int:
    """Nanoseconds since the epoch of a timestamp (RFC 3339 or a part of it, local time without a zone), seconds, or an age ("42m")."""
    age = duration(text)
    if age is not None:
        return time.time_ns() - age
    seconds, _, fraction = text.partition(".")
    if seconds.isdecimal() and (not fraction or fraction.isdecimal()) and len(seconds) < 12:
        return int(seconds) * 10**9 + int((fraction + "0" * 9)[:9])
    try:
        if text.endswith("Z") or (len(text) > 6 and text[-3] == ":" and text[-6] in "+-" and "T" in text):
            return parse_rfc3339(text)
    except ValueError:
        pass
    bare, _, fraction = text.partition(".")
    for layout in LAYOUTS:
        try:
            parsed = time.strptime(bare.removesuffix("Z"), layout)
        except ValueError:
            continue
        if text.endswith("Z"):
            import calendar

            base = calendar.timegm(parsed)
        else:
            base = int(time.mktime(parsed))
        digits = fraction.removesuffix("Z")
        if digits and not digits.isdecimal():
            break
        return base * 10**9 + int((digits + "0" * 9)[:9])
    raise CliError(f'failed to parse value as time or duration: "{text}"')


def duration(text: str) -> int | None:
    """Go's time.ParseDuration in nanoseconds ("1h30m", "1.5s"), or None if it isn't one."""
    rest, total = text[1:] if text[:1] in ("-", "+") else text, 0
    if not rest:
        return None
    while rest:
        digits = 0
        while digits < len(rest) and (rest[digits].isdecimal() or rest[digits] == "."):
            digits += 1
        unit = digits
        while unit < len(rest) and not (rest[unit].isdecimal() or rest[unit] == "."):
            unit += 1
        number, name = rest[:digits], rest[digits:unit]
        if name not in UNITS or number.count(".") > 1 or not number.replace(".", "") or len(number) > 20:
            return None
        whole, _, fraction = number.partition(".")
        total += int(whole or 0) * UNITS[name] + int(fraction or 0) * UNITS[name] // 10 ** len(fraction)
        rest = rest[unit:]
    return -total if text[0] == "-" else total


VERBS = {
    "logs": Verb(
        logs,
        "[OPTIONS] CONTAINER",
        1,
        1,
        (
            ("details", "", "bool", False),
            ("follow", "f", "bool", False),
            ("since", "", "string", ""),
            ("tail", "n", "string", "all"),
            ("timestamps", "t", "bool", False),
            ("until", "", "string", ""),
        ),
    )
}
