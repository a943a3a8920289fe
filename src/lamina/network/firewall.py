# SPDX-License-Identifier: Apache-2.0
"""The engine's own nf_tables table: what is in it, making it, mending it.

For `setup` and, later, for published ports. One table per engine, family inet, made in one batch. A published port is one element of
`ports` (any local address) or `ports_at` (one address); nothing else changes while containers come and go. Every rule has a comment,
and the list of (chain, comment) is how a damaged table is recognised. Another engine's traffic reaches our containers only by a
published port, and ours reaches bridges of engines that rely on a foreign drop policy (`foreign_bridges`) not at all.
"""
from __future__ import annotations

from lamina.linux import nft
from lamina.linux.nfnetlink import (
    FORWARD,
    INET,
    OUTPUT,
    POSTROUTING,
    PREROUTING,
    TYPE_IFNAME,
    TYPE_IPV4,
    TYPE_PORT,
    TYPE_PROTOCOL,
    Batch,
    Nftables,
    concatenated,
)
from lamina.network.model import Network, cidr, dotted
from lamina.network.ports import PORTS, PORTS_AT
from lamina.network.watch import FOREIGN_BRIDGES, TABLE_COMMENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from lamina.linux.nfnetlink import Element

_RAW, _DNAT, _FILTER, _SNAT = -300, -100, 0, 100
_LOOPBACK = ("127.0.0.0", 8)
_Rule = tuple[str, str, list[bytes]]  # chain, comment, expressions


def _base_rules() -> list[_Rule]:
    publish = [*nft.ipv4(), nft.load_protocol(0), nft.load_destination_port(1), nft.lookup_map(PORTS), nft.dnat_to_fields()]
    publish_at = [*nft.ipv4(), nft.load_destination(0), nft.load_protocol(1), nft.load_destination_port(2), nft.lookup_map(PORTS_AT),
                  nft.dnat_to_fields()]
    return [
        # before connection tracking: route_localnet would let a neighbour address this host's loopback services, and a port that is
        # published on 127.0.0.1 would be rewritten before the routing code could refuse the packet (attack 34: CVE-2025-67499)
        ("raw", "loopback addresses only from lo", [*nft.iifname("lo", nft.UNEQUAL), *nft.ipv4(), *nft.destination(*_LOOPBACK),
                                                    nft.counter(), nft.verdict(nft.DROP)]),
        ("prerouting", "published ports", [*nft.destination_is_local(), nft.verdict(nft.JUMP, "publish")]),
        ("output", "published ports, from this host", [*nft.destination_is_local(), nft.verdict(nft.JUMP, "publish")]),
        ("publish", "on one address", publish_at),
        ("publish", "on all addresses", publish),
    ]


def _bridge_rules(bridge: str, subnet: str) -> list[_Rule]:
    base, prefix = cidr(subnet)
    inside = [*nft.ipv4(), *nft.source(dotted(base), prefix)]
    out_of, into = nft.iifname(bridge), nft.oifname(bridge)
    accept, drop, masquerade = nft.verdict(nft.ACCEPT), nft.verdict(nft.DROP), nft.masquerade()
    return [
        ("postrouting", f"{bridge} {subnet}: to elsewhere", [*inside, *nft.oifname(bridge, nft.UNEQUAL), masquerade]),
        ("postrouting", f"{bridge}: a container to its own network's published port", [*inside, *into, *nft.was_dnat(), masquerade]),
        ("postrouting", f"{bridge}: from this host's loopback", [*nft.ipv4(), *nft.source(*_LOOPBACK), *into, masquerade]),
        ("forward", f"{bridge}: among containers", [*out_of, *into, accept]),
        ("forward", f"{bridge}: answers in", [*into, *nft.established(), accept]),
        ("forward", f"{bridge}: answers out", [*out_of, *nft.established(), accept]),
        ("forward", f"{bridge}: published ports", [*into, *nft.was_dnat(), accept]),
        ("forward", f"{bridge}: nothing else in", [*into, nft.counter(), drop]),
        ("forward", f"{bridge}: not to other engines", [*out_of, *nft.oifname_in(FOREIGN_BRIDGES), nft.counter(), drop]),
    ]


def _rules(network: Network) -> list[_Rule]:
    return _base_rules() + _bridge_rules(network.bridge, network.subnet)


def _build(batch: Batch, table: str, network: Network) -> None:
    batch.table(INET, table, comment=f"{TABLE_COMMENT}{network.name} on {network.bridge}")
    port = concatenated(TYPE_PROTOCOL, TYPE_PORT)
    target = concatenated(TYPE_IPV4, TYPE_PORT)
    batch.set(INET, table, PORTS, key_type=port, key_size=8, data_type=target, data_size=8, comment="published on all addresses")
    batch.set(INET, table, PORTS_AT, key_type=concatenated(TYPE_IPV4, TYPE_PROTOCOL, TYPE_PORT), key_size=12, data_type=target,
              data_size=8, comment="published on one address")
    batch.set(INET, table, FOREIGN_BRIDGES, key_type=TYPE_IFNAME, key_size=16, comment="bridges of other engines")
    batch.chain(INET, table, "publish")
    batch.chain(INET, table, "raw", kind="filter", hook=PREROUTING, priority=_RAW)
    batch.chain(INET, table, "prerouting", kind="nat", hook=PREROUTING, priority=_DNAT)
    batch.chain(INET, table, "output", kind="nat", hook=OUTPUT, priority=_DNAT)
    batch.chain(INET, table, "postrouting", kind="nat", hook=POSTROUTING, priority=_SNAT)
    batch.chain(INET, table, "forward", kind="filter", hook=FORWARD, priority=_FILTER)
    for chain, comment, expressions in _rules(network):
        batch.rule(INET, table, chain, expressions, comment=comment)


def ensure(firewall: Nftables, table: str, network: Network) -> bool:
    """Make the table, or make it anew if it isn't as it should be, keeping published ports. Whether anything was changed.
    OSError ERESTART when a port was published meanwhile: look again."""
    wanted = sorted((chain, comment) for chain, comment, _expressions in _rules(network))
    generation = firewall.generation()
    batch = Batch()
    kept: list[tuple[str, list[Element]]] = []
    if firewall.has_table(INET, table):
        found = sorted((rule.chain, rule.comment) for rule in firewall.rules(INET, table))
        if found == wanted and _base_chains(firewall, table) == 5:
            return False
        for name in (PORTS, PORTS_AT, FOREIGN_BRIDGES):
            try:
                kept.append((name, firewall.commented_elements(INET, table, name)))
            except FileNotFoundError:
                continue  # the map itself was taken away
        batch.delete_table(INET, table)
    _build(batch, table, network)
    for name, elements in kept:
        batch.commented_elements(INET, table, name, elements)
    firewall.commit(batch, generation=generation)
    return True


def _base_chains(firewall: Nftables, table: str) -> int:
    return sum(1 for chain in firewall.chains(INET) if chain.table == table and chain.hook is not None)


def set_foreign_bridges(firewall: Nftables, table: str, bridges: Iterable[str]) -> bool:
    """Make the set of other engines' bridges exactly this one. Whether anything was changed."""
    wanted = {name.encode().ljust(16, b"\0") for name in bridges}
    found = {key.ljust(16, b"\0") for key, _value in firewall.elements(INET, table, FOREIGN_BRIDGES)}
    if wanted == found:
        return False
    batch = Batch()
    batch.delete_elements(INET, table, FOREIGN_BRIDGES, sorted(found - wanted))
    batch.elements(INET, table, FOREIGN_BRIDGES, [(name, None) for name in sorted(wanted - found)])
    firewall.commit(batch)
    return True


def remove(firewall: Nftables, table: str) -> None:
    """Remove the table with all that is in it; no error if there is none."""
    try:
        firewall.commit(Batch().delete_table(INET, table))
    except FileNotFoundError:
        pass
