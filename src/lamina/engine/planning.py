# SPDX-License-Identifier: Apache-2.0
"""From a container's record to its OCI bundle and its monitor's plan: pure data, nothing is done here. [hot]

OCI runtime spec 1.2 `config.json`, as docker writes it for the same request. The plan says what the monitor has to know beyond
it, so that it never needs the database. The user is named as the image has it: only the monitor sees the mounted root, and
resolves it there.
"""

from __future__ import annotations

import os

from lamina.errors import NotSupported
from lamina.linux import capnames
from lamina.runtime import defaults

from .config import LIMITS, special
from .environ import environment
from .mounts import oci

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lamina.containers.store import Record
    from lamina.store.open import Store

LOG_SIZE, LOG_FILES = 10 << 20, 3


def capabilities(host: dict[str, Any]) -> list[str]:
    """The set that --privileged, --cap-add and --cap-drop ask for, in docker's order of precedence (ALL first, then names)."""
    mine = capnames.names(capnames.own())
    if host["Privileged"]:
        return mine
    add, drop = host["CapAdd"] or [], host["CapDrop"] or []
    wanted = set(mine) if "ALL" in add else set() if "ALL" in drop else set(defaults.CAPABILITIES)
    named = {name for name in add if name != "ALL"}
    lacking = sorted(named - set(mine))
    if lacking:
        raise NotSupported(f"--cap-add {lacking[0]}: lamina itself doesn't have this capability here")
    wanted |= named
    wanted -= set(drop)
    return [name for name in capnames.NAMES if name in wanted and name in mine]


def resources(host: dict[str, Any]) -> dict[str, Any]:
    """OCI linux.resources of the HostConfig."""
    found: dict[str, Any] = {"devices": defaults.device_rules(privileged=host["Privileged"])}
    memory: dict[str, Any] = {}
    if host["Memory"]:
        memory["limit"] = host["Memory"]
        # docker: unset means twice the memory, where the kernel counts swap; asked for and not countable is the cgroup's error
        if host["MemorySwap"] or counts_swap():
            memory["swap"] = host["MemorySwap"] or 2 * host["Memory"]
    if host["MemoryReservation"]:
        memory["reservation"] = host["MemoryReservation"]
    if memory:
        found["memory"] = memory
    cpu: dict[str, Any] = {}
    if host["NanoCpus"]:
        cpu["period"] = 100_000
        cpu["quota"] = host["NanoCpus"] // 10_000
    for key, name in (
        ("CpuShares", "shares"),
        ("CpuPeriod", "period"),
        ("CpuQuota", "quota"),
        ("CpusetCpus", "cpus"),
        ("CpusetMems", "mems"),
    ):
        if host[key]:
            cpu[name] = host[key]
    if cpu:
        found["cpu"] = cpu
    if host["PidsLimit"]:
        found["pids"] = {"limit": host["PidsLimit"]}
    return found


def counts_swap() -> bool:
    """Whether memory groups count swap: always on v2 (kernel >= 5.8), on v1 when the file is there."""
    from lamina.runtime.cgroups import detect

    for hierarchy in detect().hierarchies:
        if "memory" in hierarchy.controllers:
            return hierarchy.version == 2 or any(os.path.exists(base + "/memory.memsw.limit_in_bytes") for base in hierarchy.bases())
    return False


def process(config: dict[str, Any], host: dict[str, Any], hostname: str) -> dict[str, Any]:
    """OCI process without `user`, which the monitor resolves."""
    granted = capabilities(host)
    return {
        "terminal": config["Tty"],
        "consoleSize": {"height": host["ConsoleSize"][0], "width": host["ConsoleSize"][1]},
        "user": {"uid": 0, "gid": 0},
        "args": [*(config["Entrypoint"] or []), *(config["Cmd"] or [])],
        "env": environment(config, hostname),
        "cwd": config["WorkingDir"] or "/",
        "capabilities": {"bounding": granted, "effective": granted, "permitted": granted},
        "oomScoreAdj": host["OomScoreAdj"],
        "noNewPrivileges": False,
    }


def hostname_of(record: Record) -> str:
    config, host = record.config["Config"], record.config["HostConfig"]
    if host["NetworkMode"] == "host" or host["UTSMode"] == "host":
        return config["Hostname"] or os.uname().nodename
    return str(config["Hostname"] or record.id[:12])


def spec(record: Record, store: Store) -> dict[str, Any]:
    """config.json of the bundle."""
    config, host = record.config["Config"], record.config["HostConfig"]
    paths = store.paths
    hostname = hostname_of(record)
    points = record.config.get("Mounts", [])
    user = [oci(point) for point in points]
    if host.get("Tmpfs"):
        from .more_mounts import tmpfs

        user += tmpfs(host["Tmpfs"])
    covered = {mount["destination"] for mount in user}
    mounts = [m for m in defaults.mounts(privileged=host["Privileged"], shm_size=host["ShmSize"]) if m["destination"] not in covered]
    for name in ("resolv.conf", "hostname", "hosts"):
        if f"/etc/{name}" not in covered:
            source, access = paths.container_file(record.id, name), "ro" if host["ReadonlyRootfs"] else "rw"
            user.append({"destination": f"/etc/{name}", "type": "bind", "source": source, "options": ["rbind", access, "rprivate"]})
    user.sort(key=lambda mount: mount["destination"].count("/"))  # a volume at /etc comes below /etc/hosts, not over it
    mounts += user
    namespaces = ["mount", "uts", "ipc", "pid", "cgroup"] + ([] if host["NetworkMode"] == "host" else ["network"])
    made = {
        "ociVersion": "1.2.0",
        "process": process(config, host, hostname),
        "root": {"path": paths.rootfs(record.id), "readonly": host["ReadonlyRootfs"]},
        "hostname": hostname,
        "domainname": config["Domainname"],
        "mounts": mounts,
        "linux": {
            "namespaces": [{"type": kind} for kind in namespaces],
            "cgroupsPath": cgroup_path(record, store),
            "resources": resources(host),
            "maskedPaths": masked(host),
            "readonlyPaths": readonly(host),
            "devices": defaults.host_devices() if host["Privileged"] else [],
            "rootfsPropagation": "private",
            "sysctl": {} if host["NetworkMode"] == "host" else dict(defaults.SYSCTLS),
        },
        "annotations": {},
    }
    if special(host):
        from . import options

        options.apply(made, record, store)
    if any(map(host.get, LIMITS)):
        from . import limits

        limits.apply(made, host)
    return made


def cgroup_path(record: Record, store: Store) -> str:
    """Below the engine's own cgroup, or where --cgroup-parent says: from the hierarchies' roots, nowhere above them."""
    parent = record.config["HostConfig"].get("CgroupParent")
    return f"{store.names.cgroup if not parent else os.path.normpath('/' + parent.lstrip('/')).rstrip('/')}/{record.id}"


def masked(host: dict[str, Any]) -> list[str]:
    if host.get("MaskedPaths") is not None:
        return list(host["MaskedPaths"])
    return [] if host["Privileged"] else defaults.masked_paths()


def readonly(host: dict[str, Any]) -> list[str]:
    if host.get("ReadonlyPaths") is not None:
        return list(host["ReadonlyPaths"])
    return [] if host["Privileged"] else defaults.readonly_paths()


def ipc_donor(record: Record, store: Store) -> dict[str, Any] | None:
    mode = record.config["HostConfig"]["IpcMode"]
    if not mode.startswith("container:"):
        return None
    from . import options

    state = options.ipc_donor(mode[10:], store)
    return {"pid": state.pid, "start_time": state.start_time, "shm": store.paths.shm(record.id)}


def runtime_program(host: dict[str, Any]) -> str | None:
    """The program of another OCI runtime; None for ours."""
    if host["Runtime"] == "lamina":
        return None
    from lamina.runtime import external

    return external.find(host["Runtime"])


def log_limits(options: dict[str, str]) -> dict[str, int]:
    """max_size and max_file; with a size only, one file, as in docker."""
    if not options:
        return {"max_size": LOG_SIZE, "max_file": LOG_FILES}
    from lamina.util.sizes import parse_bytes

    return {"max_size": parse_bytes(options["max-size"]) if options.get("max-size") else LOG_SIZE,
            "max_file": int(options.get("max-file") or 1)}  # fmt: skip


def plan(
    record: Record, store: Store, *, oci_spec: dict[str, Any], mount: dict[str, Any], network: dict[str, Any], seccomp: str | None
) -> dict[str, Any]:
    """What the monitor is handed (monitor/main.py documents the keys)."""
    config, host = record.config["Config"], record.config["HostConfig"]
    paths = store.paths
    bundle = paths.container(record.id)
    log = (
        {"path": paths.container_log(record.id), **log_limits(host["LogConfig"]["Config"])}
        if host["LogConfig"]["Type"] == "json-file"
        else None
    )
    return {
        "version": 1,
        "id": record.id,
        "name": record.name,
        "bundle": bundle,
        "run_dir": paths.run_container(record.id),
        "rootfs": paths.rootfs(record.id),
        "mount": mount,
        "spec": oci_spec,
        "user": config["User"],
        "group_add": host["GroupAdd"] or [],
        "workdir": config["WorkingDir"],
        "network": network,
        "cgroup": cgroup_path(record, store),
        "monitor_cgroup": f"{store.names.cgroup}/monitor",
        "tty": config["Tty"],
        "open_stdin": config["OpenStdin"],
        "stdin_once": config["StdinOnce"],
        "log": log,
        "state_path": paths.container_state(record.id),
        "stop_signal": config["StopSignal"] or "SIGTERM",
        "auto_remove": record.auto_remove,
        "init": bool(host.get("Init")),
        "runtime": runtime_program(host),
        "ipc_from": ipc_donor(record, store),
        "remove": [paths.run_container(record.id), bundle] if record.auto_remove else [],
        "seccomp_path": seccomp,
        "events": {"path": paths.events, "attributes": {**(config["Labels"] or {}), "image": record.image_ref, "name": record.name}},
    }
