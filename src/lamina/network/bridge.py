# SPDX-License-Identifier: Apache-2.0
"""The engine's default bridge: there when a container starts, at the price of two small requests. [hot]

For the engine, before each start. The common case only confirms: the bridge exists, and nothing changed in nf_tables since everything
was last found in order (the kernel counts changes). If something did, a digest of what matters (`watch`) tells whether that is still the
same. Only otherwise the cold `setup` module looks at all of it and mends what is missing. `known` is a small file in the runroot
that says what was found; losing it costs one thorough look.
"""
from __future__ import annotations

import os

from lamina.linux import rtnetlink
from lamina.linux.netlink import Netlink
from lamina.linux.nfnetlink import Nftables
from lamina.network.model import DEFAULT_NAME, Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamina.store.db import DB
    from lamina.store.paths import Names

HOST_LOCK = "/run/lamina-host.lock"
_LEGACY_TABLES = "/proc/thread-self/net/ip_tables_names"


def ensure(names: Names, db: DB, known: str, *, host_lock: str = HOST_LOCK) -> Network:
    """The network `bridge` of this engine, ready for use in the caller's network namespace: made or mended if need be.

    `known`: path of a file in the runroot. Not inside a transaction (a first use writes the row). StartError if no subnet is free or
    a name is taken by something that is not ours; OSError for what the kernel refused.
    """
    network = load(db, names)
    if network is not None:
        with Netlink() as route:
            link = rtnetlink.get_link(route, names.bridge)
        if link is not None and link.up:
            with Nftables() as firewall:
                now = state(link.index, firewall.generation())
                if same(last_state(known), now) or unchanged(firewall, names.table, known, now):
                    network.mtu = link.mtu
                    return network
    from lamina.network import setup
    return setup.ensure(names, db, known, host_lock)


def load(db: DB, names: Names) -> Network | None:
    """The recorded default network, whether or not its bridge exists now; None before the first use."""
    row = db.one("SELECT id, name, config FROM networks WHERE name = ?", (DEFAULT_NAME,))
    if row is None:
        return None
    network = Network.from_row(*row)
    network.bridge = names.bridge  # a data root that was moved has another id, hence another bridge
    return network


def state(index: int, generation: int) -> str:
    """What must be unchanged for a thorough look to be still valid: namespace, bridge, nf_tables, and legacy iptables' filter table
    where that is in use. If that can't be read, no two states are equal. Five words; the file has a sixth, watch.fingerprint's."""
    namespace = os.stat("/proc/thread-self/ns/net").st_ino
    legacy = "-"
    if legacy_filters():
        from lamina.linux import xtables

        try:
            legacy = xtables.fingerprint()
        except OSError:
            legacy = os.urandom(8).hex()
    return f"2 {namespace} {index} {generation} {legacy}"


def last_state(known: str) -> str:
    """The state in which everything was last found in order, "" if it isn't known."""
    return _read(known)


def same_legacy(known: str, now: str) -> bool:
    """Whether two states, one of them from `known`, agree in all but nf_tables: then the legacy table needs no look, which would
    start a program."""
    before, current = known.split(), now.split()
    return len(before) == 6 and before[:3] == current[:3] and before[4] == current[4]


def same(known: str, now: str) -> bool:
    """Whether nothing was touched since the state of the file `known` was written."""
    return known.split()[:5] == now.split()


def unchanged(firewall: Nftables, table: str, known: str, now: str) -> bool:
    """Whether nf_tables was touched, but is as it was: then the file says so from here on. `now` was read before this looks."""
    before = last_state(known)
    if not same_legacy(before, now):
        return False
    from lamina.network import watch

    with Netlink() as route:
        found = watch.fingerprint(route, firewall, table)
    if before.split()[5] != found:
        return False
    note(known, now, found)
    return True


def note(known: str, found: str, fingerprint: str) -> None:
    """Writes down the state in which everything is in order."""
    from lamina.util import atomic

    atomic.write_file(known, f"{found} {fingerprint}\n".encode(), durable=False)


def legacy_filters() -> bool:
    """Whether the old ip_tables `filter` table is in use in this namespace."""
    return "filter" in _read(_LEGACY_TABLES).split()


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return ""
    try:
        return os.read(fd, 4096).decode("ascii", "replace")
    finally:
        os.close(fd)
