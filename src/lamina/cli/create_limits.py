# SPDX-License-Identifier: Apache-2.0
"""Flags of `run` and `create` about disk I/O, real-time CPU and the cgroup's place, and words that have one value here.

As `create_more`: what docker's client makes of each, with its checks and error texts; loaded only when one of them is given.
"""
from __future__ import annotations

from lamina.util.sizes import parse_bytes

from .context import CliError
from .flags import parse_int

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .flags import Opts

# flag -> key of HostConfig, where the value goes there as it is
PLAIN = {
    "blkio-weight": "BlkioWeight", "blkio-weight-device": "BlkioWeightDevice", "device-read-bps": "BlkioDeviceReadBps",
    "device-write-bps": "BlkioDeviceWriteBps", "device-read-iops": "BlkioDeviceReadIOps", "device-write-iops": "BlkioDeviceWriteIOps",
    "cgroup-parent": "CgroupParent", "cpu-rt-period": "CpuRealtimePeriod", "cpu-rt-runtime": "CpuRealtimeRuntime",
    "isolation": "Isolation", "volume-driver": "VolumeDriver",
}  # fmt: skip
RATE = ("The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, "
        "or gb")  # fmt: skip

COUNT = "The correct format is <device-path>:<number>. Number must be a positive integer"


def extend(host: dict[str, Any], opts: Opts) -> None:
    """Adds what the given flags say; CliError (125) for what docker's client refuses."""
    changed = opts.changed
    if "disable-content-trust" in changed and not opts["disable-content-trust"]:
        raise CliError("--disable-content-trust=false is not supported: Docker Content Trust has ended", 125)
    for flag, key in PLAIN.items():
        if flag in changed:
            host[key] = opts[flag]
    if "annotation" in changed:
        host["Annotations"] = {name: value for name, _, value in (text.partition("=") for text in opts["annotation"])}
    if "userns" in changed:
        if opts["userns"] not in ("", "host"):
            raise CliError("--userns: invalid USER mode", 125)
        host["UsernsMode"] = opts["userns"]


# -- converters


def weight(text: str) -> int:
    """Go's strconv.ParseUint(text, 0, 16)."""
    try:
        value = parse_int(text)
    except ValueError as e:
        raise ValueError(str(e).replace("ParseInt", "ParseUint")) from None
    if text[:1] in "+-":
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    if value >= 1 << 16:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return value


def device_and(text: str) -> tuple[str, str]:
    path, sign, value = text.partition(":")
    if not sign or not path:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    return path, value


def device_weight(text: str) -> dict[str, Any]:
    path, value = device_and(text)
    number = int(value) if value.isascii() and value.isdecimal() and len(value) < 6 else -1
    if number != 0 and not 10 <= number <= 1000:
        raise ValueError(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": number}


def bytes_per_second(text: str) -> dict[str, Any]:
    path, value = device_and(text)
    try:
        return {"Path": path, "Rate": parse_bytes(value)}
    except ValueError:
        raise ValueError(f"invalid rate for device: {text}. {RATE}") from None


def io_per_second(text: str) -> dict[str, Any]:
    path, value = device_and(text)
    if not value.isascii() or not value.isdecimal() or int(value) >= 1 << 64:
        raise ValueError(f"invalid rate for device: {text}. {COUNT}")
    return {"Path": path, "Rate": int(value)}
