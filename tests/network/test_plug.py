# SPDX-License-Identifier: Apache-2.0
"""A namespace plugged into a bridge, looked at from inside with `ip`."""
from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import netlab
import pytest

from lamina.errors import StartError
from lamina.linux import rtnetlink
from lamina.linux.netlink import Netlink
from lamina.network import plug


def _plan(**changes: Any) -> dict[str, Any]:
    return {"mode": "bridge", "bridge": "b0", "ipv4": "10.9.0.2/16", "gateway": "10.9.0.1", "mac": "02:42:0a:09:00:02", "mtu": 1400,
            "lo": True} | changes


def _bridge() -> None:
    with Netlink() as route:
        route.call([rtnetlink.new_bridge("b0", mac="02:00:00:00:00:01", mtu=1400)])
        index = rtnetlink.get_index(route, "b0")
        route.call([rtnetlink.set_link(index, up=True), rtnetlink.add_address(index, "10.9.0.1", 16)])


def test_bridge_mode() -> None:
    def body() -> None:
        _bridge()
        before = os.readlink("/proc/self/ns/net")
        fds = len(os.listdir("/proc/self/fd"))
        with netlab.Box() as box:
            name = plug.plug(_plan(), box.pid)
            assert os.readlink("/proc/self/ns/net") == before
            assert "master b0 state UP" in netlab.tool("ip", "link", "show", name)
            link = box.run(lambda: netlab.tool("ip", "link"))
            assert "eth0@" in link and "02:42:0a:09:00:02" in link and "mtu 1400" in link and link.count("LOWER_UP") == 2
            assert "inet 10.9.0.2/16 brd 10.9.255.255 scope global eth0" in box.run(lambda: netlab.tool("ip", "addr"))
            assert box.run(lambda: netlab.tool("ip", "route")).splitlines()[0].strip() == "default via 10.9.0.1 dev eth0"
            assert "inet6" not in box.run(lambda: netlab.tool("ip", "addr"))
            with netlab.Server(None, "10.9.0.1", 7000):
                assert netlab.route_test(box, "10.9.0.1", 7000) == "10.9.0.2"
        assert len(os.listdir("/proc/self/fd")) <= fds
        _until(lambda: rtnetlink.get_link(Netlink(), name) is None)  # the namespace's death removes the veth
        plug.unplug(_plan(), name)
    netlab.in_host(body)


def _until(condition: Any) -> None:
    for _attempt in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("did not come about")


def test_none_mode_has_lo_only() -> None:
    def body() -> None:
        with netlab.Box() as box:
            assert plug.plug({"mode": "none"}, box.pid) == ""
            shown = box.run(lambda: netlab.tool("ip", "addr"))
            assert "lo: <LOOPBACK,UP,LOWER_UP>" in shown and "eth0" not in shown and "inet6" not in shown
            assert box.run(lambda: netlab.tool("ip", "route")) == ""
    netlab.in_host(body)


def test_a_name_that_is_still_held_is_replaced() -> None:
    def body() -> None:
        _bridge()
        with netlab.Box() as one, netlab.Box() as two:
            assert plug.plug(_plan(host_ifname="vethsame"), one.pid) == "vethsame"
            other = plug.plug(_plan(host_ifname="vethsame", ipv4="10.9.0.3/16", mac="02:42:0a:09:00:03"), two.pid)
            assert other != "vethsame"
            plug.unplug(_plan(), other)
            assert other not in netlab.tool("ip", "link") and "vethsame" in netlab.tool("ip", "link")
    netlab.in_host(body)


def test_the_callers_own_namespace_is_never_configured() -> None:
    def body() -> None:
        _bridge()
        disabled = Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").read_text()
        with pytest.raises(StartError, match="no network namespace of its own"):
            plug.plug(_plan(), os.getpid())
        assert Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").read_text() == disabled
        assert "eth0" not in netlab.tool("ip", "link")
    netlab.in_host(body)


def test_a_bridge_that_is_gone() -> None:
    def body() -> None:
        before = os.readlink("/proc/self/ns/net")
        with netlab.Box() as box, pytest.raises(StartError, match="bridge b0 is gone"):
            plug.plug(_plan(), box.pid)
        assert os.readlink("/proc/self/ns/net") == before
    netlab.in_host(body)


def test_unplug_touches_only_ports_of_our_bridge() -> None:
    def body() -> None:
        _bridge()
        netlab.tool("ip", "link", "add", "mine", "type", "veth", "peer", "name", "mine2")
        plug.unplug(_plan(), "mine")
        plug.unplug(_plan(), "b0")
        plug.unplug(_plan(), "nothing")
        assert "mine2" in netlab.tool("ip", "link") and "b0" in netlab.tool("ip", "link")
    netlab.in_host(body)


def test_a_kernel_error_says_what_was_being_done() -> None:
    def body() -> None:
        _bridge()
        with netlab.Box() as box, pytest.raises(OSError) as caught:
            plug.plug(_plan(gateway="172.31.0.1"), box.pid)
        assert caught.value.errno == errno.ENETUNREACH and caught.value.filename == "rtnetlink: add route 0.0.0.0/0"
    netlab.in_host(body)
