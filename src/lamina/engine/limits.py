# SPDX-License-Identifier: Apache-2.0
"""Keys of HostConfig about disk I/O, real-time CPU, the cgroup's place, annotations, and what this engine has one value of.

As `options`: `check` refuses before anything is made, `apply` changes the config.json. Loaded only for what uses one of config.LIMITS.
"""
from __future__ import annotations

import os
from stat import S_ISBLK

from lamina.errors import InvalidArgument, NotFound, NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

THROTTLES = {
    "BlkioDeviceReadBps": "throttleReadBpsDevice", "BlkioDeviceWriteBps": "throttleWriteBpsDevice",
    "BlkioDeviceReadIOps": "throttleReadIOPSDevice", "BlkioDeviceWriteIOps": "throttleWriteIOPSDevice",
}  # fmt: skip


def check(host: dict[str, Any]) -> None:
    """docker's checks and texts (moby daemon, verifyPlatformContainerResources and its neighbours)."""
    annotations = host.get("Annotations") or {}
    if not isinstance(annotations, dict) or not all(isinstance(value, str) for value in annotations.values()):
        raise InvalidArgument("HostConfig.Annotations must be an object of strings")
    if "" in annotations:
        raise InvalidArgument("invalid Annotations: the empty string is not permitted as an annotation key")
    weight = number(host, "BlkioWeight")
    if weight and not 10 <= weight <= 1000:
        raise InvalidArgument("Range of blkio weight is from 10 to 1000")
    block_io(host)
    period, runtime = number(host, "CpuRealtimePeriod"), number(host, "CpuRealtimeRuntime")
    if period or runtime:
        check_realtime(period, runtime)
    parent = host["CgroupParent"]
    if not isinstance(parent, str) or not parent.isprintable():
        raise InvalidArgument(f"invalid cgroup parent {parent!r}")
    if str(host["Isolation"]).lower() not in ("", "default"):
        raise InvalidArgument(f"Invalid isolation: \"{host['Isolation']}\" - linux only supports 'default'")
    if host["UsernsMode"] not in ("", "host"):
        raise InvalidArgument(f"invalid user namespace mode: {host['UsernsMode']}")
    if host["VolumeDriver"] not in ("", "local"):
        raise NotFound(f"error looking up volume plugin {host['VolumeDriver']}: plugin \"{host['VolumeDriver']}\" not found")
    for name in host.get("StorageOpt") or {}:
        if name.lower() != "size":
            raise InvalidArgument(f"Unknown option {name}")
        raise NotSupported("--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
                           hint="by this version of lamina not even there: it sets no disk quotas")  # fmt: skip
    for request in host.get("DeviceRequests") or []:
        named = request if isinstance(request, dict) else {}
        sets = " ".join("[" + " ".join(map(str, words)) + "]" for words in named.get("Capabilities") or [])
        raise NotSupported(f"could not select device driver \"{named.get('Driver', '')}\" with capabilities: [{sets}]",
                           hint="--device gives a container the nodes of a GPU")  # fmt: skip


def number(host: dict[str, Any], key: str) -> int:
    value = host[key]
    if not isinstance(value, int) or value < 0:
        raise InvalidArgument(f"HostConfig.{key} must be a whole number that isn't negative")
    return value


def check_realtime(period: int, runtime: int) -> None:
    from lamina.runtime.cgroups import detect

    hierarchy = detect().find("cpu")
    for value, what, file in ((period, "period", "cpu.rt_period_us"), (runtime, "runtime", "cpu.rt_runtime_us")):
        if value and (hierarchy is None or not os.path.exists(f"{hierarchy.mount}/{file}")):
            raise NotSupported(f"Your kernel does not support CPU real-time {what}")
    if runtime and period and runtime > period:
        raise InvalidArgument("cpu real-time runtime cannot be higher than cpu real-time period")


def block_io(host: dict[str, Any]) -> dict[str, Any]:
    """OCI's linux.resources.blockIO. Devices are looked up by path each time: what they are called may change between two starts."""
    found: dict[str, Any] = {}
    if host.get("BlkioWeight"):
        found["weight"] = host["BlkioWeight"]
    weights = [{**device(entry), "weight": entry["Weight"]} for entry in entries(host, "BlkioWeightDevice", "Weight")]
    if weights:
        found["weightDevice"] = weights
    for key, name in THROTTLES.items():
        rates = [{**device(entry), "rate": entry["Rate"]} for entry in entries(host, key, "Rate")]
        if rates:
            found[name] = rates
    return found


def entries(host: dict[str, Any], key: str, value: str) -> list[dict[str, Any]]:
    given = host.get(key) or []
    if not isinstance(given, list) or not all(isinstance(e, dict) and isinstance(e.get(value), int) and e[value] >= 0 for e in given):
        raise InvalidArgument(f"HostConfig.{key} must be a list of objects with Path and {value}")
    return given


def device(entry: dict[str, Any]) -> dict[str, int]:
    path = str(entry.get("Path"))
    try:
        st = os.stat(path)
    except (OSError, ValueError) as e:
        raise InvalidArgument(f"stat {path}: {(getattr(e, 'strerror', None) or 'invalid path').lower()}") from None
    if not S_ISBLK(st.st_mode):
        raise InvalidArgument(f"{path} is not a block device: its I/O can't be limited")
    return {"major": os.major(st.st_rdev), "minor": os.minor(st.st_rdev)}


def apply(spec: dict[str, Any], host: dict[str, Any]) -> None:
    add(spec["linux"]["resources"], host)
    spec["annotations"].update(host.get("Annotations") or {})


def add(resources: dict[str, Any], host: dict[str, Any]) -> None:
    """The limits among them, into OCI's linux.resources."""
    block = block_io(host)
    if block:
        resources["blockIO"] = block
    for key, name in (("CpuRealtimePeriod", "realtimePeriod"), ("CpuRealtimeRuntime", "realtimeRuntime")):
        if host[key]:
            resources.setdefault("cpu", {})[name] = host[key]
