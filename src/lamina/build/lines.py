# SPDX-License-Identifier: Apache-2.0
"""From text to logical lines: parser directives, comments, continuation and here-documents (Dockerfile reference, "Format").

A `Line` is an instruction's word, --flags and the rest; `place` maps an offset in its joined text back to line and column.
"""
from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from lamina.errors import InvalidArgument
from lamina.images.shellwords import SPACES, Expander

from .source import DockerfileError, Place, Source, Span

MAX_LINE = (1 << 16) - 1  # bytes of a physical line, as in BuildKit
MAX_TEXT = 16 << 20  # of a file: gRPC carries no larger one to BuildKit, and our time is bounded
DIRECTIVE = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$")
DIRECTIVES = ("syntax", "escape", "check")
BLANKS = re.compile(r"[\t\v\f\r ]+")
HEREDOC = re.compile(r"(\d*)<<(-?)\s*([^<]*)$")
TABS = re.compile(r"^\t+", re.M)
STRIP = "".join(SPACES) + "\n"
WITH_HEREDOC = ("add", "copy", "run")


@dataclass(slots=True)
class Heredoc:
    """`content` as it stands, each line with its end; `expand`: variables in it are replaced (no part of its name is quoted)."""

    name: str
    descriptor: int
    expand: bool
    chomp: bool
    content: str = ""

    def text(self) -> str:
        """Without leading tabs where `<<-` asked for that."""
        return TABS.sub("", self.content) if self.chomp else self.content


@dataclass(slots=True)
class Line:
    text: str
    span: Span
    comments: list[str]  # what stands above it, without the `#`
    word: str = ""
    flags: list[tuple[int, str]] = field(default_factory=list)  # offset and "--name=value", quotes resolved
    rest: str = ""
    rest_at: int = 0
    heredocs: list[Heredoc] = field(default_factory=list)
    starts: list[tuple[int, int, int]] = field(default_factory=list)  # offset in `text`, line, column: of each joined part

    def place(self, offset: int) -> Place:
        at, line, column = self.starts[bisect_right(self.starts, (offset, 1 << 62, 0)) - 1]
        return line, column + offset - at

    def error(self, message: str, offset: int | None = None, *, bare: bool = False) -> DockerfileError:
        return DockerfileError(message, [self.span if offset is None else self.span.at(self.place(offset))], bare=bare)


@dataclass(slots=True)
class Lines:
    source: Source
    escape: str = "\\"
    directives: dict[str, tuple[str, int]] = field(default_factory=dict)  # name -> value, line
    lines: list[Line] = field(default_factory=list)
    empty_continuations: list[int] = field(default_factory=list)  # the line at which each such instruction ends


def read(source: Source) -> Lines:
    """All logical lines. DockerfileError for a bad directive, an unfinished here-document, or a file without instructions."""
    try:
        return _Reader(source).read()
    except DockerfileError as e:
        e.source = source
        raise


class _Reader:
    def __init__(self, source: Source) -> None:
        self.physical = source.text.split("\n")
        if self.physical and not self.physical[-1]:
            self.physical.pop()
        if self.physical:
            self.physical[0] = self.physical[0].removeprefix("\ufeff")
        self.at = 0  # physical lines that are read
        self.open = True  # a directive may still come
        self.found = Lines(source)
        self.comments: list[str] = []

    def read(self) -> Lines:
        if not self.found.source.text:
            raise DockerfileError("the Dockerfile cannot be empty")
        while self.at < len(self.physical):
            line = self.logical()
            if line is not None:
                self.found.lines.append(line)
                self.comments = []
        if not self.found.lines:
            raise DockerfileError("file with no instructions", [Span(max(len(self.physical), 1), max(len(self.physical), 1))])
        return self.found

    def take(self) -> str:
        text = self.physical[self.at].rstrip("\r")
        self.at += 1
        if len(text) > MAX_LINE or (len(text) > MAX_LINE // 4 and len(text.encode("utf-8", "surrogateescape")) > MAX_LINE):
            raise DockerfileError(f"dockerfile line greater than max allowed size of {MAX_LINE}", [Span(self.at, self.at)])
        return text

    def logical(self) -> Line | None:
        """The next instruction with all its lines; None for a line that is none."""
        raw = self.take()
        text = raw.lstrip(STRIP)
        if self.directive(text):
            return None
        if text.startswith("#"):
            self.comment(raw[1:])
            return None
        body, ends = self.continued(text)
        if ends and not body:
            return None
        first = self.at
        starts = [(0, first, len(raw) - len(text) + 1)]
        parts, length, empty = [body], len(body), False
        while not ends and self.at < len(self.physical):
            raw = self.take()
            bare = raw.lstrip(STRIP)
            if bare.startswith("#"):
                continue
            if not bare:
                empty = True
                continue
            body, ends = self.continued(raw)
            starts.append((length, self.at, 1))
            parts.append(body)
            length += len(body)
        if empty:
            self.found.empty_continuations.append(self.at)
        line = Line("".join(parts), Span(first, self.at, starts[0][2]), self.comments, starts=starts)
        split_command(line, self.found.escape)
        self.heredocs(line)
        return line

    def continued(self, text: str) -> tuple[str, bool]:
        """The line without the escape that continues it, and whether the instruction ends here."""
        bare = text.rstrip(" \t")
        escape = self.found.escape
        if bare.endswith(escape) and not bare.endswith(escape * 2):
            return bare[:-1], False
        return text, True

    def directive(self, text: str) -> bool:
        if not self.open:
            return False
        match = DIRECTIVE.match(text[1:].lstrip(STRIP)) if text.startswith("#") else None
        name = match[1].lower() if match else ""
        if match is None or name not in DIRECTIVES:
            self.open = self.at == 1 and text.startswith("#!")  # a shebang may stand above them
            return False
        here = Span(self.at, self.at)
        if name in self.found.directives:
            raise DockerfileError(f"only one {name} parser directive can be used", [here])
        if name == "escape":
            if match[2] not in ("\\", "`"):
                raise DockerfileError(f"invalid escape token '{match[2]}' does not match ` or \\", [here])
            self.found.escape = match[2]
        self.found.directives[name] = match[2], self.at
        return True

    def comment(self, text: str) -> None:
        text = text.strip(STRIP)
        if text:
            self.comments.append(text)
        else:
            self.comments = []

    def heredocs(self, line: Line) -> None:
        if "<<" not in line.text or not takes_heredoc(line):
            return
        for heredoc in in_words(line.text):
            content = []
            while True:
                if self.at == len(self.physical):
                    raise DockerfileError("unterminated heredoc", [Span(line.span.first, self.at, line.span.column)])
                text = self.physical[self.at]
                self.take()
                ending = text.rstrip("\r")
                if (ending.lstrip("\t") if heredoc.chomp else ending) == heredoc.name:
                    break
                content.append(text + "\n")
            heredoc.content = "".join(content)
            line.heredocs.append(heredoc)
        line.span = Span(line.span.first, self.at, line.span.column)


def takes_heredoc(line: Line) -> bool:
    word, rest = line.word.lower(), line.rest
    if word == "onbuild":
        inner = command(rest)
        word, rest = inner.word.lower(), inner.rest
    return word in WITH_HEREDOC and not (rest.startswith("[") and is_json(rest))


def is_json(text: str) -> bool:
    """Of a text that begins with a bracket: whether all of it is one JSON list."""
    import json

    try:
        return isinstance(json.loads(text), list)
    except (ValueError, RecursionError):
        return False


def command(text: str, escape: str = "\\") -> Line:
    """An instruction inside of another one (ONBUILD)."""
    line = Line(text, Span(1, 1), [], starts=[(0, 1, 1)])
    split_command(line, escape)
    return line


def in_words(text: str) -> Iterator[Heredoc]:
    """The here-documents that an instruction asks for."""
    try:
        words = Expander({}, raw_quotes=True, raw_escapes=True, keep_unset=True).words(text)
    except InvalidArgument:  # quotes that are the shell's business: no here-documents
        return
    for word in words:
        heredoc = heredoc_of(word)
        if heredoc is not None:
            yield heredoc


def heredoc_of(word: str) -> Heredoc | None:
    """`<<NAME`, `3<<-"NAME"` ...; None if the word isn't one."""
    match = HEREDOC.match(word)
    if match is None or not match[3]:
        return None
    bare = Expander({}, keep_unset=True).words(match[3])
    if len(bare) != 1:
        return None
    raw = Expander({}, keep_unset=True, raw_quotes=True).words(match[3])
    quoted = sum(map(match[3].count, "'\"")) and raw != bare
    return Heredoc(bare[0], int(match[1] or 0), not quoted, match[2] == "-")


def split_command(line: Line, escape: str) -> None:
    """Fills in word, flags and rest."""
    text = line.text
    at = len(text) - len(text.lstrip(STRIP))
    match = BLANKS.search(text, at)
    if match is None or not text[match.end():].strip(STRIP):
        line.word = text[at:].strip(STRIP)
        line.rest_at = len(text)
        return
    line.word = text[at:match.start()]
    rest_at = _flags(line, match.end(), escape)
    rest = text[rest_at:]
    line.rest_at = rest_at + len(rest) - len(rest.lstrip(STRIP))
    line.rest = rest.strip(STRIP)


def _flags(line: Line, at: int, escape: str) -> int:
    """Takes words as long as they begin with `--`; the offset of what is behind them."""
    text = line.text
    while True:
        while at < len(text) and text[at] in SPACES:
            at += 1
        if text[at:at + 2] != "--":
            return at
        begin, word, quote = at, [], ""
        while at < len(text) and (quote or text[at] not in SPACES):
            char = text[at]
            at += 1
            if char == quote:
                quote = ""
            elif not quote and char in "'\"":
                quote = char
            elif char == escape:
                word.append(text[at:at + 1])
                at += 1
            else:
                word.append(char)
        if word == ["-", "-"]:
            return at
        line.flags.append((begin, "".join(word)))
