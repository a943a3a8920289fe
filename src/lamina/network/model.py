# SPDX-License-Identifier: Apache-2.0
"""What a network is, as a value, and IPv4 arithmetic on plain ints. [hot]

For the rest of `network/` and for the engine. A `Network` is what the `networks` row records; its `config` in the row is JSON of the
keys bridge, subnet, gateway and mtu.
"""
from __future__ import annotations

from _socket import AF_INET, inet_pton

from lamina.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_NAME = "bridge"


class Network:
    """A bridge network: `subnet` "172.18.0.0/16", `gateway` "172.18.0.1" (the bridge's own address), `mtu` in bytes.
    `warnings`: sentences for the user about what could not be arranged outside our own table."""

    __slots__ = ("id", "name", "bridge", "subnet", "gateway", "mtu", "warnings")

    def __init__(self, id: str, name: str, bridge: str, subnet: str, gateway: str, mtu: int) -> None:
        self.id = id
        self.name = name
        self.bridge = bridge
        self.subnet = subnet
        self.gateway = gateway
        self.mtu = mtu
        self.warnings: tuple[str, ...] = ()

    @property
    def prefix(self) -> int:
        return cidr(self.subnet)[1]

    @classmethod
    def from_row(cls, id: str, name: str, config: str) -> Network:
        """A row of `networks`."""
        data: dict[str, Any] = fastjson.loads(config)
        return cls(id, name, data["bridge"], data["subnet"], data["gateway"], int(data["mtu"]))

    def config(self) -> str:
        """The row's `config` column."""
        return fastjson.dumps({"bridge": self.bridge, "subnet": self.subnet, "gateway": self.gateway, "mtu": self.mtu})


def number(address: str) -> int:
    """IPv4 text (four decimal parts, nothing else) as an int. OSError if it is not that."""
    return int.from_bytes(inet_pton(AF_INET, address), "big")


def dotted(value: int) -> str:
    """The inverse of `number`."""
    return ".".join(map(str, value.to_bytes(4, "big")))


def cidr(text: str) -> tuple[int, int]:
    """(network number, prefix length) of "172.18.0.0/16"; host bits are dropped. ValueError or OSError for anything else."""
    address, slash, length = text.partition("/")
    if not slash or not length.isdecimal() or int(length) > 32:
        raise ValueError(f"not a subnet: {text}")
    prefix = int(length)
    return number(address) & mask(prefix), prefix


def mask(prefix: int) -> int:
    return (0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF


def overlap(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether two (network, prefix) share an address."""
    common = mask(min(a[1], b[1]))
    return a[0] & common == b[0] & common


def is_ipv4(text: str) -> bool:
    try:
        inet_pton(AF_INET, text)
    except (OSError, ValueError):
        return False
    return True


def netplan(network: Network, ipv4: str, mac: str) -> dict[str, object]:
    """The part of a container's plan that `plug` reads."""
    return {"mode": "bridge", "bridge": network.bridge, "ipv4": f"{ipv4}/{network.prefix}", "gateway": network.gateway, "mac": mac,
            "mtu": network.mtu, "lo": True}
