# SPDX-License-Identifier: Apache-2.0
"""Addresses of containers: who has which, recorded in the `endpoints` table. [hot]

For the engine, inside its own write transaction: an address is taken and given back together with the container's row. Addresses go
round: the next free one after the last that was given (Docker takes the lowest free one), as the exit code is out before the kernel
has torn down the namespace that still answers for the address.
"""
from __future__ import annotations

from lamina.errors import Conflict
from lamina.network.model import Network, cidr, dotted, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamina.store.db import DB


def mac_of(ipv4: str) -> str:
    """02:42 and the four bytes of the address, as Docker up to 27 does: an address that comes back comes with the MAC that
    neighbours may still have in their caches."""
    return "02:42:" + number(ipv4).to_bytes(4, "big").hex(":")


def allocate(db: DB, network: Network, container_id: str) -> tuple[str, str]:
    """(ipv4, mac) for a container; the same again if it has one already. Call inside `db.write()`. Conflict when none is free."""
    row = db.one("SELECT ipv4, mac FROM endpoints WHERE network_id = ? AND container_id = ?", (network.id, container_id))
    if row is not None:
        return str(row[0]), str(row[1])
    base, prefix = cidr(network.subnet)
    size = 1 << (32 - prefix)
    taken = {number(str(one[0])) - base for one in db.execute("SELECT ipv4 FROM endpoints WHERE network_id = ?", (network.id,))}
    taken.add(number(network.gateway) - base)
    key = f"ipam.{network.id}"
    row = db.one("SELECT value FROM meta WHERE key = ?", (key,))
    last = int(row[0]) if row is not None else 0
    offset = _next(taken, last, size)
    if offset < 0:
        raise Conflict(f"no available IPv4 addresses on this network's address pools: {network.name} ({network.subnet})",
                       hint="remove containers of this network, or give it a larger subnet")
    db.execute("INSERT INTO meta(key, value) VALUES(?, ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value", (key, str(offset)))
    ipv4 = dotted(base + offset)
    mac = mac_of(ipv4)
    db.execute("INSERT INTO endpoints(network_id, container_id, ipv4, mac) VALUES(?, ?, ?, ?)", (network.id, container_id, ipv4, mac))
    return ipv4, mac


def _next(taken: set[int], last: int, size: int) -> int:
    # 0 is the network's own address, size - 1 its broadcast address
    first, end = 1, size - 1
    for start, stop in ((max(last + 1, first), end), (first, min(last + 1, end))):
        for offset in range(start, stop):
            if offset not in taken:
                return offset
    return -1


def release(db: DB, container_id: str) -> int:
    """Give back all addresses of a container; how many. Call inside `db.write()`; no error if it has none."""
    return db.changes("DELETE FROM endpoints WHERE container_id = ?", (container_id,))
