# SPDX-License-Identifier: Apache-2.0
"""The build checks: names, descriptions and addresses of moby/buildkit's rules, and which of them a file wants.

`# check=skip=A,B;error=true;experimental=C` at the head of a file, and `# check=skip=A` above an instruction for that one alone
(Dockerfile reference, "check").
"""
from __future__ import annotations

from dataclasses import dataclass, field, replace

from lamina.errors import InvalidArgument

from .lines import DIRECTIVE
from .source import DockerfileError, Span

MAX_WARNINGS = 1000
URL = "https://docs.docker.com/go/dockerfile/rule/"
TRUE, FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")

DESCRIPTIONS = {
    "StageNameCasing": "Stage names should be lowercase",
    "FromAsCasing": "The 'as' keyword should match the case of the 'from' keyword",
    "NoEmptyContinuation": "Empty continuation lines will become errors in a future release",
    "ConsistentInstructionCasing": "All commands within the Dockerfile should use the same casing (either upper or lower)",
    "DuplicateStageName": "Stage names should be unique",
    "ReservedStageName": "Reserved words should not be used as stage names",
    "JSONArgsRecommended": "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    "MaintainerDeprecated": "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    "UndefinedArgInFrom": "FROM command must use declared ARGs",
    "WorkdirRelativePath": "Relative workdir without an absolute workdir declared within the build can have unexpected results if the "
    "base image changes",
    "UndefinedVar": "Variables should be defined before their use",
    "MultipleInstructionsDisallowed": "Multiple instructions of the same type should not be used in the same stage",
    "LegacyKeyValueFormat": "Legacy key/value format with whitespace separator should not be used",
    "InvalidBaseImagePlatform": "Base image platform does not match expected target platform",
    "RedundantTargetPlatform": "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    "SecretsUsedInArgOrEnv": "Sensitive data should not be used in the ARG or ENV commands",
    "InvalidDefaultArgInFrom": "Default value for global ARG results in an empty or invalid base image name",
    "FromPlatformFlagConstDisallowed": "FROM --platform flag should not use a constant value",
    "CopyIgnoredFile": "Attempting to Copy file that is excluded by .dockerignore",
    "InvalidDefinitionDescription": "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. "
    "If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
    "ExposeProtoCasing": "Protocol in EXPOSE instruction should be lowercase",
    "ExposeInvalidFormat": "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a "
    "future release",
}
ADDRESSES = {
    "StageNameCasing": "stage-name-casing", "FromAsCasing": "from-as-casing", "NoEmptyContinuation": "no-empty-continuation",
    "ConsistentInstructionCasing": "consistent-instruction-casing", "DuplicateStageName": "duplicate-stage-name",
    "ReservedStageName": "reserved-stage-name", "JSONArgsRecommended": "json-args-recommended",
    "MaintainerDeprecated": "maintainer-deprecated", "UndefinedArgInFrom": "undefined-arg-in-from",
    "WorkdirRelativePath": "workdir-relative-path", "UndefinedVar": "undefined-var",
    "MultipleInstructionsDisallowed": "multiple-instructions-disallowed", "LegacyKeyValueFormat": "legacy-key-value-format",
    "RedundantTargetPlatform": "redundant-target-platform", "SecretsUsedInArgOrEnv": "secrets-used-in-arg-or-env",
    "InvalidDefaultArgInFrom": "invalid-default-arg-in-from", "FromPlatformFlagConstDisallowed": "from-platform-flag-const-disallowed",
    "CopyIgnoredFile": "copy-ignored-file", "InvalidDefinitionDescription": "invalid-definition-description",
    "ExposeProtoCasing": "expose-proto-casing", "ExposeInvalidFormat": "expose-invalid-format",
}  # fmt: skip
EXPERIMENTAL = frozenset(("InvalidDefinitionDescription",))


@dataclass(frozen=True, slots=True)
class Warning:
    rule: str
    detail: str
    span: Span

    @property
    def description(self) -> str:
        return DESCRIPTIONS[self.rule]

    @property
    def url(self) -> str:
        """"" for the one rule that has no page."""
        return URL + ADDRESSES[self.rule] + "/" if self.rule in ADDRESSES else ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rules are looked at, and what becomes of a warning."""

    skip: frozenset[str] = frozenset()  # "all": every one that isn't experimental
    experimental: frozenset[str] = frozenset()
    error: bool = False

    def wants(self, rule: str) -> bool:
        if rule in EXPERIMENTAL:
            return bool(self.experimental & {rule, "all"})
        return not self.skip & {rule, "all"}


def parse_wanted(text: str) -> Wanted:
    """The value of `check=`; InvalidArgument with BuildKit's text."""
    wanted = Wanted()
    for part in text.strip().split(";", 2) if text.strip() else ():
        key, sign, value = part.partition("=")
        key, value = key.strip(), value.strip()
        if not sign:
            raise InvalidArgument(f'invalid check option "{part}"')
        if key == "skip":
            wanted = replace(wanted, skip=frozenset(rule.strip() for rule in value.split(",")))
        elif key == "experimental":
            wanted = replace(wanted, experimental=frozenset(rule.strip() for rule in value.split(",")))
        elif key == "error" and value in TRUE + FALSE:
            wanted = replace(wanted, error=value in TRUE)
        elif key == "error":
            raise InvalidArgument(f'failed to parse check option "{part}": strconv.ParseBool: parsing "{value}": invalid syntax')
        else:
            raise InvalidArgument(f'invalid check option "{key}"')
    return wanted


@dataclass(slots=True)
class Linter:
    wanted: Wanted
    warnings: list[Warning] = field(default_factory=list)

    def warn(self, rule: str, span: Span, detail: str, comments: list[str] | None = None) -> None:
        """comments: those above the instruction, which may have other wishes for it."""
        if (self.wanted_below(comments) if comments else self.wanted).wants(rule):
            if len(self.warnings) == MAX_WARNINGS:
                raise DockerfileError(f"more than {MAX_WARNINGS} warnings: the check ended here", [span])
            self.warnings.append(Warning(rule, detail, span))

    def wanted_below(self, comments: list[str]) -> Wanted:
        for comment in comments:
            match = DIRECTIVE.match(comment)
            if match is None or match[1].lower() != "check":
                continue
            try:
                here = parse_wanted(match[2].split(" ", 1)[0])
            except InvalidArgument:
                break
            return replace(self.wanted, skip=self.wanted.skip | here.skip, experimental=self.wanted.experimental | here.experimental)
        return self.wanted
