# SPDX-License-Identifier: Apache-2.0
"""What docker 26.1's BuildKit said to the cases of `corpus`: our words, faults and ignore files are the same (scripts/golden-build)."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lamina.build import ignore
from lamina.build.check import check
from lamina.build.instructions import Label
from lamina.build.parse import parse
from lamina.build.source import Source
from lamina.build.variables import Request, Scope, global_args
from lamina.errors import InvalidArgument
from lamina.spec.platform import host
from tests.build.corpus import FAULTS, IGNORES, TREE, WORDS, F, words_file

GOLDENS = Path(__file__).parent / "goldens"
REQUEST = Request(host(), host())
P = "dockerfile parse error on line 2: "

# Where moby/buildkit's Dockerfile frontend 1.25 says something else than 26.1's: that is what we say.
NEWER = {
    F + "EXPOSE x\n": "invalid containerPort: x",
    F + "EXPOSE 80/what\n": 'invalid port: "80/what": invalid proto: what',
    F + "EXPOSE 99999\n": "invalid containerPort: 99999",
    F + "EXPOSE 90-80\n": "invalid containerPort: 90-80",
    F + "HEALTHCHECK --interval=1s --interval=2s CMD x\n": P + "duplicate flag specified: --interval",
    "FROM --platform=$X scratch\n": "empty platform value from expression $X",
    "FROM --what=x scratch\n": "dockerfile parse error on line 1: unknown flag: --what",
    "ARG a=${b\nFROM scratch\n": 'failed to process "${b": unsupported modifier (\ufffd) in substitution',
    F + "RUN --security=what x\n": P + 'security "what" is not valid',
    F + "COPY --from=$x a b\n": "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope "
    "as a workaround",
    F + "COPY --link=what file /b\n": P + "expecting boolean value for flag --link, not: what",
    F + "COPY --chown file /b\n": P + "missing a value on flag: --chown",
    F + "COPY --chwon=a file /b\n": P + "unknown flag: --chwon (did you mean chown?)",
    F + "ADD --checksum=sha256:1 file /\n": "checksum requires HTTP(S) or Git sources",
    # a check looks at all stages, a build at those that are needed
    F + "COPY --from=later file b\nFROM scratch AS later\nCOPY file /\n":
        'cannot copy from stage "later", it needs to be defined before current stage "stage-0"',
}  # fmt: skip
OTHER_LINE = "# escape=`\n# escape=`\nFROM scratch\n"  # theirs marks the line above the fault


def recorded(name: str) -> Any:
    return json.loads((GOLDENS / f"{name}.json").read_text())


def test_words() -> None:
    dockerfile = parse(Source("Dockerfile", words_file(WORDS)))
    outer = global_args(dockerfile, REQUEST)
    scope, found = Scope({}), []
    for instruction in dockerfile.stages[0].instructions:
        scope.meet(instruction, dockerfile, REQUEST, outer)
        scope.take(instruction)
        if isinstance(instruction, Label):
            found += [pair.value for pair in instruction.pairs]
    assert dict(zip(WORDS, found, strict=True)) == dict(zip(WORDS, recorded("words"), strict=True))


@pytest.mark.parametrize("number", range(len(IGNORES)), ids=lambda n: repr(IGNORES[n]))
def test_ignored_files(number: int) -> None:
    theirs = recorded("ignores")[number]
    try:
        patterns = ignore.parse(IGNORES[number], ".dockerignore")
    except InvalidArgument:
        assert "error" in theirs, theirs
        return
    assert theirs == {"files": sorted(name for name in TREE if not patterns.ignores(name))}


@pytest.mark.parametrize("number", range(len(FAULTS)), ids=lambda n: repr(FAULTS[n]))
def test_faults(number: int) -> None:
    """The same text, and the same line among those that are marked."""
    theirs = recorded("faults")[number]
    report = check(Source("Dockerfile", FAULTS[number]), REQUEST, ignore=None, base=lambda name, platform: None)
    if not theirs["code"] and FAULTS[number] not in NEWER:
        assert report.error is None
        return
    assert report.error is not None, theirs
    assert report.error.message == NEWER.get(FAULTS[number], theirs["error"])
    assert report.error.message != theirs["error"] or FAULTS[number] not in NEWER
    if FAULTS[number] != OTHER_LINE and theirs["lines"]:
        assert {span.first for span in report.error.spans} <= set(theirs["lines"])
