# SPDX-License-Identifier: Apache-2.0
"""Beside firewalls of others that drop forwarded packets: one pair of accept rules, where its owner provides for it, and nothing else."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import netlab
import pytest

from lamina.linux.nfnetlink import Nftables
from lamina.network import bridge, firewalld, foreign, ipam, legacy, plug, programs, teardown, watch
from lamina.network.model import Network, netplan


def _docker(program: str) -> None:
    for rule in ("-P FORWARD DROP", "-N DOCKER-USER", "-A DOCKER-USER -j RETURN", "-A FORWARD -j DOCKER-USER",
                 "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT"):
        netlab.tool(program, *rule.split())


def _ufw(program: str) -> None:
    for rule in ("-P FORWARD DROP", "-N ufw-before-forward", "-A FORWARD -j ufw-before-forward",
                 "-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"):
        netlab.tool(program, *rule.split())


def _nft(text: str) -> Callable[[], None]:
    return lambda: _ignore(netlab.tool("nft", text))


def _ignore(_: str) -> None:
    return None


OWNERS = {
    "docker by iptables-nft": (lambda: _docker("iptables-nft"), "ip filter DOCKER-USER"),
    "ufw by iptables-nft": (lambda: _ufw("iptables-nft"), "ip filter FORWARD"),
    "nft, drop policy": (
        _nft("table inet corp { chain passing { type filter hook forward priority 10; policy drop; ip saddr 1.2.3.4 accept; }\n }"),
                         "inet corp passing"),
    "nft, reject in a chain at the end": (
        _nft("table inet corp { chain last { counter; reject with icmpx admin-prohibited; }\n"
             "chain passing { type filter hook forward priority 10; ip saddr 1.2.3.4 accept; jump last; }\n }"), "inet corp passing"),
}


class Host:
    def __init__(self, directory: Path) -> None:
        self.names = netlab.Names()
        self.db = netlab.new_db(str(directory))
        self.known = str(directory / "known")
        self.lock = str(directory / "lock")

    def ensure(self) -> Network:
        return bridge.ensure(self.names, self.db, self.known, host_lock=self.lock)

    def plug(self, network: Network, box: netlab.Box) -> str:
        with self.db.write():
            ipv4, mac = ipam.allocate(self.db, network, "c" * 64)
        plug.plug(netplan(network, ipv4, mac), box.pid)
        return ipv4

    def teardown(self) -> None:
        teardown.teardown(self.names, host_lock=self.lock)


def _rules_but_ours(bridge_name: str) -> list[str]:
    return [line for line in netlab.tool("nft", "-s", "list", "ruleset").splitlines() if f"lamina {bridge_name}" not in line]


@pytest.mark.parametrize("owner", OWNERS)
def test_traffic_passes_beside(tmp_path: Path, owner: str) -> None:
    arrange, place = OWNERS[owner]

    def body() -> None:
        host = Host(tmp_path)
        with netlab.Box() as world, netlab.Box() as box, netlab.Server(world, "0.0.0.0", 7001):
            netlab.connect(world, host_if="up0", host_ip="198.51.100.2", box_ip="198.51.100.1", default=True)
            network = host.ensure()
            host.plug(network, box)
            assert netlab.route_test(box, "198.51.100.1", 7001) == "198.51.100.2"
            arrange()
            before = _rules_but_ours(network.bridge)
            assert netlab.route_test(box, "198.51.100.1", 7001, seconds=1.0) is None  # the control: this owner does drop
            host.ensure()
            assert netlab.route_test(box, "198.51.100.1", 7001) == "198.51.100.2"
            with Nftables() as tables:
                assert foreign.listing(tables) == [f"{place}: lamina {network.bridge}"]
            assert _rules_but_ours(network.bridge) == before
            again = netlab.tool("nft", "-a", "list", "ruleset")
            (tmp_path / "known").unlink()
            host.ensure()  # a thorough look that finds all in place
            assert _handles(netlab.tool("nft", "-a", "list", "ruleset")) == _handles(again)
            if "iptables-nft" in owner:  # its owner can still read and write its chains
                assert netlab.tool("iptables-nft", "-S").count(f'--comment "lamina {network.bridge}"') == 2
                netlab.tool("iptables-nft", "-I", place.split()[2], "-j", "RETURN" if "docker" in owner else "DROP")
                assert netlab.route_test(box, "198.51.100.1", 7001, seconds=1.0) is None
                host.ensure()  # something was put before our pair: it goes to the head again
                assert netlab.route_test(box, "198.51.100.1", 7001) == "198.51.100.2"
            host.teardown()
            assert "lamina" not in netlab.tool("nft", "list", "ruleset")
    netlab.in_host(body)


def _handles(listing: str) -> list[str]:
    return [line.rpartition("# handle ")[2] for line in listing.splitlines()]


def test_a_conditional_drop_is_left_alone(tmp_path: Path) -> None:
    def body() -> None:
        netlab.tool("nft", "table inet corp { chain passing { type filter hook forward priority 10; ip daddr 198.51.100.0/24 drop; }\n }")
        host = Host(tmp_path)
        network = host.ensure()
        with Nftables() as tables:
            assert foreign.listing(tables) == []
        assert f"lamina {network.bridge}" not in netlab.tool("nft", "list", "table", "inet", "corp")
    netlab.in_host(body)


def test_bridges_of_other_engines_stay_out_of_reach(tmp_path: Path) -> None:
    """Our accept in DOCKER-USER comes before docker's own drop: its containers must not become reachable by it."""
    def body() -> None:
        host = Host(tmp_path)
        _docker("iptables-nft")
        with netlab.Box() as box, netlab.Box() as theirs, netlab.Box() as outside:
            netlab.tool("ip", "link", "add", "docker0", "type", "bridge")
            netlab.tool("ip", "addr", "add", "172.17.0.1/16", "dev", "docker0")
            netlab.tool("ip", "link", "set", "docker0", "up")
            netlab.connect(outside, host_if="up0", host_ip="198.51.100.2", box_ip="198.51.100.1", default=True)
            network = host.ensure()
            host.plug(network, box)
            plug.plug({"mode": "bridge", "bridge": "docker0", "ipv4": "172.17.0.2/16", "gateway": "172.17.0.1", "mac": "02:42:ac:11:00:02",
                       "mtu": 1500}, theirs.pid)
            with netlab.Server(theirs, "0.0.0.0", 80), netlab.Server(outside, "0.0.0.0", 81):
                assert netlab.route_test(box, "198.51.100.1", 81) is not None
                assert netlab.route_test(box, "172.17.0.2", 80, seconds=1.0) is None
                with Nftables() as tables:  # the control: it is our set that holds this
                    from lamina.network import firewall
                    firewall.set_foreign_bridges(tables, host.names.table, [])
                assert netlab.route_test(box, "172.17.0.2", 80) is not None
    netlab.in_host(body)


def test_names_of_other_engines_bridges() -> None:
    yes = ["docker0", "docker_gwbridge", "br-0123456789ab", "podman0", "podman12", "cni-podman0", "nerdctl0"]
    no = ["br-lan", "br0", "br-0123456789abc", "virbr0", "lamina0", "dockerish", "br-0123456789AB"]
    assert [name for name in yes + no if watch.is_engine_bridge(name)] == yes


FIREWALLD = """table inet firewalld {
    chain filter_FWD_trusted { accept; }
    chain filter_FORWARD { type filter hook forward priority 10; policy accept; ct state established,related accept; jump zones; reject; }
    chain zones { }
}"""


def test_firewalld_is_asked_for_its_trusted_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = tmp_path / "calls"
    program = tmp_path / "firewall-cmd"
    program.write_text(f"""#!/bin/sh
echo "$*" >> {calls}
case "$2" in
--change-interface=*) nft insert rule inet firewalld zones iifname "${{2#*=}}" goto filter_FWD_trusted ;;
esac
""")
    program.chmod(0o755)
    monkeypatch.setattr(programs, "_DIRECTORIES", (str(tmp_path), "/usr/sbin", "/usr/bin", "/bin"))

    def body() -> None:
        netlab.tool("nft", FIREWALLD)
        host = Host(tmp_path)
        name = host.ensure().bridge
        asked = f"--zone=trusted --change-interface={name}\n"
        assert calls.read_text() == asked
        (tmp_path / "known").unlink()
        host.ensure()
        assert calls.read_text() == asked  # its table says that it is done
        with Nftables() as tables:
            assert foreign.listing(tables) == []
        host.teardown()
        assert calls.read_text() == asked + f"--zone=trusted --remove-interface={name}\n"
    netlab.in_host(body)


def test_firewalld_that_cannot_be_asked_leaves_the_head_of_its_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewalld, "_PROGRAM", "no-such-program")

    def body() -> None:
        netlab.tool("nft", FIREWALLD)
        host = Host(tmp_path)
        name = host.ensure().bridge
        with Nftables() as tables:
            assert foreign.listing(tables) == [f"inet firewalld filter_FORWARD: lamina {name}"]
    netlab.in_host(body)


@pytest.mark.parametrize("arrange, chain", [(_docker, "DOCKER-USER"), (_ufw, "FORWARD")])
def test_legacy_iptables(tmp_path: Path, arrange: Callable[[str], None], chain: str) -> None:
    if not programs.find("iptables-legacy"):
        pytest.skip("no iptables-legacy program on this host")

    def body() -> None:
        host = Host(tmp_path)
        with netlab.Box() as world, netlab.Box() as box, netlab.Server(world, "0.0.0.0", 7001):
            netlab.connect(world, host_if="up0", host_ip="198.51.100.2", box_ip="198.51.100.1", default=True)
            network = host.ensure()
            host.plug(network, box)
            arrange("iptables-legacy")
            before = netlab.tool("iptables-legacy", "-S")
            assert netlab.route_test(box, "198.51.100.1", 7001, seconds=1.0) is None
            for _twice in range(2):
                host.ensure()
                now = netlab.tool("iptables-legacy", "-S").splitlines()
                ours = [line for line in now if "lamina" in line]
                assert len(ours) == 2 and all(line.startswith(f"-A {chain} ") for line in ours)
            assert [line for line in now if "lamina" not in line] == before.splitlines()
            assert netlab.route_test(box, "198.51.100.1", 7001) == "198.51.100.2"
            host.teardown()
            assert netlab.tool("iptables-legacy", "-S") == before
    netlab.in_host(body)


def test_reading_of_legacy_listings() -> None:
    assert legacy.drops("-P INPUT ACCEPT\n-P FORWARD DROP\n") and legacy.drops("-P FORWARD ACCEPT\n-A FORWARD -j REJECT --reject-with x\n")
    assert not legacy.drops("-P FORWARD ACCEPT\n-A FORWARD -s 10.0.0.0/8 -j DROP\n")
