# SPDX-License-Identifier: Apache-2.0
"""A container's published ports, from the plan to sockets, firewall elements and relay, and back. [hot]

The plan's network has "ports": {"table" (the engine's), "known" (the note of the last thorough look), "file" (where what was bound is
written down for `ps` and `inspect`), "comment", "endpoint" (docker's words name it), "wanted": [[protocol number, port in the container,
host address or "", first host port or 0, last], ...]}. First the sockets, which decide who has a port; then the elements, in one step.
"""
from __future__ import annotations

import os

from lamina.errors import StartError
from lamina.linux import rtnetlink
from lamina.linux.netlink import Netlink
from lamina.linux.nfnetlink import Nftables
from lamina.monitor.relay import Relay
from lamina.network import holding, ports
from lamina.util import fastjson
from lamina.util.atomic import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def reach_itself(host_ifname: str) -> None:
    """A container may use its own published port. Where br_netfilter is loaded the bridge rewrites such a packet before it is routed,
    and then must send it back to where it came from."""
    with Netlink() as route:
        route.call([rtnetlink.set_hairpin(rtnetlink.get_index(route, host_ifname))])


class Published:
    """What `publish` did. `withdraw` undoes it all but for one thing: the firewall's socket, whose close takes the kernel some 7 ms."""

    __slots__ = ("elements", "file", "firewall", "known", "relay", "table")

    def __init__(self, plan: dict[str, Any], host_ifname: str) -> None:
        """`plan` is that of the network, `host_ifname` the host's end of the container's interface. StartError with docker's words."""
        how = plan["ports"]
        target = plan["ipv4"].partition("/")[0]
        self.table: str = how["table"]
        self.known: str = how["known"]
        self.file: str = how["file"]
        self.firewall: Nftables | None = None
        self.elements: list[tuple[str, bytes, bytes]] = []
        try:
            held = holding.hold([tuple(one) for one in how["wanted"]], self.table)
        except StartError as e:
            raise StartError(f"driver failed programming external connectivity on endpoint {how['endpoint']}: {e.message}") from None
        self.relay = Relay(held, target)
        try:
            self._put(how, target, held)
            reach_itself(host_ifname)
        except BaseException:
            self.withdraw()
            self.close()
            raise

    def _put(self, how: dict[str, Any], target: str, held: list[holding.Held]) -> None:
        bound = [one.bound for one in held]
        fd = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            write_all(fd, fastjson.dump_bytes(bound))  # read only once the container is said to run
        finally:
            os.close(fd)
        wanted = ports.elements(bound, target)
        if wanted:
            self.firewall = Nftables()
            self.elements = wanted
            try:
                ports.add(self.firewall, self.table, wanted, how["comment"], self.known)
            except FileNotFoundError:
                raise StartError(f"table {self.table} is gone", hint="start the container again: the table is made anew") from None
        udp = {one.port for one in held if one.protocol == ports.UDP and ":" not in one.address}
        if udp:
            from lamina.network import conntrack

            conntrack.forget_udp(udp)

    def withdraw(self) -> None:
        """The host's ports are free when this returns."""
        elements, self.elements = self.elements, []
        try:
            if elements and self.firewall is not None:
                ports.remove(self.firewall, self.table, elements, self.known)
        except OSError:
            pass  # the next start that uses the port replaces it
        finally:
            self.relay.close()
            try:
                os.unlink(self.file)
            except OSError:
                pass

    def close(self) -> None:
        firewall, self.firewall = self.firewall, None
        if firewall is not None:
            firewall.close()
