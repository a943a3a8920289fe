# SPDX-License-Identifier: Apache-2.0
"""The rarer flags of run and create: error texts of docker's client (28.2's, where 26.1's are the same), files that flags name."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lamina.cli.create import build_body
from lamina.cli.flags import parse
from lamina.cli.main import load
from lamina.errors import InvalidArgument
from tests.cli.fake_engine import ID, Fake, run


def body_of(*argv: str) -> dict[str, Any]:
    opts, args = parse(load("run:create"), [*argv, "img"])
    return build_body(opts, args, detach=False)


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--mount", "type=tmpfs,dst=/x,tmpfs-mode=zz"], "invalid value for tmpfs-mode: zz"),
        (["--mount", "src=/x"], "target is required"),
        (["--mount", "type=bind,src=/tmp,dst=/x,foo=1"], "unexpected key 'foo' in 'foo=1'"),
        (["--mount", "type=bind,src=/tmp,dst=/x,foo"], "invalid field 'foo' must be a key=value pair"),
        (["--mount", "type=bind,src=/tmp,dst=/x,volume-nocopy"], "cannot mix 'volume-*' options with mount type 'bind'"),
        (["--mount", "type=volume,dst=/x,tmpfs-size=1"], "cannot mix 'tmpfs-*' options with mount type 'volume'"),
        (["--mount", "type=tmpfs,dst=/x,bind-propagation=shared"], "cannot mix 'bind-*' options with mount type 'tmpfs'"),
        (["--mount", "type=bind,src=/tmp,dst=/x,readonly=foo"], "invalid value for readonly: foo"),
        (["--mount", "type=bind,src=/tmp,dst=/x,bind-recursive=writable"],
         "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction"),
        (["--mount", ""], "EOF"),
        (["--ulimit", "nofile=6:5"], "ulimit soft limit must be less than or equal to hard limit: 6 > 5"),
        (["--ulimit", "foo=1"], "invalid ulimit type: foo"),
        (["--ulimit", "nofile"], "invalid ulimit argument: nofile"),
        (["--ulimit", "nofile=-1:5"], "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: 5"),
        (["--ulimit", "nofile=a"], 'strconv.ParseInt: parsing "a": invalid syntax'),
        (["--sysctl", "foo"], "sysctl 'foo' is not allowed"),
        (["--sysctl", "kernel.domainname=a"], "sysctl 'kernel.domainname=a' is not allowed"),
        (["--device-cgroup-rule", "x"], "invalid device cgroup format 'x'"),
        (["--add-host", "x"], 'bad format for add-host: "x"'),
        (["--add-host", "a:b"], 'invalid IP address in add-host: "b"'),
        (["--dns", "x"], "IP address is not correctly formatted: x"),
        (["--dns-search", "a b"], "a b is not a valid domain"),
        (["--stop-timeout", "x"], 'strconv.ParseInt: parsing "x": invalid syntax'),
        (["--memory-swap", "1x"], "invalid suffix: 'x'"),
    ],
)  # fmt: skip
def test_values_that_the_parser_refuses(argv: list[str], text: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(Fake({}), "run", *argv, "img") == 125
    assert capfd.readouterr().err == f"invalid argument \"{argv[1]}\" for \"{argv[0]}\" flag: {text}\nSee 'lamina run --help'.\n"


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--env-file", "/nope"], "open /nope: no such file or directory"),
        (["--label-file", "/nope"], "open /nope: no such file or directory"),
        (["--security-opt", "foo"], 'Invalid --security-opt: "foo"'),
        (["--security-opt", "seccomp=/nope"], "opening seccomp profile (/nope) failed: open /nope: no such file or directory"),
        (["--memory-swappiness", "200"], "invalid value: 200. Valid memory swappiness range is 0-100"),
        (["--device", "/dev/null:zz"], "zz is not an absolute path"),
        (["--device", "/dev/null:/dev/x:zz"], "bad mode specified: zz"),
        (["--device", "a:b:c:d"], "bad format for path: a:b:c:d"),
        (["--cgroupns", "foo"], "--cgroupns: invalid CGROUP mode"),
        (["--pid", "foo"], "--pid: invalid PID mode"),
        (["--pid", "container:"], "--pid: invalid PID mode"),
        (["--uts", "foo"], "--uts: invalid UTS mode"),
        (["--mac-address", "zz"], "zz is not a valid mac address"),
        (["--pull", "foo"], 'invalid pull option: \'foo\': must be one of "always", "missing" or "never"'),
        (["--log-driver", "none", "--log-opt", "a=b"], "invalid logging opts for driver none"),
    ],
)
def test_what_the_client_refuses(argv: list[str], text: str, capfd: pytest.CaptureFixture[str]) -> None:
    fake = Fake({})
    assert run(fake, "run", *argv, "img") == 125 and not fake.calls
    assert capfd.readouterr().err == f"lamina: {text}.\nSee 'lamina run --help'.\n"


def test_a_wrong_stream(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(Fake({}), "run", "-a", "foo", "img") == 125
    assert 'invalid argument "foo" for "-a, --attach" flag: valid streams are STDIN, STDOUT and STDERR' in capfd.readouterr().err


def test_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "GOLDEN_SET", "value")
    monkeypatch.delitem(os.environ, "GOLDEN_UNSET", raising=False)
    path = tmp_path / "env"
    path.write_bytes(b"\xef\xbb\xbfA=1\n#c\n  B=2\r\nGOLDEN_SET\nGOLDEN_UNSET\n\nC=x y \n")
    assert body_of("--env-file", str(path), "-e", "A=9")["Env"] == ["A=9", "B=2", "GOLDEN_SET=value", "C=x y "]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"a b=1", "poorly formatted environment: variable 'a b' contains whitespaces"),
        (b"=1", "poorly formatted environment: no variable name on line '=1'"),
        (b"a=\xff", "env file {} contains invalid utf8 bytes at line 1: [97 61 255]"),
    ],
)
def test_bad_env_file(tmp_path: Path, line: bytes, text: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "env"
    path.write_bytes(line)
    assert run(Fake({}), "run", "--env-file", str(path), "img") == 125
    assert capfd.readouterr().err == f"lamina: {text.format(path)}.\nSee 'lamina run --help'.\n"


def test_label_file(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_text("one=1\nleft out\n".replace("left out", "leftout") + "two=x\n")
    assert body_of("--label-file", str(path), "-l", "one=z")["Labels"] == {"one": "z", "two": "x"}


def test_seccomp_profile_is_read_here(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}\n')
    assert body_of("--security-opt", f"seccomp={path}")["HostConfig"]["SecurityOpt"] == ['seccomp={"defaultAction":"SCMP_ACT_ALLOW"}']


def test_mac_address_and_ip() -> None:
    endpoints = body_of("--mac-address", "02-42-00-00-00-0A")["NetworkingConfig"]["EndpointsConfig"]
    assert endpoints == {"default": {"MacAddress": "02:42:00:00:00:0a"}}
    assert body_of("--ip", "1.2.3.4")["NetworkingConfig"]["EndpointsConfig"]["default"] == {"IPAMConfig": {"IPv4Address": "1.2.3.4"}}


def test_cidfile(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cid"
    fake = Fake({"containers.create": {"Id": ID, "Warnings": None}, "containers.start": None})
    assert run(fake, "run", "-d", "--cidfile", str(path), "img") == 0 and path.read_text() == ID
    capfd.readouterr()
    again = Fake({})
    assert run(again, "run", "--cidfile", str(path), "img") == 125 and not again.calls
    assert capfd.readouterr().err.startswith(
        f"lamina: container ID file found, make sure the other container isn't running or delete {path}."
    )
    path.unlink()
    assert run(Fake({"containers.create": InvalidArgument("no")}), "run", "--cidfile", str(path), "img") == 125
    assert not path.exists()  # no container, no file


def test_where_the_image_comes_from(capfd: pytest.CaptureFixture[str]) -> None:
    from lamina.errors import NotFound

    fake = Fake({"containers.create": NotFound("No such image: img:latest")})
    assert run(fake, "run", "--pull", "never", "--platform", "linux/amd64", "img") == 125
    assert capfd.readouterr().err == "lamina: Error response from daemon: No such image: img:latest.\nSee 'lamina run --help'.\n"
    assert fake.calls[0][2]["platform"] == "linux/amd64"


def test_streams_to_attach() -> None:
    fake = Fake({"containers.create": {"Id": ID, "Warnings": None}, "containers.start": InvalidArgument("stop here")})
    run(fake, "run", "-a", "STDERR", "img")
    assert fake.calls[1][2] == {"attach": {"stdin": False, "stdout": False, "stderr": True}}


def test_exec_env_file_and_privileged(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("A=1\nB=2\n")
    fake = Fake({"containers.exec_run": InvalidArgument("stop here")})
    run(fake, "exec", "--env-file", str(path), "-e", "B=3", "--privileged", "c", "sh")
    body = fake.calls[0][1][1]
    assert body["Env"] == ["A=1", "B=3"] and body["Privileged"] is True, json.dumps(body)
