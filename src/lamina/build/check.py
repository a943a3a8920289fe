# SPDX-License-Identifier: Apache-2.0
"""The build checks: reads a file as a build would, builds nothing, and collects what the rules say and the first error.

Rules whose answer depends on a base image are asked only where that image is known: `base` says what its config is.
"""
from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lamina.errors import InvalidArgument
from lamina.images.shellwords import Expander, quoted
from lamina.linux import signals
from lamina.spec.platform import parse as parse_platform
from lamina.spec.reference import parse as parse_reference

from .graph import SCRATCH, Graph, Node
from .ignore import Ignore
from .instructions import (
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    Files,
    From,
    Healthcheck,
    Instruction,
    Pairs,
    Shell,
    StopSignal,
    Workdir,
)
from .lines import Line, read
from .parse import Dockerfile, Stage, check_syntax, directives, stages
from .ports import parse_port
from .rules import Linter, Warning, parse_wanted
from .source import DockerfileError, Source, Span
from .suggest import mean, nearest
from .variables import PATH, Globals, Request, Scope, global_args

Base = Callable[[str, str], "dict[str, Any] | None"]  # name, platform -> inspect's JSON of the image, None if it isn't known

SECRET = re.compile(r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.I)
NO_SECRET = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.I)
RESERVED = ("context", "scratch")
GIT = re.compile(r"(?:git://|git@|github\.com/)|https?://[^#?]*\.git(?:[#?]|$)")
TO_BE_FETCHED = re.compile(r"https?://", re.I)


@dataclass(slots=True)
class Report:
    source: Source
    warnings: list[Warning] = field(default_factory=list)
    error: DockerfileError | None = None
    unknown: dict[str, None] = field(default_factory=dict)  # base images that aren't here


def check(source: Source, request: Request, *, ignore: Ignore | None, base: Base) -> Report:
    """All stages, or those that request.target needs. NotSupported for another frontend than ours; else faults are in the report."""
    check_syntax(source)
    report = Report(source)
    try:
        asked = next((value.split(" ", 1)[0] for name, value in directives(source.text, "#") if name == "check"), "")
        try:
            linter = Linter(parse_wanted(asked))
        except InvalidArgument as e:
            raise DockerfileError(f"failed to parse check options: {e.message}") from None
        report.warnings = linter.warnings
        _Check(source, request, linter, ignore, base, report).run()
    except DockerfileError as e:
        e.source = source
        report.error = e
    return report


class _Check:
    def __init__(self, source: Source, request: Request, linter: Linter, ignore: Ignore | None, base: Base, report: Report) -> None:
        self.source = source
        self.request = request
        self.linter = linter
        self.ignore = ignore
        self.base = base
        self.report = report

    def run(self) -> None:
        lines = read(self.source)
        for number in lines.empty_continuations:
            self.linter.warn("NoEmptyContinuation", Span(number, number), "Empty continuation line")
        dockerfile = stages(self.source, lines, self.look)
        self.names(dockerfile.stages)
        self.casing(dockerfile.stages)
        self.defaults(dockerfile)
        outer = global_args(dockerfile, self.request)
        self.graph = Graph(dockerfile, [self.origin(stage, dockerfile, outer) for stage in dockerfile.stages])
        target = self.graph.target(self.request.target)
        wanted = {node.index for node in (self.graph.reachable(target) if self.request.target else self.graph.nodes)}
        scopes: dict[int, _Stage] = {}
        for node in self.graph.nodes:
            if node.index in wanted:
                scopes[node.index] = stage = _Stage(self, node, scopes.get(node.base.index) if node.base else None, outer)
                stage.run(scopes)
        if self.linter.wanted.error and self.linter.warnings:
            rules = dict.fromkeys(warning.rule for warning in self.linter.warnings)
            raise DockerfileError(f"lint violation found for rules: {', '.join(rules)}")

    # -- while lines are read

    def look(self, line: Line, instruction: Instruction | None) -> None:
        if instruction is None:
            self.before(line)
        elif isinstance(instruction, From) and instruction.stage:
            self.described(line, "FROM", [instruction.stage])
        elif isinstance(instruction, Arg):
            self.described(line, "ARG", [one.name for one in instruction.args])

    def before(self, line: Line) -> None:
        word = line.word
        if word.lower() == "maintainer":
            self.linter.warn("MaintainerDeprecated", line.span, "Maintainer instruction is deprecated in favor of using label",
                             line.comments)
        if word.lower() != "from":
            return
        words = line.rest.split()
        if len(words) == 3 and words[2] != words[2].lower():
            self.linter.warn("StageNameCasing", line.span, f"Stage name '{words[2]}' should be lowercase", line.comments)
        if len(words) >= 3 and word in (word.lower(), word.upper()):
            fits = words[1].lower() if word == word.lower() else words[1].upper()
            if words[1] != fits:
                self.linter.warn("FromAsCasing", line.span, f"'{words[1]}' and '{word}' keywords' casing do not match", line.comments)

    def described(self, line: Line, what: str, names: list[str]) -> None:
        if line.comments and line.comments[-1].split(" ", 1)[0] not in names:
            name = names[0] if len(names) == 1 else "<arg_key>"
            self.linter.warn("InvalidDefinitionDescription", line.span,
                             f"Comment for {what} should follow the format: `# {name} <description>`", line.comments)

    # -- the file as a whole

    def names(self, found: list[Stage]) -> None:
        seen: set[str] = set()
        for stage in found:
            if stage.name in RESERVED:
                self.linter.warn("ReservedStageName", stage.origin.span,
                                 f'Stage name should not use the same name as reserved stage "{stage.name}"')
            if stage.name in seen:
                self.linter.warn("DuplicateStageName", stage.origin.span,
                                 f'Duplicate stage name "{stage.name}", stage names should be unique')
            seen |= {stage.name} - {""}

    def casing(self, found: list[Stage]) -> None:
        everything = [one for stage in found for one in (stage.origin, *stage.instructions)]
        lower = sum(one.name == one.name.lower() for one in everything)
        upper = sum(one.name == one.name.upper() for one in everything)
        for one in everything:
            wanted = one.name.lower() if lower > upper else one.name.upper()
            if one.name != wanted:
                majority = "lowercase" if lower > upper else "uppercase"
                self.linter.warn("ConsistentInstructionCasing", one.span,
                                 f"Command '{one.name}' should match the case of the command majority ({majority})")

    def defaults(self, dockerfile: Dockerfile) -> None:
        """Whether each FROM names an image if no argument is given."""
        try:
            env = global_args(dockerfile, self.request, defaults_only=True).env
        except DockerfileError:
            return  # it will come up again
        for stage in dockerfile.stages:
            try:
                name = Expander(env, escape=dockerfile.escape).word(stage.origin.base)
            except InvalidArgument:
                return
            try:
                parse_reference(name)
            except InvalidArgument:
                self.linter.warn("InvalidDefaultArgInFrom", stage.origin.span,
                                 f"Default value for ARG {stage.origin.base} results in empty or invalid base image name")

    def origin(self, stage: Stage, dockerfile: Dockerfile, outer: Globals) -> str:
        """The base's name; checks name and platform of a FROM."""
        origin, line = stage.origin, stage.origin.line
        expander = Expander(outer.env, escape=dockerfile.escape)
        try:
            name = expander.word(origin.base)
        except InvalidArgument as e:
            raise line.error(e.message, line.rest_at) from None
        self.undeclared(expander, origin, outer)
        if not name:
            raise line.error(f"base name ({origin.base}) should not be blank", line.rest_at)
        if origin.platform:
            self.platform(origin, Expander(outer.env, escape=dockerfile.escape), outer)
        return name

    def undeclared(self, expander: Expander, origin: From, outer: Globals) -> None:
        for name in expander.unmatched:
            if name not in outer.values and name not in outer.env:
                self.linter.warn("UndefinedArgInFrom", origin.span, mean(f"FROM argument '{name}' is not declared", name, outer.known()),
                                 origin.line.comments)

    def platform(self, origin: From, expander: Expander, outer: Globals) -> None:
        line = origin.line
        try:
            text = expander.word(origin.platform)
        except InvalidArgument as e:
            raise line.error(f"failed to process arguments for platform : {e.message}", line.text.find("--platform")) from None
        self.undeclared(expander, origin, outer)
        if list(expander.matched) == ["TARGETPLATFORM"] and not expander.unmatched and text == outer.env["TARGETPLATFORM"]:
            self.linter.warn("RedundantTargetPlatform", origin.span, f"Setting platform to predefined {origin.platform} in FROM is "
                             "redundant as this is the default behavior", line.comments)
        meant = next((found for name in expander.unmatched if (found := nearest(name, outer.env))), "")
        hint = f" (did you mean {meant}?)" if meant else ""
        if not text:
            raise line.error(f"empty platform value from expression {origin.platform}{hint}", line.text.find("--platform"))
        try:
            platform = parse_platform(text)
        except InvalidArgument as e:
            raise line.error(f"failed to parse platform {origin.platform}: {e.message}{hint}", line.text.find("--platform")) from None
        named = platform.os in origin.stage or platform.architecture in origin.stage
        if not expander.matched and not expander.unmatched and not named:
            self.linter.warn("FromPlatformFlagConstDisallowed", origin.span,
                             f"FROM --platform flag should not use constant value {quoted(text)}", line.comments)


class _Stage:
    """One stage, instruction by instruction."""

    def __init__(self, check: _Check, node: Node, below: _Stage | None, outer: Globals) -> None:
        self.check = check
        self.node = node
        self.outer = outer
        self.shell: bool = below.shell if below else False  # a SHELL was set
        self.workdir: bool = below.workdir if below else False  # a WORKDIR was met
        self.known: bool = below.known if below else True  # whether all variables of the base are
        self.scope: Scope = below.scope.copy() if below else self.image()
        self.once: dict[type[Instruction], Instruction] = {}

    def image(self) -> Scope:
        name = self.node.base_name
        if name == SCRATCH:
            return Scope({"PATH": PATH})
        origin = self.node.stage.origin
        try:
            parse_reference(name)
        except InvalidArgument as e:
            raise origin.line.error(f"failed to parse stage name {quoted(name)}: {e.message}", origin.line.rest_at) from None
        wanted = Expander(self.outer.env, escape=self.check.graph.dockerfile.escape).word(origin.platform)
        platform = parse_platform(wanted) if wanted else self.check.request.target_platform
        image = self.check.base(name, platform.format())
        if image is None:
            self.known = False
            self.check.report.unknown[name] = None
            return Scope({"PATH": PATH})
        actual = parse_platform("/".join(part for part in (image["Os"], image["Architecture"], image.get("Variant")) if part))
        if (actual.os, actual.architecture) != (platform.os, platform.architecture):
            self.check.linter.warn("InvalidBaseImagePlatform", origin.span, f"Base image {name} was pulled with platform "
                                   f'"{actual.format()}", expected "{platform.format()}" for current build')
        config = image.get("Config") or {}
        self.shell = bool(config.get("Shell"))
        self.check.graph.add_triggers(self.node, config.get("OnBuild") or [])
        return Scope({"PATH": PATH, **dict(entry.split("=", 1) for entry in config.get("Env") or [] if "=" in entry)})

    def run(self, met: dict[int, _Stage]) -> None:
        """met: by index, the stages above, and this one."""
        check = self.check
        dockerfile = check.graph.dockerfile
        for instruction in self.node.instructions():
            missing = self.scope.meet(instruction, dockerfile, check.request, self.outer)
            for name in missing if self.known else ():
                known = nearest(name, self.scope.env)
                meant = f" (did you mean ${known}?)" if known else ""
                self.warn("UndefinedVar", instruction, f"Usage of undefined variable '${name}'{meant}")
            self.scope.take(instruction)
            self.one(instruction)
        for need in self.node.needs:
            if need.node is not None and need.why is not None and (need.node.index not in met or need.node is self.node):
                verb = "copy" if need.kind == "COPY" else "mount"
                raise need.why.line.error(f'cannot {verb} from stage "{need.node.name}", it needs to be defined before current stage '
                                          f'"{self.node.name}"')

    def warn(self, rule: str, instruction: Instruction, detail: str) -> None:
        self.check.linter.warn(rule, instruction.span, detail, instruction.line.comments)

    def one(self, instruction: Instruction) -> None:
        if isinstance(instruction, Pairs):
            self.pairs(instruction)
        elif isinstance(instruction, Arg):
            for one in instruction.args:
                self.secret(instruction, "ARG", one.name)
        elif isinstance(instruction, (Cmd, Entrypoint, Healthcheck)):
            self.command(instruction)
        elif isinstance(instruction, Files):
            self.files(instruction)
        elif isinstance(instruction, Workdir):
            if not self.workdir and not posixpath.isabs(instruction.text):
                self.warn("WorkdirRelativePath", instruction,
                          f"Relative workdir {quoted(instruction.text)} can have unexpected results if the base image changes")
            self.workdir = True
        elif isinstance(instruction, Shell):
            self.shell = True
        elif isinstance(instruction, Expose):
            self.expose(instruction)
        elif isinstance(instruction, StopSignal):
            try:
                signals.parse(instruction.text)
            except InvalidArgument as e:
                raise instruction.line.error(e.message, instruction.line.rest_at) from None

    def pairs(self, instruction: Pairs) -> None:
        name = instruction.name.lower()
        for pair in instruction.pairs:
            if pair.legacy:
                self.warn("LegacyKeyValueFormat", instruction,
                          f'"{name.upper()} key=value" should be used instead of legacy "{name.upper()} key value" format')
            if isinstance(instruction, Env):
                self.secret(instruction, "ENV", pair.key)

    def secret(self, instruction: Instruction, what: str, name: str) -> None:
        if SECRET.search(name) and not NO_SECRET.search(name):
            self.warn("SecretsUsedInArgOrEnv", instruction,
                      f"Do not use ARG or ENV instructions for sensitive data ({what} {quoted(name)})")

    def command(self, instruction: Cmd | Entrypoint | Healthcheck) -> None:
        before = self.once.get(type(instruction))
        if before is not None:  # it is the earlier one that has no effect
            self.check.linter.warn("MultipleInstructionsDisallowed", before.span, f"Multiple {instruction.name} instructions should not be "
                                   "used in the same stage because only the last one will be used", instruction.line.comments)
        self.once[type(instruction)] = instruction
        if not isinstance(instruction, Healthcheck) and instruction.shell_form and not self.shell:
            self.warn("JSONArgsRecommended", instruction, f"JSON arguments recommended for {instruction.name} to prevent unintended "
                      "behavior related to OS signals")

    def expose(self, instruction: Expose) -> None:
        for word in instruction.words:
            try:
                port = parse_port(word)
            except InvalidArgument as e:
                raise instruction.line.error(e.message, instruction.line.rest_at) from None
            if port.proto != port.proto.lower():
                self.warn("ExposeProtoCasing", instruction, f"Defined protocol '{word}' in EXPOSE instruction should be lowercase")
            if port.mapped:
                self.warn("ExposeInvalidFormat", instruction,
                          f"EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'")

    def files(self, instruction: Files) -> None:
        ignore = self.check.ignore
        if isinstance(instruction, Add) and instruction.checksum:
            if len(instruction.sources) != 1:
                raise instruction.line.error("checksum can't be specified for multiple sources", instruction.line.text.find("--checksum"))
            if not fetched(instruction.sources[0]):
                raise instruction.line.error("checksum requires HTTP(S) or Git sources", instruction.line.text.find("--checksum"))
        if ignore is None or ignore.excepts or (isinstance(instruction, Copy) and instruction.source_stage):
            return
        for source in instruction.sources:
            path = posixpath.normpath(source)
            path = path[1:] if path.startswith("//") else path
            if isinstance(instruction, Add) and fetched(source) or (path in (".", "/") and not ignore.ignores_all()):
                continue
            if ignore.ignores(path):
                verb = "Add" if isinstance(instruction, Add) else "Copy"
                self.warn("CopyIgnoredFile", instruction, f"Attempting to {verb} file {quoted(path)} that is excluded by .dockerignore")


def fetched(source: str) -> bool:
    """Whether ADD takes it from the network."""
    return bool(TO_BE_FETCHED.match(source) or GIT.match(source))
