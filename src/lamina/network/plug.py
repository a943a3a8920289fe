# SPDX-License-Identifier: Apache-2.0
"""Connects a network namespace to the engine's bridge. [hot]

For the monitor, between clone and exec: it must be single-threaded (setns moves one thread). What is done is data, the plan's `network`:
{"mode": "bridge", "bridge", "ipv4": "172.18.0.2/16", "gateway", "mac", "mtu", "host_ifname"?: str, "lo": true, "more"?: further addresses
as ipv4} or {"mode": "none"}.
Nothing here is undone on the way out: the namespace's death removes the veth, and deleting it by hand would take 20 ms.
"""
from __future__ import annotations

import errno
import os

from lamina.errors import StartError
from lamina.linux import ns, rtnetlink
from lamina.linux.netlink import Netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

INTERFACE = "eth0"
_PREFIX = "veth"
_DISABLE_IPV6 = "/proc/sys/net/ipv6/conf/all/disable_ipv6"  # "all" also sets the default for interfaces to come


def plug(plan: dict[str, Any], pid: int) -> str:
    """Bring up lo, and in mode "bridge" eth0, in the namespace of process `pid`, which must be a child not yet waited for. Returns the
    name of the host's end ("" in mode "none"). IPv6 is off inside, lo too, as the bridge has none (attack 34: CVE-2024-32473).
    StartError if the bridge is gone; OSError with what failed otherwise; the caller's own namespace is restored in any case."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.path.sameopenfile(own, target):
                raise StartError(f"process {pid} has no network namespace of its own")
            inside = _enter(own, target)
            try:
                if plan["mode"] != "bridge":
                    inside.call([rtnetlink.set_link(1, up=True)])
                    return ""
                name = _add_veth(plan, target)
                _configure(inside, plan)
                return name
            finally:
                inside.close()
        finally:
            os.close(target)
    finally:
        os.close(own)


def _enter(own: int, target: int) -> Netlink:
    """A netlink socket of the target namespace; the way in is also used for the sysctl, which follows the opener's namespace."""
    ns.setns(target, ns.CLONE_NEWNET)
    try:
        _disable_ipv6()
        return Netlink()
    finally:
        ns.setns(own, ns.CLONE_NEWNET)


def _disable_ipv6() -> None:
    try:
        fd = os.open(_DISABLE_IPV6, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return  # a kernel without IPv6
    try:
        os.write(fd, b"1")
    finally:
        os.close(fd)


def _add_veth(plan: dict[str, Any], target: int) -> str:
    bridge = plan["bridge"]
    with Netlink() as outside:
        index = rtnetlink.get_index(outside, bridge)
        if not index:
            raise StartError(f"bridge {bridge} is gone", hint="start the container again: the bridge is made anew")
        name = plan.get("host_ifname") or _random_name()
        for attempt in range(8):
            try:
                outside.call([rtnetlink.new_veth(name, peer=INTERFACE, peer_netns_fd=target, master=index, mtu=plan["mtu"],
                                                 peer_mac=plan["mac"])])
                return str(name)
            except OSError as failure:
                # a namespace that is being torn down holds its name for a while: a restart can't have it back
                if failure.errno != errno.EEXIST or attempt == 7:
                    raise
            name = _random_name()
    raise AssertionError("unreachable")


def _random_name() -> str:
    return _PREFIX + os.urandom(5).hex()


def _configure(inside: Netlink, plan: dict[str, Any]) -> None:
    index = rtnetlink.get_index(inside, INTERFACE)
    if not index:
        raise StartError(f"interface {INTERFACE} did not appear in the container")
    address, _slash, prefix = plan["ipv4"].partition("/")
    requests = [rtnetlink.set_link(1, up=True)] if plan.get("lo", True) else []
    requests.append(rtnetlink.set_link(index, up=True))
    requests.append(rtnetlink.add_address(index, address, int(prefix)))
    for one in plan.get("more") or ():
        address, _slash, prefix = one.partition("/")
        requests.append(rtnetlink.add_address(index, address, int(prefix)))
    if plan.get("gateway"):
        requests.append(rtnetlink.add_route("0.0.0.0", 0, gateway=plan["gateway"], index=index))
    inside.call(requests)


def unplug(plan: dict[str, Any], host_ifname: str) -> None:
    """Remove the host's end if it is still there and a port of our bridge: for a namespace that something else keeps alive. Takes some
    20 ms where it has to act, so call it after the exit was told. Never raises for an interface that is gone."""
    if not host_ifname or plan["mode"] != "bridge":
        return
    with Netlink() as outside:
        link = rtnetlink.get_link(outside, host_ifname)
        bridge = rtnetlink.get_link(outside, plan["bridge"])
        if link is not None and link.kind == "veth" and (bridge is None or link.master == bridge.index):
            outside.call([rtnetlink.del_link(host_ifname)], ignore=(errno.ENODEV,))
