# SPDX-License-Identifier: Apache-2.0
"""One pair of accept rules in other people's forward chains that would drop our packets.

For `setup` and `teardown`. An accept in our own table does not help where another base chain on the forward hook drops (dockerd, ufw,
firewalld do). Then one commented pair per bridge goes where that owner provides for it: chain DOCKER-USER, firewalld's trusted zone,
else the head of that chain. These are the only rules of ours outside our own table; no other rule is ever touched. What may
reach the bridge is still decided by our table. A chain that drops only under conditions is left alone: somebody meant it.
"""
from __future__ import annotations

import errno

from lamina.linux import nft
from lamina.linux.netlink import parse_attrs
from lamina.linux.nfnetlink import DROP, FORWARD, INET, IPV4, Batch, Chain, Nftables, Rule
from lamina.network import firewalld, legacy

DOCKER_USER = "DOCKER-USER"
_Chains = dict[str, list[Rule]]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container


def comment_of(bridge: str) -> str:
    """What marks our pair."""
    return f"lamina {bridge}"


def ensure(
    firewall: Nftables, bridge: str, siblings: Container[tuple[int, str]] = (), *, legacy_settled: bool = False
) -> tuple[bool, list[str]]:
    """(whether anything was changed, sentences for the user about what could not be arranged). siblings: tables (family, name) of other
    engines of our kind, which drop nothing of ours. legacy_settled: the legacy table is as it was when it was last found in order."""
    changed = False
    warnings: list[str] = []
    tables: dict[tuple[int, str], _Chains] = {}
    for base in firewall.chains():
        if base.hook != FORWARD or base.kind != "filter" or base.family not in (INET, IPV4):
            continue
        key = base.family, base.table
        if key in siblings:
            continue
        if key not in tables:
            tables[key] = _by_chain(firewall.rules(base.family, base.table))
        rules = tables[key]
        if not _drops(base, rules):
            continue
        if base.table == firewalld.TABLE:
            if _trusted(rules, bridge):
                continue
            if firewalld.trust(bridge):
                changed = True
                continue
        try:
            changed = _ensure_pair(firewall, base, rules, bridge) or changed
        except OSError as failure:
            if failure.errno not in (errno.EPERM, errno.EBUSY):
                raise
            # a table whose owner locks it: nothing to be done from here
            warnings.append(f"table {base.table} of another program drops forwarded packets and can't be changed: "
                            f"containers on {bridge} may have no network")
    legacy_changed, legacy_warnings = (False, []) if legacy_settled else legacy.ensure(bridge, comment_of(bridge))
    return changed or legacy_changed, warnings + legacy_warnings


def _by_chain(rules: list[Rule]) -> _Chains:
    found: _Chains = {}
    for rule in rules:
        found.setdefault(rule.chain, []).append(rule)
    return found


def _drops(base: Chain, rules: _Chains) -> bool:
    """Whether a packet that no rule knows is dropped in the end."""
    end = _falls(base.name, rules, 0)
    return end == DROP if end is not None else base.policy == DROP


def _falls(chain: str, rules: _Chains, depth: int) -> int | None:
    """The verdict of the first unconditional rule; None if a packet that matches nothing comes out at the chain's end."""
    if depth > 16:  # the kernel refuses loops and deep nesting; this only bounds us
        return None
    for rule in rules.get(chain, ()):
        verdict = nft.verdict_of(rule)
        if verdict is None or not nft.is_unconditional(rule):
            continue
        code, target = verdict
        if code in (nft.DROP, nft.ACCEPT):
            return code
        if code == nft.RETURN:
            return None
        if code in (nft.JUMP, nft.GOTO):
            end = _falls(target, rules, depth + 1)
            if end is not None or code == nft.GOTO:
                return end
    return None


def _target(base: Chain, rules: _Chains) -> str:
    for rule in rules.get(base.name, ()):
        verdict = nft.verdict_of(rule)
        if verdict is not None and verdict == (nft.JUMP, DOCKER_USER) and nft.is_unconditional(rule):
            return DOCKER_USER
    return base.name


def _ensure_pair(firewall: Nftables, base: Chain, rules: _Chains, bridge: str) -> bool:
    target = _target(base, rules)
    comment = comment_of(bridge)
    reachable = {base.name, target, DOCKER_USER}
    ours = [rule for chain in reachable for rule in rules.get(chain, ()) if rule.comment == comment]
    if _in_place(rules.get(target, []), ours, bridge):
        return False
    batch = Batch()
    for rule in ours:
        batch.delete_rule(base.family, base.table, rule.chain, rule.handle)
    # counter and accept, as the iptables programs write their own rules: they must still be able to list the chain
    for match in (nft.oifname(bridge), nft.iifname(bridge)):
        batch.rule(base.family, base.table, target, [*match, nft.counter(), nft.verdict(nft.ACCEPT)], comment=comment, head=True)
    firewall.commit(batch)
    return True


def _in_place(chain: list[Rule], ours: list[Rule], bridge: str) -> bool:
    if len(ours) != 2 or {_interface(rule) for rule in ours} != {bridge}:
        return False
    before_any_end = []
    for rule in chain:
        verdict = nft.verdict_of(rule)
        if verdict is not None and verdict[0] in (nft.DROP, nft.RETURN, nft.GOTO) and nft.is_unconditional(rule):
            break
        before_any_end.append(rule.handle)
    return all(rule.handle in before_any_end and nft.verdict_of(rule) == (nft.ACCEPT, "") for rule in ours)


def _interface(rule: Rule) -> str:
    """The name that the rule compares with, "" if there is none or more than one."""
    names = [parse_attrs(attrs[3]).get(1, b"") for name, attrs in rule.expressions if name == "cmp" and 3 in attrs]
    return names[0].rstrip(b"\0").decode("utf-8", "replace") if len(names) == 1 else ""


def _trusted(rules: _Chains, bridge: str) -> bool:
    for chain in rules.values():
        for rule in chain:
            verdict = nft.verdict_of(rule)
            if verdict is not None and "trusted" in verdict[1] and _interface(rule) == bridge:
                return True
    return False


def listing(firewall: Nftables, bridge: str = "") -> list[str]:
    """Our rules (of all engines, or for one bridge) in other people's chains, as "family table chain: comment", for `info`."""
    return sorted({f"{'inet' if rule.family == INET else 'ip'} {rule.table} {rule.chain}: {rule.comment}"
                   for family in (INET, IPV4) for rule in firewall.rules(family)
                   if _is_ours(rule) and bridge in ("", _interface(rule))})


def _is_ours(rule: Rule) -> bool:
    bridge = _interface(rule)
    return bool(bridge) and rule.comment == comment_of(bridge)


def remove(firewall: Nftables, bridge: str) -> None:
    """Take our pair out of wherever it is."""
    batch = Batch()
    trusted = False
    for family in (INET, IPV4):
        rules = firewall.rules(family)
        for rule in rules:
            if rule.comment == comment_of(bridge) and _interface(rule) == bridge:
                batch.delete_rule(family, rule.table, rule.chain, rule.handle)
        trusted = trusted or _trusted(_by_chain([rule for rule in rules if rule.table == firewalld.TABLE]), bridge)
    if batch.requests:
        firewall.commit(batch)
    if trusted:
        firewalld.distrust(bridge)
    legacy.remove(bridge, comment_of(bridge))
