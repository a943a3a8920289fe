# SPDX-License-Identifier: Apache-2.0
"""On the real host, beside whatever runs there: a namespace reaches the host's name server through our bridge, and all goes away again."""
from __future__ import annotations

import socket
import struct
from pathlib import Path

import netlab
import pytest

from lamina.linux.nfnetlink import Nftables
from lamina.network import bridge, files, foreign, ipam, plug, teardown
from lamina.network.model import netplan


def _answers(server: str) -> bool:
    """Whether a name server says anything at all about the root."""
    query = struct.pack("!HHHHHH", 0x1234, 0x0100, 1, 0, 0, 0) + b"\0" + struct.pack("!HH", 2, 1)
    for _attempt in range(3):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(2)
            try:
                udp.sendto(query, (server, 53))
                if udp.recv(2048)[:2] == b"\x12\x34":
                    return True
            except OSError:
                continue
    return False


def test_outside_world_and_no_trace(tmp_path: Path) -> None:
    servers = files.nameservers(files.resolv_conf(files.host_resolv_conf())[0])
    server = next((s for s in servers if ":" not in s and _answers(s)), None)
    if server is None:
        pytest.skip("this host itself reaches no name server")
    names, db = netlab.Names(), netlab.new_db(str(tmp_path))
    try:
        network = bridge.ensure(names, db, str(tmp_path / "known"))
        with Nftables() as tables:
            assert not network.warnings, network.warnings
            assert len([line for line in foreign.listing(tables) if line.endswith(network.bridge)]) <= 1
        with netlab.Box() as box:
            with db.write():
                ipv4, mac = ipam.allocate(db, network, "a" * 64)
            netlab.fork_run(lambda: plug.plug(netplan(network, ipv4, mac), box.pid))
            assert box.run(lambda: _answers(server))
    finally:
        teardown.teardown(names)
    assert names.bridge not in netlab.tool("nft", "list", "ruleset")
    assert names.bridge not in netlab.tool("ip", "-o", "link")
