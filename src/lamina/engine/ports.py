# SPDX-License-Identifier: Apache-2.0
"""Published and exposed ports of containers: what a request says, what the monitor is to bind, and what `ps` and `inspect` show. [hot]

Docker Engine API v1.44: Config.ExposedPorts {"80/tcp": {}}, HostConfig.PortBindings {"80/tcp": [{"HostIp", "HostPort"}]} and
PublishAllPorts. Loaded only for containers that have any. What really was bound (a random port, the IPv6 side) is in a file of the
runroot that the monitor writes and takes away; it is believed only while the container is live.
"""

from __future__ import annotations

import _socket

from lamina.errors import InvalidArgument, NotSupported
from lamina.network.ports import NAMES, PROTOCOLS, comment_of
from lamina.util import fastjson
from lamina.util.atomic import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lamina.containers.state import State
    from lamina.containers.store import Record
    from lamina.store.open import Store
    from lamina.store.paths import Paths

DISCARDED = "Published ports are discarded when using host network mode"
_LIMIT = 16 << 20
MAX_WANTED = 4096  # each takes two file descriptors of the monitor


def check(config: dict[str, Any], host: dict[str, Any]) -> list[str]:
    """Warnings for the user. InvalidArgument with docker's texts for what can't be a port; only the request's own is looked at so
    strictly, what an image says about ports is just data."""
    bindings = host["PortBindings"] or {}
    if not isinstance(bindings, dict):
        raise InvalidArgument("HostConfig.PortBindings must be an object")
    count = 0
    for key, entries in bindings.items():
        private, protocol = split(key)
        if private <= 0:
            raise InvalidArgument(f'invalid port specification: "{key}"')
        if protocol not in PROTOCOLS:
            why = "tcp and udp are: a published port is held by a socket and relayed for IPv6, which lamina can't do for others"
            raise NotSupported(f"publishing {protocol} ports is not supported: {key}", hint=why)
        for entry in entries or ():
            count += 1
            if not isinstance(entry, dict):
                raise InvalidArgument(f"HostConfig.PortBindings of {key} must be a list of objects")
            address, port = entry.get("HostIp") or "", entry.get("HostPort") or ""
            if not isinstance(port, str) or host_range(port) is None:
                raise InvalidArgument(f'invalid port specification: "{port}"')
            if not isinstance(address, str) or (address and not is_address(address)):
                raise InvalidArgument(f"invalid IP address: {address}")
    if count > MAX_WANTED:
        raise NotSupported(f"{count} published ports, at most {MAX_WANTED} are supported for one container")
    if host["NetworkMode"] == "host" and bindings:
        return [DISCARDED]
    return []


def is_address(text: str) -> bool:
    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, text)
            return True
        except (OSError, ValueError):
            continue
    return False


def split(key: str) -> tuple[int, str]:
    """"80/tcp" -> (80, "tcp"); -1 for what has no number."""
    number, _, protocol = key.partition("/")
    port = int(number) if number.isascii() and number.isdecimal() and len(number) <= 5 else -1
    return port if port < 65536 else -1, (protocol or "tcp").lower()


def host_range(text: str) -> tuple[int, int] | None:
    """"8080" or "8000-8010"; (0, 0) for one that the kernel shall pick; None for anything else."""
    if text in ("", "0"):
        return 0, 0
    low, dash, high = text.partition("-")
    first, last = split(low)[0], split(high)[0] if dash else split(low)[0]
    return (first, last) if 0 < first <= last else None


def keys_of(config: dict[str, Any], host: dict[str, Any]) -> list[str]:
    """All ports that are exposed or published, each once, by number and protocol; what isn't one is left out."""
    found = dict.fromkeys([*(config["ExposedPorts"] or {}), *(host["PortBindings"] or {})])
    return sorted((key for key in found if split(key)[0] > 0), key=split)


def wanted(config: dict[str, Any], host: dict[str, Any]) -> list[list[Any]]:
    """What the monitor is to bind: [[protocol number, port in the container, host address or "", first host port or 0, last], ...]."""
    found: list[list[Any]] = []
    for key in keys_of(config, host):
        private, protocol = split(key)
        if protocol not in PROTOCOLS:
            continue
        entries = (host["PortBindings"] or {}).get(key) or ()
        if not entries and host["PublishAllPorts"]:
            entries = ({},)
        for entry in entries:
            limits = host_range(entry.get("HostPort") or "")
            if limits is not None:
                found.append([PROTOCOLS[protocol], private, entry.get("HostIp") or "", *limits])
    return found


def plan(record: Record, store: Store) -> dict[str, Any] | None:
    """The part of the network's plan that monitor/publishing.py reads; None when nothing is published."""
    want = wanted(record.config["Config"], record.config["HostConfig"])
    if not want:
        return None
    return {
        "table": store.names.table,
        "known": store.paths.network_known,
        "file": store.paths.ports(record.id),
        "comment": comment_of(record.id, record.name),
        "endpoint": f"{record.name} ({record.id})",
        "wanted": want,
    }


def bound(paths: Paths, cid: str) -> dict[str, list[tuple[str, int]]]:
    """{"80/tcp": [(host address, host port), ...]} of a live container."""
    try:
        rows = fastjson.loads(read_file(paths.ports(cid), _LIMIT))
    except (FileNotFoundError, ValueError):
        return {}  # nothing is published, or it ends just now
    found: dict[str, list[tuple[str, int]]] = {}
    for protocol, private, address, public in rows:
        found.setdefault(f"{private}/{NAMES[protocol]}", []).append((address, public))
    return found


def summary(paths: Paths, record: Record, state: State) -> list[dict[str, Any]]:
    """`Ports` of a ContainerSummary."""
    config, host = record.config["Config"], record.config["HostConfig"]
    if not state.live or not state.pid or host["NetworkMode"] in ("host", "none"):
        return []
    have = bound(paths, record.id)
    rows: list[dict[str, Any]] = []
    for key in keys_of(config, host):
        private, protocol = split(key)
        places = have.get(f"{private}/{protocol}")
        if places is None:
            rows.append({"PrivatePort": private, "Type": protocol})
        for address, public in places or ():
            rows.append({"IP": address, "PrivatePort": private, "PublicPort": public, "Type": protocol})
    return rows


def inspected(paths: Paths, record: Record, state: State) -> dict[str, Any]:
    """`NetworkSettings.Ports` of a container: null for a port that is only exposed."""
    found: dict[str, Any] = {}
    for row in summary(paths, record, state):
        key = f"{row['PrivatePort']}/{row['Type']}"
        if "PublicPort" in row:
            found.setdefault(key, []).append({"HostIp": row["IP"], "HostPort": str(row["PublicPort"])})
        else:
            found[key] = None
    return dict(sorted(found.items()))


def keep(rows: list[dict[str, Any]], filters: dict[str, list[str]]) -> bool:
    """The filters `publish` (a host port) and `expose` (a port of the container): "80", "80/udp", "8000-8010/tcp"; any that fits."""
    for name, field in (("publish", "PublicPort"), ("expose", "PrivatePort")):
        for text in filters.get(name, ()):
            first, last, protocol = filter_range(name, text)
            for row in rows:
                if field in row and row["Type"] == protocol and first <= row[field] <= last:
                    return True
    return False


def filter_range(name: str, text: str) -> tuple[int, int, str]:
    number, _, protocol = text.partition("/")
    low, dash, high = number.partition("-")
    for part in (low, high) if dash else (low,):
        if split(part)[0] < 0:
            big = part.isascii() and part.isdecimal()
            why = "value out of range" if big else "invalid syntax"
            raise InvalidArgument(f'error while looking up for {name} {text}: strconv.ParseUint: parsing "{part}": {why}')
    first, last = int(low), int(high) if dash else int(low)
    if last < first:
        raise InvalidArgument(f"error while looking up for {name} {text}: invalid range specified for port: {number}")
    return first, last, (protocol or "tcp").lower()
