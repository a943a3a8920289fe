# SPDX-License-Identifier: Apache-2.0
"""rtnetlink requests for links, addresses, routes and neighbours, and their lists. [hot]

For `network/`. Each builder returns a `Request`; the caller batches them in one `Netlink.call`. Addresses are text at this level
("172.17.0.2"), interface indexes are ints of the socket's own network namespace.
"""
from __future__ import annotations

import errno
from _socket import AF_INET, AF_INET6, AF_UNSPEC, inet_ntop, inet_pton
from _struct import Struct

from lamina.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Netlink,
    Request,
    attr,
    attr_str,
    attr_u32,
    nest,
    parse_attrs,
)

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH = 28

IFF_UP = 0x1
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO = 1, 3, 4, 10, 18
_IFLA_NET_NS_FD, _IFLA_EXT_MASK = 28, 29
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFLA_INFO_SLAVE_KIND, _IFLA_INFO_SLAVE_DATA, _IFLA_BRPORT_MODE = 4, 5, 4
_RTEXT_FILTER_SKIP_STATS = 8
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_TABLE = 1, 4, 5, 6, 15
_NDA_DST, _NDA_LLADDR, _NUD_PERMANENT = 1, 2, 0x80
RT_TABLE_MAIN, RT_TABLE_LOCAL = 254, 255
_RTPROT_BOOT, RTN_UNICAST = 3, 1
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 0, 253
IFNAMSIZ = 16

_IFINFO = Struct("=BxHiII")
_IFADDR = Struct("=BBBBI")
_RTMSG = Struct("=BBBBBBBBI")
_NDMSG = Struct("=BxxxiHBB")
_U32 = Struct("=I")


class Link:
    """One interface. `kind` is "" for hardware and lo, `master` and `mac` are 0 and "" where there is none."""

    __slots__ = ("index", "name", "kind", "mtu", "mac", "up", "master")

    def __init__(self, index: int, name: str, kind: str, mtu: int, mac: str, up: bool, master: int) -> None:
        self.index = index
        self.name = name
        self.kind = kind
        self.mtu = mtu
        self.mac = mac
        self.up = up
        self.master = master


class Address:
    __slots__ = ("index", "address", "prefix")

    def __init__(self, index: int, address: str, prefix: int) -> None:
        self.index = index
        self.address = address
        self.prefix = prefix


class Route:
    """`destination` is "0.0.0.0" (or "::") with prefix 0 for a default route; `gateway` is "" for a directly connected one."""

    __slots__ = ("destination", "prefix", "gateway", "index", "table", "metric", "kind")

    def __init__(self, destination: str, prefix: int, gateway: str, index: int, table: int, metric: int, kind: int) -> None:
        self.destination = destination
        self.prefix = prefix
        self.gateway = gateway
        self.index = index
        self.table = table
        self.metric = metric
        self.kind = kind


def check_ifname(name: str) -> str:
    """The kernel's rule for interface names, so that one never becomes a path or is cut. OSError EINVAL."""
    if not 0 < len(name.encode()) < IFNAMSIZ or name in (".", "..") or "/" in name or ":" in name or "%" in name \
            or any(c.isspace() or c < "!" for c in name):
        raise OSError(errno.EINVAL, "not an interface name", name)
    return name


def _mac(text: str) -> bytes:
    raw = bytes.fromhex(text.replace(":", ""))
    if len(raw) != 6:
        raise OSError(errno.EINVAL, "not a MAC address", text)
    return raw


def _packed(address: str) -> tuple[int, bytes]:
    family = AF_INET6 if ":" in address else AF_INET
    return family, inet_pton(family, address)


def new_bridge(name: str, *, mac: str, mtu: int) -> Request:
    """A bridge, not yet up. A fixed MAC: else it would change with the lowest of its ports, under running connections."""
    body = (_IFINFO.pack(AF_UNSPEC, 0, 0, 0, 0) + attr_str(_IFLA_IFNAME, check_ifname(name)) + attr(_IFLA_ADDRESS, _mac(mac))
            + attr_u32(_IFLA_MTU, mtu) + nest(_IFLA_LINKINFO, attr_str(_IFLA_INFO_KIND, "bridge")))
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"add bridge {name}")


def new_veth(name: str, *, peer: str, peer_netns_fd: int, master: int = 0, mtu: int = 0, peer_mac: str = "") -> Request:
    """Both ends of a veth: `peer` already in the namespace that `peer_netns_fd` is open on (the kernel can't set it up yet), `name` up
    and a port of `master`."""
    size = attr_u32(_IFLA_MTU, mtu) if mtu else b""
    inner = (_IFINFO.pack(AF_UNSPEC, 0, 0, 0, 0) + attr_str(_IFLA_IFNAME, check_ifname(peer)) + size
             + attr_u32(_IFLA_NET_NS_FD, peer_netns_fd))
    if peer_mac:
        inner += attr(_IFLA_ADDRESS, _mac(peer_mac))
    body = _IFINFO.pack(AF_UNSPEC, 0, 0, IFF_UP, IFF_UP) + attr_str(_IFLA_IFNAME, check_ifname(name)) + size
    if master:
        body += attr_u32(_IFLA_MASTER, master)
    body += nest(_IFLA_LINKINFO, attr_str(_IFLA_INFO_KIND, "veth"), nest(_IFLA_INFO_DATA, nest(_VETH_INFO_PEER, inner)))
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"add veth {name}")


def set_link(index: int, *, up: bool | None = None, master: int | None = None, mtu: int = 0, netns_fd: int = -1) -> Request:
    """Change an interface; what is not given stays."""
    body = _IFINFO.pack(AF_UNSPEC, 0, index, IFF_UP if up else 0, 0 if up is None else IFF_UP)
    if master is not None:
        body += attr_u32(_IFLA_MASTER, master)
    if mtu:
        body += attr_u32(_IFLA_MTU, mtu)
    if netns_fd >= 0:
        body += attr_u32(_IFLA_NET_NS_FD, netns_fd)
    return Request(RTM_NEWLINK, 0, body, f"set link {index}")


def set_hairpin(index: int) -> Request:
    """Let a bridge send out of this port of its what came in by it."""
    data = nest(_IFLA_INFO_SLAVE_DATA, attr(_IFLA_BRPORT_MODE, b"\1"))
    body = _IFINFO.pack(AF_UNSPEC, 0, index, 0, 0) + nest(_IFLA_LINKINFO, attr_str(_IFLA_INFO_SLAVE_KIND, "bridge"), data)
    return Request(RTM_NEWLINK, 0, body, f"set hairpin of link {index}")


def del_link(name: str) -> Request:
    """Remove an interface. Takes some 20 ms: never on the way out of a container."""
    return Request(RTM_DELLINK, 0, _IFINFO.pack(AF_UNSPEC, 0, 0, 0, 0) + attr_str(_IFLA_IFNAME, check_ifname(name)), f"delete link {name}")


def _address(kind: int, flags: int, index: int, address: str, prefix: int, verb: str) -> Request:
    family, raw = _packed(address)
    body = _IFADDR.pack(family, prefix, 0, RT_SCOPE_UNIVERSE, index) + attr(_IFA_LOCAL, raw) + attr(_IFA_ADDRESS, raw)
    if family == AF_INET and prefix < 31:
        number = int.from_bytes(raw, "big") | ((1 << (32 - prefix)) - 1)
        body += attr(_IFA_BROADCAST, number.to_bytes(4, "big"))
    return Request(kind, flags, body, f"{verb} address {address}/{prefix}")


def add_address(index: int, address: str, prefix: int) -> Request:
    """An address with its broadcast address, as `ip addr add ... brd +`."""
    return _address(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, index, address, prefix, "add")


def del_address(index: int, address: str, prefix: int) -> Request:
    return _address(RTM_DELADDR, 0, index, address, prefix, "delete")


def _route(kind: int, flags: int, destination: str, prefix: int, gateway: str, index: int, verb: str) -> Request:
    family, raw = _packed(destination)
    scope = RT_SCOPE_UNIVERSE if gateway else RT_SCOPE_LINK
    body = _RTMSG.pack(family, prefix, 0, 0, RT_TABLE_MAIN, _RTPROT_BOOT, scope, RTN_UNICAST, 0)
    if prefix:
        body += attr(_RTA_DST, raw)
    if gateway:
        body += attr(_RTA_GATEWAY, _packed(gateway)[1])
    if index:
        body += attr_u32(_RTA_OIF, index)
    return Request(kind, flags, body, f"{verb} route {destination}/{prefix}")


def add_route(destination: str, prefix: int, *, gateway: str = "", index: int = 0) -> Request:
    """A route in the main table; prefix 0 is the default route."""
    return _route(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, destination, prefix, gateway, index, "add")


def del_route(destination: str, prefix: int, *, gateway: str = "", index: int = 0) -> Request:
    return _route(RTM_DELROUTE, 0, destination, prefix, gateway, index, "delete")


def set_neighbour(index: int, address: str, mac: str) -> Request:
    """A permanent neighbour entry (made or replaced)."""
    family, raw = _packed(address)
    body = _NDMSG.pack(family, index, _NUD_PERMANENT, 0, 0) + attr(_NDA_DST, raw) + attr(_NDA_LLADDR, _mac(mac))
    return Request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, body, f"set neighbour {address}")


def _number(attrs: dict[int, bytes], kind: int) -> int:
    value = attrs.get(kind)
    return int(_U32.unpack_from(value)[0]) if value and len(value) >= 4 else 0


def _text(raw: bytes | None) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace") if raw else ""


def _parse_link(body: bytes) -> Link:
    _family, _type, index, flags, _change = _IFINFO.unpack_from(body)
    attrs = parse_attrs(body, 16)
    info = attrs.get(_IFLA_LINKINFO)
    kind = _text(parse_attrs(info).get(_IFLA_INFO_KIND)) if info else ""
    mac = attrs.get(_IFLA_ADDRESS, b"")
    return Link(index, _text(attrs.get(_IFLA_IFNAME)), kind, _number(attrs, _IFLA_MTU), mac.hex(":"), bool(flags & IFF_UP),
                _number(attrs, _IFLA_MASTER))


def get_link(socket: Netlink, name: str) -> Link | None:
    """The interface of that name, or None."""
    body = (_IFINFO.pack(AF_UNSPEC, 0, 0, 0, 0) + attr_str(_IFLA_IFNAME, check_ifname(name))
            + attr_u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS))
    found = socket.get(Request(RTM_GETLINK, 0, body, f"get link {name}"))
    return None if found is None else _parse_link(found)


def get_index(socket: Netlink, name: str) -> int:
    """The index of the interface of that name, 0 if there is none; reads nothing else of the kernel's long answer."""
    body = (_IFINFO.pack(AF_UNSPEC, 0, 0, 0, 0) + attr_str(_IFLA_IFNAME, check_ifname(name))
            + attr_u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS))
    found = socket.get(Request(RTM_GETLINK, 0, body, f"get link {name}"))
    return 0 if found is None else int(_IFINFO.unpack_from(found)[2])


def links(socket: Netlink, kind: str = "") -> list[Link]:
    """All interfaces, or those of one kind ("bridge"), which the kernel then filters."""
    body = _IFINFO.pack(AF_UNSPEC, 0, 0, 0, 0) + attr_u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
    if kind:
        body += nest(_IFLA_LINKINFO, attr_str(_IFLA_INFO_KIND, kind))
    found = [_parse_link(answer) for answer in socket.dump(Request(RTM_GETLINK, 0, body, "list links"))]
    return [link for link in found if not kind or link.kind == kind]


def addresses(socket: Netlink, family: int = AF_INET) -> list[Address]:
    found = []
    for answer in socket.dump(Request(RTM_GETADDR, 0, _IFADDR.pack(family, 0, 0, 0, 0), "list addresses")):
        its_family, prefix, _flags, _scope, index = _IFADDR.unpack_from(answer)
        attrs = parse_attrs(answer, 8)
        raw = attrs.get(_IFA_LOCAL) or attrs.get(_IFA_ADDRESS)
        if its_family == family and raw:
            found.append(Address(index, inet_ntop(family, raw), prefix))
    return found


def routes(socket: Netlink, family: int = AF_INET) -> list[Route]:
    """All routes of all tables but `local` (addresses and broadcast addresses, which `addresses` tells better)."""
    found = []
    zero = "::" if family == AF_INET6 else "0.0.0.0"
    for answer in socket.dump(Request(RTM_GETROUTE, 0, _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0), "list routes")):
        its_family, prefix, _source, _tos, table, _protocol, _scope, kind, _flags = _RTMSG.unpack_from(answer)
        attrs = parse_attrs(answer, 12)
        table = _number(attrs, _RTA_TABLE) or table
        if its_family != family or table == RT_TABLE_LOCAL:
            continue
        destination = attrs.get(_RTA_DST)
        gateway = attrs.get(_RTA_GATEWAY)
        found.append(Route(inet_ntop(family, destination) if destination else zero, prefix,
                           inet_ntop(family, gateway) if gateway else "", _number(attrs, _RTA_OIF), table,
                           _number(attrs, _RTA_PRIORITY), kind))
    return found
