# SPDX-License-Identifier: Apache-2.0
"""Variables: those before the first FROM, the predefined ones, and a scope for each stage (Dockerfile reference, "ARG", "FROM").

A stage begins with the variables of what it stands on: another stage's, ARGs included, or an image's Env.
"""
from __future__ import annotations

from dataclasses import dataclass, field

from lamina.errors import InvalidArgument
from lamina.images.shellwords import Expander
from lamina.spec.platform import Platform

from .instructions import Arg, Argument, Env, Expose, Instruction
from .parse import Dockerfile
from .source import DockerfileError, Span

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NO_VARIABLES = ("SBOM_SCAN_CONTEXT", "SBOM_SCAN_STAGE")  # arguments that say something to the builder and aren't set


@dataclass(slots=True)
class Request:
    """What a build is asked for, as far as the language is concerned."""

    build_platform: Platform
    target_platform: Platform
    args: dict[str, str] = field(default_factory=dict)
    target: str = ""


@dataclass(slots=True)
class Value:
    """An argument as it came out."""

    argument: Argument
    span: Span
    value: str
    uses: set[str]  # the arguments that its default is made of


@dataclass(slots=True)
class Globals:
    env: dict[str, str]
    values: dict[str, Value] = field(default_factory=dict)  # of the declared ones

    def known(self) -> list[str]:
        return list({**self.values, **self.env})


def predefined(dockerfile: Dockerfile, request: Request) -> dict[str, str]:
    """The platform arguments; --build-arg may say otherwise."""
    build, target = request.build_platform, request.target_platform
    found = {
        "BUILDPLATFORM": build.format(), "BUILDOS": build.os, "BUILDOSVERSION": "", "BUILDARCH": build.architecture,
        "BUILDVARIANT": build.variant, "TARGETPLATFORM": target.format(), "TARGETOS": target.os, "TARGETOSVERSION": "",
        "TARGETARCH": target.architecture, "TARGETVARIANT": target.variant,
        "TARGETSTAGE": request.target or dockerfile.stages[-1].name or "default",
    }  # fmt: skip
    return {name: request.args.get(name, value) for name, value in found.items()}


def global_args(dockerfile: Dockerfile, request: Request, *, defaults_only: bool = False) -> Globals:
    """Those before the first FROM. defaults_only: as if no --build-arg were given. DockerfileError with its place."""
    found = Globals(predefined(dockerfile, request))
    for arg in dockerfile.args:
        for one in arg.args:
            value, uses = one.value, set[str]()
            if one.name in request.args and not defaults_only:
                value = request.args[one.name]
            elif value is not None:
                expander = Expander(found.env, escape=dockerfile.escape)
                value = located(expander, value, arg)
                uses = set(expander.matched)
                if one.name in uses:  # of its own, older value
                    older = found.values.get(one.name)
                    uses = uses - {one.name} | (older.uses if older else set())
            if value is not None:
                found.env[one.name] = value
            found.values[one.name] = Value(one, arg.span, value or "", uses)
    return found


def located(expander: Expander, word: str, instruction: Instruction) -> str:
    """The word expanded; a fault in it points at the word."""
    try:
        return expander.word(word)
    except InvalidArgument as e:
        line = instruction.line
        at = line.text.find(word) if word else -1
        raise line.error(e.message, at if at >= 0 else None) from None


@dataclass(slots=True)
class Scope:
    """The variables of a stage, up to the instruction that is met next. `declared`: the names of its ARGs, and of those it stands on."""

    env: dict[str, str]
    declared: dict[str, None] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def copy(self) -> Scope:
        return Scope(dict(self.env), dict(self.declared), dict(self.values), set(self.used))

    def meet(self, instruction: Instruction, dockerfile: Dockerfile, request: Request, outer: Globals) -> list[str]:
        """Expands what takes variables; arguments are set at once, ENV by `take`. The names in it that mean nothing, in order."""
        escape = dockerfile.escape
        expander = Expander(self.env, escape=escape)
        plain = Expander(self.env, quotes=False)
        if isinstance(instruction, Expose):
            instruction.words = [word for text in instruction.words for word in self.ports(text, expander, instruction)]
            return []
        instruction.expand(lambda word: located(expander, word, instruction))
        instruction.expand_contents(lambda text: self.contents(text, plain, instruction))
        if isinstance(instruction, Arg):
            for one in instruction.args:
                self.declare(one, instruction, expander, request, outer)
        return [name for name in {**expander.unmatched, **plain.unmatched} if name not in self.declared and name not in NO_VARIABLES]

    def take(self, instruction: Instruction) -> None:
        """What an instruction that was met sets for those after it."""
        if isinstance(instruction, Env):
            self.env.update((pair.key, pair.value) for pair in instruction.pairs)

    def ports(self, text: str, expander: Expander, instruction: Instruction) -> list[str]:
        try:
            return expander.words(text)
        except InvalidArgument as e:
            raise DockerfileError(e.message, [instruction.span]) from None

    def contents(self, text: str, expander: Expander, instruction: Instruction) -> str:
        try:
            return expander.word(text)
        except InvalidArgument as e:
            raise DockerfileError(e.message, [instruction.span]) from None

    def declare(self, one: Argument, instruction: Arg, expander: Expander, request: Request, outer: Globals) -> None:
        value, inherited = one.value, False
        if one.name in request.args:
            value = request.args[one.name]
        elif value is not None:
            value = located(expander, value, instruction)
        elif one.name in outer.env:
            value, inherited = outer.env[one.name], True
        if value is not None and one.name not in NO_VARIABLES:
            self.env[one.name] = value
        if not inherited:
            self.values[one.name] = Value(one, instruction.span, value or "", set())
        self.used.add(one.name)
        self.declared[one.name] = None
