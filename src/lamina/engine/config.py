# SPDX-License-Identifier: Apache-2.0
"""From the body of a create request to the configuration of a container: defaults, the image's part, validation. [hot]

Docker Engine API v1.44, `POST /containers/create`: `Config` is what the process is, `HostConfig` what this host grants it. All
checks that need no container are here, before anything is written. Everything from an image is data of a stranger: it
supplies values for its own process and grants nothing (attacks.md R4).
"""

from __future__ import annotations

import os

from lamina.errors import InvalidArgument, NotFound, NotSupported
from lamina.linux import capnames, signals

from .environ import merge_env

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NODES = "/sys/devices/system/node/online"
MIN_MEMORY = 6 << 20  # docker's floor; less than this and a runtime can't even start its init
HOSTNAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
RESERVED_LABELS = "io.lamina."  # ours; from an image they are dropped, so that an image can't speak for the engine (attack 25)

CONFIG_KEYS: dict[str, Any] = {
    "Hostname": "", "Domainname": "", "User": "", "AttachStdin": False, "AttachStdout": False, "AttachStderr": False,
    "ExposedPorts": None, "Tty": False, "OpenStdin": False, "StdinOnce": False, "Env": None, "Cmd": None, "Image": "",
    "Volumes": None, "WorkingDir": "", "Entrypoint": None, "OnBuild": None, "Labels": None, "StopSignal": None,
    "Healthcheck": None, "StopTimeout": None, "Shell": None,
}  # fmt: skip
OPTIONAL_KEYS = ("ExposedPorts", "StopSignal", "Healthcheck", "StopTimeout", "Shell")  # left out of inspect when not set

HOST_KEYS: dict[str, Any] = {
    "Binds": None, "ContainerIDFile": "", "LogConfig": None, "NetworkMode": "bridge", "PortBindings": {}, "RestartPolicy": None,
    "AutoRemove": False, "VolumeDriver": "", "VolumesFrom": None, "ConsoleSize": [0, 0], "CapAdd": None, "CapDrop": None,
    "CgroupnsMode": "private", "Dns": [], "DnsOptions": [], "DnsSearch": [], "ExtraHosts": None, "GroupAdd": None,
    "IpcMode": "private", "Cgroup": "", "Links": None, "OomScoreAdj": 0, "PidMode": "", "Privileged": False,
    "PublishAllPorts": False, "ReadonlyRootfs": False, "SecurityOpt": None, "UTSMode": "", "UsernsMode": "",
    "ShmSize": 64 << 20, "Runtime": "lamina", "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0, "CgroupParent": "",
    "BlkioWeight": 0, "BlkioWeightDevice": [], "BlkioDeviceReadBps": [], "BlkioDeviceWriteBps": [], "BlkioDeviceReadIOps": [],
    "BlkioDeviceWriteIOps": [], "CpuPeriod": 0, "CpuQuota": 0, "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0, "CpusetCpus": "",
    "CpusetMems": "", "Devices": [], "DeviceCgroupRules": None, "DeviceRequests": None, "MemoryReservation": 0, "MemorySwap": 0,
    "MemorySwappiness": None, "OomKillDisable": None, "PidsLimit": None, "Ulimits": [], "CpuCount": 0, "CpuPercent": 0,
    "IOMaximumIOps": 0, "IOMaximumBandwidth": 0,
}  # fmt: skip

# Whoever sets one of these needs `limits`.
LIMITS = (
    "Annotations", "BlkioWeight", "BlkioWeightDevice", "BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps",
    "BlkioDeviceWriteIOps", "CgroupParent", "CpuRealtimePeriod", "CpuRealtimeRuntime", "Isolation", "UsernsMode", "VolumeDriver",
    "StorageOpt", "DeviceRequests",
)  # fmt: skip

# What this engine applies. A key of HostConfig that is set to anything but its default and isn't here is refused: a
# restriction that is accepted and ignored is worse than an error.
APPLIED = frozenset((
    "Binds", "ContainerIDFile", "NetworkMode", "AutoRemove", "ConsoleSize", "CapAdd", "CapDrop", "Privileged", "ReadonlyRootfs", "ShmSize",
    "Memory", "MemorySwap", "MemoryReservation", "NanoCpus", "CpuShares", "CpuPeriod", "CpuQuota", "CpusetCpus", "CpusetMems",
    "PidsLimit", "GroupAdd", "LogConfig", "OomScoreAdj", "PortBindings", "PublishAllPorts", "Dns", "DnsOptions", "DnsSearch", "ExtraHosts",
    "VolumesFrom", "Devices", "DeviceCgroupRules", "IpcMode", "PidMode", "UTSMode", "CgroupnsMode", "SecurityOpt", "Ulimits",
    "MemorySwappiness", "OomKillDisable", "RestartPolicy",
    "Runtime", *LIMITS,
))  # fmt: skip
# Applied, too; only there when given, as in docker.
OPTIONAL_HOST = frozenset(("Annotations", "Init", "StorageOpt", "Sysctls", "Tmpfs", "Mounts", "MaskedPaths", "ReadonlyPaths"))
# Whoever sets one of these needs `options` (checks, config.json) or `more_mounts`.
SPECIAL = (
    "Dns", "DnsOptions", "DnsSearch", "ExtraHosts", "VolumesFrom", "Devices", "DeviceCgroupRules", "PidMode", "UTSMode", "SecurityOpt",
    "Ulimits", "OomKillDisable", "OomScoreAdj", "Sysctls", "Tmpfs", "Mounts", "MaskedPaths", "ReadonlyPaths",
)  # fmt: skip
SAME_AS_UNSET: dict[str, tuple[Any, ...]] = {
    "RestartPolicy": (None, {"Name": "", "MaximumRetryCount": 0}, {"Name": "no", "MaximumRetryCount": 0}, {"Name": "no"}, {"Name": ""}),
    "CgroupnsMode": ("private", "", None),
    "IpcMode": ("private", "", None),
    "MemorySwappiness": (None, -1),
    "OomKillDisable": (None, False),
    "VolumesFrom": (None, []), "ExtraHosts": (None, []), "Links": (None, []), "SecurityOpt": (None, []), "DeviceCgroupRules": (None, []),
    "PortBindings": ({}, None), "Dns": ([], None), "DnsOptions": ([], None), "DnsSearch": ([], None), "Devices": ([], None),
    "Ulimits": ([], None),
    "BlkioWeightDevice": ([], None), "BlkioDeviceReadBps": ([], None), "BlkioDeviceWriteBps": ([], None),
    "BlkioDeviceReadIOps": ([], None), "BlkioDeviceWriteIOps": ([], None), "DeviceRequests": ([], None),
}  # fmt: skip


# What a container takes from its image, by type. A list holds strings only.
FROM_IMAGE: dict[str, type] = {
    "User": str, "WorkingDir": str, "StopSignal": str, "Env": list, "Cmd": list, "Entrypoint": list, "Shell": list, "Labels": dict,
    "Volumes": dict, "ExposedPorts": dict, "Healthcheck": dict,
}  # fmt: skip


def from_image(image: Any, image_ref: str) -> dict[str, Any]:
    """The image's `config`, believed in nothing: whatever it came from, what is of the wrong type is refused by name (attack 54)."""
    if not isinstance(image, dict):
        raise InvalidArgument(f"image {image_ref}: its config is no object")
    for key, kind in FROM_IMAGE.items():
        value = image.get(key)
        items = value if isinstance(value, list) else ()
        if value is not None and (not isinstance(value, kind) or not all(isinstance(item, str) for item in items)):
            raise InvalidArgument(f"image {image_ref}: {key} of its config is of the wrong type")
    return image


def merge(body: dict[str, Any], image: dict[str, Any], image_ref: str) -> dict[str, Any]:
    """The container's Config: docker's defaults, then the image's `config`, then what the request says."""
    image = from_image(image, image_ref)
    given = {k: v for k, v in body.items() if k in CONFIG_KEYS and v is not None}
    config = {k: (list(v) if isinstance(v, list) else v) for k, v in CONFIG_KEYS.items()}
    config.update(given)
    config["Image"] = image_ref
    mine = {entry.split("=", 1)[0] for entry in given.get("Env") or []}  # the request's first, then what it leaves of the image's: docker
    left = [entry for entry in image.get("Env") or [] if isinstance(entry, str) and entry.split("=", 1)[0] not in mine]
    config["Env"] = [*merge_env(None, given.get("Env")), *merge_env(left, None)] or None
    labels = {str(k): str(v) for k, v in (image.get("Labels") or {}).items() if not str(k).startswith(RESERVED_LABELS)}
    labels.update(given.get("Labels") or {})
    config["Labels"] = labels
    for key in ("ExposedPorts", "Volumes"):
        both = dict.fromkeys([*(image.get(key) or {}), *(given.get(key) or {})])
        config[key] = {k: {} for k in both} or None
    if config["Healthcheck"] or image.get("Healthcheck"):
        from .policies import health_check

        config["Healthcheck"] = health_check(config["Healthcheck"], image.get("Healthcheck"), image_ref)
    for key in ("User", "WorkingDir", "StopSignal", "Shell"):
        if not config[key] and image.get(key):
            config[key] = image[key]
    # An entrypoint of the request forgets the image's command; [""] takes the image's entrypoint away, too, and [] only that.
    if given.get("Entrypoint") is None:
        config["Entrypoint"] = image.get("Entrypoint") or None
        if not config["Cmd"]:
            config["Cmd"] = image.get("Cmd") or None
    elif config["Entrypoint"] in ([], [""]):
        if not config["Cmd"] and not config["Entrypoint"]:
            config["Cmd"] = image.get("Cmd") or None
        config["Entrypoint"] = None
    argv = [*(config["Entrypoint"] or []), *(config["Cmd"] or [])]
    if not argv:
        raise InvalidArgument("no command specified")
    if any(not isinstance(a, str) or "\0" in a for a in argv):
        raise InvalidArgument("the command holds something that is no string, or a NUL byte")
    return config


def check_config(config: dict[str, Any]) -> None:
    """What the request says about the process itself."""
    workdir = config["WorkingDir"]
    if workdir and not workdir.startswith("/"):
        raise InvalidArgument(f"the working directory '{workdir}' is invalid, it needs to be an absolute path")
    hostname = config["Hostname"]
    if hostname and (len(hostname) > 63 or not all(c in HOSTNAME for c in hostname)):
        raise InvalidArgument(f"invalid hostname format: {hostname}")
    for path in config["Volumes"] or {}:
        check_target(path)
    if config["StopSignal"]:
        signals.parse(config["StopSignal"])
    if config["StopTimeout"] is not None and not isinstance(config["StopTimeout"], int):
        raise InvalidArgument("Config.StopTimeout must be a whole number")
    if "\n" in config["Domainname"] or "\0" in config["Domainname"] or len(config["Domainname"]) > 64:
        raise InvalidArgument(f"invalid domain name: {config['Domainname']!r}")


def check_target(path: str) -> str:
    """A mount point in the container: absolute, not the root, no way up."""
    if not path.startswith("/"):
        raise InvalidArgument(f"invalid mount path: '{path}' mount path must be absolute")
    if "\0" in path:
        raise InvalidArgument(f"invalid mount path: {path!r}: holds a NUL byte")
    clean = os.path.normpath("/" + path.lstrip("/"))  # normpath would keep two slashes in front, and //proc is no other place
    if clean == "/":
        raise InvalidArgument("invalid specification: destination can't be '/'")
    for own in ("/proc", "/sys"):
        if clean == own or clean.startswith(own + "/"):
            # attack 5: a mount over these would hide what masks and LSM profiles are applied through
            raise InvalidArgument(f"{path} can't be a mount point: {own} belongs to the isolation")
    return clean


def host_config(body: dict[str, Any]) -> dict[str, Any]:
    """HostConfig with every default filled in, checked; refuses by name what this engine doesn't apply."""
    given = body.get("HostConfig") or {}
    host: dict[str, Any] = {k: (list(v) if isinstance(v, list) else dict(v) if isinstance(v, dict) else v) for k, v in HOST_KEYS.items()}
    for key, value in given.items():
        if key not in HOST_KEYS:
            if key in OPTIONAL_HOST:
                if value is not None:
                    host[key] = value
            elif value:
                raise NotSupported(f"HostConfig.{key} is not supported")
            continue
        if key not in APPLIED and value != HOST_KEYS[key] and value not in SAME_AS_UNSET.get(key, ()):
            if value in (None, "", 0, False, [], {}):
                continue
            raise NotSupported(f"HostConfig.{key} is not supported yet")
        if value is not None and (value != "" or key not in ("IpcMode", "CgroupnsMode", "Runtime")):
            host[key] = value
    if host["MemorySwappiness"] == -1:
        host["MemorySwappiness"] = None
    if host["RestartPolicy"] in SAME_AS_UNSET["RestartPolicy"]:
        host["RestartPolicy"] = {"Name": "no", "MaximumRetryCount": 0}
    else:
        from .policies import restart_policy

        host["RestartPolicy"] = restart_policy(host["RestartPolicy"], auto_remove=bool(host["AutoRemove"]))
    host["LogConfig"] = log_config(host["LogConfig"])
    if host["NetworkMode"] in ("", "default"):
        host["NetworkMode"] = "bridge"
    if host["NetworkMode"] not in ("bridge", "none", "host"):
        if host["NetworkMode"].startswith("container:"):
            raise NotSupported(f"network mode {host['NetworkMode']} is not supported yet", hint="bridge, none and host are")
        raise NotFound(f"network {host['NetworkMode']} not found", hint="bridge, none and host are there; networks of your own come later")
    check_resources(host)
    if any(map(host.get, LIMITS)):
        from . import limits

        limits.check(host)
    if host["Runtime"] != "lamina":
        from lamina.runtime import external

        external.find(str(host["Runtime"]))
    if not isinstance(host.get("Init", False), bool):
        raise InvalidArgument("HostConfig.Init must be true or false")
    host["CapAdd"] = check_caps("CapAdd", host["CapAdd"])
    host["CapDrop"] = check_caps("CapDrop", host["CapDrop"])
    if not isinstance(host["ShmSize"], int) or host["ShmSize"] < 0:
        raise InvalidArgument("SHM size can not be less than 0")
    host["ShmSize"] = host["ShmSize"] or 64 << 20
    return host


def special(host: dict[str, Any]) -> bool:
    """Whether the container uses what `options` applies: most don't, and never load it."""
    return (
        any(map(host.get, SPECIAL)) or host["IpcMode"] != "private" or host["CgroupnsMode"] != "private"
        or host["MemorySwappiness"] is not None or "MaskedPaths" in host or "ReadonlyPaths" in host
    )  # fmt: skip


def log_config(given: dict[str, Any] | None) -> dict[str, Any]:
    kind = (given or {}).get("Type") or "json-file"
    if kind not in ("json-file", "none"):
        raise NotSupported(f"log driver {kind} is not supported yet", hint="json-file and none are")
    options = (given or {}).get("Config") or {}
    if options:
        check_log_options(kind, options)
    return {"Type": kind, "Config": options}


def check_log_options(kind: str, options: dict[str, str]) -> None:
    for name in options:
        if kind != "json-file" or name not in ("max-size", "max-file"):
            raise InvalidArgument(f"unknown log opt '{name}' for {kind} log driver")
    from lamina.util.sizes import parse_bytes

    try:
        if parse_bytes(options.get("max-size") or "1m") < 1:
            raise InvalidArgument("failed to initialize logging driver: max-size must be a positive number")
    except ValueError:
        raise InvalidArgument(f"failed to initialize logging driver: invalid size: '{options['max-size']}'") from None
    files = options.get("max-file") or "1"
    if not files.isascii() or not files.lstrip("-").isdigit() or len(files) > 6:
        raise InvalidArgument(f'failed to initialize logging driver: strconv.Atoi: parsing "{files}": invalid syntax')
    if int(files) < 1:
        raise InvalidArgument("failed to initialize logging driver: max-file cannot be less than 1")


def check_resources(host: dict[str, Any]) -> None:
    """docker's own checks and texts (moby daemon, verifyPlatformContainerResources)."""
    memory, swap = host["Memory"], host["MemorySwap"]
    for key in ("Memory", "MemorySwap", "MemoryReservation", "NanoCpus", "CpuShares", "CpuPeriod", "CpuQuota"):
        if not isinstance(host[key], int):
            raise InvalidArgument(f"HostConfig.{key} must be a whole number")
    if 0 < host["MemoryReservation"] < MIN_MEMORY:
        raise InvalidArgument("Minimum memory reservation allowed is 6MB")
    if host["CpuPeriod"] and not 1000 <= host["CpuPeriod"] <= 1_000_000:
        raise InvalidArgument("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < host["CpuQuota"] < 1000:
        raise InvalidArgument("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if memory and memory < MIN_MEMORY:
        raise InvalidArgument("Minimum memory limit allowed is 6MB")
    if memory and swap > 0 and swap < memory:
        raise InvalidArgument("Minimum memoryswap limit should be larger than memory limit, see usage")
    if not memory and swap > 0:
        raise InvalidArgument("You should always set the Memory limit when using Memoryswap limit, see usage")
    if host["MemoryReservation"] and memory and memory < host["MemoryReservation"]:
        raise InvalidArgument("Minimum memory limit can not be less than memory reservation limit, see usage")
    for key, what, path in (("CpusetCpus", "CPUs", "/sys/devices/system/cpu/online"), ("CpusetMems", "memory nodes", NODES)):
        if host[key]:
            from .options import check_cpuset

            check_cpuset(str(host[key]), what, path)
    cpus = os.cpu_count() or 1
    if host["NanoCpus"] and (host["NanoCpus"] < 10_000_000 or host["NanoCpus"] > cpus * 1_000_000_000):
        raise InvalidArgument(f"Range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available")
    if host["NanoCpus"] and (host["CpuPeriod"] or host["CpuQuota"]):
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if host["PidsLimit"] is not None and not isinstance(host["PidsLimit"], int):
        raise InvalidArgument("HostConfig.PidsLimit must be a whole number")


def check_caps(key: str, names: list[str] | None) -> list[str] | None:
    """Capability names as CAP_X or ALL, or InvalidArgument with docker's text."""
    if not names:
        return None
    known = []
    for name in names:
        upper = str(name).upper()
        full = upper if upper == "ALL" or upper.startswith("CAP_") else "CAP_" + upper
        if full != "ALL" and full not in capnames.NUMBERS:
            raise InvalidArgument(f'invalid {key}: unknown capability: "{full}"')
        known.append(full)
    return known
