# SPDX-License-Identifier: Apache-2.0
"""Makes and mends the engine's bridge: subnet, interface, sysctls, firewall, row. And takes it all away.

For `bridge.ensure` (when its quick look finds anything changed) and for `teardown`. Everything happens under the host-wide lock, which
is the only thing that two engines share: it makes "this subnet is free" and taking it one step. What exists and is right is
left alone, so a second call changes nothing.
"""
from __future__ import annotations

import errno
import os
import stat

from lamina.errors import StartError
from lamina.linux import rtnetlink
from lamina.linux.netlink import Netlink
from lamina.linux.nfnetlink import Nftables
from lamina.network import bridge, firewall, foreign, watch
from lamina.network.files import host_resolv_conf, nameservers
from lamina.network.model import DEFAULT_NAME, Network, cidr, dotted, is_ipv4, number, overlap
from lamina.util import ids
from lamina.util.lock import FileLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamina.store.db import DB
    from lamina.store.paths import Names

# Docker's defaults, in its order.
CANDIDATES = tuple([f"172.{n}.0.0/16" for n in range(17, 32)] + [f"192.168.{n}.0/20" for n in range(0, 256, 16)])
_WIDE = 8  # a route shorter than this is a kind of default route (VPNs use 0.0.0.0/1), not a network in use
_DEFAULT_MTU = 1500
_ATTEMPTS = 5
_IPV4 = "/proc/sys/net/ipv4"
_IPV6 = "/proc/sys/net/ipv6"


def ensure(names: Names, db: DB, known: str, host_lock: str) -> Network:
    """See `bridge.ensure`."""
    with _host_lock(host_lock), Netlink() as route, _nftables() as tables:
        network = bridge.load(db, names)
        link = rtnetlink.get_link(route, names.bridge)
        if link is not None and link.kind != "bridge":
            raise StartError(f"interface {names.bridge} exists and is not a bridge", hint="remove or rename it")
        network = _settle(route, db, names, network, link)
        link = _ensure_link(route, network, link)
        network.mtu = link.mtu
        _sysctls(network.bridge)
        if not link.up:
            route.call([rtnetlink.set_link(link.index, up=True)])
        _ensure_rules(route, tables, names, network, known, link.index)
        return network


def _host_lock(path: str) -> FileLock:
    """The lock's file must be root's own: whoever else could open it could hold every engine of the host."""
    try:
        seen = os.lstat(path)
    except FileNotFoundError:
        return FileLock(path)
    if not stat.S_ISREG(seen.st_mode) or seen.st_uid != os.geteuid() or stat.S_IMODE(seen.st_mode) & 0o077:
        raise StartError(f"{path} is not a file of mode 0600 that belongs to this user", hint="remove it")
    return FileLock(path)


def _nftables() -> Nftables:
    tables = Nftables()
    try:
        tables.generation()
    except OSError as failure:
        tables.close()
        if failure.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT):
            raise StartError("this kernel has no nf_tables, which bridge networks need", hint="use --network host or none")
        raise
    return tables


def _ensure_rules(route: Netlink, tables: Nftables, names: Names, network: Network, known: str, index: int) -> None:
    # the state is read before the look: a change by others meanwhile makes the next quick look fail, as it must
    calm = False
    before = bridge.last_state(known)
    for attempt in range(_ATTEMPTS):
        generation = tables.generation()
        found = bridge.state(index, generation)
        try:
            calm = not _mend(route, tables, names, network, legacy_settled=bridge.same_legacy(before, found))
        except OSError as failure:
            # a rule or chain that was just listed is gone, or the table was changed while it was looked at: others are at work on it
            passing = isinstance(failure, FileNotFoundError) or failure.errno == errno.ERESTART
            if not passing or attempt == _ATTEMPTS - 1:
                raise
            continue
        if calm:
            break
    if calm and not network.warnings:  # else look again next time, and say it again
        fingerprint = watch.fingerprint(route, tables, names.table)
        if tables.generation() == generation:  # so it is of what was looked at
            bridge.note(known, found, fingerprint)


def _mend(route: Netlink, tables: Nftables, names: Names, network: Network, *, legacy_settled: bool) -> bool:
    changed = firewall.ensure(tables, names.table, network)
    others = [link.name for link in rtnetlink.links(route, "bridge") if watch.is_engine_bridge(link.name)]
    changed = firewall.set_foreign_bridges(tables, names.table, others) or changed
    foreign_changed, warnings = foreign.ensure(tables, network.bridge, watch.siblings(tables, names.table), legacy_settled=legacy_settled)
    network.warnings = tuple(warnings)
    return changed or foreign_changed


def _settle(route: Netlink, db: DB, names: Names, network: Network | None, link: rtnetlink.Link | None) -> Network:
    """The network with a subnet that is ours to use, recorded."""
    if link is not None:
        address = next((a for a in rtnetlink.addresses(route) if a.index == link.index), None)
        if network is not None and (address is None or network.gateway == address.address):
            return network
        if address is not None:  # the interface is what containers hang on: the record follows it
            subnet = "{}/{}".format(dotted(cidr(f"{address.address}/{address.prefix}")[0]), address.prefix)
            return _record(db, network, names.bridge, subnet, address.address, link.mtu)
    taken = used(route, -1 if link is None else link.index)
    if network is not None and not any(overlap(cidr(network.subnet), other) for other in taken):
        return network
    subnet = pick(taken)
    return _record(db, network, names.bridge, subnet, dotted(cidr(subnet)[0] + 1), default_mtu(route))


def used(route: Netlink, but: int = -1) -> list[tuple[int, int]]:
    """What must not be used: routes and addresses of the host (but those of interface `but`), and its name servers."""
    found = [(number(r.destination), r.prefix) for r in rtnetlink.routes(route) if r.prefix >= _WIDE and (r.index != but or but < 0)]
    found += [cidr(f"{a.address}/{a.prefix}") for a in rtnetlink.addresses(route) if a.index != but]
    found += [(number(server), 32) for server in nameservers(host_resolv_conf()) if is_ipv4(server)]
    return found


def pick(taken: list[tuple[int, int]]) -> str:
    """The first candidate that overlaps with nothing. StartError if there is none."""
    for candidate in CANDIDATES:
        if not any(overlap(cidr(candidate), other) for other in taken):
            return candidate
    raise StartError("could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
                     hint="the host has routes or addresses in all of 172.17-31.0.0/16 and 192.168.0.0/16")


def default_mtu(route: Netlink) -> int:
    """MTU of the interface that the best default route leaves by: a larger one inside would make packets that get lost."""
    defaults = [r for r in rtnetlink.routes(route) if r.prefix == 0 and r.table == rtnetlink.RT_TABLE_MAIN and r.index]
    if not defaults:
        return _DEFAULT_MTU
    best = min(defaults, key=lambda r: r.metric)
    return next((link.mtu for link in rtnetlink.links(route) if link.index == best.index), _DEFAULT_MTU)


def _record(db: DB, old: Network | None, name: str, subnet: str, gateway: str, mtu: int) -> Network:
    network = Network(old.id if old is not None else ids.new_id(), DEFAULT_NAME, name, subnet, gateway, mtu)
    with db.write(durable=True):
        if old is None:
            db.execute("INSERT INTO networks(id, name, driver, config) VALUES(?, ?, 'bridge', ?)",
                       (network.id, DEFAULT_NAME, network.config()))
        else:
            db.execute("UPDATE networks SET config = ? WHERE id = ?", (network.config(), network.id))
            # addresses of the former subnet: whoever had one hung on a bridge that is gone
            db.execute("DELETE FROM endpoints WHERE network_id = ?", (network.id,))
    return network


def _ensure_link(route: Netlink, network: Network, link: rtnetlink.Link | None) -> rtnetlink.Link:
    if link is None:
        mac = "02:42:" + os.urandom(4).hex(":")
        route.call([rtnetlink.new_bridge(network.bridge, mac=mac, mtu=_DEFAULT_MTU)], ignore=(errno.EEXIST,))
        link = rtnetlink.get_link(route, network.bridge)
        if link is None:
            raise StartError(f"bridge {network.bridge} vanished while it was made")
        link.mtu = default_mtu(route)  # by a change of its own: one that a bridge was made with is lost when its last port goes
        route.call([rtnetlink.set_link(link.index, mtu=link.mtu)])
    if not any(a.index == link.index and a.address == network.gateway for a in rtnetlink.addresses(route)):
        route.call([rtnetlink.add_address(link.index, network.gateway, network.prefix)])
    return link


def _sysctls(name: str) -> None:
    # no IPv6 on the bridge, and no router advertisements from containers should somebody switch it on (attack 34: CVE-2020-10749)
    _set(f"{_IPV6}/conf/{name}/accept_ra", "0", optional=True)
    _set(f"{_IPV6}/conf/{name}/disable_ipv6", "1", optional=True)
    _set(f"{_IPV4}/conf/{name}/route_localnet", "1")
    _set(f"{_IPV4}/ip_forward", "1")


def _set(path: str, value: str, *, optional: bool = False) -> None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        if optional:
            return  # a kernel without IPv6
        raise
    try:
        if os.read(fd, 64).strip() != value.encode():  # ip_forward: writing it resets settings of every interface
            os.lseek(fd, 0, os.SEEK_SET)
            os.write(fd, value.encode())
    finally:
        os.close(fd)


def remove(names: Names, host_lock: str) -> None:
    """See `teardown.teardown`."""
    with _host_lock(host_lock), Netlink() as route, _nftables() as tables:
        foreign.remove(tables, names.bridge)
        firewall.remove(tables, names.table)
        link = rtnetlink.get_link(route, names.bridge)
        if link is None or link.kind != "bridge":
            return
        ports = [port for port in rtnetlink.links(route) if port.master == link.index and port.kind == "veth"]
        route.call([rtnetlink.del_link(port.name) for port in ports] + [rtnetlink.del_link(names.bridge)], ignore=(errno.ENODEV,))
