# SPDX-License-Identifier: Apache-2.0
"""What a create request says of the container's endpoint on its network: EndpointsConfig of the API's NetworkingConfig. [hot]

Loaded only for requests that say something. Docker's texts; on the default network most of it is refused, as by docker.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_pton

from lamina.errors import InvalidArgument, NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USER_ONLY = "user specified IP address is supported on user defined networks only"
LINK_LOCAL = (169, 254)


def settings(wanted: dict[str, Any], mode: str) -> tuple[str, list[str]]:
    """(MAC address or "", link-local IPv4 addresses) of EndpointsConfig {network: EndpointSettings}; `mode`: HostConfig.NetworkMode."""
    mac, local = "", []
    for name, given in wanted.items():
        network = mode if name in ("default", mode) else name
        for key, value in (given or {}).items():
            if not value or key == "NetworkID":
                continue
            if key == "IPAMConfig":
                local = addresses(value, network)
            elif key == "MacAddress":
                from .options import check_mac

                mac = check_mac(value, mode)
            elif key == "Aliases":
                raise InvalidArgument("network-scoped alias is supported only for containers in user defined networks")
            else:
                raise InvalidArgument(f"{key} of an endpoint is supported on user-defined networks only ({name})")
    return mac, local


def addresses(ipam: dict[str, Any], network: str) -> list[str]:
    """The link-local addresses; InvalidArgument for any other."""
    wrong = []
    for key, family, kind in (("IPv4Address", AF_INET, "IPv4"), ("IPv6Address", AF_INET6, "IPv6")):
        if ipam.get(key):
            wrong += [text for text in (USER_ONLY,) if text not in wrong]
            if not is_address(ipam[key], family):
                wrong.append(f"invalid {kind} address: {ipam[key]}")
    local = [str(one) for one in ipam.get("LinkLocalIPs") or ()]
    wrong += [f"invalid link-local IP address: {one}" for one in local if not is_address(one, AF_INET) and not is_address(one, AF_INET6)]
    if wrong:
        text = "".join(f"\n* {one}" for one in wrong) if len(wrong) > 1 else "\n" + wrong[0]
        raise InvalidArgument(f"invalid config for network {network}: invalid endpoint settings:{text}")
    for one in local:
        if network != "bridge":
            raise NotSupported(f"--link-local-ip {one}: network mode {network} has no interface of its own to give it to")
        if not is_address(one, AF_INET):
            raise NotSupported(f"--link-local-ip {one}: containers have no IPv6 yet")
        if tuple(inet_pton(AF_INET, one)[:2]) != LINK_LOCAL:
            raise InvalidArgument(f"--link-local-ip {one}: not in 169.254.0.0/16")
    return local


def is_address(text: Any, family: int) -> bool:
    try:
        inet_pton(family, text)
    except (OSError, ValueError, TypeError):
        return False
    return True
