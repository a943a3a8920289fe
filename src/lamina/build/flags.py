# SPDX-License-Identifier: Apache-2.0
"""The --flags of an instruction, checked by name and kind."""
from __future__ import annotations

from .lines import Line
from .suggest import mean

BOOL, TEXT, TEXTS = "bool", "text", "texts"


class Flags:
    """`values` of those that were given: a bool, a text, or a list of texts, by the kinds in `known` (name -> kind)."""

    def __init__(self, line: Line, known: dict[str, str]) -> None:
        self.values: dict[str, bool | str | list[str]] = {}
        self.offsets: dict[str, list[int]] = {}
        for offset, word in line.flags:
            name, sign, value = word[2:].partition("=")
            kind = known.get(name)
            if kind is None:
                raise line.error(mean(f"unknown flag: --{name}", name, known), offset)
            if name in self.values and kind != TEXTS:
                raise line.error(f"duplicate flag specified: --{name}", offset)
            if sign and not value and kind == BOOL or not sign and kind != BOOL:
                raise line.error(f"missing a value on flag: --{name}", offset)
            self.offsets.setdefault(name, []).append(offset)
            if kind == TEXT:
                self.values[name] = value
            elif kind == TEXTS:
                self.values[name] = [*self.texts(name), value]
            elif value.lower() in ("true", "false", ""):
                self.values[name] = value.lower() != "false"
            else:
                raise line.error(f"expecting boolean value for flag --{name}, not: {value}", offset)

    def text(self, name: str, default: str = "") -> str:
        value = self.values.get(name, default)
        assert isinstance(value, str)
        return value

    def texts(self, name: str) -> list[str]:
        value = self.values.get(name, [])
        assert isinstance(value, list)
        return value

    def on(self, name: str) -> bool:
        return bool(self.values.get(name))

    def on_or_none(self, name: str) -> bool | None:
        """None where the flag wasn't given."""
        return bool(self.values[name]) if name in self.values else None

    def offset(self, name: str) -> int | None:
        """Where it was given first."""
        return self.offsets[name][0] if name in self.offsets else None
