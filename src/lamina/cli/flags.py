# SPDX-License-Identifier: Apache-2.0
"""A declarative flag table and a parser with the semantics and error texts of docker's (pflag's). [hot]

A `Verb` is data plus its handler; a flag is a tuple (name, shorthand, kind, default). Kinds say how a value is read; KINDS
maps each to its converter. What docker has and this version doesn't is listed in `refused` (name -> shorthand) and is an
error by name: nothing is ever accepted and ignored.
"""
from __future__ import annotations

import os

from lamina.util.sizes import parse_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .context import Cli

    FlagSpec = tuple[str, str, str, Any]
    Handler = Callable[[Cli, "Opts", list[str]], int]

INT64 = 1 << 63
EXPLAIN: FlagSpec = ("explain", "", "bool", False)  # lamina's own, which may also stand behind any verb


class UsageError(Exception):
    """A command line that can't be parsed; the face adds the `See '... --help'.` line. Exit 125."""


class HelpWanted(Exception):
    """--help (or the deprecated -h, where that letter isn't a flag) was met."""

    def __init__(self, *, deprecated: bool = False) -> None:
        self.deprecated = deprecated


def refusal(shown: str, name: str) -> UsageError:
    """For a flag that docker has, and that isn't done here."""
    from .absent import flag

    return UsageError(f"unsupported flag: {shown} ({flag(name)})")


class Opts(dict[str, "Any"]):
    """Values by flag name, defaults filled in; `changed` holds the names that were given."""

    __slots__ = ("changed",)

    def __init__(self, defaults: dict[str, Any]) -> None:
        super().__init__(defaults)
        self.changed: set[str] = set()


class Verb:
    """One verb: its usage line (without the command path), how many arguments, its flags, and who does it."""

    __slots__ = ("flags", "handler", "interspersed", "maximum", "minimum", "refused", "usage")

    def __init__(
        self,
        handler: Handler,
        usage: str,
        minimum: int,
        maximum: int | None,
        flags: tuple[FlagSpec, ...] = (),
        *,
        refused: dict[str, str] | None = None,
        interspersed: bool = True,
    ) -> None:
        self.handler = handler
        self.usage = usage
        self.minimum = minimum
        self.maximum = maximum
        self.flags = flags
        self.refused = refused or {}
        self.interspersed = interspersed


def parse_bool(text: str) -> bool:
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if text in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def parse_int(text: str) -> int:
    """Go's strconv.ParseInt(text, 0, 64): prefixes 0x 0o 0b and a leading 0 for octal."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    try:
        if not digits or not digits.isascii() or digits.startswith("_") or digits[:1] in ("+", "-") or digits != digits.strip():
            raise ValueError
        base = 8 if len(digits) > 1 and digits[0] == "0" and digits[1] not in "xXoObB" else 0
        value = int(digits, base)
    except ValueError:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None
    value = -value if text[0] == "-" else value
    if not -INT64 <= value < INT64:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": value out of range')
    return value


def parse_swap(text: str) -> int:
    """Bytes, or -1 for without limit."""
    return -1 if text == "-1" else parse_bytes(text)


def parse_cpus(text: str) -> int:
    """Billionths of a CPU from a decimal or rational number, exactly (no float is involved)."""
    failed = ValueError(f"failed to parse {text} as a rational number")
    numerator, slash, denominator = text.partition("/")
    number, _, exponent = numerator.replace("E", "e").partition("e")
    whole, _, fraction = number.partition(".")
    sign = -1 if whole[:1] == "-" else 1
    whole = whole[1:] if whole[:1] in ("+", "-") else whole
    digits = whole + fraction
    if not digits.isdecimal() or not digits.isascii() or len(digits) > 40 or (slash and (fraction or exponent)):
        raise failed
    power = -len(fraction)
    if exponent or "e" in numerator.lower():
        bare = exponent[1:] if exponent[:1] in ("+", "-") else exponent
        if not bare.isdecimal() or len(bare) > 4:
            raise failed
        power += int(exponent)
    top, bottom = sign * int(digits) * 10**9, 1
    if slash:
        if not denominator.isdecimal() or len(denominator) > 40 or int(denominator) == 0:
            raise failed
        bottom = int(denominator)
    if power >= 0:
        top *= 10**power
    else:
        bottom *= 10**-power
    if top % bottom:
        raise ValueError("value is too precise")
    if not -INT64 <= top // bottom < INT64:
        raise failed
    return top // bottom


def check_env(text: str) -> str:
    """NAME=value as it is; NAME alone takes the value from our environment, or stays alone (unset in the container)."""
    name, sign, _ = text.partition("=")
    if not name:
        raise ValueError(f"invalid environment variable: {text}")
    if not sign and name in os.environ:
        return f"{name}={os.environ[name]}"
    return text


def check_label(text: str) -> str:
    name = text.partition("=")[0].lstrip()
    if not name:
        raise ValueError(f"invalid label '{text}': empty name")
    if any(c.isspace() for c in name):
        raise ValueError(f"label '{name}' contains whitespaces")
    return text


def check_filter(text: str) -> str:
    if "=" not in text:
        raise ValueError("bad format of filter (expected name=value)")
    return text


def check_network(text: str) -> str:
    if "=" in text or "," in text:
        raise ValueError("only a network's name is supported by this version of lamina")
    return text


def _text(text: str) -> str:
    return text


def _rare(name: str) -> Callable[[str], Any]:
    """A converter of `create_more`, which is loaded when a value is there to convert."""

    def convert(text: str) -> Any:
        from . import create_more

        return getattr(create_more, name)(text)

    return convert


def _limit(name: str) -> Callable[[str], Any]:
    """The same of `create_limits`."""

    def convert(text: str) -> Any:
        from . import create_limits

        return getattr(create_limits, name)(text)

    return convert


# kind -> (converter, may be given several times, the word that help shows)
KINDS: dict[str, tuple[Callable[[str], Any], bool, str]] = {
    "bool": (parse_bool, False, ""),
    "string": (_text, False, "string"),
    "int": (parse_int, False, "int"),
    "bytes": (parse_bytes, False, "bytes"),
    "swap": (parse_swap, False, "bytes"),
    "decimal": (parse_cpus, False, "decimal"),
    "list": (_text, True, "list"),
    "env": (check_env, True, "list"),
    "label": (check_label, True, "list"),
    "filter": (check_filter, True, "filter"),
    "network": (check_network, True, "network"),
    "ulimit": (_rare("ulimit"), True, "ulimit"),
    "sysctl": (_rare("sysctl"), True, "map"),
    "address": (_rare("ip_address"), True, "list"),
    "domain": (_rare("dns_search"), True, "list"),
    "host": (_rare("extra_host"), True, "list"),
    "rule": (_rare("device_rule"), True, "list"),
    "stream": (_rare("stream"), True, "list"),
    "mount": (_rare("mount"), True, "mount"),
    "map": (_text, True, "map"),
    "weight": (_limit("weight"), False, "uint16"),
    "device-weight": (_limit("device_weight"), True, "list"),
    "bps": (_limit("bytes_per_second"), True, "list"),
    "iops": (_limit("io_per_second"), True, "list"),
    "duration": (_rare("duration"), False, "duration"),
}


class Parser:
    """One pass over argv; `rest` are the positional arguments afterwards."""

    __slots__ = ("by_name", "by_short", "interspersed", "opts", "refused", "refused_short", "rest")

    def __init__(self, flags: tuple[FlagSpec, ...], refused: dict[str, str], *, interspersed: bool) -> None:
        self.by_name = {flag[0]: flag for flag in flags}
        self.by_short = {flag[1]: flag for flag in flags if flag[1]}
        self.refused = refused
        self.refused_short = {short: name for name, short in refused.items() if short}
        self.interspersed = interspersed
        self.opts = Opts({flag[0]: [] if KINDS[flag[2]][1] else flag[3] for flag in flags})
        self.rest: list[str] = []

    def parse(self, argv: list[str]) -> None:
        """Fills `opts` and `rest`, or raises UsageError or HelpWanted at the first word that calls for it."""
        i, n = 0, len(argv)
        while i < n:
            word = argv[i]
            i += 1
            if len(word) < 2 or word[0] != "-":
                if not self.interspersed:
                    self.rest = argv[i - 1 :]
                    return
                self.rest.append(word)
            elif word == "--":
                self.rest += argv[i:]
                return
            elif word[1] == "-":
                i = self._long(word, argv, i)
            else:
                i = self._shorts(word, argv, i)

    def _long(self, word: str, argv: list[str], i: int) -> int:
        name, sign, value = word[2:].partition("=")
        if not name or name[0] == "-":
            raise UsageError(f"bad flag syntax: {word}")
        flag = self.by_name.get(name)
        if flag is None:
            if name == "help":
                raise HelpWanted
            if name != "explain":
                if name in self.refused:
                    raise refusal(f"--{name}", name)
                raise UsageError(f"unknown flag: --{name}")
            flag = EXPLAIN
        if sign:
            self._set(flag, value)
        elif flag[2] == "bool":
            self._set(flag, "true")
        elif i < len(argv):
            self._set(flag, argv[i])
            i += 1
        else:
            raise UsageError(f"flag needs an argument: --{name}")
        return i

    def _shorts(self, word: str, argv: list[str], i: int) -> int:
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            flag = self.by_short.get(letter)
            if flag is None:
                if letter == "h" and letter not in self.refused_short:
                    raise HelpWanted(deprecated=True)
                if letter in self.refused_short:
                    name = self.refused_short[letter]
                    raise refusal(f"-{letter}, --{name}", name)
                raise UsageError(f"unknown shorthand flag: '{letter}' in -{letter}{letters}")
            if letters[:1] == "=" and len(letters) > 1:
                self._set(flag, letters[1:])
                return i
            if flag[2] == "bool":
                self._set(flag, "true")
            elif letters:
                self._set(flag, letters)
                return i
            elif i < len(argv):
                self._set(flag, argv[i])
                return i + 1
            else:
                raise UsageError(f"flag needs an argument: '{letter}' in -{letter}")
        return i

    def _set(self, flag: FlagSpec, text: str) -> None:
        name, short, kind, _ = flag
        convert, many, _ = KINDS[kind]
        try:
            value = convert(text)
        except ValueError as e:
            shown = f"-{short}, --{name}" if short else f"--{name}"
            raise UsageError(f'invalid argument "{text}" for "{shown}" flag: {e}') from None
        if many:
            self.opts[name].append(value)
        else:
            self.opts[name] = value
        self.opts.changed.add(name)


def parse(verb: Verb, argv: list[str]) -> tuple[Opts, list[str]]:
    parser = Parser(verb.flags, verb.refused, interspersed=verb.interspersed)
    parser.parse(argv)
    return parser.opts, parser.rest
