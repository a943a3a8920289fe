# SPDX-License-Identifier: Apache-2.0
"""`.dockerignore` (and NAME.dockerignore): which paths of a context are left out. The rules are moby's patternmatcher's.

A pattern is matched against whole paths relative to the context, and what it matches is left out with all that is below. `*` and `?`
don't match a slash, `**` matches any number of directories, `[a-z]` a class, a backslash takes the next character as it is; `!`
brings back; the last pattern that matches decides. Cleaned beforehand: blanks around, `.`, `..` and double slashes, and a leading slash.
"""
from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

from lamina.errors import InvalidArgument
from lamina.images.shellwords import SPACES

STRIP = "".join(SPACES) + "\n"
SPECIAL = frozenset("*?[]\\")
STAR, DIRECTORIES, ALL, INSIDE = "[^/]*", "(?:.*/)?", ".*", "inside"
LOOPS = (STAR, DIRECTORIES, ALL)
MAX_LOOPS = 3  # in a regular expression
LETTERS = frozenset("dDwWsSbBaftnrv")


class Pattern:
    __slots__ = ("excepts", "matches", "text")

    def __init__(self, text: str, *, excepts: bool) -> None:
        check_classes(text)
        self.text = text
        self.excepts = excepts  # it began with `!`
        self.matches = compiled(text)


class Ignore:
    """`patterns` in their order."""

    def __init__(self, patterns: list[Pattern]) -> None:
        self.patterns = patterns

    @property
    def excepts(self) -> bool:
        """Whether something is brought back."""
        return any(pattern.excepts for pattern in self.patterns)

    def ignores(self, path: str) -> bool:
        """Of a path relative to the context, with slashes. A directory's answer doesn't decide for what is in it if `excepts`."""
        parts = path.split("/")
        paths = [path, *("/".join(parts[: n + 1]) for n in range(len(parts) - 1))]
        ignored = False
        for pattern in self.patterns:
            if pattern.excepts == ignored and any(map(pattern.matches, paths)):
                ignored = not pattern.excepts
        return ignored

    def ignores_all(self) -> bool:
        """Whether nothing at the top is left, but for what is brought back."""
        return any(not pattern.excepts and pattern.text in ("*", "**", "**/*") for pattern in self.patterns)


def parse(text: str, name: str) -> Ignore:
    """InvalidArgument names the file."""
    patterns = []
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = raw.strip(STRIP)
        if raw.startswith("#") or not line:
            continue
        excepts = line.startswith("!")
        if excepts:
            line = line[1:].strip(STRIP)
        if line:
            line = clean(line)
            line = line[1:] if len(line) > 1 and line.startswith("/") else line
        elif excepts:
            raise InvalidArgument(f'{name}:{number}: illegal exclusion pattern: "!"')
        line = clean(line.strip(STRIP))
        if not excepts and line.startswith("!"):  # what was behind a leading slash
            excepts, line = True, line[1:]
        try:
            patterns.append(Pattern(line, excepts=excepts))
        except ValueError as e:
            raise InvalidArgument(f"{name}:{number}: {e}") from None
    return Ignore(patterns)


def clean(path: str) -> str:
    """Go's filepath.Clean."""
    path = posixpath.normpath(path)
    return path[1:] if path.startswith("//") else path


def check_classes(pattern: str) -> None:
    """ValueError for a bad pattern: a class without end or content, an escape at the end (Go's filepath.Match)."""
    bad = ValueError("syntax error in pattern")
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "\\":
            if at == len(pattern):
                raise bad
            at += 1
        elif char == "[":
            at += pattern[at:at + 1] == "^"
            count = 0
            while True:
                if pattern[at:at + 1] == "]" and count:
                    at += 1
                    break
                at = _end(pattern, at)
                if pattern[at:at + 1] == "-":
                    at = _end(pattern, at + 1)
                count += 1


def _end(pattern: str, at: int) -> int:
    """Behind one character of a class; there must be another one after it."""
    char = pattern[at:at + 1]
    if char in ("", "-", "]"):
        raise ValueError("syntax error in pattern")
    at += 2 if char == "\\" else 1
    if at >= len(pattern):
        raise ValueError("syntax error in pattern")
    return at


def compiled(pattern: str) -> Callable[[str], bool]:
    """What tells whether a path matches."""
    if pattern.startswith("**") and not set(pattern[2:]) & SPECIAL:
        tail = pattern[2:]  # any path that ends so: `**foo` matches barfoo, too
        return lambda path: path.endswith(tail) or (tail[:1] == "/" and path == tail[1:])
    parts = translated(pattern)
    try:
        if sum(part in LOOPS for part in parts) > MAX_LOOPS:
            return Stepwise(parts).matches
        found = re.compile("".join(parts) + r"\Z", re.ASCII)
    except re.error:
        raise ValueError("syntax error in pattern") from None
    return lambda path: found.match(path) is not None


def translated(pattern: str) -> list[str]:
    """Regular expressions that follow each other; of one character each, but for LOOPS."""
    out, at = [], 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*" and pattern[at:at + 1] == "*":
            at += 1 + (pattern[at + 1:at + 2] == "/")  # `**/` is `**`
            out.append(ALL if at == len(pattern) else DIRECTORIES)
        elif char == "*":
            out.append(STAR)
        elif char == "?":
            out.append("[^/]")
        elif char == "\\":
            out.append(escaped(pattern[at:at + 1]))
            at += 1
        elif char == "[":
            end = at + 1 + (pattern[at] == "^")
            while pattern[end] != "]":
                end += 2 if pattern[end] == "\\" else 1
            out.append("[" + pattern[at:end].replace("[", "\\[") + "]")
            at = end + 1
        else:
            out.append(re.escape(char))
    return out


def escaped(char: str) -> str:
    """The character behind a backslash; letters have the meaning that Go's regular expressions give them, as moby's do."""
    if char in LETTERS:
        return "\\" + char
    if char.isalnum():
        raise ValueError("syntax error in pattern")
    return re.escape(char)


class Stepwise:
    """A pattern of many stars: all ways to match are tried at once, as a backtracking expression might take for ever."""

    def __init__(self, parts: list[str]) -> None:
        # DIRECTORIES are two places: at the first nothing was taken yet, at the second a slash must come before it goes on.
        self.parts: list[tuple[str, re.Pattern[str] | None]] = []
        for part in parts:
            self.parts.append((part, None if part in LOOPS else re.compile(part, re.ASCII)))
            self.parts += [(INSIDE, None)] if part == DIRECTORIES else []

    def matches(self, path: str) -> bool:
        now = self.reached({0})
        for char in path:
            following = set()
            for place in now:
                part, one = self.parts[place] if place < len(self.parts) else ("", None)
                if one is not None:
                    following |= {place + 1} if one.match(char) else set()
                elif part == STAR:
                    following |= {place} if char != "/" else set()
                elif part == ALL:
                    following.add(place)
                elif part == DIRECTORIES:
                    following |= {place + 1, place + 2} if char == "/" else {place + 1}
                elif part == INSIDE:
                    following |= {place, place + 1} if char == "/" else {place}
            now = self.reached(following)
            if not now:
                return False
        return len(self.parts) in now

    def reached(self, places: set[int]) -> set[int]:
        """With those behind loops that stand for nothing."""
        todo = list(places)
        while todo:
            place = todo.pop()
            part = self.parts[place][0] if place < len(self.parts) else ""
            behind = place + 1 if part in (STAR, ALL) else place + 2 if part == DIRECTORIES else place
            if behind not in places:
                places.add(behind)
                todo.append(behind)
        return places
