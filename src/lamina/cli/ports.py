# SPDX-License-Identifier: Apache-2.0
"""`-p`, `-P` and `--expose` as docker's client reads them, into ExposedPorts and PortBindings; and how ports are shown. [hot]

    [address:][host port or range:]port or range[/tcp|/udp]      or      published=8080,target=80,protocol=tcp

A range publishes port by port, and both ranges are of one length; a single port with a range of host ports gets the first free one. An IPv6
address may stand in brackets. Loaded only when one of the flags is given, or for a table with ports in it.
"""
from __future__ import annotations

import _socket

from .context import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PROTOCOLS = ("tcp", "udp", "sctp")


def publish(config: dict[str, Any], host: dict[str, Any], published: list[str], exposed: list[str], *, everything: bool) -> None:
    """Fills in the request's body. CliError with exit code 125 and docker's words for what isn't a port."""
    bindings: dict[str, list[dict[str, str]]] = {}
    ports: dict[str, dict[str, str]] = {}
    try:
        for text in published:
            for key, address, port in parse(text):
                ports[key] = {}
                bindings.setdefault(key, []).append({"HostIp": address, "HostPort": port})
        for text in exposed:
            for key in parse_exposed(text):
                ports[key] = {}
    except ValueError as e:
        raise CliError(str(e), 125) from None
    config["ExposedPorts"] = ports or None
    host["PortBindings"] = bindings
    host["PublishAllPorts"] = everything


def parse(text: str) -> list[tuple[str, str, str]]:
    """[("80/tcp", host address or "", host port, range or "")], one for each port in the container. ValueError says what is wrong."""
    text = from_pairs(text) if "=" in text else text
    head, _, inner = text.rpartition(":")
    address, _, outer = head.rpartition(":")
    inner, protocol = split_protocol(inner)
    if address:
        address = check_address(address)
    if not inner:
        raise ValueError(f"No port specified: {text}<empty>")
    first, last = named_range("containerPort", inner)
    low, high = named_range("hostPort", outer) if outer else (0, 0)
    if outer and last - first != high - low and first != last:
        raise ValueError(f"Invalid ranges specified for container and host Ports: {inner} and {outer}")
    if protocol.lower() not in PROTOCOLS:
        raise ValueError(f"Invalid proto: {protocol}")
    found = []
    for offset in range(last - first + 1):
        port = f"{low + offset}" if outer else ""
        if outer and first == last and low != high:
            port = f"{low}-{high}"
        found.append((f"{first + offset}/{protocol.lower()}", address, port))
    return found


def from_pairs(text: str) -> str:
    """The long form as the short one."""
    given = {}
    for pair in text.split(","):
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise ValueError(f"invalid publish opts format (should be name=value but got '{pair}')")
        given[name] = value
    return f"{given.get('published', '')}:{given.get('target', '')}/{given.get('protocol', 'tcp')}"


def check_address(text: str) -> str:
    bare = text
    if text[0] == "[":
        if text[-1] != "]":
            raise ValueError(f"Invalid ip address {text}: address {text}:: missing ']' in address")
        bare = text[1:-1]
    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, bare)
            return bare
        except (OSError, ValueError):
            continue
    if ":" in bare and bare == text:
        raise ValueError(f"Invalid ip address {text}: address {text}:: too many colons in address")
    raise ValueError(f"Invalid ip address: {bare}")


def split_protocol(text: str) -> tuple[str, str]:
    """"80/udp" -> ("80", "udp"); tcp where nothing is said."""
    parts = text.split("/")
    return parts[0], parts[1] if len(parts) > 1 and parts[1] else "tcp"


def named_range(what: str, text: str) -> tuple[int, int]:
    try:
        return port_range(text)
    except ValueError:
        raise ValueError(f"Invalid {what}: {text}") from None


def port_range(text: str) -> tuple[int, int]:
    if not text:
        raise ValueError("empty string specified for ports")
    low, dash, high = text.partition("-")
    first = port_number(low)
    last = port_number(high) if dash else first
    if last < first:
        raise ValueError(f"invalid range specified for port: {text}")
    return first, last


def port_number(text: str) -> int:
    """As Go's strconv.ParseUint(text, 10, 16), with its words."""
    if not text.isascii() or not text.isdecimal():
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    if len(text.lstrip("0")) > 5 or int(text) > 65535:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return int(text)


def parse_exposed(text: str) -> list[str]:
    if ":" in text:
        raise ValueError(f"invalid port format for --expose: {text}")
    number, protocol = split_protocol(text)
    try:
        first, last = port_range(number)
    except ValueError as e:
        raise ValueError(f"invalid range format for --expose: {text}, error: {e}") from None
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


# -- how they are shown


def shown(entries: list[dict[str, Any]]) -> str:
    """`ps`: "0.0.0.0:8080->80/tcp, :::8080->80/tcp, 443/tcp". Neighbours that are published under their own numbers, or only exposed,
    are one range: "0.0.0.0:7001-7003->7001-7003/tcp". Those that are published under others stand last."""
    ranges: dict[tuple[str, str], tuple[int, int]] = {}
    done: list[str] = []
    mapped: list[str] = []
    for entry in sorted(entries, key=lambda e: (e["PrivatePort"], e.get("IP", ""), e.get("PublicPort", 0), e["Type"])):
        port, kind, address = entry["PrivatePort"], entry["Type"], entry.get("IP", "")
        if address and entry.get("PublicPort", 0) != port:
            mapped.append(f"{address}:{entry.get('PublicPort', 0)}->{port}/{kind}")
            continue
        first, last = ranges.get((address, kind), (port, port))
        if port > last + 1 or (port == last and (address, kind) in ranges):
            done.append(shown_range(address, kind, first, last))
            first = port
        ranges[address, kind] = (first, port)
    return ", ".join([*done, *(shown_range(*key, *limits) for key, limits in ranges.items()), *mapped])


def shown_range(address: str, kind: str, first: int, last: int) -> str:
    numbers = str(first) if first == last else f"{first}-{last}"
    return f"{address}:{numbers}->{numbers}/{kind}" if address else f"{numbers}/{kind}"
