# SPDX-License-Identifier: Apache-2.0
"""`port`: where a container's published ports are reached."""

from __future__ import annotations

from lamina.cli.context import Cli, CliError
from lamina.cli.flags import Opts, Verb
from lamina.cli.ports import port_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def port(cli: Cli, opts: Opts, args: list[str]) -> int:
    ports: dict[str, Any] = cli.engine.containers.inspect(args[0])["NetworkSettings"]["Ports"]
    if len(args) == 2 and args[1]:
        number, _, protocol = args[1].partition("/")
        try:
            port_number(number)
        except ValueError as e:
            raise CliError(f"Error: invalid port ({number}): {e}") from None
        places = ports.get(args[1] if protocol else f"{number}/tcp")
        if not places:
            raise CliError(f"Error: No public port '{args[1]}' published for {args[0]}")
        for place in places:
            cli.out(joined(place))
        return 0
    for key in sorted(ports, key=lambda key: (int(key.partition("/")[0]), key)):
        for place in ports[key] or ():
            cli.out(f"{key} -> {joined(place)}")
    return 0


def joined(place: dict[str, str]) -> str:
    """Address and port as in a URL."""
    address = place["HostIp"]
    return f"[{address}]:{place['HostPort']}" if ":" in address else f"{address}:{place['HostPort']}"


VERBS = {"port": Verb(port, "CONTAINER [PRIVATE_PORT[/PROTO]]", 1, 2)}
