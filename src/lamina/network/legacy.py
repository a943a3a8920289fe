# SPDX-License-Identifier: Apache-2.0
"""The same accept pair in the old ip_tables `filter` table, where that one is in use.

For `foreign`. Legacy tables are not reachable by nf_tables, only by the iptables program of that kind; it is run only where the kernel
says that the namespace has such a table (most hosts: never). Only rules with our comment are added or taken out.
"""
from __future__ import annotations

from lamina.network.bridge import legacy_filters
from lamina.network.programs import find, run

_DOCKER_USER = "DOCKER-USER"
_WAIT = "-w"


def _program() -> str:
    """The iptables of the legacy kind; plain `iptables` is it only on hosts that never had the other."""
    if find("iptables-legacy"):
        return "iptables-legacy"
    version = run("iptables", "--version")
    return "iptables" if version is not None and "nf_tables" not in version else ""


def _pair(bridge: str, comment: str) -> list[list[str]]:
    return [[direction, bridge, "-m", "comment", "--comment", comment, "-j", "ACCEPT"] for direction in ("-i", "-o")]


def drops(listing: str) -> bool:
    """Whether FORWARD ends in a drop, by the output of `-S`: its policy, or a rule in it without conditions."""
    for line in listing.splitlines():
        words = line.split()
        if words[:2] == ["-A", "FORWARD"] and words[2:3] == ["-j"] and words[3:4] in (["DROP"], ["REJECT"]):
            return True
    return "-P FORWARD DROP" in listing.splitlines()


def place(listing: str) -> str:
    """The chain that our pair belongs into."""
    return _DOCKER_USER if f"-N {_DOCKER_USER}" in listing.splitlines() else "FORWARD"


def _count(listing: str, chain: str, comment: str) -> int:
    return sum(1 for line in listing.splitlines() if line.startswith(f"-A {chain} ") and f'--comment "{comment}"' in line)


def ensure(bridge: str, comment: str) -> tuple[bool, list[str]]:
    """(whether anything was changed, sentences for the user)."""
    if not legacy_filters():
        return False, []
    program = _program()
    listing = run(program, _WAIT, "-S") if program else None
    if listing is None:
        return False, ["legacy iptables rules are in use and no program to read them was found: "
                       f"containers on {bridge} may have no network"]
    if not drops(listing):
        return False, []
    chain = place(listing)
    if _count(listing, chain, comment) == 2:
        return False, []
    _take_out(program, listing, bridge, comment)
    done = [run(program, _WAIT, "-I", chain, "1", *rule) for rule in _pair(bridge, comment)]
    if None in done:
        return True, [f"legacy iptables drops forwarded packets and refused a rule: containers on {bridge} may have no network"]
    return True, []


def _take_out(program: str, listing: str, bridge: str, comment: str) -> None:
    for chain in ("FORWARD", _DOCKER_USER):
        for _each in range(_count(listing, chain, comment)):
            for rule in _pair(bridge, comment):
                run(program, _WAIT, "-D", chain, *rule)


def remove(bridge: str, comment: str) -> None:
    """Take our pair out."""
    if not legacy_filters():
        return
    program = _program()
    listing = run(program, _WAIT, "-S") if program else None
    if listing is not None:
        _take_out(program, listing, bridge, comment)
