# SPDX-License-Identifier: Apache-2.0
"""/etc/resolv.conf, hosts and hostname: expected texts are what Docker 20.10 wrote for the same input."""
from __future__ import annotations

from pathlib import Path

import pytest

from lamina.network import files

FIXED = ("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\n"
         "ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")


@pytest.mark.parametrize("host, expected", [
    ("nameserver 192.0.2.53\n", "nameserver 192.0.2.53\n"),
    ("# by hand\nsearch a b\nnameserver 127.0.0.1\nnameserver 192.0.2.53\noptions ndots:2\n",
     "# by hand\nsearch a b\nnameserver 192.0.2.53\noptions ndots:2\n"),
    ("nameserver ::1\nnameserver 2001:db8::1\nnameserver fe80::1%eth0\nnameserver 192.0.2.53", "nameserver 192.0.2.53"),
    ("nameserver 127x.example\nnameserver 192.0.2.53\n", "nameserver 127x.example\nnameserver 192.0.2.53\n"),
])
def test_what_cannot_work_inside_is_left_out(host: str, expected: str) -> None:
    assert files.resolv_conf(host) == (expected, [])


def test_a_loopback_resolver_is_replaced_and_said() -> None:
    text, warnings = files.resolv_conf("options edns0\nnameserver 127.0.1.1\n")
    assert text == "options edns0\n\nnameserver 8.8.8.8\nnameserver 8.8.4.4\n"
    assert warnings == ["Local (127.0.1.1) DNS resolver found in resolv.conf and containers can't use it. "
                        "Using default external servers : [8.8.8.8 8.8.4.4]"]


@pytest.mark.parametrize("host", ["", "search a\n", "nameserver 2001:db8::1\n"])
def test_no_resolver_at_all(host: str) -> None:
    text, warnings = files.resolv_conf(host)
    assert text.endswith("\nnameserver 8.8.8.8\nnameserver 8.8.4.4\n") and not warnings


def test_ipv6_servers_stay_where_the_network_has_ipv6() -> None:
    assert files.resolv_conf("nameserver 2001:db8::1\n", ipv6=True) == ("nameserver 2001:db8::1\n", [])


def test_in_the_hosts_network_all_stays() -> None:
    assert files.resolv_conf("nameserver 127.0.0.1\n", host_network=True) == ("nameserver 127.0.0.1\n", [])


def test_the_stub_of_systemd_resolved_is_looked_behind(tmp_path: Path) -> None:
    etc, run = tmp_path / "resolv.conf", tmp_path / "upstream"
    etc.write_text("nameserver 127.0.0.53\noptions edns0 trust-ad\n")
    assert files.host_resolv_conf(str(etc), str(run)) == etc.read_text()
    run.write_text("nameserver 192.0.2.53\n")
    assert files.host_resolv_conf(str(etc), str(run)) == "nameserver 192.0.2.53\n"
    etc.write_text("nameserver 127.0.0.53\nnameserver 192.0.2.1\n")
    assert files.host_resolv_conf(str(etc), str(run)) == etc.read_text()
    assert files.host_resolv_conf(str(tmp_path / "none"), str(run)) == ""


@pytest.mark.parametrize("dns, search, options, expected", [
    (["1.1.1.1"], ["."], ["ndots:2"], "nameserver 1.1.1.1\noptions ndots:2\n"),
    ([], ["example.org", "b.org"], [], "search example.org b.org\nnameserver 192.0.2.53\n"),
    ([], [], ["ndots:3"], "search corp\nnameserver 192.0.2.53\noptions ndots:3\n"),
])
def test_dns_flags(dns: list[str], search: list[str], options: list[str], expected: str) -> None:
    host = "nameserver 192.0.2.53\nsearch corp\n" if options == ["ndots:3"] else "nameserver 192.0.2.53\n"
    assert files.custom_resolv_conf(host, dns=dns, search=search, options=options) == expected


@pytest.mark.parametrize("name, domain, extra, expected", [
    ("2e574b856879", "", [], "172.17.0.3\t2e574b856879\n"),
    ("foo.example.org", "", [], "172.17.0.3\tfoo.example.org foo\n"),
    ("foo", "example.org", [], "172.17.0.3\tfoo.example.org foo\n"),
    ("q", "", [("a", "1.2.3.4"), ("b", "::1")], "1.2.3.4\ta\n::1\tb\n172.17.0.3\tq\n"),
])
def test_hosts(name: str, domain: str, extra: list[tuple[str, str]], expected: str) -> None:
    assert files.hosts(name, domainname=domain, addresses=["172.17.0.3"], extra=extra) == FIXED + expected


def test_hosts_without_an_address_of_its_own() -> None:
    assert files.hosts("x") == FIXED


def test_hosts_in_the_hosts_network(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n")
    assert files.host_hosts(str(tmp_path / "hosts")) == "127.0.0.1 localhost\n"
    assert files.host_hosts(str(tmp_path / "none")) == FIXED


def test_hostname() -> None:
    assert files.hostname("abc") == "abc\n"
