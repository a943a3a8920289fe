# SPDX-License-Identifier: Apache-2.0
"""-p, -P and --expose into the body, and the PORTS column. What docker's client (28.2 against 20.10's daemon; 26.1's words) made of each
text is written down here; `ps` has IPv6 addresses without brackets, as docker before 27.2."""

from __future__ import annotations

from typing import Any

import pytest

from lamina.cli.context import CliError
from lamina.cli.ports import parse, parse_exposed, publish, shown
from lamina.engine import ports as engine_ports
from lamina.errors import InvalidArgument, NotSupported


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("80", [("80/tcp", "", "")]),
        ("8080:80", [("80/tcp", "", "8080")]),
        ("8080:80/udp/x", [("80/udp", "", "8080")]),
        (":80", [("80/tcp", "", "")]),
        ("::80", [("80/tcp", "", "")]),
        ("80/", [("80/tcp", "", "")]),
        ("[::1]:8080:80", [("80/tcp", "::1", "8080")]),
        ("::1:8080:80", [("80/tcp", "::1", "8080")]),
        ("[::1]::80", [("80/tcp", "::1", "")]),
        ("127.0.0.1::80", [("80/tcp", "127.0.0.1", "")]),
        ("8000-8010:80", [("80/tcp", "", "8000-8010")]),
        ("127.0.0.1:8000-8001:80-81/udp", [("80/udp", "127.0.0.1", "8000"), ("81/udp", "127.0.0.1", "8001")]),
        ("80-81", [("80/tcp", "", ""), ("81/tcp", "", "")]),
        ("0:80", [("80/tcp", "", "0")]),
        ("8080:0", [("0/tcp", "", "8080")]),
        ("80:90/TCP", [("90/tcp", "", "80")]),
        ("80/sctp", [("80/sctp", "", "")]),
        ("008080:080", [("80/tcp", "", "8080")]),
        ("published=8080,target=80", [("80/tcp", "", "8080")]),
        ("target=80,mode=host", [("80/tcp", "", "")]),
        ("target=80,published=8080,protocol=udp", [("80/udp", "", "8080")]),
    ],
)
def test_publish(text: str, found: list[tuple[str, str, str]]) -> None:
    assert parse(text) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("80a", "Invalid containerPort: 80a"),
        ("8080:80a", "Invalid containerPort: 80a"),
        ("70000:80", "Invalid hostPort: 70000"),
        ("8080:70000", "Invalid containerPort: 70000"),
        ("1:2:3:4", "Invalid ip address 1:2: address 1:2:: too many colons in address"),
        ("abc:8080:80", "Invalid ip address: abc"),
        ("localhost:8080:80", "Invalid ip address: localhost"),
        ("8000-8010:9000-9005", "Invalid ranges specified for container and host Ports: 9000-9005 and 8000-8010"),
        ("8010-8000:80", "Invalid hostPort: 8010-8000"),
        ("80/foo", "Invalid proto: foo"),
        ("", "No port specified: <empty>"),
        ("8080:", "No port specified: 8080:<empty>"),
        ("127.0.0.1::", "No port specified: 127.0.0.1::<empty>"),
        ("127.0.0.1:80", "Invalid hostPort: 127.0.0.1"),
        ("source=1", "No port specified: :/tcp<empty>"),
        ("target=80,x", "invalid publish opts format (should be name=value but got 'x')"),
        ("[::1:80:80", "Invalid ip address [::1: address [::1:: missing ']' in address"),
        ("192.168.1.1-3:80:80", "Invalid ip address: 192.168.1.1-3"),
        ("-1:80", "Invalid hostPort: -1"),
        ("80-", "Invalid containerPort: 80-"),
        ("8080/tcp:80", "Invalid hostPort: 8080/tcp"),
        ("+80", "Invalid containerPort: +80"),
        ("0x50", "Invalid containerPort: 0x50"),
        (" 80", "Invalid containerPort:  80"),
    ],
)
def test_publish_refused(text: str, message: str) -> None:
    with pytest.raises(CliError) as caught:
        publish({}, {}, [text], [], everything=False)
    assert (caught.value.message, caught.value.code) == (message, 125)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("80a", 'invalid range format for --expose: 80a, error: strconv.ParseUint: parsing "80a": invalid syntax'),
        ("70000", 'invalid range format for --expose: 70000, error: strconv.ParseUint: parsing "70000": value out of range'),
        ("90-80", "invalid range format for --expose: 90-80, error: invalid range specified for port: 90-80"),
        ("80:90", "invalid port format for --expose: 80:90"),
        ("", "invalid range format for --expose: , error: empty string specified for ports"),
    ],
)
def test_expose_refused(text: str, message: str) -> None:
    with pytest.raises(CliError) as caught:
        publish({}, {}, [], [text], everything=False)
    assert caught.value.message == message


def test_body() -> None:
    config: dict[str, Any] = {}
    host: dict[str, Any] = {}
    publish(config, host, ["8080:80", "127.0.0.1:8081:80"], ["80", "7000-7001/udp"], everything=True)
    assert config["ExposedPorts"] == {"80/tcp": {}, "7000/udp": {}, "7001/udp": {}} and host["PublishAllPorts"] is True
    assert host["PortBindings"] == {"80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": "8081"}]}
    assert parse_exposed("80/TCP") == ["80/TCP"]
    host["NetworkMode"] = "bridge"
    assert engine_ports.check(config, host) == []
    assert engine_ports.wanted(config, host) == [
        [6, 80, "", 8080, 8080],
        [6, 80, "127.0.0.1", 8081, 8081],
        [17, 7000, "", 0, 0],
        [17, 7001, "", 0, 0],
    ]


@pytest.mark.parametrize(
    ("bindings", "error"),
    [
        ({"0/tcp": []}, InvalidArgument),
        ({"x/tcp": []}, InvalidArgument),
        ({"80/sctp": []}, NotSupported),
        ([], None),
        ({"80": None}, None),
        ({"80/tcp": [{"HostPort": "x"}]}, InvalidArgument),
        ({"80/tcp": [{"HostPort": "9-8"}]}, InvalidArgument),
        ({"80/tcp": [{"HostIp": "x"}]}, InvalidArgument),
        ({"80/tcp": [{"HostIp": 1}]}, InvalidArgument),
        ({"80/tcp": ["x"]}, InvalidArgument),
        ({"80/tcp": [{"HostPort": 80}]}, InvalidArgument),
        (["80"], InvalidArgument),
        ({"99999/tcp": []}, InvalidArgument),
    ],
)
def test_bodies_of_strangers(bindings: Any, error: type[Exception] | None) -> None:
    host = {"PortBindings": bindings, "PublishAllPorts": True, "NetworkMode": "bridge"}
    config = {"ExposedPorts": {"nonsense": {}, "80/foo": {}, "-1/tcp": {}, "": {}, "99999999/tcp": {}}}  # an image's: data
    if error is None:
        assert engine_ports.check(config, host) == []
        assert engine_ports.wanted(config, host) == ([[6, 80, "", 0, 0]] if bindings else [])
        return
    with pytest.raises(error):
        engine_ports.check(config, host)


def both(private: int, public: int, kind: str = "tcp") -> list[dict[str, Any]]:
    return [{"IP": ip, "PrivatePort": private, "PublicPort": public, "Type": kind} for ip in ("0.0.0.0", "::")]


def test_column() -> None:
    """What docker printed for the same ports, but for the brackets."""
    entries = [
        *both(90, 38090),
        *both(92, 38092),
        {"PrivatePort": 7000, "Type": "tcp"},
        *both(7001, 7001),
        *both(80, 38095, "udp"),
        *both(7002, 7002),
        *both(7003, 7003, "udp"),
        {"IP": "127.0.0.1", "PrivatePort": 81, "PublicPort": 32768, "Type": "tcp"},
        {"PrivatePort": 7005, "Type": "udp"},
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 32769, "Type": "tcp"},
        {"IP": "::", "PrivatePort": 80, "PublicPort": 32768, "Type": "tcp"},
    ]
    assert shown(entries) == (
        "7000/tcp, 0.0.0.0:7001-7002->7001-7002/tcp, :::7001-7002->7001-7002/tcp, 0.0.0.0:7003->7003/udp, :::7003->7003/udp, 7005/udp, "
        "0.0.0.0:32769->80/tcp, 0.0.0.0:38095->80/udp, :::32768->80/tcp, :::38095->80/udp, 127.0.0.1:32768->81/tcp, "
        "0.0.0.0:38090->90/tcp, :::38090->90/tcp, 0.0.0.0:38092->92/tcp, :::38092->92/tcp"
    )
    exposed = [{"PrivatePort": port, "Type": "tcp"} for port in (80, 443, 81, 82)]
    assert shown(exposed) == "80-82/tcp, 443/tcp" and shown([]) == ""
