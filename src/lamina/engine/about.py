# SPDX-License-Identifier: Apache-2.0
"""`GET /info`: what this engine is, has and can do on this host. Keys are docker's where they mean the same."""
from __future__ import annotations

import os
import shlex
import time

from lamina.runtime.cgroups import detect
from lamina.util import steps
from lamina.util.times import rfc3339nano

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .engine import Engine

STATES = {"Running": ("running", "restarting"), "Paused": ("paused",), "Stopped": ("created", "exited", "dead")}


def info(engine: Engine) -> dict[str, Any]:
    store = engine.store
    states = [state.status for _, state in engine.containers.records.list_with_state()]
    if steps.tell is not None:
        steps.tell(f"counted {steps.count(len(states), 'container')}, and asked the kernel what it is and can")
    machine = os.uname()
    system, version = operating_system()
    cgroups = detect()
    return {
        "ID": store.engine_id,
        "Containers": len(states),
        **{f"Containers{name}": sum(state in wanted for state in states) for name, wanted in STATES.items()},
        "Images": store.db.value("SELECT count(*) FROM images"),
        "Driver": engine.layer_store.driver.name,
        "Plugins": {"Volume": ["local"], "Network": ["bridge", "host", "none"], "Authorization": None, "Log": ["json-file", "none"]},
        "MemoryLimit": cgroups.find("memory") is not None,
        "PidsLimit": cgroups.find("pids") is not None,
        "CPUShares": cgroups.find("cpu") is not None,
        "CPUSet": cgroups.find("cpuset") is not None,
        "IPv4Forwarding": flag("/proc/sys/net/ipv4/ip_forward"),
        "Debug": False,
        "SystemTime": rfc3339nano(time.time_ns()),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": "2" if cgroups.kind == "v2" else "1",
        "KernelVersion": machine.release,
        "OperatingSystem": system,
        "OSVersion": version,
        "OSType": "linux",
        "Architecture": machine.machine,
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "DockerRootDir": store.paths.root,
        "LaminaRootDir": store.paths.root,
        "LaminaRunRoot": store.paths.runroot,
        "Name": machine.nodename,
        "Labels": [],
        "ExperimentalBuild": False,
        "Runtimes": {"lamina": {"path": "lamina-runtime"}},
        "DefaultRuntime": "lamina",
        "Swarm": {"LocalNodeState": "inactive"},
        "LiveRestoreEnabled": True,  # containers run on, whatever becomes of us
        "SecurityOptions": security_options(),
        "Bridge": store.names.bridge,
        "ForeignRules": foreign_rules(engine),
        "Warnings": None,
    }


def operating_system() -> tuple[str, str]:
    """(name, version) of os-release(5); "" where it says nothing."""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                pairs = [line.strip().partition("=") for line in file if "=" in line and not line.startswith("#")]
        except OSError:
            continue
        found = {}
        for name, _, value in pairs:
            try:
                found[name] = "".join(shlex.split(value))
            except ValueError:
                found[name] = value
        return found.get("PRETTY_NAME", ""), found.get("VERSION_ID", "")
    return "", ""


def flag(path: str) -> bool:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip() == "1"
    except OSError:
        return False


def security_options() -> list[str]:
    """docker's form: what every container gets on this host unless told otherwise."""
    from lamina.runtime import apparmor

    return [*([] if apparmor.why_not() else ["name=apparmor"]), "name=seccomp,profile=builtin", "name=cgroupns"]


def foreign_rules(engine: Engine) -> list[str]:
    """The firewall rules that this engine has put outside its own table."""
    from lamina.linux.nfnetlink import Nftables
    from lamina.network import foreign

    with Nftables() as firewall:
        return foreign.listing(firewall, engine.store.names.bridge)
