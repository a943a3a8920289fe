# SPDX-License-Identifier: Apache-2.0
"""`--change`: what dockerd made of the same lines (recorded from 20.10), and what goes beyond it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import InvalidArgument
from lamina.images.changes import HANDLERS, apply_changes, parse_duration

RECORDED = json.loads((Path(__file__).parent / "changes_docker.json").read_text())
NEWER = ("ENV A=${B", "ENV A=${B:+x}${C-y}")  # 20.10 has no ${C-y} yet, BuildKit has


@pytest.mark.parametrize(("line", "theirs"), [pytest.param(*r, id=r[0][:50]) for r in RECORDED if r[0] not in NEWER])
def test_as_docker(line: str, theirs: dict[str, Any] | str) -> None:
    try:
        ours: dict[str, Any] | str = {key: value for key, value in apply_changes({}, [line]).items() if value}
    except InvalidArgument as error:
        ours = error.message
    assert ours == theirs


@pytest.mark.parametrize(
    ("lines", "key", "value"),
    [
        (["ENV A=1", "ENV B=$A"], "Env", ["A=1", "B=1"]),
        (["ENV A=1", "ENV A=${A:-x}2 C=${NO:-x}"], "Env", ["A=12", "C=x"]),
        (["ENV A=${B:+x}${C-y}"], "Env", ["A=y"]),
        (['ENTRYPOINT ["e"]', 'CMD ["c"]', 'ENTRYPOINT ["f"]'], "Cmd", ["c"]),
        (["CMD a \\\n b"], "Cmd", ["/bin/sh", "-c", "a  b"]),
        (["# only a comment", "USER x"], "User", "x"),
        (["STOPSIGNAL SIGINT"], "StopSignal", "SIGINT"),
        (["WORKDIR //a/../b/"], "WorkingDir", "/b"),
        (
            ["HEALTHCHECK --start-interval=5s --interval=1m30s CMD x"],
            "Healthcheck",
            {"Test": ["CMD-SHELL", "x"], "Interval": 90 * 10**9, "StartInterval": 5 * 10**9},
        ),
    ],
)
def test_further(lines: list[str], key: str, value: object) -> None:
    assert apply_changes({}, lines)[key] == value


def test_an_entrypoint_forgets_the_command_below() -> None:
    assert apply_changes({"Cmd": ["old"]}, ["ENTRYPOINT x"])["Cmd"] is None


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("RUN x", "RUN is not a valid change command"),
        ("FROM x", "FROM is not a valid change command"),
        ("", "file with no instructions"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV =x", "ENV names can not be blank"),
        ("EXPOSE x", "Invalid containerPort: x"),
        ("EXPOSE 80/foo", "Invalid proto: foo"),
        ("EXPOSE 99999", "Invalid containerPort: 99999"),
        ('CMD ["a", 1]', "when using JSON array syntax, arrays must be comprised of strings only"),
        ('ENV A="unterminated', 'failed to process "\\"unterminated": unexpected end of statement while looking for matching double-quote'),
        ("STOPSIGNAL NOPE", "invalid signal: NOPE"),
        ('USER a\nCMD ["\\ud800"]', "when using JSON array syntax, strings must be Unicode text"),
    ],
)
def test_refused(line: str, text: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        apply_changes({}, [line])
    assert error.value.message == text


def test_the_given_config_is_not_touched() -> None:
    given_ = {"Env": ["A=1"], "Labels": {"a": "b"}}
    apply_changes(given_, ["ENV A=2", "LABEL c=d"])
    assert given_ == {"Env": ["A=1"], "Labels": {"a": "b"}}


@pytest.mark.parametrize(
    ("text", "ns"), [("1s", 10**9), ("1.5h", 5400 * 10**9), ("0", 0), ("-2ms", -2 * 10**6), (".5s", 5 * 10**8), ("1us", 1000)]
)
def test_durations(text: str, ns: int) -> None:
    assert parse_duration(text) == ns


@given(st.sampled_from(sorted(HANDLERS)), st.text(max_size=30) | st.text("ab=\"'\\$ {}:-+?[],/\n#1", max_size=30))
def test_any_line_is_applied_or_refused(word: str, rest: str) -> None:
    try:
        config = apply_changes({}, [f"{word} {rest}"])
    except InvalidArgument as error:
        assert error.message
        return
    assert apply_changes(config, []) == config
