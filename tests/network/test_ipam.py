# SPDX-License-Identifier: Apache-2.0
"""Addresses: never two alike, never the network's own, not the one just given back."""
from __future__ import annotations

from pathlib import Path

import netlab
import pytest

from lamina.errors import Conflict
from lamina.network import ipam
from lamina.network.model import Network, cidr, dotted, mask, number, overlap
from lamina.store.db import IntegrityError


def _network(subnet: str, gateway: str) -> Network:
    return Network("f" * 64, "bridge", "lm-0", subnet, gateway, 1500)


def test_addresses_go_round(tmp_path: Path) -> None:
    db, network = netlab.new_db(str(tmp_path)), _network("10.9.0.0/29", "10.9.0.1")
    with db.write():
        assert ipam.allocate(db, network, "a") == ("10.9.0.2", "02:42:0a:09:00:02")
        assert ipam.allocate(db, network, "a") == ("10.9.0.2", "02:42:0a:09:00:02")
        assert ipam.allocate(db, network, "b")[0] == "10.9.0.3"
        ipam.release(db, "a")
        assert [ipam.allocate(db, network, name)[0] for name in "cdef"] == ["10.9.0.4", "10.9.0.5", "10.9.0.6", "10.9.0.2"]
        with pytest.raises(Conflict, match="no available IPv4 addresses"):
            ipam.allocate(db, network, "g")
        ipam.release(db, "d")
        ipam.release(db, "nobody")
        assert ipam.allocate(db, network, "g")[0] == "10.9.0.5"


def test_a_transaction_that_fails_gives_the_address_back(tmp_path: Path) -> None:
    db, network = netlab.new_db(str(tmp_path)), _network("10.9.0.0/29", "10.9.0.1")
    with pytest.raises(RuntimeError), db.write():
        ipam.allocate(db, network, "a")
        raise RuntimeError
    with db.write():
        assert ipam.allocate(db, network, "b")[0] == "10.9.0.2"
    with pytest.raises(IntegrityError), db.write():  # the table itself refuses a double, whoever writes it
        db.execute("INSERT INTO endpoints(network_id, container_id, ipv4, mac) VALUES(?, 'x', '10.9.0.2', '')", (network.id,))


def test_a_gateway_in_the_middle_and_a_network_of_another_subnet_size(tmp_path: Path) -> None:
    db, network = netlab.new_db(str(tmp_path)), _network("10.9.1.0/30", "10.9.1.2")
    with db.write():
        assert ipam.allocate(db, network, "a")[0] == "10.9.1.1"
        with pytest.raises(Conflict):
            ipam.allocate(db, network, "b")


def test_arithmetic() -> None:
    assert dotted(number("172.18.255.1")) == "172.18.255.1"
    assert cidr("172.18.3.4/16") == (number("172.18.0.0"), 16) and mask(0) == 0 and mask(32) == 0xFFFFFFFF
    assert overlap(cidr("10.0.0.0/8"), cidr("10.1.2.3/32")) and overlap(cidr("0.0.0.0/0"), cidr("9.9.9.9/32"))
    assert not overlap(cidr("172.17.0.0/16"), cidr("172.18.0.0/16"))
    for bad in ("10.0.0.0", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/-1", "::/0", "10.0.0.0/8x"):
        with pytest.raises((ValueError, OSError)):
            cidr(bad)
