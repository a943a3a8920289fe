# SPDX-License-Identifier: Apache-2.0
"""From the flags of `run` and `create` to the body of a create request, as docker's client builds it. [hot]

Only what differs from the API's defaults is sent. Checks that docker's client makes are here, with its texts; those of its
daemon are the engine's.
"""
from __future__ import annotations

import os

from .context import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .flags import FlagSpec, Opts

COMMON_FLAGS: tuple[FlagSpec, ...] = (
    ("cap-add", "", "list", None),
    ("cap-drop", "", "list", None),
    ("cpus", "", "decimal", 0),
    ("entrypoint", "", "string", ""),
    ("env", "e", "env", None),
    ("expose", "", "list", None),
    ("hostname", "h", "string", ""),
    ("interactive", "i", "bool", False),
    ("label", "l", "label", None),
    ("memory", "m", "bytes", 0),
    ("name", "", "string", ""),
    ("net", "", "network", None),
    ("network", "", "network", None),
    ("pids-limit", "", "int", 0),
    ("privileged", "", "bool", False),
    ("publish", "p", "list", None),
    ("publish-all", "P", "bool", False),
    ("read-only", "", "bool", False),
    ("rm", "", "bool", False),
    ("tty", "t", "bool", False),
    ("user", "u", "string", ""),
    ("volume", "v", "list", None),
    ("workdir", "w", "string", ""),
)

# docker's flags that this version doesn't do: name -> shorthand. Refused by name, so that nothing is ignored.
REFUSED = {
    "add-host": "", "annotation": "", "attach": "a", "blkio-weight": "", "blkio-weight-device": "", "cgroup-parent": "", "cgroupns": "",
    "cidfile": "", "cpu-count": "", "cpu-percent": "", "cpu-period": "", "cpu-quota": "", "cpu-rt-period": "", "cpu-rt-runtime": "",
    "cpu-shares": "c", "cpuset-cpus": "", "cpuset-mems": "", "device": "", "device-cgroup-rule": "", "device-read-bps": "",
    "device-read-iops": "", "device-write-bps": "", "device-write-iops": "", "disable-content-trust": "", "dns": "", "dns-opt": "",
    "dns-option": "", "dns-search": "", "domainname": "", "env-file": "", "gpus": "", "group-add": "", "health-cmd": "",
    "health-interval": "", "health-retries": "", "health-start-interval": "", "health-start-period": "", "health-timeout": "", "init": "",
    "io-maxbandwidth": "", "io-maxiops": "", "ip": "", "ip6": "", "ipc": "", "isolation": "", "kernel-memory": "", "label-file": "",
    "link": "", "link-local-ip": "", "log-driver": "", "log-opt": "", "mac-address": "", "memory-reservation": "", "memory-swap": "",
    "memory-swappiness": "", "mount": "", "net-alias": "", "network-alias": "", "no-healthcheck": "", "oom-kill-disable": "",
    "oom-score-adj": "", "pid": "", "platform": "", "pull": "", "quiet": "q", "restart": "",
    "runtime": "", "security-opt": "", "shm-size": "", "stop-signal": "", "stop-timeout": "", "storage-opt": "", "sysctl": "",
    "tmpfs": "", "ulimit": "", "userns": "", "uts": "", "volume-driver": "", "volumes-from": "",
}  # fmt: skip
RUN_REFUSED = {**REFUSED, "detach-keys": "", "sig-proxy": ""}


def build_body(opts: Opts, args: list[str], *, detach: bool, console: tuple[int, int] | None = None) -> dict[str, Any]:
    """The body (ContainerCreateRequest of the Engine API); CliError with exit code 125 for what docker's client refuses.

    `console` is (rows, columns) of the user's terminal, if there is one.
    """
    stdin, tty = opts["interactive"], opts["tty"]
    binds, volumes = parse_volumes(opts["volume"])
    config: dict[str, Any] = {
        "Image": args[0],
        "Hostname": opts["hostname"],
        "User": opts["user"],
        "AttachStdin": stdin and not detach,
        "AttachStdout": not detach,
        "AttachStderr": not detach,
        "Tty": tty,
        "OpenStdin": stdin,
        "StdinOnce": stdin and not detach,
        "Env": environment(opts["env"]) or None,
        "Cmd": args[1:] or None,
        "Volumes": volumes,
        "WorkingDir": opts["workdir"],
        # given but empty: [""], which resets the image's entrypoint
        "Entrypoint": [opts["entrypoint"]] if "entrypoint" in opts.changed else None,
        "Labels": labels(opts["label"]),
    }
    host: dict[str, Any] = {
        "Binds": binds or None,
        "AutoRemove": opts["rm"],
        "CapAdd": capabilities(opts["cap-add"]) or None,
        "CapDrop": capabilities(opts["cap-drop"]) or None,
        "Privileged": opts["privileged"],
        "ReadonlyRootfs": opts["read-only"],
        "Memory": opts["memory"],
        "NanoCpus": opts["cpus"],
        "ConsoleSize": list(console or (0, 0)),
    }
    if opts["publish"] or opts["expose"] or opts["publish-all"]:
        from .ports import publish

        publish(config, host, opts["publish"], opts["expose"], everything=opts["publish-all"])
    if "pids-limit" in opts.changed:
        host["PidsLimit"] = opts["pids-limit"]
    network = network_of([*opts["network"], *opts["net"]])
    if network:
        host["NetworkMode"] = network
    return {**config, "HostConfig": host, "NetworkingConfig": {"EndpointsConfig": {}}}


def labels(given: list[str]) -> dict[str, str]:
    """{"name": "value"}; a label without a value has the empty one, the last of one name wins."""
    pairs = [text.partition("=") for text in given]
    return {name: value for name, _, value in pairs}


def network_of(given: list[str]) -> str:
    names = list(dict.fromkeys(given))
    if "" in names:
        raise CliError("no name set for network", 125)
    if len(names) > 1:
        if any(name in ("bridge", "none", "host", "default") or name.startswith("container:") for name in names):
            raise CliError("conflicting options: cannot attach both user-defined and non-user-defined network-modes", 125)
        raise CliError("only one --network is supported by this version of lamina", 125)
    return names[0] if names else ""


def parse_volumes(given: list[str]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """(binds, anonymous volumes). A source that starts with "." is made absolute here, where the working directory is known."""
    binds: list[str] = []
    anonymous: dict[str, dict[str, str]] = {}
    for text in given:
        if not text:
            raise CliError("invalid empty volume spec", 125)
        parts = text.split(":")
        if "" in parts:
            raise CliError(f"invalid spec: {text}: empty section between colons", 125)
        if len(parts) > 3:
            raise CliError(f"invalid spec: {text}: too many colons", 125)
        if len(parts) == 1:
            anonymous[text] = {}
            continue
        if parts[0].startswith("."):
            parts[0] = os.path.abspath(parts[0])
        bind = ":".join(parts)
        if bind not in binds:
            binds.append(bind)
    return binds, anonymous


def capabilities(given: list[str]) -> list[str]:
    """Kernel names, sorted, each once; "ALL" as it is."""
    return sorted({cap_name(name) for name in given})


def cap_name(name: str) -> str:
    upper = name.strip().upper()
    return upper if upper == "ALL" or upper.startswith("CAP_") else "CAP_" + upper


def environment(given: list[str]) -> list[str]:
    """The last setting of a name wins, in the place of the first."""
    return list({text.partition("=")[0]: text for text in given}.values())
