# SPDX-License-Identifier: Apache-2.0
"""Attacks 33 and 34: what a container or a neighbour sends to get where it must not, each with a control that shows it would."""
from __future__ import annotations

import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "network"))

import netlab

from lamina.linux.nfnetlink import INET, Batch, Nftables
from lamina.network import bridge, ipam, plug, ports
from lamina.network.model import Network, netplan


class Lab:
    """A host with an uplink to `world`, and two containers."""

    def __init__(self, directory: Path, world: netlab.Box, boxes: list[netlab.Box]) -> None:
        self.names = netlab.Names()
        db = netlab.new_db(str(directory))
        netlab.connect(world, host_if="up0", host_ip="198.51.100.2", box_ip="198.51.100.1", default=True)
        self.network: Network = bridge.ensure(self.names, db, str(directory / "known"), host_lock=str(directory / "lock"))
        self.addresses = []
        for number, box in enumerate(boxes):
            with db.write():
                ipv4, mac = ipam.allocate(db, self.network, str(number))
            plug.plug(netplan(self.network, ipv4, mac), box.pid)
            self.addresses.append(ipv4)

    def publish(self, port: int, address: str = "") -> None:
        with Nftables() as tables:
            name, key, value = ports.port_element(6, port, self.addresses[0], 80, address)
            tables.commit(Batch().elements(INET, self.names.table, name, [(key, value)]))

    def without_raw(self) -> None:
        """The control: the host as it would be without the rule that guards 127/8."""
        netlab.tool("nft", "flush", "chain", "inet", self.names.table, "raw")


def _in_lab(directory: Path, fn: Callable[[Lab, netlab.Box, netlab.Box, netlab.Box], None]) -> None:
    def body() -> None:
        with netlab.Box() as world, netlab.Box() as one, netlab.Box() as two:
            fn(Lab(directory, world, [one, two]), world, one, two)
    netlab.in_host(body)


def _aim_at_loopback(gateway: str, source: str) -> Callable[[], None]:
    """Make a namespace send 127.0.0.0/8 over the wire instead of keeping it."""
    def inside() -> None:
        netlab.tool("ip", "addr", "flush", "dev", "lo")
        netlab.tool("ip", "route", "add", "127.0.0.0/8", "via", gateway, "src", source)
        Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("1")
    return inside


def test_loopback_services_of_the_host_from_a_container(tmp_path: Path) -> None:
    def attack(lab: Lab, world: netlab.Box, one: netlab.Box, two: netlab.Box) -> None:
        one.run(_aim_at_loopback(lab.network.gateway, lab.addresses[0]))
        with netlab.Server(None, "127.0.0.1", 7000):
            assert netlab.route_test(one, "127.0.0.1", 7000, seconds=1.0) is None
            lab.without_raw()
            assert netlab.route_test(one, "127.0.0.1", 7000) is not None
    _in_lab(tmp_path, attack)


def test_a_port_published_on_loopback_from_a_neighbour(tmp_path: Path) -> None:
    def attack(lab: Lab, world: netlab.Box, one: netlab.Box, two: netlab.Box) -> None:
        lab.publish(8080, "127.0.0.1")
        world.run(_aim_at_loopback("198.51.100.2", "198.51.100.1"))
        with netlab.Server(one, "0.0.0.0", 80):
            with socket.create_connection(("127.0.0.1", 8080), timeout=2) as connection:
                assert connection.recv(100).decode() == lab.network.gateway
            assert netlab.route_test(world, "127.0.0.1", 8080, seconds=1.0) is None
            assert netlab.route_test(world, "198.51.100.2", 8080, seconds=1.0) is None
            lab.without_raw()
            assert netlab.route_test(world, "127.0.0.1", 8080) is not None
    _in_lab(tmp_path, attack)


def test_published_ports_catch_no_traffic_to_elsewhere(tmp_path: Path) -> None:
    """CVE-2025-67499: a container's connection to port 8080 of some other host is none of our business."""
    def attack(lab: Lab, world: netlab.Box, one: netlab.Box, two: netlab.Box) -> None:
        lab.publish(8080)
        with netlab.Server(world, "198.51.100.1", 8080), netlab.Server(one, "0.0.0.0", 80):
            assert netlab.route_test(two, "198.51.100.1", 8080) == "198.51.100.2"  # as the world sees us
            assert netlab.route_test(two, "198.51.100.2", 8080) == lab.network.gateway
            netlab.tool("nft", "insert", "rule", "inet", lab.names.table, "prerouting", "jump", "publish")  # the control
            assert netlab.route_test(two, "198.51.100.1", 8080, seconds=1.0) != "198.51.100.2"
    _in_lab(tmp_path, attack)


def test_the_source_address_of_a_client_is_kept(tmp_path: Path) -> None:
    """CVE-2021-20199: a service that trusts its own loopback or gateway must not take a stranger for it."""
    def attack(lab: Lab, world: netlab.Box, one: netlab.Box, two: netlab.Box) -> None:
        lab.publish(8080)
        with netlab.Server(one, "0.0.0.0", 80):
            assert netlab.route_test(world, "198.51.100.2", 8080) == "198.51.100.1"
    _in_lab(tmp_path, attack)


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _advertisement() -> bytes:
    """An Ethernet frame: router advertisement for 2001:db8:bad::/64 to all nodes."""
    source, target = socket.inet_pton(socket.AF_INET6, "fe80::bad"), socket.inet_pton(socket.AF_INET6, "ff02::1")
    prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + socket.inet_pton(socket.AF_INET6, "2001:db8:bad::")

    def message(checksum: int) -> bytes:
        return struct.pack("!BBHBBHII", 134, 0, checksum, 64, 0, 1800, 0, 0) + prefix
    pseudo = source + target + struct.pack("!II", len(message(0)), 58)
    body = message(_checksum(pseudo + message(0)))
    header = struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + source + target
    return bytes.fromhex("333300000001020000000bad86dd") + header + body


def _send_frame() -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("eth0", 0))
        raw.send(_advertisement())


@pytest.mark.skipif(not os.path.exists("/proc/sys/net/ipv6"), reason="this kernel has no IPv6")
def test_router_advertisements_of_a_container(tmp_path: Path) -> None:
    """CVE-2020-10749, and CVE-2024-32473: IPv6 that nobody asked for is off, on the bridge and inside."""
    def attack(lab: Lab, world: netlab.Box, one: netlab.Box, two: netlab.Box) -> None:
        one.run(_send_frame)
        time.sleep(0.2)
        assert "inet6" not in two.run(lambda: netlab.tool("ip", "addr"))
        assert "inet6" not in netlab.tool("ip", "addr", "show", lab.network.bridge)
        assert ":bad" not in netlab.tool("ip", "-6", "route")  # with a colon: the name of a veth may well hold "bad"

        def careless() -> None:  # the control: the same frame, a neighbour and a bridge as they would be by default
            Path("/proc/sys/net/ipv6/conf/eth0/disable_ipv6").write_text("0")
        two.run(careless)
        for _attempt in range(50):
            one.run(_send_frame)
            if "2001:db8:bad:" in two.run(lambda: netlab.tool("ip", "addr")):
                break
            time.sleep(0.1)
        assert "2001:db8:bad:" in two.run(lambda: netlab.tool("ip", "addr"))
    _in_lab(tmp_path, attack)
