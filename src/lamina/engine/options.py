# SPDX-License-Identifier: Apache-2.0
"""The rarer keys of HostConfig: checked at create, and put into the OCI bundle at each start. Loaded only for containers that use one.

`check` refuses with docker's texts whatever can't be applied to the letter, before anything is made; `apply` changes the config.json
that `planning` has written for a plain container. `config.special` says whether a container needs this module.
"""

from __future__ import annotations

import os

from lamina.errors import Conflict, InvalidArgument, NotFound, NotSupported
from lamina.runtime import defaults, seccomp_profiles, sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lamina.containers.state import State
    from lamina.containers.store import ContainerStore, Record
    from lamina.store.open import Store

ULIMITS = frozenset("core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split())
UNLIMITED = 2**64 - 1


def check(host: dict[str, Any]) -> list[str]:
    """Refuses what is wrong or can't be done; normalises modes. Returns warnings."""
    check_modes(host)
    check_limits(host)
    own = own_namespaces(host)
    settings = mapping(host, "Sysctls")
    for name, value in settings.items():
        if not isinstance(value, str) or "\n" in value:
            raise InvalidArgument(f"sysctl {name}: its value must be one line of text")
        if name in ("kernel.hostname", "kernel.domainname"):
            raise InvalidArgument(f"sysctl {name} is not allowed: --hostname and --domainname set it")
    sysctl.check(settings, own)
    for limit in host["Ulimits"] or []:
        check_ulimit(limit)
    for entry in host["Devices"] or []:
        devices_of(entry)
    for rule in host["DeviceCgroupRules"] or []:
        device_rule(rule)
    security = security_of(host)
    if isinstance(security["seccomp"], str) and security["seccomp"] != "unconfined":
        compiled(host, security["seccomp"], defaults.CAPABILITIES)
    check_apparmor(security["apparmor"])
    for key in ("MaskedPaths", "ReadonlyPaths"):
        paths = host.get(key)
        if paths is not None and not (isinstance(paths, list) and all(isinstance(p, str) and p.startswith("/") for p in paths)):
            raise InvalidArgument(f"HostConfig.{key} must be a list of absolute paths")
    check_names(host)
    if host["OomKillDisable"] and not host["Memory"]:
        return ["OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of "
                "resources."]  # fmt: skip
    return []


def mapping(host: dict[str, Any], key: str) -> dict[str, Any]:
    value = host.get(key) or {}
    if not isinstance(value, dict):
        raise InvalidArgument(f"HostConfig.{key} must be an object")
    return value


def check_modes(host: dict[str, Any]) -> None:
    """Namespaces: the host's where the kernel's isolation allows to leave them out; another container's pid namespace."""
    pid, ipc, uts, cgroup = host["PidMode"], host["IpcMode"], host["UTSMode"], host["CgroupnsMode"]
    if pid not in ("", "host") and not (pid.startswith("container:") and len(pid) > 10):
        raise InvalidArgument("invalid PID mode: " + pid)
    if ipc not in ("private", "shareable", "none", "host") and not (ipc.startswith("container:") and len(ipc) > 10):
        raise InvalidArgument(f"invalid IPC mode: {ipc}")
    if host["ShmSize"] != defaults.SHM_SIZE and ipc not in ("private", "shareable"):
        raise InvalidArgument("conflicting options: shm-size and the IPC mode")
    if uts not in ("", "host"):
        raise InvalidArgument(f"invalid UTS mode: {uts}")
    if cgroup not in ("private", "host"):
        raise InvalidArgument(f"invalid cgroup namespace mode: {cgroup}")


def check_limits(host: dict[str, Any]) -> None:
    swappiness = host["MemorySwappiness"]
    if swappiness is not None and (not isinstance(swappiness, int) or not 0 <= swappiness <= 100):
        raise InvalidArgument(f"Invalid value: {swappiness}, valid memory swappiness range is 0-100")
    score = host["OomScoreAdj"]
    if not isinstance(score, int) or not -1000 <= score <= 1000:
        raise InvalidArgument(f"Invalid value {score}, range for oom score adj is [-1000, 1000]")


def check_ulimit(limit: Any) -> None:
    if not isinstance(limit, dict) or limit.get("Name") not in ULIMITS:
        raise InvalidArgument(f"invalid ulimit type: {limit.get('Name') if isinstance(limit, dict) else limit}")
    soft, hard = limit.get("Soft"), limit.get("Hard")
    if not isinstance(soft, int) or not isinstance(hard, int) or min(soft, hard) < -1:
        raise InvalidArgument(f"invalid ulimit {limit['Name']}: Soft and Hard must be numbers, -1 for unlimited")
    if hard != -1 and (soft == -1 or soft > hard):
        raise InvalidArgument(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")


def check_cpuset(text: str, what: str, path: str) -> None:
    """`0-3,7` of what this host has, docker's texts."""
    wrong = InvalidArgument(f"Invalid value {text} for cpuset {'cpus' if what == 'CPUs' else 'mems'}: invalid format: {text}")
    try:
        with open(path, encoding="ascii") as file:
            online = file.read().strip()
    except FileNotFoundError:
        online = "0"  # a kernel without NUMA
    try:
        wanted = numbers_of(text)
    except ValueError:
        raise wrong from None
    if not wanted <= numbers_of(online):
        raise InvalidArgument(f"Requested {what} are not available - requested {text}, available: {online}")


def numbers_of(text: str) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not all(n.isascii() and n.isdecimal() and len(n) < 5 for n in (first, last if dash else first)):
            raise ValueError(part)
        found.update(range(int(first), int(last if dash else first) + 1))
    return found


def own_namespaces(host: dict[str, Any]) -> set[str]:
    """OCI names of the namespaces that are the container's own."""
    own = {"mount", "uts", "ipc", "pid", "cgroup", "network"}
    for kind, shared in (
        ("uts", host["UTSMode"] == "host"), ("ipc", host["IpcMode"] == "host"), ("pid", host["PidMode"] == "host"),
        ("cgroup", host["CgroupnsMode"] == "host"), ("network", host["NetworkMode"] == "host"),
    ):  # fmt: skip
        if shared:
            own.discard(kind)
    return own


def check_names(host: dict[str, Any]) -> None:
    """What goes into resolv.conf and hosts is single words: no line can be smuggled in."""
    for key in ("Dns", "DnsOptions", "DnsSearch"):
        for word in host[key] or []:
            if not isinstance(word, str) or not word or word.split() != [word] or not word.isprintable():
                raise InvalidArgument(f"invalid value in {key}: {word!r}")
    for entry in host["ExtraHosts"] or []:
        extra_host(entry)


def extra_host(entry: Any) -> tuple[str, str]:
    """(name, address) of one of ExtraHosts, "NAME:ADDRESS"."""
    name, sign, address = str(entry).partition(":")
    if not sign or not name or name.split() != [name] or address.split() != [address] or not str(entry).isprintable():
        raise InvalidArgument(f'bad format for add-host: "{entry}"')
    if address != "host-gateway":
        from _socket import AF_INET, AF_INET6, inet_pton

        try:
            inet_pton(AF_INET6 if ":" in address else AF_INET, address)
        except (OSError, ValueError):
            raise InvalidArgument(f'invalid IP address in add-host: "{address}"') from None
    return name, address


# -- devices


def devices_of(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """linux.devices entries for one of Devices: the node, or all below a directory; its links on the host are followed."""
    outside, inside = entry.get("PathOnHost") or "", entry.get("PathInContainer") or entry.get("PathOnHost") or ""
    access = entry.get("CgroupPermissions") or "rwm"
    wrong = f'error gathering device information while adding custom device "{outside}"'
    if not outside.startswith("/") or not inside.startswith("/") or "\0" in outside + inside or ".." in inside.split("/"):
        raise InvalidArgument(f"{wrong}: paths must be absolute")
    if not set(access) <= set("rwm"):
        raise InvalidArgument(f"bad mode specified: {access}")
    try:
        if os.path.isdir(outside):
            found = [
                {**one, "path": inside.rstrip("/") + one["path"].removeprefix("/dev")} for one in defaults.host_devices(outside.rstrip("/"))
            ]
        else:
            found = [defaults.device(os.path.realpath(outside), inside=inside)]
    except OSError as e:
        raise InvalidArgument(f"{wrong}: {(e.strerror or '').lower()}") from None
    except ValueError:
        raise InvalidArgument(f"{wrong}: not a device node") from None
    if not found:
        raise InvalidArgument(f"{wrong}: not a device node")
    return found


def device_rule(text: Any) -> dict[str, Any]:
    """`c 1:3 rwm` as a rule of linux.resources.devices; a "*" is left out, which means all."""
    words = str(text).split(" ")
    numbers = words[1].split(":") if len(words) == 3 else []
    fine = len(numbers) == 2 and all(n == "*" or n.isascii() and n.isdecimal() and len(n) <= 10 for n in numbers)
    if not fine or words[0] not in ("a", "b", "c") or not words[2] or not set(words[2]) <= set("rwm"):
        raise InvalidArgument(f"invalid device cgroup rule format: '{text}'")
    rule: dict[str, Any] = {"allow": True, "type": words[0], "access": words[2]}
    rule.update((key, int(n)) for key, n in zip(("major", "minor"), numbers, strict=True) if n != "*")
    if words[0] == "a" and (len(rule) > 3 or set(words[2]) != set("rwm")):
        raise NotSupported(f"device rule '{text}': type a stands for all devices and all access only")
    return rule


# -- --security-opt


def security_of(host: dict[str, Any]) -> dict[str, Any]:
    """{"no_new_privileges": bool, "seccomp": None, "unconfined" or a profile's text, "apparmor": "" or a profile's name}."""
    found: dict[str, Any] = {"no_new_privileges": False, "seccomp": None, "apparmor": ""}
    for text in host["SecurityOpt"] or []:
        if text == "no-new-privileges":
            found["no_new_privileges"] = True
            continue
        name, sign, value = str(text).partition("=" if "=" in str(text) else ":")
        if not sign:
            raise InvalidArgument(f'invalid --security-opt 1: "{text}"')
        if name == "no-new-privileges" and value in ("true", "false"):
            found["no_new_privileges"] = value == "true"
        elif name == "seccomp":
            found["seccomp"] = None if value == "builtin" else value
        elif name == "apparmor":
            found["apparmor"] = value
        elif name == "label":
            if value != "disable":
                raise NotSupported(f"--security-opt {text}: SELinux labels are not supported yet")
        else:
            raise InvalidArgument(f'invalid --security-opt 2: "{text}"')
    return found


def check_apparmor(name: str) -> None:
    if name and name != "unconfined" and not os.path.exists("/sys/kernel/security/apparmor"):
        raise NotSupported(f"--security-opt apparmor={name}: this kernel has no AppArmor")


def profile_of(text: str) -> dict[str, Any]:
    import json

    try:
        profile = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise InvalidArgument(f"Decoding seccomp profile failed: {e}") from None
    if not isinstance(profile, dict):
        raise InvalidArgument("Decoding seccomp profile failed: it is no object")
    return profile


def resolved(text: str, granted: Any) -> dict[str, Any]:
    system = os.uname()
    return seccomp_profiles.resolve(profile_of(text), granted, system.machine, seccomp_profiles.parse_kernel(system.release))


def compiled(host: dict[str, Any], text: str, granted: Any) -> bytes:
    from lamina.runtime import seccomp

    profile = resolved(text, granted)
    if profile.get("listenerPath"):
        raise NotSupported("seccomp profile: listenerPath is not supported")
    if set(profile.get("flags") or ()) & {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"}:
        raise NotSupported("seccomp profile: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is for listeners, which are not supported")
    return seccomp.compile(profile, os.uname().machine)


def seccomp_file(runroot: str, host: dict[str, Any], granted: list[str]) -> tuple[bool, str | None]:
    """(whether the options decide about the filter, the file that holds it or None for unconfined)."""
    text = security_of(host)["seccomp"]
    if text is None:
        return False, None
    if text == "unconfined":
        return True, None
    from lamina.runtime import profile
    from lamina.util.digest import sha256_hex

    system = os.uname()
    words = "\n".join((profile.VERSION, system.machine, system.release, *sorted(granted), text))
    path = f"{runroot}/cache/seccomp-{sha256_hex(words.encode('utf-8', 'surrogateescape'))[:32]}.bpf"
    if profile.load(path) is None:
        code = compiled(host, text, granted)
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        profile.save(path, code)
        if profile.load(path) is None:
            raise InvalidArgument("seccomp profile: its filter is too long")
    return True, path


def seccomp_profile(host: dict[str, Any], granted: list[str]) -> dict[str, Any] | None:
    """`linux.seccomp` for runtimes that compile the filter themselves; None for none."""
    text = security_of(host)["seccomp"]
    if text == "unconfined" or text is None and host["Privileged"]:
        return None
    if text is not None:
        return resolved(text, granted)
    system = os.uname()
    return seccomp_profiles.default_profile(granted, system.machine, seccomp_profiles.parse_kernel(system.release))


# -- the bundle


def apply(spec: dict[str, Any], record: Record, store: Store) -> None:
    """Changes the plain config.json into the one that the options ask for."""
    host = record.config["HostConfig"]
    linux, process, resources = spec["linux"], spec["process"], spec["linux"]["resources"]
    own = own_namespaces(host)
    linux["namespaces"] = [entry for entry in linux["namespaces"] if entry["type"] in own]
    if host["PidMode"].startswith("container:"):
        path = f"/proc/{pid_of(host['PidMode'][10:], store)}/ns/pid"
        linux["namespaces"] = [{"type": "pid", "path": path} if entry["type"] == "pid" else entry for entry in linux["namespaces"]]
    if host["IpcMode"].startswith("container:"):
        path = f"/proc/{ipc_donor(host['IpcMode'][10:], store).pid}/ns/ipc"
        linux["namespaces"] = [{"type": "ipc", "path": path} if entry["type"] == "ipc" else entry for entry in linux["namespaces"]]
    if "uts" not in own:
        spec["hostname"] = spec["domainname"] = ""
    if host["IpcMode"] == "none":
        spec["mounts"] = [mount for mount in spec["mounts"] if mount["destination"] != "/dev/shm" or mount["type"] == "bind"]
    elif host["IpcMode"] == "host":
        spec["mounts"] = [host_shm() if mount["source"] == "shm" else mount for mount in spec["mounts"]]  # mqueue is the namespace's
    elif host["IpcMode"].startswith("container:"):
        borrowed = host_shm(store.paths.shm(record.id))  # the monitor puts it there
        spec["mounts"] = [borrowed if mount["source"] == "shm" else mount for mount in spec["mounts"]]
    linux["sysctl"].update(host.get("Sysctls") or {})
    limits = [(f"RLIMIT_{one['Name'].upper()}", one["Soft"], one["Hard"]) for one in host["Ulimits"] or []]
    process["rlimits"] = [{"type": kind, "soft": soft % 2**64, "hard": hard % 2**64} for kind, soft, hard in limits]
    for entry in host["Devices"] or []:
        for device in devices_of(entry):
            linux["devices"] = [one for one in linux["devices"] if one["path"] != device["path"]] + [device]
            access = entry.get("CgroupPermissions") or "rwm"
            rule = {"allow": True, "type": device["type"], "major": device["major"], "minor": device["minor"], "access": access}
            resources["devices"].append(rule)
    resources["devices"] += [device_rule(rule) for rule in host["DeviceCgroupRules"] or []]
    if host["MemorySwappiness"] is not None:
        resources.setdefault("memory", {})["swappiness"] = host["MemorySwappiness"]
    if host["OomKillDisable"]:
        resources.setdefault("memory", {})["disableOOMKiller"] = True
    security = security_of(host)
    process["noNewPrivileges"] = security["no_new_privileges"]
    if security["seccomp"] not in (None, "unconfined"):
        flags = resolved(security["seccomp"], process["capabilities"]["bounding"]).get("flags")
        if flags:
            linux["seccomp"] = {"flags": flags}


def host_shm(source: str = "/dev/shm") -> dict[str, Any]:
    options = ["rbind", "rw", "rprivate", "nosuid", "nodev", "noexec"]
    return {"destination": "/dev/shm", "type": "bind", "source": source, "options": options}


def ipc_donor(ref: str, store: Store) -> State:
    """The state of the running container whose IPC namespace may be joined."""
    from lamina.containers.store import ContainerStore

    records: ContainerStore = ContainerStore(store)
    other = records.get(ref)
    state = records.state(other.id)
    if not state.live:
        raise Conflict(f"failed to join IPC namespace: container {other.id} is not running")
    if state.status == "restarting":
        raise Conflict(f"Container {other.id} is restarting, wait until the container is running")
    if other.config["HostConfig"]["IpcMode"] in ("private", "none"):
        raise Conflict(f"failed to join IPC namespace: container {other.id}: non-shareable IPC "
                       "(hint: use IpcMode:shareable for the donor container)")  # fmt: skip
    return state


def check_mac(text: Any, network: str) -> str:
    """A unicast MAC address, as the kernel writes it."""
    parts = str(text).lower().split(":")
    if len(parts) != 6 or any(len(part) != 2 or not set(part) <= set("0123456789abcdef") for part in parts):
        raise InvalidArgument(f"invalid MAC address: {text}")
    if int(parts[0], 16) & 1 or not any(int(part, 16) for part in parts):
        raise InvalidArgument(f"invalid MAC address: {text}: not one that a single interface can have")
    if network != "bridge":
        raise InvalidArgument("conflicting options: mac-address and the network mode")
    return ":".join(parts)


def pid_of(ref: str, store: Store) -> int:
    from lamina.containers.store import ContainerStore

    records: ContainerStore = ContainerStore(store)
    other = records.get(ref)
    state = records.state(other.id)
    if not state.live:
        raise NotFound(f"cannot join PID of a non running container: {other.id}")
    if state.status == "restarting":
        raise Conflict(f"Container {other.id} is restarting, wait until the container is running")
    return state.pid


def hosts_lines(record: Record, gateway: str) -> list[tuple[str, str]]:
    """(name, address) for /etc/hosts; `host-gateway` is the address of this host on the container's bridge."""
    found = []
    for entry in record.config["HostConfig"]["ExtraHosts"] or []:
        name, address = extra_host(entry)
        if address == "host-gateway":
            if not gateway:
                raise InvalidArgument("unable to derive the IP value for host-gateway")
            address = gateway
        found.append((name, address))
    return found
