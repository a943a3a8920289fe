# SPDX-License-Identifier: Apache-2.0
"""The engine's bridge in a private namespace that stands for the host."""
from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import netlab
import pytest

from lamina.errors import StartError
from lamina.linux import rtnetlink
from lamina.linux.netlink import Netlink
from lamina.linux.nfnetlink import INET, Batch, Nftables
from lamina.network import bridge, foreign, ipam, plug, ports, setup, teardown, watch
from lamina.network.model import Network, cidr, netplan, overlap


class Host:
    """What each test has: names, database, state file, lock."""

    def __init__(self, directory: Path) -> None:
        self.names = netlab.Names()
        self.db = netlab.new_db(str(directory))
        self.known = str(directory / "known")
        self.lock = str(directory / "lock")

    def ensure(self) -> Network:
        return bridge.ensure(self.names, self.db, self.known, host_lock=self.lock)

    def plug(self, network: Network, box: netlab.Box, container: str) -> str:
        with self.db.write():
            ipv4, mac = ipam.allocate(self.db, network, container)
        plug.plug(netplan(network, ipv4, mac), box.pid)
        return ipv4


def _sysctl(path: str) -> str:
    return Path("/proc/sys/net", path).read_text().strip()


def test_first_use_makes_everything_and_records_it(tmp_path: Path) -> None:
    def body() -> None:
        host = Host(tmp_path)
        with netlab.Box() as world:
            netlab.connect(world, host_if="up0", host_ip="198.51.100.2", box_ip="198.51.100.1", mtu=1400, default=True)
            network = host.ensure()
            assert (network.subnet, network.gateway, network.mtu) == ("172.17.0.0/16", "172.17.0.1", 1400)
            name = host.names.bridge
            assert "172.17.0.1/16 brd 172.17.255.255" in netlab.tool("ip", "-4", "addr", "show", name)
            assert "mtu 1400" in netlab.tool("ip", "link", "show", name)
            assert _sysctl("ipv4/ip_forward") == "1"
            assert _sysctl(f"ipv4/conf/{name}/route_localnet") == "1"
            assert _sysctl("ipv4/conf/up0/route_localnet") == _sysctl("ipv4/conf/all/route_localnet") == "0"
            assert _sysctl(f"ipv6/conf/{name}/disable_ipv6") == "1"
            assert _sysctl(f"ipv6/conf/{name}/accept_ra") == "0"
            assert host.db.value("SELECT config FROM networks WHERE name = 'bridge'") == network.config()
            assert oct(os.stat(host.lock).st_mode & 0o777) == "0o600"
            teardown.teardown(host.names, host_lock=host.lock)
            assert name not in netlab.tool("ip", "link") and name not in netlab.tool("nft", "list", "ruleset")
    netlab.in_host(body)


def test_quick_look_changes_nothing_and_notices_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def body() -> None:
        host = Host(tmp_path)
        host.ensure()
        before = netlab.tool("nft", "-a", "list", "ruleset")
        thorough: list[Any] = []
        real = setup.ensure

        def spy(*arguments: Any) -> Network:
            thorough.append(arguments)
            return real(*arguments)
        monkeypatch.setattr(setup, "ensure", spy)
        host.ensure()
        assert not thorough
        assert netlab.tool("nft", "-a", "list", "ruleset") == before
        netlab.tool("nft", "add", "table", "ip", "somebody")  # counted as a change, but it's nothing to us
        known = Path(host.known).read_text()
        host.ensure()
        assert not thorough and Path(host.known).read_text() != known

        def notices(*command: str) -> None:
            seen = len(thorough)
            netlab.tool(*command)
            host.ensure()
            assert len(thorough) == seen + 1, command
            host.ensure()
            assert len(thorough) == seen + 1, f"looked twice for one {command}"
        table = host.names.table
        notices("nft", "add chain ip somebody passing { type filter hook forward priority 0; policy accept; }")
        notices("nft", "add rule ip somebody passing ip saddr 192.0.2.1 counter drop")
        notices("nft", "chain ip somebody passing { policy drop; }")
        assert "accept" in netlab.tool("nft", "list", "chain", "ip", "somebody", "passing")
        notices("nft", "delete", "chain", "ip", "somebody", "passing")
        netlab.tool("ip", "link", "add", "docker0", "type", "bridge")
        notices("nft", "add", "table", "ip", "dockers")
        quick = len(thorough)
        for command in ("add table inet x", "add chain inet x f { type filter hook forward priority 0; }", "add rule inet x f counter drop",
                        "delete table inet x"):
            netlab.tool("nft", command)
        host.ensure()
        assert len(thorough) == quick, "what came and went left everything as it was"
        notices("nft", f"delete element inet {table} foreign_bridges {{ docker0 }}")
        assert "docker0" in netlab.tool("nft", "list", "set", "inet", table, "foreign_bridges")
        notices("nft", f"flush chain inet {table} postrouting")
        notices("nft", "flush", "ruleset")
        assert host.names.table in netlab.tool("nft", "list", "tables")
        netlab.tool("ip", "link", "set", host.names.bridge, "down")
        host.ensure()
        with Netlink() as route:
            link = rtnetlink.get_link(route, host.names.bridge)
        assert link is not None and link.up
    netlab.in_host(body)


def test_what_rules_have_counted_is_no_change(tmp_path: Path) -> None:
    def body() -> None:
        host = Host(tmp_path)
        network = host.ensure()
        with Nftables() as tables:
            before = tables.raw_rules(INET, host.names.table)
            with netlab.Box() as box:
                host.plug(network, box, "a" * 64)
                netlab.tool("nft", "insert", "rule", "inet", host.names.table, "raw", "counter")
                first = tables.raw_rules(INET, host.names.table)
                netlab.route_test(box, network.gateway, 9)
                second = tables.raw_rules(INET, host.names.table)
        assert first != second and watch.without_counts(first) == watch.without_counts(second)
        assert watch.without_counts(before) != watch.without_counts(first)
    netlab.in_host(body)


def test_after_a_reboot_the_recorded_subnet_comes_back_if_free(tmp_path: Path) -> None:
    def first() -> str:
        host = Host(tmp_path)
        netlab.tool("ip", "link", "add", "other", "type", "bridge")
        netlab.tool("ip", "addr", "add", "172.17.5.1/24", "dev", "other")
        return host.ensure().subnet
    assert netlab.in_host(first) == "172.18.0.0/16"

    def second() -> str:  # a new namespace: bridge, table and state are gone, 172.17 would be free
        host = Host(tmp_path)
        return host.ensure().subnet
    assert netlab.in_host(second) == "172.18.0.0/16"

    def third() -> tuple[str, list[Any]]:
        netlab.tool("ip", "link", "add", "vpn", "type", "bridge")
        netlab.tool("ip", "link", "set", "vpn", "up")
        netlab.tool("ip", "route", "add", "172.16.0.0/14", "dev", "vpn")
        host = Host(tmp_path)
        with host.db.write():
            loaded = bridge.load(host.db, host.names)
            assert loaded is not None
            ipam.allocate(host.db, loaded, "b" * 64)
        return host.ensure().subnet, host.db.execute("SELECT * FROM endpoints")
    assert netlab.in_host(third) == ("172.20.0.0/16", [])


def test_two_engines_get_two_subnets_and_do_not_reach_each_other(tmp_path: Path) -> None:
    def body() -> None:
        hosts = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            host = Host(tmp_path / name)
            host.lock = str(tmp_path / "lock")
            hosts.append(host)
        networks = [host.ensure() for host in hosts]
        assert not overlap(cidr(networks[0].subnet), cidr(networks[1].subnet))
        with netlab.Box() as a, netlab.Box() as b, netlab.Box() as c:
            hosts[0].plug(networks[0], a, "a")
            ip_b = hosts[1].plug(networks[1], b, "b")
            hosts[1].plug(networks[1], c, "c")
            with netlab.Server(b, "0.0.0.0", 7000):
                assert netlab.route_test(c, ip_b, 7000) is not None  # the control: the server answers its own network
                assert netlab.route_test(a, ip_b, 7000, seconds=1.0) is None
    netlab.in_host(body)


def test_traffic_leaves_masqueraded_and_published_ports_are_map_elements(tmp_path: Path) -> None:
    def body() -> None:
        host = Host(tmp_path)
        with netlab.Box() as world, netlab.Box() as box, netlab.Box() as other:
            netlab.connect(world, host_if="up0", host_ip="198.51.100.2", box_ip="198.51.100.1", default=True)
            network = host.ensure()
            ipv4 = host.plug(network, box, "a")
            host.plug(network, other, "b")
            with netlab.Server(world, "198.51.100.1", 7001):
                assert netlab.route_test(box, "198.51.100.1", 7001) == "198.51.100.2"
            with netlab.Server(box, "0.0.0.0", 80):
                assert netlab.route_test(world, "198.51.100.2", 8080, seconds=1.0) is None
                with Nftables() as tables:
                    name, key, value = ports.port_element(6, 8080, ipv4, 80)
                    tables.commit(Batch().elements(INET, host.names.table, name, [(key, value)]))
                    assert netlab.route_test(world, "198.51.100.2", 8080) == "198.51.100.1"  # the client's own address is seen
                    assert netlab.route_test(other, "198.51.100.2", 8080) == network.gateway  # hairpin
                    import socket
                    with socket.create_connection(("127.0.0.1", 8080), timeout=2) as connection:
                        assert connection.recv(100).decode() == network.gateway
                    name, key, value = ports.port_element(6, 8081, ipv4, 80, "198.51.100.2")
                    tables.commit(Batch().elements(INET, host.names.table, name, [(key, value)]))
                    assert netlab.route_test(world, "198.51.100.2", 8081) == "198.51.100.1"
                    assert "198.51.100.2 . tcp . 8081 : " + ipv4 + " . 80" in netlab.tool("nft", "list", "table", "inet", host.names.table)
                    # a table that lost rules is made anew, and keeps the ports
                    netlab.tool("nft", "flush", "chain", "inet", host.names.table, "postrouting")
                    host.ensure()
                    assert tables.elements(INET, host.names.table, name) == [(key, value)]
                    assert netlab.route_test(world, "198.51.100.2", 8080) == "198.51.100.1"
                # no way in from outside but by published ports
                world.run(lambda: netlab.tool("ip", "route", "add", network.subnet, "via", "198.51.100.2"))
                assert netlab.route_test(world, ipv4, 80, seconds=1.0) is None
    netlab.in_host(body)


def test_a_name_taken_by_something_else_is_refused(tmp_path: Path) -> None:
    def body() -> None:
        host = Host(tmp_path)
        netlab.tool("ip", "link", "add", host.names.bridge, "type", "veth", "peer", "name", "y0")
        with pytest.raises(StartError, match="is not a bridge"):
            host.ensure()
        assert host.db.execute("SELECT * FROM networks") == []
    netlab.in_host(body)


def test_no_free_subnet_is_an_error_that_says_so(tmp_path: Path) -> None:
    def body() -> None:
        host = Host(tmp_path)
        netlab.tool("ip", "link", "add", "vpn", "type", "bridge")
        netlab.tool("ip", "link", "set", "vpn", "up")
        for route in ("172.16.0.0/12", "192.168.0.0/16"):
            netlab.tool("ip", "route", "add", route, "dev", "vpn")
        with pytest.raises(StartError, match="non-overlapping IPv4 address pool"):
            host.ensure()
    netlab.in_host(body)


def test_a_wide_route_is_not_a_network_in_use(tmp_path: Path) -> None:
    def body() -> str:
        netlab.tool("ip", "link", "add", "vpn", "type", "bridge")
        netlab.tool("ip", "link", "set", "vpn", "up")
        netlab.tool("ip", "route", "add", "0.0.0.0/1", "dev", "vpn")
        netlab.tool("ip", "route", "add", "128.0.0.0/1", "dev", "vpn")
        return Host(tmp_path).ensure().subnet
    assert netlab.in_host(body) == "172.17.0.0/16"


@pytest.mark.parametrize("trap", ["link", "mode"])
def test_a_lock_that_others_could_hold_is_refused(tmp_path: Path, trap: str) -> None:
    def body() -> None:
        host = Host(tmp_path)
        lock = Path(host.lock)
        if trap == "link":
            os.symlink(tmp_path / "elsewhere", host.lock)
        else:
            lock.write_text("")
            lock.chmod(0o666)
        with pytest.raises(StartError, match="mode 0600"):
            host.ensure()
        assert not (tmp_path / "elsewhere").exists()
    netlab.in_host(body)


def test_many_first_uses_at_once_make_one_network(tmp_path: Path) -> None:
    def body() -> None:
        host = Host(tmp_path)
        host.db.close()
        gate, opener = os.pipe()
        children = []
        for _number in range(6):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    os.close(opener)
                    os.read(gate, 1)  # all start when the pipe closes
                    code = 0 if host.ensure().subnet == "172.17.0.0/16" else 2
                finally:
                    os._exit(code)
            children.append(pid)
        os.close(opener)
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 6
        assert host.db.value("SELECT count(*) FROM networks") == 1
        assert netlab.tool("ip", "-o", "link", "show", "type", "bridge").count("\n") == 1
    netlab.in_host(body)


def test_rules_that_vanish_while_they_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def body() -> None:
        host = Host(tmp_path)
        real, failures = foreign.ensure, [FileNotFoundError(), FileNotFoundError()]

        def sometimes(*arguments: Any, **options: Any) -> Any:
            if failures:
                raise failures.pop()
            return real(*arguments, **options)
        monkeypatch.setattr(foreign, "ensure", sometimes)
        host.ensure()
        assert not failures and Path(host.known).exists()
    netlab.in_host(body)


def test_a_kernel_without_nf_tables_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: Nftables) -> int:
        raise OSError(errno.EINVAL, "Invalid argument", "nftables: get generation")
    monkeypatch.setattr(Nftables, "generation", refuse)

    def body() -> None:
        with pytest.raises(StartError, match="no nf_tables"):
            Host(tmp_path).ensure()
        assert "lm-" not in netlab.tool("ip", "link")
    netlab.in_host(body)
