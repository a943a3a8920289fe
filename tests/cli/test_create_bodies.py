# SPDX-License-Identifier: Apache-2.0
"""The body of a create request, against what docker's client sends for the same flags (goldens/bodies.json)."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lamina.cli.context import CliError
from lamina.cli.create import build_body
from lamina.cli.flags import UsageError, parse
from lamina.cli.main import load
from tests.cli.fake_engine import ID, Fake, run

GOLDEN = json.loads((Path(__file__).parent / "goldens" / "bodies.json").read_text())
# The engine's own default where docker's client says "default", 0 for "as the daemon likes", and an empty list.
OURS = {"NetworkMode": "default", "PidsLimit": 0, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}}


def body_of(argv: list[str]) -> dict[str, Any]:
    opts, args = parse(load(f"run:{argv[0]}"), argv[1:])
    return build_body(opts, args, detach=bool(opts.get("detach")))


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda c: " ".join(c["argv"]))
def test_same_body_as_docker(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/tmp")
    monkeypatch.setitem(os.environ, "GOLDEN_SET", "value")
    wanted = {**GOLDEN["default"], **case["changed"]}
    host = {**GOLDEN["default"]["HostConfig"], **case["changed"]["HostConfig"]}
    got = body_of(case["argv"])
    for key, value in got.items():
        if key == "Env":
            assert sorted(value or []) == sorted(wanted["Env"] or [])  # docker's order is that of a map
        elif key not in ("HostConfig", "NetworkingConfig"):
            assert value == wanted[key], key
    for key, value in got["HostConfig"].items():
        assert value == host[key], key
    # what we leave out is a default
    for key in set(host) - set(got["HostConfig"]):
        assert host[key] == OURS.get(key, GOLDEN["default"]["HostConfig"][key]), key


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (":::", "invalid spec: :::: empty section between colons"),
        ("/x:", "invalid spec: /x:: empty section between colons"),
        ("", "invalid empty volume spec"),
    ],
)
def test_bad_volumes(spec: str, text: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(Fake({}), "run", "-v", spec, "img") == 125
    assert capfd.readouterr().err == f"lamina: {text.rstrip('.')}.\nSee 'lamina run --help'.\n"


def test_two_networks_are_refused() -> None:
    with pytest.raises(CliError, match="cannot attach both"):
        body_of(["run", "--network", "bridge", "--network", "x", "img"])


@pytest.mark.parametrize("flag", ["--gpus=all", "--link=x", "--kernel-memory=1g"])
def test_flags_of_later_versions_are_refused_by_name(flag: str, capfd: pytest.CaptureFixture[str]) -> None:
    fake = Fake({})
    assert run(fake, "run", flag, "img") == 125
    err = capfd.readouterr().err
    assert err.startswith("unsupported flag: -") and "See 'lamina run --help'." in err and not fake.calls


def test_flags_end_at_the_first_argument() -> None:
    opts, args = parse(load("run:run"), ["--rm", "img", "--foo", "-x", "--", "y"])
    assert args == ["img", "--foo", "-x", "--", "y"] and opts["rm"]
    opts, args = parse(load("lifecycle:rm"), ["a", "-fv", "b", "--", "-c"])
    assert args == ["a", "b", "-c"] and opts["force"] and opts["volumes"]


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["--name=x", "i"], "name", "x"), (["--name", "-x", "i"], "name", "-x"), (["--name=", "i"], "name", ""),
        (["-wx", "i"], "workdir", "x"), (["-w=x", "i"], "workdir", "x"), (["-w=", "i"], "workdir", "="),
        (["-itw", "x", "i"], "workdir", "x"), (["--rm=false", "i"], "rm", False), (["-i=T", "i"], "interactive", True),
        (["--pids-limit", "0x10", "i"], "pids-limit", 16), (["--pids-limit=-010", "i"], "pids-limit", -8),
    ],
)  # fmt: skip
def test_pflag_spellings(argv: list[str], name: str, value: object) -> None:
    opts, args = parse(load("run:run"), argv)
    assert opts[name] == value and args == ["i"]


@pytest.mark.parametrize("text", ["", "1__0", " 1", "١", "0x", "--1", "9223372036854775808"])
def test_numbers_as_go_reads_them(text: str) -> None:
    with pytest.raises(UsageError):
        parse(load("run:run"), ["--pids-limit", text, "i"])


def test_run_reports_errors_as_docker(capfd: pytest.CaptureFixture[str]) -> None:
    from lamina.errors import CommandNotFound, InvalidArgument, NotFound

    assert run(Fake({"containers.create": NotFound("No such image: img:latest")}), "run", "--pull", "never", "img") == 125
    assert capfd.readouterr().err == "lamina: Error response from daemon: No such image: img:latest.\nSee 'lamina run --help'.\n"
    assert run(Fake({"containers.create": InvalidArgument("Minimum memory limit allowed is 6MB")}), "run", "-m1k", "img") == 125
    assert capfd.readouterr().err == "lamina: Error response from daemon: Minimum memory limit allowed is 6MB.\nSee 'lamina run --help'.\n"
    fake = Fake({"containers.create": {"Id": ID, "Warnings": ["w"]}, "containers.start": CommandNotFound("x: not found")})
    assert run(fake, "run", "img") == 127
    assert capfd.readouterr().err == "WARNING: w\nlamina: Error response from daemon: x: not found.\n"
    assert run(Fake({"containers.create": NotFound("No such image: img:latest")}), "create", "--pull=never", "img") == 1
    assert capfd.readouterr().err == "Error response from daemon: No such image: img:latest\n"


def test_detached_prints_the_id(capfd: pytest.CaptureFixture[str]) -> None:
    fake = Fake({"containers.create": {"Id": ID, "Warnings": None}, "containers.start": None})
    assert run(fake, "run", "-d", "--name", "n", "img") == 0
    assert capfd.readouterr().out == ID + "\n"
    assert fake.calls[0][2]["name"] == "n" and fake.calls[1][2] == {"attach": None}


def test_a_terminal_is_needed_for_it(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda fd: False)
    fake = Fake({})
    assert run(fake, "run", "-it", "img") == 1 and run(fake, "exec", "-it", "c", "sh") == 1
    assert capfd.readouterr().err == "the input device is not a TTY\n" * 2 and not fake.calls
