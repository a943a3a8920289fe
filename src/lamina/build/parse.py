# SPDX-License-Identifier: Apache-2.0
"""A text becomes a `Dockerfile`: arguments before the first FROM, and stages of instructions."""
from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from lamina.errors import InvalidArgument, NotSupported
from lamina.spec.reference import parse as parse_reference

from .instructions import Arg, From, Instruction, make
from .lines import DIRECTIVE, DIRECTIVES, MAX_LINE, MAX_TEXT, STRIP, Line, Lines, read
from .source import DockerfileError, Source

Look = Callable[[Line, Instruction | None], None]

VERSION = (1, 25)  # of the language, as docker/dockerfile numbers it


@dataclass(slots=True)
class Stage:
    origin: From
    instructions: list[Instruction] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.origin.stage


@dataclass(slots=True)
class Dockerfile:
    source: Source
    lines: Lines
    args: list[Arg]  # before the first FROM
    stages: list[Stage]

    @property
    def escape(self) -> str:
        return self.lines.escape


def parse(source: Source) -> Dockerfile:
    """DockerfileError (with its source) for what isn't a Dockerfile; NotSupported for one that wants another frontend than ours."""
    check_syntax(source)
    return stages(source, read(source))


def stages(source: Source, lines: Lines, look: Look | None = None) -> Dockerfile:
    """look: called for each line before it is understood (with None) and after it."""
    found = Dockerfile(source, lines, [], [])
    try:
        for line in lines.lines:
            if look is not None:
                look(line, None)
            try:
                instruction = make(line, lines.escape)
            except DockerfileError as e:
                e.message = e.message if e.bare else f"dockerfile parse error on line {line.span.first}: {e.message}"
                raise
            if look is not None:
                look(line, instruction)
            if isinstance(instruction, From):
                found.stages.append(Stage(instruction))
            elif found.stages:
                found.stages[-1].instructions.append(instruction)
            elif isinstance(instruction, Arg):
                found.args.append(instruction)
            else:
                raise line.error("no build stage in current context")
        if not found.stages:
            raise DockerfileError("dockerfile contains no stages to build")
    except DockerfileError as e:
        e.source = source
        raise
    return found


def check_syntax(source: Source) -> str:
    """`# syntax=` (also `// syntax=` and JSON's) may name docker/dockerfile, here or on a mirror; we are that. Nothing is fetched.

    A warning, if a newer version than ours is asked for; NotSupported for any other frontend.
    """
    if len(source.text) > MAX_TEXT:
        raise InvalidArgument(f"{source.name} is larger than {MAX_TEXT >> 20} MiB")
    name = syntax_of(source.text)
    if not name:
        return ""
    try:
        reference = parse_reference(name)
    except InvalidArgument as e:
        raise InvalidArgument(f"{source.name}: syntax={name}: {e.message}") from None
    if reference.path != "docker/dockerfile" and not reference.path.endswith("/docker/dockerfile"):
        raise NotSupported(
            f"{source.name} wants the frontend {name}, and lamina runs no frontend but its own",
            hint="docker/dockerfile is built in; without the line `# syntax=...` the file is read as that",
        )
    asked = tuple(int(part) for part in re.findall(r"\d{1,6}", reference.tag.partition("-")[0])[:2])
    if asked[:1] > VERSION[:1] or asked > VERSION:
        ours = ".".join(map(str, VERSION))
        return f"{source.name} asks for version {reference.tag} of the Dockerfile language; this lamina knows {ours}, and reads it as that"
    return ""


def syntax_of(text: str) -> str:
    """The frontend that a file names, as BuildKit looks for it: in directives behind `#` or `//`, or as a key of a JSON object."""
    for mark in ("#", "//"):
        for value in directives(text, mark):
            if value[0] == "syntax":
                return value[1].split(" ", 1)[0]
    if text.lstrip()[:1] == "{":
        try:
            value = json.loads(text).get("syntax")
        except (ValueError, RecursionError, AttributeError):
            return ""
        return value if isinstance(value, str) else ""
    return ""


def directives(text: str, mark: str) -> Iterator[tuple[str, str]]:
    """Name and value of each parser directive at the head of a text."""
    first = True
    at = 0
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        line, at = text[at:min(end, at + MAX_LINE)].removeprefix("\ufeff").lstrip(STRIP), end + 1
        if first and line.startswith("#!"):
            first = False
            continue
        first = False
        match = DIRECTIVE.match(line[len(mark):].lstrip(STRIP)) if line.startswith(mark) else None
        if match is None or match[1].lower() not in DIRECTIVES:
            return
        yield match[1].lower(), match[2]
