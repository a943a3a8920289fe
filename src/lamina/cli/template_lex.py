# SPDX-License-Identifier: Apache-2.0
"""The lexer of Go templates: text and actions, and the tokens inside an action, each with its offset for error messages."""
from __future__ import annotations

from collections.abc import Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", "'": "'", '"': '"'}
SPACE = " \t\r\n"


class TemplateError(Exception):
    """A template that can't be parsed or executed; str() is Go's text without docker's "template parsing error: "."""


class Token:
    """kind: name, field, variable, dot, literal, nil, or the punctuation itself. `text` is the name, `value` a literal's value."""

    __slots__ = ("kind", "pos", "source", "text", "value")

    def __init__(self, kind: str, source: str, pos: int, text: str = "", value: Any = None) -> None:
        self.kind = kind
        self.source = source
        self.pos = pos
        self.text = text
        self.value = value

    def shown(self) -> str:
        return f"<{self.source}>" if self.kind in ("name", "field") else f'"{self.source}"'


class Lexer:
    def __init__(self, source: str, name: str = "") -> None:
        self.source = source
        self.name = name
        self.pos = 0  # for messages of the parser: where it is

    def line(self, pos: int) -> int:
        return self.source.count("\n", 0, pos) + 1

    def place(self, pos: int) -> tuple[int, int]:
        return self.line(pos), pos - (self.source.rfind("\n", 0, pos) + 1)

    def fail(self, message: str, pos: int) -> TemplateError:
        return TemplateError(f"template: {self.name}:{self.line(pos)}: {message}")

    def split(self) -> Iterator[tuple[str, str, int]]:
        """("text", text, offset) and ("action", inside, offset), with trim markers applied and comments left out."""
        source, at, trim = self.source, 0, False
        while True:
            start = source.find("{{", at)
            text = source[at:] if start < 0 else source[at:start]
            if trim:
                text = text.lstrip(SPACE)
            if start < 0:
                yield "text", text, at
                return
            inside = start + 2
            if source[inside : inside + 1] == "-" and source[inside + 1 : inside + 2] in tuple(SPACE):
                text = text.rstrip(SPACE)
                inside += 2
            yield "text", text, at
            if source[inside : inside + 2] == "/*":
                close = source.find("*/", inside)
                if close < 0:
                    raise self.fail("unclosed comment", start)
                end = close + 2
                trim = source[end : end + 1] in tuple(SPACE) and source[end + 1 : end + 2] == "-"
                end += 2 if trim else 0
                if source[end : end + 2] != "}}":
                    raise self.fail("comment ends before closing delimiter", start)
                at = end + 2
                continue
            end = self._end(inside)
            body = source[inside:end]
            trim = body.endswith("-") and body[-2:-1] in tuple(SPACE) and len(body) > 1
            yield "action", body[:-2] if trim else body, inside
            at = end + 2

    def _end(self, at: int) -> int:
        """Where the action that starts at `at` has its }}, looking past quoted text."""
        source, start, depth = self.source, at, 0
        while at < len(source):
            c = source[at]
            if c in "\"'":
                at = self._quoted(at, c)
                continue
            if c == "`":
                close = source.find("`", at + 1)
                if close < 0:
                    raise self.fail("unterminated raw quoted string", at)
                at = close + 1
                continue
            if source.startswith("}}", at):
                if depth > 0:
                    raise self.fail("unclosed left paren", at)
                return at
            if c == "{" or c == "}":
                raise self.fail(f"bad character U+{ord(c):04X} {c!r}", at)
            depth += (c == "(") - (c == ")")
            if depth < 0:
                raise self.fail("unexpected right paren", at)
            at += 1
        raise self.fail("unclosed left paren" if depth > 0 else "unclosed action", start)

    def _quoted(self, at: int, quote: str) -> int:
        source, start = self.source, at
        at += 1
        while at < len(source) and source[at] != "\n":
            if source[at] == "\\":
                at += 2
                continue
            if source[at] == quote:
                return at + 1
            at += 1
        raise self.fail("unterminated quoted string" if quote == '"' else "unterminated character constant", start)

    def tokens(self, text: str, base: int) -> Iterator[Token]:
        """The tokens of an action's inside; `base` is its offset in the source."""
        i = 0
        while i < len(text):
            c = text[i]
            start = i
            if c in SPACE:
                i += 1
                continue
            if c in "\"`'":
                i = self._quoted(base + i, c) - base if c != "`" else text.index("`", i + 1) + 1
                raw = text[start:i]
                value: Any = raw[1:-1] if c == "`" else self._unquote(raw[1:-1], base + start)
                if c == "'":
                    if len(value) != 1:
                        raise self.fail(f"malformed character constant: {raw}", base + start)
                    value = ord(value)
                yield Token("literal", raw, base + start, raw, value)
            elif c.isdigit() or (c in "+-" and text[i + 1 : i + 2].isdigit()):
                i += 1
                while i < len(text) and (text[i].isalnum() or text[i] in "._" or (text[i] in "+-" and text[i - 1] in "eE")):
                    i += 1
                yield Token("literal", text[start:i], base + start, text[start:i], self._number(text[start:i], base + start))
            elif c == "." or c == "$" or c.isalpha() or c == "_":
                i += 1
                while i < len(text) and (text[i].isalnum() or text[i] == "_"):
                    i += 1
                yield self._word(text[start:i], base + start)
            elif text.startswith(":=", i):
                i += 2
                yield Token(":=", ":=", base + start)
            elif c in "=,|()":
                i += 1
                yield Token(c, c, base + start)
            else:
                raise self.fail(f"unexpected bad character U+{ord(c):04X} {c!r} in command", base + start)

    def _word(self, word: str, pos: int) -> Token:
        if word == ".":
            return Token("dot", word, pos)
        if word[0] == ".":
            return Token("field", word, pos, word[1:])
        if word[0] == "$":
            return Token("variable", word, pos, word)
        if word in ("true", "false"):
            return Token("literal", word, pos, word, word == "true")
        if word == "nil":
            return Token("nil", word, pos, word)
        return Token("name", word, pos, word)

    def _number(self, text: str, pos: int) -> int | float:
        try:
            bare = text.lstrip("+-")
            octal = len(bare) > 1 and bare[0] == "0" and bare.isdigit()
            return int(text, 8 if octal else 0)
        except ValueError:
            try:
                return float(text)
            except ValueError:
                raise self.fail(f'bad number syntax: "{text}"', pos) from None

    def _unquote(self, text: str, pos: int) -> str:
        if "\\" not in text:
            return text
        out, i = [], 0
        while i < len(text):
            if text[i] != "\\":
                out.append(text[i])
                i += 1
                continue
            c = text[i + 1 : i + 2]
            width = {"x": 2, "u": 4, "U": 8}.get(c, 0)
            try:
                if c in ESCAPES:
                    out.append(ESCAPES[c])
                    i += 2
                elif width:
                    digits = text[i + 2 : i + 2 + width]
                    if len(digits) != width:
                        raise ValueError
                    out.append(chr(int(digits, 16)))
                    i += 2 + width
                elif c in "01234567" and len(text[i + 1 : i + 4]) == 3:
                    out.append(chr(int(text[i + 1 : i + 4], 8)))
                    i += 4
                else:
                    raise ValueError
            except (ValueError, OverflowError):
                raise self.fail("invalid syntax", pos) from None
        return "".join(out)
