# SPDX-License-Identifier: Apache-2.0
"""Flags about a container's endpoint on its network, and where its image may come from: what they do, and docker 26.1's refusals."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import Lamina

USER_ONLY = "user specified IP address is supported on user defined networks only"
INVALID = "Error response from daemon: invalid config for network bridge: invalid endpoint settings:\n"
TEXTS: list[tuple[list[str], int, str]] = [
    (["--ip", "172.17.0.9"], 1, INVALID + USER_ONLY),
    (["--ip", "1.2"], 1, f"{INVALID}* {USER_ONLY}\n* invalid IPv4 address: 1.2"),
    (["--ip6", "2001::1"], 1, INVALID + USER_ONLY),
    (["--ip6", "zz"], 1, f"{INVALID}* {USER_ONLY}\n* invalid IPv6 address: zz"),
    (["--link-local-ip", "x"], 1, INVALID + "invalid link-local IP address: x"),
    (["--link-local-ip", "fe80::5"], 1, "containers have no IPv6 yet"),
    (["--link-local-ip", "10.1.1.1"], 1, "not in 169.254.0.0/16"),
    (["--link-local-ip", "169.254.1.1", "--network", "none"], 1, "has no interface of its own"),
    (["--network-alias", "foo"], 125, "network-scoped aliases are only supported for user-defined networks"),
    (["--network", "host", "--net-alias", "foo"], 125, "network-scoped aliases are only supported for user-defined networks"),
    (["--mac-address", "zz"], 125, "zz is not a valid mac address"),
    (["--pull", "bogus"], 125, "invalid pull option: 'bogus': must be one of \"always\", \"missing\" or \"never\""),
    (["--platform", "linux/s390x", "--pull", "never"], 1,
     "does not match the specified platform: wanted linux/s390x, actual: linux/amd64"),
    (["--platform", "linux/s390x"], 1, "Unable to find image 'box:latest' locally"),  # then it's asked for; nobody is there in tests
    (["--platform", "x/y/z/w"], 1, "cannot parse platform specifier"),
]  # fmt: skip


def test_texts(lamina: Lamina, box: str) -> None:
    for flags, code, text in TEXTS:
        done = lamina("create", *flags, "box", "true")
        assert done.returncode == code and text in done.stderr, (flags, done.stderr)
    assert lamina("ps", "-aq").out == ""


def test_addresses_inside(lamina: Lamina, box: str) -> None:
    flags = ("--link-local-ip", "169.254.7.1", "--link-local-ip", "169.254.7.2", "--mac-address", "92:d0:c6:0a:29:33")
    lamina("run", "-d", "--name", "cc", *flags, "--restart", "always", "box", "sleep", "1000").check()
    for _ in range(2):
        shown = lamina("exec", "cc", "ip", "addr", "show", "eth0").out
        own = json.loads(lamina("inspect", "-f", "{{json .NetworkSettings.Networks.bridge}}", "cc").out)
        assert "inet 169.254.7.1/16" in shown and "inet 169.254.7.2/16" in shown and f"inet {own['IPAddress']}/" in shown
        assert "link/ether 92:d0:c6:0a:29:33" in shown and own["MacAddress"] == "92:d0:c6:0a:29:33"
        assert own["IPAMConfig"] == {"LinkLocalIPs": ["169.254.7.1", "169.254.7.2"]}
        lamina("restart", "-t", "0", "cc").check()


def test_where_the_image_comes_from(lamina: Lamina, box: str) -> None:
    for flags in (["--pull", "never"], ["--pull", "missing"], ["--platform", "linux/amd64"], ["--platform", "linux"]):
        assert lamina("run", "--rm", "--network", "none", *flags, "box", "echo", "ok").out == "ok"
    done = lamina("run", "--pull", "never", "nosuch", "true")
    assert done.returncode == 125 and "No such image: nosuch:latest" in done.stderr and "Unable to find" not in done.stderr
