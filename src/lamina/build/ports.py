# SPDX-License-Identifier: Apache-2.0
"""EXPOSE's words: [IP:][HOST:]PORT[-PORT][/tcp|udp|sctp]. Address and host's port are read, as old files have them, and mean nothing."""
from __future__ import annotations

import socket
from dataclasses import dataclass

from lamina.errors import InvalidArgument

PROTOCOLS = ("tcp", "udp", "sctp")


@dataclass(slots=True)
class Exposed:
    first: int
    last: int
    proto: str  # as it was written; "" means tcp
    mapped: bool  # an address or a port of the host was given


def parse_port(text: str) -> Exposed:
    parts = text.split(":")
    container = parts[-1]
    host = parts[-2] if len(parts) > 1 else ""
    address = ":".join(parts[:-2])
    port, _, proto = container.partition("/")
    if not port:
        raise InvalidArgument(f'invalid port: "{text}": no port specified')
    if proto and proto.lower() not in PROTOCOLS:
        raise InvalidArgument(f'invalid port: "{text}": invalid proto: {proto}')
    if address and not is_address(address.removeprefix("[").removesuffix("]") if address.startswith("[") else address):
        raise InvalidArgument(f"invalid IP address: {address}")
    first, last = port_range(port, "containerPort")
    if host:
        low, high = port_range(host, "hostPort")
        if last - first != high - low and first != last:
            raise InvalidArgument(f"invalid ranges specified for container and host Ports: {port} and {host}")
    return Exposed(first, last, proto, bool(address or host))


def is_address(text: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
            return True
        except (OSError, ValueError):
            continue
    return False


def port_range(text: str, what: str) -> tuple[int, int]:
    first, sign, last = text.partition("-")
    numbers = [first, last if sign else first]
    if not all(number.isascii() and number.isdigit() and len(number) < 9 and int(number) < 65536 for number in numbers):
        raise InvalidArgument(f"invalid {what}: {text}")
    if int(numbers[1]) < int(numbers[0]):
        raise InvalidArgument(f"invalid {what}: {text}")
    return int(numbers[0]), int(numbers[1])
