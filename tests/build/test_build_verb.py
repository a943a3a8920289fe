# SPDX-License-Identifier: Apache-2.0
"""`lamina build` as it is typed: checks, targets, outline, graph, where it reads from; files made to hang or break it."""
from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.build import ignore as ignores
from lamina.build.check import check
from lamina.build.graph import Graph
from lamina.build.parse import check_syntax, parse
from lamina.build.source import DockerfileError, Source
from lamina.build.variables import Request
from lamina.errors import InvalidArgument, NotSupported
from lamina.spec.platform import host
from tests.conftest import Lamina

FILE = """ARG BASE=scratch
# builder compiles
FROM ${BASE} AS builder
# LEVEL how much
ARG LEVEL=3
RUN --mount=type=secret,id=key,required --mount=type=ssh make
FROM scratch AS unused
FROM scratch
COPY --from=builder /out /
COPY --from=busybox /bin/sh /
"""


def seen(text: str) -> DockerfileError | None:
    return check(Source("Dockerfile", text), Request(host(), host()), ignore=None, base=lambda name, platform: None).error


def test_the_verb(lamina: Lamina, box: str, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(FILE)
    graph = lamina("build", "--print", "graph", context).check().stdout
    assert graph == (
        "builder  (lines 3-6)\n\u2514\u2500 stands on scratch\nunused  (lines 7-7, not needed)\n\u2514\u2500 stands on scratch\n"
        "stage-2  (lines 8-10, target)\n\u251c\u2500 stands on scratch\n\u251c\u2500 copies from builder  (line 9)\n"
        "\u2514\u2500 copies from busybox, an image  (line 10)\n"
    )
    targets = "TARGET    DESCRIPTION\nbuilder   compiles\nunused    \n(default) \n"
    assert lamina("build", "--call", "targets", context).check().stdout == targets
    assert lamina("build", "--call", "outline", "--build-arg", "LEVEL=4", "--target", "builder", context).check().stdout == (
        "TARGET:      builder\nDESCRIPTION: compiles\n\nBUILD ARG   VALUE     DESCRIPTION\nBASE        scratch   \n"
        "LEVEL       4         how much\n\nSECRET   REQUIRED\nkey      true\n\nSSH       REQUIRED\ndefault   \n\n"
    )
    found = json.loads(lamina("build", "--call", "outline,format=json", context).check().stdout)
    assert [one["name"] for one in found["secrets"]] == ["key"]
    assert lamina("build", "--check", context).check().stdout == "Check complete, no warnings found.\n"
    refused = lamina("build", context)
    assert refused.returncode == 1 and "makes no images yet" in refused.stderr

    (context / "Dockerfile").write_text("FROM box\nENV a=$PATH\nCMD x\n")
    done = lamina("build", "--check", context)
    assert done.returncode == 1 and not done.stderr and done.stdout.startswith("Check complete, 1 warning has been found!\n\nWARNING: JSON")
    assert lamina("build", "--call=check,ignorestatus=true", context).returncode == 0
    unknown = lamina("build", "--check", "-", stdin="FROM nowhere\nENV a=$PAHT\n")
    assert unknown.returncode == 0 and "not in the store" in unknown.stderr and "nowhere" in unknown.stderr
    bad = lamina("build", context, "-f", "-", stdin="FROM scratch\n RUNN x\n")
    assert bad.returncode == 1 and bad.stderr.splitlines()[0] == "-:2:2"
    told = "ERROR: failed to solve: dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)"
    assert bad.stderr.splitlines()[-1] == told
    for words in (["--check", "--print", "graph"], ["--call", "what"], ["--print", "what"], ["--call", "check,format=x"]):
        assert lamina("build", *words, context).returncode == 125


def test_where_it_reads_from(lamina: Lamina, tmp_path: Path) -> None:
    """NAME.dockerignore goes before .dockerignore; a link leads nowhere out of the context; pipes and URLs are refused."""
    (tmp_path / "secret").write_text("FROM scratch\nTOPSECRET\n")
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").symlink_to(tmp_path / "secret")
    done = lamina("build", "--check", context)
    assert done.returncode == 1 and "TOPSECRET" not in done.stderr + done.stdout
    control = lamina("build", "--check", "-f", tmp_path / "secret", context)  # what is typed is meant
    assert "TOPSECRET" in control.stderr
    (context / "Dockerfile").unlink()
    (context / "dockerfile").write_text("FROM scratch\nCOPY a b /\n")
    (context / ".dockerignore").write_text("a\n")
    assert 'Copy file "a"' in lamina("build", "--check", context).stdout
    (context / "dockerfile.dockerignore").write_text("b\n")
    done = lamina("build", "--check", context)
    assert 'Copy file "b"' in done.stdout and 'Copy file "a"' not in done.stdout
    (context / "dockerfile.dockerignore").write_text("[\n")
    assert lamina("build", "--check", context).stderr == "ERROR: dockerfile.dockerignore:1: syntax error in pattern\n"
    os.mkfifo(context / "pipe")
    assert "is not a regular file" in lamina("build", "--check", "-f", context / "pipe", context, timeout=20).stderr
    assert "come with the rest" in lamina("build", "--check", "https://example.com/x.git").stderr
    assert "not found" in lamina("build", "--check", tmp_path / "none").stderr


def test_control_characters_do_nothing_on_a_terminal(lamina: Lamina, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch AS Base\n# \x1b]0;title\x07\n")
    assert "\x1b]0" in lamina("build", "--check", tmp_path).stdout  # a control: in a pipe it is exact
    shown = lamina.pty("build", "--check", str(tmp_path)).stdout
    assert "StageNameCasing" in shown and "\x1b" not in shown


def test_frontends() -> None:
    ours = "docker/dockerfile docker/dockerfile:1 docker.io/docker/dockerfile:1.7-labs mirror.example/hub/docker/dockerfile:1"
    for name in ours.split():
        assert check_syntax(Source("Dockerfile", f"# syntax={name}\nFROM scratch\n")) == ""
    assert "asks for version 9" in check_syntax(Source("Dockerfile", "#!/x\n# syntax = docker/dockerfile:9\n"))
    for text in ("# syntax=tonistiigi/x\n", "// syntax=evil/frontend\n", '{"syntax": "evil/frontend"}', "# escape=`\n# syntax=a/b\n"):
        with pytest.raises(NotSupported, match="runs no frontend but its own"):
            check_syntax(Source("Dockerfile", text))


def test_stages_that_need_each_other() -> None:
    text = "FROM scratch AS a\nCOPY --from=b x /\nFROM scratch AS b\nRUN --mount=from=a x\n"
    error = seen(text)
    assert error is not None and error.message.startswith("circular dependency detected on stage: ")
    assert {span.first for span in error.spans} == {2, 4}
    chain = "FROM scratch AS s0\n" + "".join(f"FROM s{n} AS s{n + 1}\n" for n in range(3000))
    dockerfile = parse(Source("Dockerfile", chain))
    graph = Graph(dockerfile, [stage.origin.base for stage in dockerfile.stages])
    assert len(graph.reachable(graph.target(""))) == 3001 and len(graph.reachable(graph.target("s5"))) == 6


@pytest.mark.parametrize("text", [
    "FROM scratch\nLABEL a=" + "${x:-" * 20000 + "\n",
    "FROM scratch\nENV v=" + "a" * 60000 + "\nLABEL a=${v//a*a*a*a*a*b/x}\n",
    "FROM scratch\nENV v=" + "a" * 60000 + "\nLABEL a=${v%%" + "*a" * 20 + "b}\n",
    "FROM scratch\nRUN " + "[" * 60000 + "\n",
    "FROM scratch\nRUN x " + "\\\n" * 50000,
    "FROM scratch\nRUN " + "<<A " * 15000 + "\n",
    "FROM scratch\nEXPOSE " + "0-65535 " * 7000 + "\n",
    "FROM scratch\nRUN " + "x" * 70000 + "\n",
    "# syntax=" + "x" * 100000,
    "\x00\ufeff\n\x00", "\\", "FROM scratch\nONBUILD " + "ONBUILD " * 5000, "FROM scratch\nCOPY " + "--" * 30000,
], ids=lambda text: text[13:40])  # fmt: skip
def test_what_would_hang(text: str) -> None:
    """Each ends, well or with an error that says why; the suite's time limit would show another end."""
    try:
        seen(text)
    except InvalidArgument as e:
        assert e.message


def test_a_pattern_that_would_hang() -> None:
    slow = ignores.parse("**/a*a*a*a*a*a*a*a*b\n**/a/**/a/**/a/**/a/**/b", ".dockerignore")
    assert not slow.ignores("a" * 250) and not slow.ignores("a/" * 100 + "a") and slow.ignores("x/" + "a" * 30 + "b")
    assert slow.ignores("q/a/a/z/a/y/a/b")


WORD = st.sampled_from([
    "FROM", "scratch", "AS", "a", "RUN", "COPY", "--from=", "--mount=type=", "ENV", "x=", "$", "${", "}", "'", '"', "\\\n", "\n", "#",
    "<<", "EOF", "[", "]", ",", " ", "ARG", "ONBUILD", "HEALTHCHECK", "CMD", "%", "//", ":-", "`", "# escape=`\n", "EXPOSE", "1",
])  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(WORD, max_size=40).map("".join), st.booleans())
def test_any_text_ends_in_a_report(text: str, with_stage: bool) -> None:
    try:
        error = seen(("FROM scratch\n" if with_stage else "") + text)
    except InvalidArgument as e:
        assert e.message
        return
    assert error is None or (error.message and all(span.first >= 1 and span.column >= 1 for span in error.spans))
