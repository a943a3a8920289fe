# SPDX-License-Identifier: Apache-2.0
"""The netlink codec and the kernel's answers, with `ip` and `nft` as oracles."""
from __future__ import annotations

import errno
import struct

import netlab
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.linux import netlink, nft, rtnetlink
from lamina.linux.netlink import Netlink, Request
from lamina.linux.nfnetlink import DROP, FORWARD, INET, TYPE_IFNAME, Batch, Nftables


@given(st.lists(st.tuples(st.integers(1, 0x3FFF), st.binary(max_size=50))))
def test_attributes_round_trip(items: list[tuple[int, bytes]]) -> None:
    packed = b"".join(netlink.attr(kind, payload) for kind, payload in items)
    assert len(packed) % 4 == 0
    assert netlink.iter_attrs(packed) == items


@given(st.binary(max_size=200))
def test_attributes_of_garbage_are_refused_or_inside(data: bytes) -> None:
    try:
        found = netlink.iter_attrs(data)
    except OSError as failure:
        assert failure.errno == errno.EBADMSG
    else:
        assert sum(len(payload) for _kind, payload in found) <= len(data)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "a\n", "x" * 16, "a:b", "eth%d", "\x7f\0"])
def test_names_that_are_no_interface_names(name: str) -> None:
    with pytest.raises(OSError):
        rtnetlink.new_bridge(name, mac="02:00:00:00:00:01", mtu=1500)


def test_requests_do_what_ip_shows() -> None:
    def body() -> None:
        with Netlink() as route, netlab.Box() as box:
            route.call([rtnetlink.new_bridge("b0", mac="02:00:00:00:00:01", mtu=1400)])
            bridge = rtnetlink.get_link(route, "b0")
            assert bridge is not None
            assert (bridge.kind, bridge.mtu, bridge.mac, bridge.up, bridge.master) == ("bridge", 1400, "02:00:00:00:00:01", False, 0)
            netlab.connect(box, host_if="v0", host_ip="10.1.0.1", box_ip="10.1.0.2")
            index = rtnetlink.get_index(route, "v0")
            route.call([rtnetlink.set_link(bridge.index, up=True), rtnetlink.set_link(index, master=bridge.index, mtu=1300),
                        rtnetlink.add_address(bridge.index, "10.2.0.1", 20), rtnetlink.add_route("10.9.0.0", 16, gateway="10.2.0.9"),
                        rtnetlink.add_route("10.8.0.0", 16, index=bridge.index),
                        rtnetlink.set_neighbour(bridge.index, "10.2.0.7", "02:00:00:00:00:07")])
            assert "inet 10.2.0.1/20 brd 10.2.15.255" in netlab.tool("ip", "addr", "show", "b0")
            assert "master b0" in netlab.tool("ip", "link", "show", "v0") and "mtu 1300" in netlab.tool("ip", "link", "show", "v0")
            assert "10.9.0.0/16 via 10.2.0.9 dev b0" in netlab.tool("ip", "route")
            assert "10.2.0.7 dev b0 lladdr 02:00:00:00:00:07 PERMANENT" in netlab.tool("ip", "neigh")
            assert [link.name for link in rtnetlink.links(route)] == ["lo", "b0", "v0"]
            assert [link.name for link in rtnetlink.links(route, "bridge")] == ["b0"]
            found = {(r.destination, r.prefix, r.gateway) for r in rtnetlink.routes(route)}
            assert {("10.9.0.0", 16, "10.2.0.9"), ("10.8.0.0", 16, ""), ("10.2.0.0", 20, "")} <= found
            assert ("10.2.0.1", 20) in {(a.address, a.prefix) for a in rtnetlink.addresses(route)}
            route.call([rtnetlink.del_route("10.8.0.0", 16), rtnetlink.del_address(bridge.index, "10.2.0.1", 20), rtnetlink.del_link("v0")])
            assert netlab.tool("ip", "addr", "show", "b0").count("inet 10") == 0
            assert rtnetlink.get_link(route, "v0") is None
    netlab.in_host(body)


def test_a_batch_names_the_message_that_failed_and_goes_on() -> None:
    def body() -> None:
        with Netlink() as route:
            with pytest.raises(OSError) as caught:
                route.call([rtnetlink.new_bridge("b0", mac="02:00:00:00:00:01", mtu=1500), rtnetlink.del_link("nope"),
                            rtnetlink.new_bridge("b1", mac="02:00:00:00:00:02", mtu=1500)])
            assert caught.value.errno == errno.ENODEV
            assert caught.value.filename == "rtnetlink: delete link nope"
            assert rtnetlink.get_index(route, "b0") and rtnetlink.get_index(route, "b1")
            route.call([rtnetlink.del_link("nope")], ignore=(errno.ENODEV,))
    netlab.in_host(body)


def test_answers_longer_than_one_datagram() -> None:
    def body() -> None:
        with Netlink() as route:
            route.call([rtnetlink.new_bridge(f"b{n}", mac="02:00:00:00:00:01", mtu=1500) for n in range(60)])
            assert len(rtnetlink.links(route, "bridge")) == 60
        with Nftables() as tables:
            batch = Batch().table(INET, "t").set(INET, "t", "s", key_type=TYPE_IFNAME, key_size=16)
            names = [f"if{n}".encode().ljust(16, b"\0") for n in range(3000)]
            tables.commit(batch.elements(INET, "t", "s", [(name, None) for name in names]))
            assert sorted(key for key, _value in tables.elements(INET, "t", "s")) == sorted(names)
    netlab.in_host(body)


def test_only_the_kernel_is_believed() -> None:
    """Any local process may send to our port: a forged answer must not count."""
    def body() -> None:
        import socket
        with Netlink() as route, socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as forger:
            forger.bind((0, 0))
            port = route._socket.getsockname()[0]
            forged = struct.pack("=IHHIIi", 36, netlink.NLMSG_ERROR, 0, 1, 0, -errno.EPERM) + bytes(16)
            forger.sendto(forged, (port, 0))
            route.call([rtnetlink.set_link(1, up=True)])
    netlab.in_host(body)


def test_a_nftables_batch_is_all_or_nothing() -> None:
    def body() -> None:
        with Nftables() as tables:
            before = tables.generation()
            assert tables.generation() == before
            with pytest.raises(OSError) as caught:
                tables.commit(Batch().table(INET, "t").chain(INET, "t", "c").delete_chain(INET, "t", "nope"))
            assert caught.value.filename == "nftables: delete chain t nope"
            assert not tables.has_table(INET, "t") and netlab.tool("nft", "list", "tables") == ""
            tables.commit(Batch().table(INET, "t", comment="ours")
                          .chain(INET, "t", "c", kind="filter", hook=FORWARD, priority=-5, policy=DROP)
                          .rule(INET, "t", "c", [*nft.iifname("x"), nft.verdict(nft.ACCEPT)], comment="second")
                          .rule(INET, "t", "c", [*nft.established(), nft.counter(), nft.verdict(nft.DROP)], comment="first", head=True))
            assert tables.generation() != before
            listing = netlab.tool("nft", "list", "ruleset")
            assert 'comment "ours"' in listing and "type filter hook forward priority filter - 5; policy drop;" in listing
            assert listing.index('ct state established,related counter packets 0 bytes 0 drop comment "first"') < listing.index(
                'iifname "x" accept comment "second"')
            assert [(t.name, t.comment) for t in tables.tables()] == [("t", "ours")]
            chain, = tables.chains()
            assert (chain.name, chain.kind, chain.hook, chain.priority, chain.policy) == ("c", "filter", FORWARD, -5, DROP)
            rules = tables.rules(INET, "t", "c")
            assert [(r.comment, nft.verdict_of(r), nft.is_unconditional(r)) for r in rules] == [
                ("first", (nft.DROP, ""), False), ("second", (nft.ACCEPT, ""), False)]
            tables.commit(Batch().delete_rule(INET, "t", "c", rules[0].handle))
            assert [r.comment for r in tables.rules()] == ["second"]
            with pytest.raises(FileExistsError):
                tables.commit(Batch().table(INET, "t", exclusive=True))
    netlab.in_host(body)


def test_a_batch_without_privilege_is_refused_and_does_not_hang() -> None:
    def body() -> None:
        import os
        os.setresuid(65534, 65534, 65534)
        with Nftables() as tables, pytest.raises(PermissionError):
            tables.commit(Batch().table(INET, "t"))
    netlab.in_host(body)


def test_request_body_is_padded() -> None:
    assert len(Request(1, 0, b"x", "").pack(1)) == 20
