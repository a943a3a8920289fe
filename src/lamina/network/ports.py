# SPDX-License-Identifier: Apache-2.0
"""Published ports in the kernel: one element of the engine's nf_tables maps for each, put in and taken out all at once. [hot]

For the monitor, and for whoever cleans up after one that was killed. An element says "what comes for this port of this host goes to that
address and port"; its comment begins with the container's short id, and names it for whoever lists the table. Each change is ours alone
(nf_tables' generation before it is checked in the same step), so that the note of the last thorough look stays good (`advance`).
"""
from __future__ import annotations

import errno

from lamina.linux.nfnetlink import INET, Batch, Nftables
from lamina.network.model import number
from lamina.util import atomic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Bound = tuple[int, int, str, int]  # protocol number, port in the container, host address, host port

PORTS, PORTS_AT = "ports", "ports_at"
TCP, UDP = 6, 17
PROTOCOLS = {"tcp": TCP, "udp": UDP}
NAMES = {TCP: "tcp", UDP: "udp"}
_ATTEMPTS = 8
_COMMENT_LIMIT = 120
_CHUNK = 512  # elements in one batch: more would not go through a netlink socket of the usual size


def port_element(protocol: int, port: int, target: str, target_port: int, address: str = "") -> tuple[str, bytes, bytes]:
    """(map, key, value) of a published port. `protocol` is the IP protocol number (6, 17); no `address` means all."""
    key = bytes((protocol, 0, 0, 0)) + port.to_bytes(2, "big") + b"\0\0"
    value = number(target).to_bytes(4, "big") + target_port.to_bytes(2, "big") + b"\0\0"
    if not address or address == "0.0.0.0":
        return PORTS, key, value
    return PORTS_AT, number(address).to_bytes(4, "big") + key, value


def elements(bound: Iterable[Bound], target: str) -> list[tuple[str, bytes, bytes]]:
    """(map, key, value) of those that are IPv4; IPv6 ones have none, the relay serves them."""
    return [port_element(protocol, public, target, private, address) for protocol, private, address, public in bound if ":" not in address]


def comment_of(cid: str, name: str) -> str:
    return f"{cid[:12]} {name}"[:_COMMENT_LIMIT]


def add(firewall: Nftables, table: str, wanted: list[tuple[str, bytes, bytes]], comment: str, known: str) -> None:
    """Put in the elements, up to 512 in one step; in the place of what a killed monitor left for the same ports, as whoever calls this
    holds them bound. OSError ENOENT if the table is gone."""
    for start in range(0, len(wanted), _CHUNK):
        _add(firewall, table, wanted[start:start + _CHUNK], comment, known)


def _add(firewall: Nftables, table: str, wanted: list[tuple[str, bytes, bytes]], comment: str, known: str) -> None:
    batch = Batch()
    for where in (PORTS, PORTS_AT):
        mine = [(key, value, comment) for name, key, value in wanted if name == where]
        batch.commented_elements(INET, table, where, mine, exclusive=True)
    try:
        _commit(firewall, batch, known)
        return
    except FileExistsError:
        pass
    batch = Batch()
    for where in (PORTS, PORTS_AT):
        mine = [(key, value, comment) for name, key, value in wanted if name == where]
        there = {key for key, _value in firewall.elements(INET, table, where)}
        batch.delete_elements(INET, table, where, [key for key, _value, _comment in mine if key in there])
        batch.commented_elements(INET, table, where, mine)
    _commit(firewall, batch, known)


def remove(firewall: Nftables, table: str, wanted: list[tuple[str, bytes, bytes]], known: str) -> None:
    """Take the elements out; those that are gone already are no error. The socket's close may then take some 7 ms."""
    for start in range(0, len(wanted), _CHUNK):
        keys = [(where, key) for where, key, _value in wanted[start:start + _CHUNK]]
        try:
            _commit(firewall, _deletion(table, keys), known)
        except FileNotFoundError:
            for one in keys:
                try:
                    firewall.commit(_deletion(table, [one]))
                except FileNotFoundError:
                    continue


def forget(table: str, cid: str, known: str) -> None:
    """Take out what a killed monitor left of a container's elements. Only while nobody can start it."""
    with Nftables() as firewall:
        for _attempt in range(4 * _ATTEMPTS):
            generation = firewall.generation()
            left = []
            for where in (PORTS, PORTS_AT):
                try:
                    left += [(where, key) for key, _value, comment in firewall.commented_elements(INET, table, where)
                             if comment.partition(" ")[0] == cid[:12]]
                except FileNotFoundError:
                    continue  # no table any more
            if not left:
                return
            try:
                firewall.commit(_deletion(table, left[:_CHUNK]), generation=generation)
            except OSError as failure:
                if failure.errno != errno.ERESTART:
                    raise
                continue  # it may have been replaced meanwhile by whoever has the port now
            advance(known, generation)
            if len(left) <= _CHUNK:
                return


def is_published(table: str, protocol: int, port: int) -> bool:
    """Whether a container of this engine has the port, on whatever address."""
    tail = port_element(protocol, port, "0.0.0.0", 0)[1]
    with Nftables() as firewall:
        for where in (PORTS, PORTS_AT):
            try:
                if any(key.endswith(tail) for key, _value in firewall.elements(INET, table, where)):
                    return True
            except FileNotFoundError:
                continue
    return False


def _deletion(table: str, keys: list[tuple[str, bytes]]) -> Batch:
    batch = Batch()
    for where in (PORTS, PORTS_AT):
        batch.delete_elements(INET, table, where, [key for name, key in keys if name == where])
    return batch


def _commit(firewall: Nftables, batch: Batch, known: str) -> None:
    for _attempt in range(_ATTEMPTS):
        generation = firewall.generation()
        try:
            firewall.commit(batch, generation=generation)
        except OSError as failure:
            if failure.errno != errno.ERESTART:
                raise
            continue
        advance(known, generation)
        return
    firewall.commit(batch)  # much is going on: then the next start looks at everything again


def advance(known: str, generation: int) -> None:
    """Moves the note of the last thorough look (bridge.state: the fourth word is nf_tables' generation) on by one: of all that it is
    about, only ports changed. What is written is true also when several are at it, as each step is about one generation."""
    try:
        words = atomic.read_file(known, 4096).decode("ascii", "replace").split(" ")
        if len(words) == 6 and words[3] == str(generation):
            words[3] = str(generation % 0xFFFFFFFF + 1)  # the kernel leaves out 0
            atomic.write_file(known, " ".join(words).encode(), durable=False)
    except OSError:
        pass  # no note, or a full disk: it costs the next start a thorough look
