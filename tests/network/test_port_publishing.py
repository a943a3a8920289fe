# SPDX-License-Identifier: Apache-2.0
"""Elements of published ports in a table of the test's own, in a network namespace of its own; and the sockets that hold ports."""
from __future__ import annotations

import os
import socket
from pathlib import Path

import netlab
import pytest

from lamina.errors import StartError
from lamina.linux.nfnetlink import INET, Batch, Nftables
from lamina.network import conntrack, firewall, holding, ports
from lamina.network.model import Network

NETWORK = Network("id", "bridge", "b0", "172.18.0.0/16", "172.18.0.1", 1500)
A, B = "a" * 64, "b" * 64


def listing(tables: Nftables) -> list[tuple[bytes, bytes | None, str]]:
    return sorted(one for where in (ports.PORTS, ports.PORTS_AT) for one in tables.commented_elements(INET, "t", where))


def test_elements_come_replace_and_go(tmp_path: Path) -> None:
    known = str(tmp_path / "known")

    def body() -> None:
        with Nftables() as tables:
            firewall.ensure(tables, "t", NETWORK)
            (tmp_path / "known").write_text(f"2 2 3 {tables.generation()} - f\n")
            first = ports.elements([(6, 80, "0.0.0.0", 8080), (17, 53, "127.0.0.1", 5353), (6, 80, "::", 8080)], "172.18.0.2")
            assert len(first) == 2, "IPv6 has no element"
            ports.add(tables, "t", first, ports.comment_of(A, "web"), known)
            assert (tmp_path / "known").read_text() == f"2 2 3 {tables.generation()} - f\n", "the note goes along with our own change"
            assert {comment for _key, _value, comment in listing(tables)} == {f"{A[:12]} web"}
            second = ports.elements([(6, 80, "0.0.0.0", 8080), (6, 81, "0.0.0.0", 8081)], "172.18.0.3")
            ports.add(tables, "t", second, ports.comment_of(B, "next"), known)
            assert [comment for _key, _value, comment in listing(tables)].count(f"{B[:12]} next") == 2, "one replaced, one added"
            assert ports.is_published("t", 6, 8080) and ports.is_published("t", 17, 5353) and not ports.is_published("t", 6, 5353)
            ports.forget("t", A, known)
            assert {comment for _key, _value, comment in listing(tables)} == {f"{B[:12]} next"}, "what was replaced isn't A's any more"
            ports.remove(tables, "t", second, known)
            ports.remove(tables, "t", second, known)
            assert listing(tables) == []
            tables.commit(Batch().table(INET, "elsewhere"))  # somebody else's change
            note = (tmp_path / "known").read_text()
            ports.add(tables, "t", second, "x", known)
            assert (tmp_path / "known").read_text() == note, "then there is a thorough look to be had"
            tables.commit(Batch().delete_table(INET, "t"))
            ports.remove(tables, "t", second, known)
            ports.forget("t", B, known)
            with pytest.raises(FileNotFoundError):
                ports.add(tables, "t", second, "x", known)
    netlab.in_host(body)


def test_a_mended_table_keeps_ports_and_whose_they_are(tmp_path: Path) -> None:
    def body() -> None:
        with Nftables() as tables:
            firewall.ensure(tables, "t", NETWORK)
            ports.add(tables, "t", ports.elements([(6, 80, "0.0.0.0", 8080)], "172.18.0.2"), ports.comment_of(A, "web"), "/nowhere")
            before = listing(tables)
            rule = tables.rules(INET, "t", "forward")[0]
            tables.commit(Batch().delete_rule(INET, "t", "forward", rule.handle))
            assert firewall.ensure(tables, "t", NETWORK)
            assert listing(tables) == before and before
    netlab.in_host(body)


def test_change_against_another_state_is_refused() -> None:
    def body() -> None:
        with Nftables() as tables:
            tables.commit(Batch().table(INET, "t"))
            generation = tables.generation()
            tables.commit(Batch().table(INET, "u"), generation=generation)
            with pytest.raises(OSError, match="begin batch"):
                tables.commit(Batch().table(INET, "v"), generation=generation)
            assert not tables.has_table(INET, "v")
    netlab.in_host(body)


def test_holding() -> None:
    def body() -> None:
        held = holding.hold([(6, 80, "", 8080, 8080), (17, 53, "127.0.0.1", 0, 0), (6, 81, "", 0, 0)], "t")
        assert [(one.protocol, one.private, one.address) for one in held] == [
            (6, 80, "0.0.0.0"), (6, 80, "::"), (17, 53, "127.0.0.1"), (6, 81, "0.0.0.0"), (6, 81, "::")]
        assert held[0].port == held[1].port == 8080 and held[3].port == held[4].port >= 32768
        for wanted, text in (
            ((6, 1, "127.0.0.1", 8080, 8080), "listen tcp4 127.0.0.1:8080: bind: address already in use"),
            ((6, 1, "::1", 8080, 8080), r"listen tcp6 \[::1\]:8080: bind: address already in use"),
            ((17, 1, "192.0.2.1", 53, 53), "listen udp4 192.0.2.1:53: bind: cannot assign requested address"),
        ):
            with pytest.raises(StartError, match=text):
                holding.hold([(6, 9, "", 9999, 9999), wanted], "t")
        got = holding.hold([(6, 1, "", 8079, 8081), (6, 9, "", 9999, 9999)], "t")  # and what failed has let go of 9999
        assert got[0].port == 8079
        again = holding.hold([(6, 1, "", 8079, 8081)], "t")
        assert {one.port for one in again} == {8081}
        holding.release([*held, *got, *again])
        holding.release(holding.hold([(6, 80, "", 8080, 8080)], "t"))
        Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6").write_text("1")
        assert len(held := holding.hold([(6, 80, "", 8080, 8080)], "t")) == 1, "a host without IPv6"
        holding.release(held)
    netlab.in_host(body)


def test_stale_udp_connections_are_forgotten() -> None:
    def body() -> None:
        with Nftables() as tables:
            firewall.ensure(tables, "t", NETWORK)  # its rules make the kernel track connections
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for port in (4000, 4001):
                sock.sendto(b"x", ("127.0.0.1", port))
            assert conntrack.forget_udp([4000]) == 1
            assert conntrack.forget_udp([4000]) == 0 and conntrack.forget_udp([4001]) == 1
    netlab.in_host(body)


def test_comment_fits() -> None:
    assert len(ports.comment_of(os.urandom(32).hex(), "n" * 200)) < 127
