# SPDX-License-Identifier: Apache-2.0
"""Whether the firewall is still as it was when it was last looked at thoroughly, though somebody changed it meanwhile. [hot]

Other engines put rules in and take them out whenever a container of theirs starts or ends; nf_tables counts each change. What `setup`
looks at is mostly the same afterwards. `fingerprint` is a digest of just that: reading it all costs a quarter of looking through it.
"""
from __future__ import annotations

from lamina.linux import rtnetlink
from lamina.linux.nfnetlink import FORWARD, INET, IPV4, Nftables
from lamina.util.digest import sha256_hex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from lamina.linux.netlink import Netlink

FOREIGN_BRIDGES = "foreign_bridges"  # the set in our table
TABLE_COMMENT = "lamina: network "  # how the comment of every engine's table begins
_COUNTER = b"\x0c\0\x01\0counter\0"  # an expression's name attribute; its data follow


def fingerprint(route: Netlink, firewall: Nftables, table: str) -> str:
    """A hex digest of: base chains of our `table` and those that filter what is forwarded, all rules of their tables (but not what these
    have counted), our set of foreign bridges, and the bridges that belong there. Other engines of our kind are left out: their
    tables drop nothing of ours."""
    parts: list[bytes] = []
    tables = {(INET, table)}
    others = siblings(firewall, table)
    for chain in firewall.chains():
        if chain.hook is None or (chain.family, chain.table) in others:
            continue
        forwards = chain.hook == FORWARD and chain.kind == "filter" and chain.family in (INET, IPV4)
        if forwards or chain.table == table:
            tables.add((chain.family, chain.table))
            parts.append(f"{chain.family} {chain.table} {chain.name} {chain.hook} {chain.priority} {chain.policy}\n".encode())
    for family, name in sorted(tables):
        parts += without_counts(firewall.raw_rules(family, name))
    try:
        parts += sorted(key for key, _value in firewall.elements(INET, table, FOREIGN_BRIDGES))
    except FileNotFoundError:
        pass
    parts += sorted(link.name.encode() for link in rtnetlink.links(route, "bridge") if is_engine_bridge(link.name))
    return sha256_hex(b"".join(b"%d:" % len(part) + part for part in parts))


def siblings(firewall: Nftables, table: str) -> set[tuple[int, str]]:
    """(family, name) of the tables of other engines of our kind on this host."""
    return {(one.family, one.name) for one in firewall.tables() if one.comment.startswith(TABLE_COMMENT) and one.name != table}


def without_counts(rules: Iterable[bytes]) -> list[bytes]:
    """Bodies of rules (nfgenmsg and attributes), without the values of their counters and without the number of the last change, which
    stands in each header."""
    plain = []
    for body in rules:
        first, *rest = body.split(_COUNTER)
        # what follows the name is one attribute with bytes and packets; its own first two bytes are its length
        pieces = [first[:1], first[4:], *(after[int.from_bytes(after[:2], "little"):] for after in rest)]
        plain.append(_COUNTER.join(pieces))
    return plain


_ENGINE_BRIDGES = ("docker0", "docker_gwbridge", "podman", "cni-podman", "nerdctl")
_HEX = frozenset("0123456789abcdef")


def is_engine_bridge(name: str) -> bool:
    """Whether a bridge's name is one that another container engine gives: those rely on the forward policy that we accept past."""
    if name.startswith("br-"):
        return len(name) == 15 and _HEX.issuperset(name[3:])
    return any(name == known or (name.startswith(known) and name[len(known):].isdecimal()) for known in _ENGINE_BRIDGES)
