# SPDX-License-Identifier: Apache-2.0
"""`inspect` of a container: the API's ContainerInspectResponse (v1.44)."""

from __future__ import annotations

from lamina.util.times import rfc3339nano

from .config import OPTIONAL_KEYS
from .listing import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lamina.containers.state import State
    from lamina.containers.store import Record
    from lamina.store.paths import Paths

NEVER = "0001-01-01T00:00:00Z"  # how docker writes a time that has not been


def state_block(state: State) -> dict[str, Any]:
    running = state.status in ("running", "paused", "restarting")
    return {
        "Status": state.status,
        "Running": running,
        "Paused": state.status == "paused",
        "Restarting": state.status == "restarting",
        "OOMKilled": state.oom_killed,
        "Dead": state.status == "dead",
        "Pid": state.pid if running else 0,
        "ExitCode": state.exit_code or 0,
        "Error": state.error or "",
        "StartedAt": rfc3339nano(state.started_at) if state.started_at else NEVER,
        "FinishedAt": rfc3339nano(state.finished_at) if state.finished_at else NEVER,
    }


def shown_config(config: dict[str, Any]) -> dict[str, Any]:
    """Config without the keys that docker leaves out when they aren't set."""
    return {k: v for k, v in config.items() if v is not None or k not in OPTIONAL_KEYS}


# Keys that docker's HostConfig always has, of features that this engine refuses; each comes after the key named beside it.
UNSET: dict[str, dict[str, Any]] = {
    "BlkioWeight": {"BlkioWeightDevice": [], "BlkioDeviceReadBps": None, "BlkioDeviceWriteBps": None, "BlkioDeviceReadIOps": None,
                    "BlkioDeviceWriteIOps": None},
    "DeviceCgroupRules": {"DeviceRequests": None},
}  # fmt: skip


def host_block(host: dict[str, Any], masked: list[str] | None, readonly: list[str] | None) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for key, value in host.items():
        shown[key] = value
        shown.update((name, default) for name, default in UNSET.get(key, {}).items() if name not in host)
    return {**shown, "MaskedPaths": masked, "ReadonlyPaths": readonly}


def network_block(mode: str, endpoint: dict[str, Any] | None) -> dict[str, Any]:
    """NetworkSettings; `endpoint` has ipv4, prefix, gateway, mac and network_id of the container while it has them."""
    end = endpoint or {}
    address, prefix, gateway, mac = end.get("ipv4", ""), end.get("prefix", 0), end.get("gateway", ""), end.get("mac", "")
    one = {
        "IPAMConfig": None, "Links": None, "Aliases": None, "MacAddress": mac, "NetworkID": end.get("network_id", ""),
        "EndpointID": end.get("endpoint_id", ""), "Gateway": gateway, "IPAddress": address, "IPPrefixLen": prefix,
        "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DriverOpts": None, "DNSNames": None,
    }  # fmt: skip
    return {
        "Bridge": "", "SandboxID": end.get("sandbox_id", ""), "SandboxKey": end.get("sandbox_key", ""), "Ports": {},
        "HairpinMode": False, "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0, "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None, "EndpointID": one["EndpointID"], "Gateway": gateway, "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0, "IPAddress": address, "IPPrefixLen": prefix, "IPv6Gateway": "", "MacAddress": mac,
        "Networks": {mode: one},
    }  # fmt: skip


def container(
    record: Record, state: State, paths: Paths, *, graph: dict[str, Any], endpoint: dict[str, Any] | None, execs: list[str] | None,
    sizes: tuple[int, int] | None, masked: list[str] | None, readonly: list[str] | None,
) -> dict[str, Any]:  # fmt: skip
    config, host = record.config["Config"], record.config["HostConfig"]
    argv = [*(config["Entrypoint"] or []), *(config["Cmd"] or [])]
    base = paths.container(record.id)
    bridged = host["NetworkMode"] != "host"
    body = {
        "Id": record.id,
        "Created": rfc3339nano(record.created_ns),
        "Path": argv[0],
        "Args": argv[1:],
        "State": state_block(state),
        "Image": record.image_id,
        "ResolvConfPath": f"{base}/resolv.conf",
        "HostnamePath": f"{base}/hostname",
        "HostsPath": f"{base}/hosts",
        "LogPath": f"{base}/log.json" if host["LogConfig"]["Type"] == "json-file" else "",
        "Name": "/" + record.name,
        "RestartCount": state.restart_count,
        "Driver": record.driver,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": execs or None,
        "HostConfig": host_block(host, masked, readonly),
        "GraphDriver": {"Data": graph, "Name": record.driver},
        "Mounts": [shown(m) for m in record.config.get("Mounts", [])],
        "Config": shown_config(config),
        "NetworkSettings": network_block(host["NetworkMode"], endpoint if bridged else None),
    }
    if record.config.get("LinkLocalIPs"):
        body["NetworkSettings"]["Networks"][host["NetworkMode"]]["IPAMConfig"] = {"LinkLocalIPs": record.config["LinkLocalIPs"]}
    if sizes is not None:
        body["SizeRw"], body["SizeRootFs"] = sizes
    return body
