# SPDX-License-Identifier: Apache-2.0
"""A Dockerfile's text under its name, places in it, and errors that show them.

Lines and columns count from 1, columns in characters.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lamina.errors import InvalidArgument

Place = tuple[int, int]  # line, column
MAX_SHOWN = 500  # lines of one thing


@dataclass(frozen=True, slots=True)
class Span:
    """Whole lines, first to last, and the column where what is meant begins in the first."""

    first: int
    last: int
    column: int = 1

    def at(self, place: Place) -> Span:
        """The same lines; the place is where to look."""
        return Span(self.first, self.last, place[1]) if place[0] == self.first else Span(place[0], max(place[0], self.last), place[1])


class DockerfileError(InvalidArgument):
    """`message` as BuildKit words it; `spans`: what it is about; the face shows `source.show(spans)` above it.

    bare: of the words of a line, before they are looked at as an instruction: BuildKit names no line in the text then.
    """

    def __init__(
        self, message: str, spans: Sequence[Span] = (), *, source: Source | None = None, hint: str = "", bare: bool = False
    ) -> None:
        super().__init__(message, hint=hint)
        self.bare = bare
        self.spans = list(spans)
        self.source = source

    def where(self) -> str:
        """"Dockerfile:3:5", or "" if it is about the file as a whole."""
        if self.source is None or not self.spans:
            return ""
        first = min(self.spans, key=lambda span: span.first)
        return f"{self.source.name}:{first.first}:{first.column}"


class Source:
    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.lines = text.split("\n")

    def show(self, spans: Sequence[Span], *, column: bool = False) -> str:
        """The lines that the spans are about, marked, with about four lines around them, as BuildKit prints them.

        column: the head names the column, too, and a line below the first marked one points at it. "" where there is nothing to show.
        """
        if not spans:
            return ""
        start, end = min(span.first for span in spans), max(span.last for span in spans)
        if not 1 <= start <= len(self.lines):
            return ""
        begin, end = start, min(end, len(self.lines))
        around = 4 if end == begin else 2
        shown = 0
        while shown < around:
            if begin > 1:
                begin -= 1
                shown += 1
            if end < len(self.lines):
                end += 1
                shown += 1
            shown += 1
        point = next(span.column for span in spans if span.first == start)
        more = max(end - begin + 1 - MAX_SHOWN, 0)
        end -= more
        lines = [f"{self.name}:{start}:{point}" if column else f"{self.name}:{start}", "-" * 20]
        marked = {line for span in spans for line in range(max(span.first, begin), min(span.last, end) + 1)}
        for number in range(begin, end + 1):
            text = self.lines[number - 1]
            lines.append(f" {number:3} | {'>>>' if number in marked else '   '} {text}")
            if column and number == start:
                blank = "".join(char if char == "\t" else " " for char in text[: point - 1])
                lines.append(f"     |     {blank}^")
        lines += [f" ... | and {more} lines more"] if more else []
        return "\n".join([*lines, "-" * 20]) + "\n"
