# SPDX-License-Identifier: Apache-2.0
"""The build checks: each rule fires where it must, with moby/buildkit's text, and not beside it; the files are those of its reference."""
from __future__ import annotations

import json
from typing import Any

import pytest

from lamina.build import ignore as ignores
from lamina.build import report as reports
from lamina.build.check import Report, check
from lamina.build.rules import DESCRIPTIONS
from lamina.build.source import Source
from lamina.build.variables import Request
from lamina.spec.platform import Platform

F = "FROM scratch\n"
AMD = Platform("linux", "amd64")
IMAGE = {"Os": "linux", "Architecture": "amd64", "Config": {"Env": ["GOPATH=/go"], "OnBuild": []}}


def look(text: str, *, target: str = "", ignored: str = "", args: dict[str, str] | None = None) -> Report:
    def base(name: str, platform: str) -> dict[str, Any] | None:
        return {"golang": IMAGE, "foreign": {**IMAGE, "Architecture": "s390x", "Config": None}}.get(name)

    patterns = ignores.parse(ignored, ".dockerignore") if ignored else None
    return check(Source("Dockerfile", text), Request(AMD, AMD, args or {}, target), ignore=patterns, base=base)


# text of the file, ignore file -> (rule, line, detail)
CASES: list[tuple[str, str, list[tuple[str, int, str]]]] = [
    (F + 'CMD ["x"]\n', "", []),
    ("FROM scratch AS Base\n", "", [("StageNameCasing", 1, "Stage name 'Base' should be lowercase")]),
    ("FROM scratch as base\n", "", [("FromAsCasing", 1, "'as' and 'FROM' keywords' casing do not match")]),
    ("from scratch AS base\n", "", [("FromAsCasing", 1, "'AS' and 'from' keywords' casing do not match")]),
    ("from scratch as base\n", "", []),
    (F + "ENV a=b \\\n\n  c=d\n", "", [("NoEmptyContinuation", 4, "Empty continuation line")]),
    (F + "ENV a=b \\\n# comment\n  c=d\n", "", []),
    (F + "Label a=b\nenv c=d\n", "", [
        ("ConsistentInstructionCasing", 2, "Command 'Label' should match the case of the command majority (uppercase)"),
        ("ConsistentInstructionCasing", 3, "Command 'env' should match the case of the command majority (uppercase)")]),
    ("FROM scratch AS a\nFROM scratch AS a\n", "", [("DuplicateStageName", 2, 'Duplicate stage name "a", stage names should be unique')]),
    ("FROM scratch AS scratch\n", "", [
        ("ReservedStageName", 1, 'Stage name should not use the same name as reserved stage "scratch"')]),
    (F + "CMD x\n", "", [
        ("JSONArgsRecommended", 2, "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals")]),
    (F + 'SHELL ["/bin/x"]\nENTRYPOINT x\n', "", []),
    (F + "MAINTAINER me\n", "", [("MaintainerDeprecated", 2, "Maintainer instruction is deprecated in favor of using label")]),
    ("ARG VARIANT=x\nFROM golang:$VARIAN\n", "", [
        ("InvalidDefaultArgInFrom", 2, "Default value for ARG golang:$VARIAN results in empty or invalid base image name"),
        ("UndefinedArgInFrom", 2, "FROM argument 'VARIAN' is not declared (did you mean VARIANT?)")]),
    ("ARG tag\nFROM busybox:${tag}\n", "", [
        ("InvalidDefaultArgInFrom", 2, "Default value for ARG busybox:${tag} results in empty or invalid base image name")]),
    (F + "WORKDIR a\nWORKDIR b\n", "", [
        ("WorkdirRelativePath", 2, 'Relative workdir "a" can have unexpected results if the base image changes')]),
    ("FROM scratch AS a\nWORKDIR /a\nFROM a\nWORKDIR b\n", "", []),
    (F + "ENV PATHH=$PAHT:/x\n", "", [("UndefinedVar", 2, "Usage of undefined variable '$PAHT' (did you mean $PATH?)")]),
    (F + "ARG no\nENV a=$no b=${NEVER:-x}\n", "", [("UndefinedVar", 3, "Usage of undefined variable '$NEVER'")]),
    ("FROM golang\nENV a=$GOPATH b=$GOROOOT\n", "", [
        ("UndefinedVar", 2, "Usage of undefined variable '$GOROOOT'")]),
    ("FROM not-here\nENV a=$GOPATH\n", "", []),
    ("FROM scratch AS a\nARG x=1\nFROM a\nENV y=$x\n", "", []),
    (F + 'CMD ["a"]\nCMD ["b"]\n', "", [("MultipleInstructionsDisallowed", 2, "Multiple CMD instructions should not be used in the same "
                                         "stage because only the last one will be used")]),
    ('FROM scratch AS a\nCMD ["a"]\nFROM a\nCMD ["b"]\n', "", []),
    (F + "ENV a b c\nLABEL k v\n", "", [
        ("LegacyKeyValueFormat", 2, '"ENV key=value" should be used instead of legacy "ENV key value" format'),
        ("LegacyKeyValueFormat", 3, '"LABEL key=value" should be used instead of legacy "LABEL key value" format')]),
    ("FROM --platform=$TARGETPLATFORM scratch\n", "", [
        ("RedundantTargetPlatform", 1, "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default "
         "behavior")]),
    ("FROM --platform=$BUILDPLATFORM scratch\n", "", []),
    ("FROM --platform=linux/arm64 scratch\n", "", [
        ("FromPlatformFlagConstDisallowed", 1, 'FROM --platform flag should not use constant value "linux/arm64"')]),
    ("FROM --platform=linux/arm64 scratch AS build_arm64\n", "", []),
    ("FROM foreign\n", "", [("InvalidBaseImagePlatform", 1, 'Base image foreign was pulled with platform "linux/s390x", expected '
                             '"linux/amd64" for current build')]),
    (F + "ARG API_TOKEN\nENV PUBLIC_KEY=x password_file=y passwd=z\n", "", [
        ("SecretsUsedInArgOrEnv", 2, 'Do not use ARG or ENV instructions for sensitive data (ARG "API_TOKEN")'),
        ("SecretsUsedInArgOrEnv", 3, 'Do not use ARG or ENV instructions for sensitive data (ENV "passwd")')]),
    (F + "COPY Dockerfile .\nADD Dockerfile /w\nCOPY --from=x Dockerfile /\n", "Dockerfile\n", [
        ("CopyIgnoredFile", 2, 'Attempting to Copy file "Dockerfile" that is excluded by .dockerignore'),
        ("CopyIgnoredFile", 3, 'Attempting to Add file "Dockerfile" that is excluded by .dockerignore')]),
    (F + "COPY . .\n", ".*\n", []),
    (F + "COPY . .\n", "*\n", [("CopyIgnoredFile", 2, 'Attempting to Copy file "." that is excluded by .dockerignore')]),
    (F + "COPY ./Dockerfile .\n", "**\n!Dockerfile\n", []),
    ("# check=experimental=InvalidDefinitionDescription\n# bar says\nARG foo=bar\nFROM scratch\n", "", [
        ("InvalidDefinitionDescription", 3, "Comment for ARG should follow the format: `# foo <description>`")]),
    ("# bar says\nARG foo=bar\nFROM scratch\n", "", []),
    (F + "EXPOSE 80/TcP 90/udp\n", "", [("ExposeProtoCasing", 2, "Defined protocol '80/TcP' in EXPOSE instruction should be lowercase")]),
    (F + "EXPOSE 127.0.0.1:80:80 80:80\n", "", [
        ("ExposeInvalidFormat", 2, "EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'"),
        ("ExposeInvalidFormat", 2, "EXPOSE instruction should not define an IP address or host-port mapping, found '80:80'")]),
    ("# check=skip=JSONArgsRecommended\n" + F + "CMD x\n", "", []),
    ("# check=skip=all\n" + F + "CMD x\nMAINTAINER y\n", "", []),
    (F + "# check=skip=SecretsUsedInArgOrEnv // for reasons\nENV token=1\nENV secret=2\n", "", [
        ("SecretsUsedInArgOrEnv", 4, 'Do not use ARG or ENV instructions for sensitive data (ENV "secret")')]),
]  # fmt: skip


@pytest.mark.parametrize("text, ignored, wanted", CASES, ids=[case[0] for case in CASES])
def test_rules(text: str, ignored: str, wanted: list[tuple[str, int, str]]) -> None:
    report = look(text, ignored=ignored)
    assert report.error is None or "reference format" in report.error.message, report.error
    assert [(one.rule, one.span.first, one.detail) for one in report.warnings] == wanted


def test_every_rule_has_a_case() -> None:
    assert {rule for _, _, wanted in CASES for rule, _, _ in wanted} == set(DESCRIPTIONS)


def test_triggers_of_the_base_are_checked() -> None:
    report = look("FROM scratch AS a\nONBUILD ENV x=$nope\nFROM a\n")
    assert [(one.rule, one.span.first) for one in report.warnings] == [("UndefinedVar", 2)]


def test_only_what_the_target_needs() -> None:
    text = "FROM scratch AS a\nCMD x\nFROM scratch AS b\nCMD y\nFROM a AS c\n"
    assert [one.span.first for one in look(text).warnings] == [2, 4]
    assert [one.span.first for one in look(text, target="c").warnings] == [2]
    error = look(text, target="cc").error
    assert error is not None and error.message == 'target stage "cc" could not be found (did you mean c?)'


def test_warnings_as_errors_and_what_is_shown() -> None:
    report = look("# check=error=true\n" + F + "CMD x\n")
    assert report.error is not None and report.error.message == "lint violation found for rules: JSONArgsRecommended"
    assert reports.check_text(look(F + "CMD x\n")) == """Check complete, 1 warning has been found!

WARNING: JSONArgsRecommended - https://docs.docker.com/go/dockerfile/rule/json-args-recommended/
JSON arguments recommended for CMD to prevent unintended behavior related to OS signals
Dockerfile:2
--------------------
   1 |     FROM scratch
   2 | >>> CMD x
   3 |     
--------------------
"""  # noqa: W291
    found = json.loads(reports.check_json(look(F + "ENV a=b \\\n  c=d token=e\n")))
    assert found["warnings"][0]["ruleName"] == "SecretsUsedInArgOrEnv"
    assert [one["start"]["line"] for one in found["warnings"][0]["location"]["ranges"]] == [2, 3]
    assert reports.check_text(look(F)) == "Check complete, no warnings found.\n"


def test_very_many_warnings() -> None:
    report = look(F + "ENV " + " \\\n".join(f"a{number}=$b{number}" for number in range(3000)) + "\n")
    assert report.error is not None and report.error.message == "more than 1000 warnings: the check ended here"
    text = reports.check_text(report)
    assert text.startswith("Check complete, 1000 warnings have been found!\n") and " ... | and 2502 lines more\n" in text


def test_names_of_the_same_env_are_not_known_yet() -> None:
    """What is meant can only be a variable of before."""
    (warning,) = look(F + "ENV ALPHA=$ALPHB ALPHC=1\n").warnings
    assert warning.detail == "Usage of undefined variable '$ALPHB'"


def test_an_error_points_at_its_place() -> None:
    """Line and column, in a continued line, too; what was meant is said."""
    report = look(F + "HEALTHCHECK --timeout=3s \\\n   --intervall=3s CMD x\n")
    error = report.error
    assert error is not None and error.where() == "Dockerfile:3:4"
    assert error.message == "dockerfile parse error on line 2: unknown flag: --intervall (did you mean interval?)"
    assert "   3 | >>>    --intervall=3s CMD x\n     |        ^\n" in reports.error_text(error)
