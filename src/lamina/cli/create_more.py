# SPDX-License-Identifier: Apache-2.0
"""The rarer flags of `run` and `create` into the body of the request; loaded only when one of them is given.

What docker's client makes of each (goldens/bodies.json), with its checks and error texts. Converters (`ulimit`, `mount` ...) are
called by the parser: their ValueError becomes `invalid argument "..." for "--..." flag: ...`.
"""
from __future__ import annotations

import os
from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from lamina.util.sizes import parse_bytes

from .context import CliError
from .flags import parse_bool, parse_int

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .flags import Opts

ULIMITS = frozenset(
    "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split()
)
SYSCTLS = frozenset(f"kernel.{name}" for name in "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced".split())
RECURSIVE: dict[str, dict[str, bool]] = {
    "enabled": {}, "disabled": {"NonRecursive": True}, "writable": {"ReadOnlyNonRecursive": True},
    "readonly": {"ReadOnlyForceRecursive": True},
}  # fmt: skip

HEALTH = {
    "health-interval": "Interval", "health-timeout": "Timeout", "health-retries": "Retries", "health-start-period": "StartPeriod",
    "health-start-interval": "StartInterval",
}  # fmt: skip

# flag -> key of HostConfig, where the value goes there as it is
PLAIN = {
    "runtime": "Runtime",
    "cidfile": "ContainerIDFile", "cpu-period": "CpuPeriod", "cpu-quota": "CpuQuota",
    "cpu-shares": "CpuShares", "cpuset-cpus": "CpusetCpus", "cpuset-mems": "CpusetMems", "device-cgroup-rule": "DeviceCgroupRules",
    "dns": "Dns", "dns-search": "DnsSearch", "add-host": "ExtraHosts", "group-add": "GroupAdd", "init": "Init", "ipc": "IpcMode",
    "memory-reservation": "MemoryReservation", "memory-swap": "MemorySwap", "mount": "Mounts", "oom-kill-disable": "OomKillDisable",
    "oom-score-adj": "OomScoreAdj", "shm-size": "ShmSize", "volumes-from": "VolumesFrom",
}  # fmt: skip


def extend(config: dict[str, Any], host: dict[str, Any], networking: dict[str, Any], opts: Opts) -> None:
    """Adds what the given flags say; CliError (125) for what docker's client refuses."""
    changed = opts.changed
    for flag, key in PLAIN.items():
        if flag in changed:
            host[key] = opts[flag]
    if "env-file" in changed:
        from .create import environment

        lines = [line for path in opts["env-file"] for line in read_pairs(path, look_up=True)]
        config["Env"] = environment([*lines, *(config["Env"] or [])]) or None
    if "label-file" in changed:
        from .create import labels

        config["Labels"] = labels([*(line for path in opts["label-file"] for line in read_pairs(path)), *opts["label"]])
    if "domainname" in changed:
        config["Domainname"] = opts["domainname"]
    if "stop-signal" in changed:
        config["StopSignal"] = opts["stop-signal"]
    if "stop-timeout" in changed:
        config["StopTimeout"] = opts["stop-timeout"]
    if changed & {"dns-option", "dns-opt"}:
        host["DnsOptions"] = [*opts["dns-option"], *opts["dns-opt"]]
    if "tmpfs" in changed:
        host["Tmpfs"] = {path: options for path, _, options in (text.partition(":") for text in opts["tmpfs"])}
    if "ulimit" in changed:
        host["Ulimits"] = sorted({limit["Name"]: limit for limit in opts["ulimit"]}.values(), key=lambda limit: str(limit["Name"]))
    if "sysctl" in changed:
        host["Sysctls"] = {name: value for name, _, value in (text.partition("=") for text in opts["sysctl"])}
    if "device" in changed:
        host["Devices"] = [device(text) for text in opts["device"]]
    if "security-opt" in changed:
        security(host, opts["security-opt"])
    if "memory-swappiness" in changed:
        swappiness = opts["memory-swappiness"]
        if swappiness != -1 and not 0 <= swappiness <= 100:
            raise CliError(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100", 125)
        host["MemorySwappiness"] = swappiness
    for flag, key, what in (("pid", "PidMode", "PID"), ("uts", "UTSMode", "UTS"), ("cgroupns", "CgroupnsMode", "CGROUP")):
        if flag in changed:
            if not valid_mode(flag, opts[flag]):
                raise CliError(f"--{flag}: invalid {what} mode", 125)
            host[key] = opts[flag]
    if changed & {"log-driver", "log-opt"}:
        options = dict(text.partition("=")[::2] for text in opts["log-opt"])
        if opts["log-driver"] == "none" and options:
            raise CliError("invalid logging opts for driver none", 125)
        host["LogConfig"] = {"Type": opts["log-driver"], "Config": options}
    if changed & {"mac-address", "ip", "ip6", "link-local-ip", "network-alias", "net-alias"}:
        endpoint(host, networking, opts)
    if "restart" in changed:
        host["RestartPolicy"] = restart_policy(opts["restart"])
        if host["AutoRemove"] and host["RestartPolicy"]["Name"] not in ("", "no"):
            raise CliError("Conflicting options: --restart and --rm", 125)
    if changed & {"no-healthcheck", "health-cmd", *HEALTH}:
        config["Healthcheck"] = health_check(opts)


def valid_mode(flag: str, text: str) -> bool:
    if flag == "pid" and text.startswith("container:"):
        return text != "container:"
    return text in ("", "host", "private") if flag == "cgroupns" else text in ("", "host")


def restart_policy(text: str) -> dict[str, Any]:
    """NAME[:COUNT]; which names and counts there are is the engine's."""
    name, sign, count = text.partition(":")
    wrong = "invalid restart policy format: "
    if sign and not name:
        raise CliError(wrong + "no policy provided before colon", 125)
    if count:
        digits = count[1:] if count[0] in "+-" else count
        if not digits.isdecimal() or not digits.isascii() or len(digits) > 18:
            raise CliError(wrong + "maximum retry count must be an integer", 125)
    return {"Name": name, "MaximumRetryCount": int(count or 0)}


def health_check(opts: Opts) -> dict[str, Any] | None:
    given = [name for name in ("health-cmd", *HEALTH) if opts[name]]
    if opts["no-healthcheck"]:
        if given:
            raise CliError("--no-healthcheck conflicts with --health-* options", 125)
        return {"Test": ["NONE"]}
    for name in HEALTH:
        if opts[name] < 0:
            raise CliError(f"--{name} cannot be negative", 125)
    found: dict[str, Any] = {key: opts[name] for name, key in HEALTH.items() if opts[name]}
    if opts["health-cmd"]:
        found["Test"] = ["CMD-SHELL", opts["health-cmd"]]
    return found or None


def endpoint(host: dict[str, Any], networking: dict[str, Any], opts: Opts) -> None:
    mac = opts["mac-address"]
    if mac:
        mac = mac_address(mac)
    mode = host.get("NetworkMode") or "default"
    aliases = [*opts["network-alias"], *opts["net-alias"]]
    if aliases and (mode in ("default", "bridge", "none", "host") or mode.startswith("container:")):
        raise CliError("network-scoped aliases are only supported for user-defined networks", 125)
    found: dict[str, Any] = {"MacAddress": mac} if mac else {}
    if aliases:
        found["Aliases"] = aliases
    ipam = {"IPv4Address": opts["ip"], "IPv6Address": opts["ip6"], "LinkLocalIPs": opts["link-local-ip"]}
    if any(ipam.values()):
        found["IPAMConfig"] = {key: value for key, value in ipam.items() if value}
    networking["EndpointsConfig"] = {host.get("NetworkMode") or "default": found}


def mac_address(text: str) -> str:
    """Six bytes in hex, set apart by ":" or "-", or three pairs by "."."""
    parts = text.split(".") if text.count(".") == 2 else text.replace("-", ":").split(":") if len({":", "-"} & set(text)) == 1 else []
    width = 4 if len(parts) == 3 else 2
    digits = "".join(parts)
    if len(digits) != 12 or any(len(part) != width for part in parts) or not set(digits.lower()) <= set("0123456789abcdef"):
        raise CliError(f"{text} is not a valid mac address", 125)
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2)).lower()


def read_pairs(path: str, *, look_up: bool = False) -> list[str]:
    """NAME=value lines of a file; empty ones and those that begin with # are none. NAME alone takes our environment's value, if asked."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as e:
        raise CliError(f"open {path}: {(e.strerror or '').lower()}", 125)
    found = []
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            line = raw.removesuffix(b"\r").decode().lstrip()
        except UnicodeDecodeError:
            raise CliError(f"env file {path} contains invalid utf8 bytes at line {number}: [{' '.join(map(str, raw))}]", 125)
        if not line or line.startswith("#"):
            continue
        name, sign, _ = line.partition("=")
        name = name.lstrip()
        if not name:
            raise CliError(f"poorly formatted environment: no variable name on line '{line}'", 125)
        if any(c.isspace() for c in name):
            raise CliError(f"poorly formatted environment: variable '{name}' contains whitespaces", 125)
        if sign:
            found.append(line)
        elif look_up and name in os.environ:
            found.append(f"{name}={os.environ[name]}")
    return found


def device(text: str) -> dict[str, str]:
    """HOST[:CONTAINER[:PERMISSIONS]], or HOST:PERMISSIONS."""
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or not parts[0]:
        raise CliError(f"bad format for path: {text}", 125)
    access, inside = "rwm", parts[0]
    if len(parts) == 2 and is_access(parts[1]):
        access = parts[1]
    elif len(parts) > 1:
        inside = parts[1]
    if len(parts) == 3:
        access = parts[2]
        if not is_access(access):
            raise CliError(f"bad mode specified: {access}", 125)
    for path in (parts[0], inside):
        if not path.startswith("/"):
            if path == parts[0] and "=" in path:
                raise CliError(f"{path} is a device of CDI, which this version of lamina doesn't know", 125)
            raise CliError(f"{path} is not an absolute path", 125)
    return {"PathOnHost": parts[0], "PathInContainer": inside, "CgroupPermissions": access}


def is_access(text: str) -> bool:
    return bool(text) and set(text) <= set("rwm") and len(set(text)) == len(text)


def security(host: dict[str, Any], given: list[str]) -> None:
    """A profile's file is read here, where its path means something; `systempaths` becomes what it stands for."""
    kept = []
    for text in given:
        if text == "no-new-privileges":
            kept.append(text)
            continue
        name, sign, value = text.partition("=" if "=" in text else ":")
        if not sign:
            raise CliError(f'Invalid --security-opt: "{text}"', 125)
        if name == "systempaths" and value == "unconfined":
            host["MaskedPaths"], host["ReadonlyPaths"] = [], []
            continue
        if name == "seccomp" and value not in ("unconfined", "builtin"):
            text = "seccomp=" + seccomp_profile(value)
        kept.append(text)
    host["SecurityOpt"] = kept


def seccomp_profile(path: str) -> str:
    import json

    try:
        with open(path, "rb") as file:
            return json.dumps(json.load(file), separators=(",", ":"))
    except OSError as e:
        raise CliError(f"opening seccomp profile ({path}) failed: open {path}: {(e.strerror or '').lower()}", 125)
    except (ValueError, RecursionError) as e:
        raise CliError(f"compacting json for seccomp profile ({path}) failed: {e}", 125)


# -- converters


def ulimit(text: str) -> dict[str, Any]:
    """NAME=SOFT[:HARD]; -1 is without limit."""
    name, sign, value = text.partition("=")
    if not sign:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in ULIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    parts = value.split(":")
    if len(parts) > 2:
        raise ValueError(f"too many limit value arguments - {value}, can only have up to two, `soft[:hard]`")
    soft, hard = parse_limit(parts[0]), parse_limit(parts[-1])
    if hard != -1:
        if soft == -1:
            raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: {hard}")
        if soft > hard:
            raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return {"Name": name, "Hard": hard, "Soft": soft}


def parse_limit(text: str) -> int:
    if not text.lstrip("+-").isdecimal() or not text.isascii():
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    digits = text.lstrip("+-0") or "0"  # base 10, whatever it begins with
    return parse_int(("-" if text.startswith("-") else "") + digits)


def sysctl(text: str) -> str:
    name, sign, _ = text.partition("=")
    if not sign or name not in SYSCTLS and not name.startswith(("net.", "fs.mqueue.")):
        raise ValueError(f"sysctl '{text}' is not allowed")
    return text


def ip_address(text: str) -> str:
    for family in (AF_INET, AF_INET6):
        try:
            return inet_ntop(family, inet_pton(family, text.strip()))
        except (OSError, ValueError):
            pass
    raise ValueError(f"IP address is not correctly formatted: {text}")


def dns_search(text: str) -> str:
    domain = text.strip()
    labels = domain.rstrip(".").split(".") if domain != "." else []
    fine = all(label and len(label) <= 63 and label.replace("-", "a").replace("_", "a").isalnum() and label.isascii() for label in labels)
    if not domain or not fine or len(domain) > 255:
        raise ValueError(f"{text} is not a valid domain")
    return domain


def extra_host(text: str) -> str:
    """NAME:ADDRESS or NAME=ADDRESS, also ADDRESS in brackets; `host-gateway` stands for this host. The result has a colon."""
    at = min((i for i in (text.find("="), text.find(":")) if i > 0), default=0)
    name, address = text[:at], text[at + 1 :]
    if not name:
        raise ValueError(f'bad format for add-host: "{text}"')
    if address != "host-gateway":
        bare = address[1:-1] if len(address) > 2 and address[0] == "[" and address[-1] == "]" else address
        try:
            ip_address(bare)
        except ValueError:
            raise ValueError(f'invalid IP address in add-host: "{address}"') from None
        address = bare
    return f"{name}:{address}"


def device_rule(text: str) -> str:
    """TYPE MAJOR:MINOR ACCESS, as `c 1:3 rwm`."""
    words = text.split(" ")
    if len(words) == 3 and words[0] in ("a", "b", "c") and is_access(words[2]):
        numbers = words[1].split(":")
        if len(numbers) == 2 and all(n == "*" or n.isascii() and n.isdecimal() for n in numbers):
            return text
    raise ValueError(f"invalid device cgroup format '{text}'")


def duration(text: str) -> int:
    """Go's time.ParseDuration, in nanoseconds."""
    from lamina.errors import InvalidArgument
    from lamina.images.changes import parse_duration

    try:
        return parse_duration(text)
    except InvalidArgument as e:
        raise ValueError(e.message) from None


def stream(text: str) -> str:
    if text.lower() not in ("stdin", "stdout", "stderr"):
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    return text.lower()


def mount(text: str) -> dict[str, Any]:
    """A `--mount` (comma-separated fields, quoted as in CSV) as the API's Mount."""
    import csv

    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as e:
        raise ValueError(str(e)) from None
    if not fields:
        raise ValueError("EOF")
    made: dict[str, Any] = {"Type": "volume"}
    for field in fields:
        one_field(made, field)
    if not made.get("Target"):
        raise ValueError("target is required")
    for kind, part in (("volume", "VolumeOptions"), ("bind", "BindOptions"), ("tmpfs", "TmpfsOptions")):
        if part in made and made["Type"] != kind:
            raise ValueError(f"cannot mix '{kind}-*' options with mount type '{made['Type']}'")
    bind = made.get("BindOptions") or {}
    for key, word in (("ReadOnlyNonRecursive", "writable"), ("ReadOnlyForceRecursive", "readonly")):
        if bind.get(key) and not made.get("ReadOnly"):
            raise ValueError(f"option 'bind-recursive={word}' requires 'readonly' to be specified in conjunction")
    if bind.get("ReadOnlyForceRecursive") and bind.get("Propagation") != "rprivate":
        raise ValueError("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction")
    return made


def one_field(made: dict[str, Any], field: str) -> None:
    key, sign, value = field.partition("=")
    key = key.lower()
    if not sign and key not in ("readonly", "ro", "volume-nocopy", "bind-nonrecursive"):
        raise ValueError(f"invalid field '{field}' must be a key=value pair")
    if key == "type":
        made["Type"] = value.lower()
    elif key in ("source", "src"):
        made["Source"] = os.path.abspath(value) if value == "." or value.startswith("./") or value.startswith("../") else value
    elif key in ("target", "dst", "destination"):
        made["Target"] = value
    elif key in ("readonly", "ro"):
        if flag(key, sign, value):
            made["ReadOnly"] = True
    elif key == "consistency":
        made["Consistency"] = value.lower()
    elif key == "bind-propagation":
        made.setdefault("BindOptions", {})["Propagation"] = value.lower()
    elif key == "bind-nonrecursive":
        made.setdefault("BindOptions", {})["NonRecursive"] = flag(key, sign, value)
    elif key == "bind-recursive":
        if value not in RECURSIVE:
            raise ValueError(f'invalid value for {key}: {value} (must be "enabled", "disabled", "writable", or "readonly")')
        made.setdefault("BindOptions", {}).update(RECURSIVE[value])
    elif key == "volume-subpath":
        volume(made)["Subpath"] = value
    elif key == "volume-nocopy":
        volume(made)["NoCopy"] = flag(key, sign, value)
    elif key == "volume-label":
        name, _, text = value.partition("=")
        volume(made).setdefault("Labels", {})[name] = text
    elif key == "volume-driver":
        volume(made)["DriverConfig"]["Name"] = value
    elif key == "volume-opt":
        name, _, text = value.partition("=")
        volume(made)["DriverConfig"].setdefault("Options", {})[name] = text
    elif key == "tmpfs-size":
        try:
            made.setdefault("TmpfsOptions", {})["SizeBytes"] = parse_bytes(value)
        except ValueError:
            raise ValueError(f"invalid value for {key}: {value}") from None
    elif key == "tmpfs-mode":
        if not value or not set(value) <= set("01234567") or int(value, 8) >= 1 << 32:
            raise ValueError(f"invalid value for {key}: {value}")
        made.setdefault("TmpfsOptions", {})["Mode"] = int(value, 8)
    else:
        raise ValueError(f"unexpected key '{key}' in '{field}'")


def volume(made: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = made.setdefault("VolumeOptions", {"DriverConfig": {}})
    return options


def flag(key: str, sign: str, value: str) -> bool:
    if not sign:
        return True
    try:
        return parse_bool(value)
    except ValueError:
        raise ValueError(f"invalid value for {key}: {value}") from None
