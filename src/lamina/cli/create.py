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

# Flags that `create_more` puts into the body; it is loaded when one of them is given.
MORE_FLAGS: tuple[FlagSpec, ...] = (
    ("runtime", "", "string", ""),
    ("add-host", "", "host", None), ("attach", "a", "stream", None), ("cgroupns", "", "string", ""),
    ("cidfile", "", "string", ""), ("cpu-period", "", "int", 0), ("cpu-quota", "", "int", 0), ("cpu-shares", "c", "int", 0),
    ("cpuset-cpus", "", "string", ""), ("cpuset-mems", "", "string", ""), ("device", "", "list", None),
    ("device-cgroup-rule", "", "rule", None), ("dns", "", "address", None), ("dns-opt", "", "list", None), ("dns-option", "", "list", None),
    ("dns-search", "", "domain", None), ("domainname", "", "string", ""), ("env-file", "", "list", None), ("group-add", "", "list", None),
    ("init", "", "bool", False), ("ip", "", "string", ""), ("ip6", "", "string", ""), ("ipc", "", "string", ""),
    ("label-file", "", "list", None),
    ("log-driver", "", "string", ""), ("log-opt", "", "list", None), ("mac-address", "", "string", ""),
    ("memory-reservation", "", "bytes", 0), ("memory-swap", "", "swap", 0), ("memory-swappiness", "", "int", -1),
    ("mount", "", "mount", None), ("oom-kill-disable", "", "bool", False), ("oom-score-adj", "", "int", 0), ("pid", "", "string", ""),
    ("security-opt", "", "list", None), ("shm-size", "", "bytes", 0), ("stop-signal", "", "string", ""), ("stop-timeout", "", "int", 0),
    ("sysctl", "", "sysctl", None), ("tmpfs", "", "list", None), ("ulimit", "", "ulimit", None), ("uts", "", "string", ""),
    ("volumes-from", "", "list", None),
    ("health-cmd", "", "string", ""), ("health-interval", "", "duration", 0), ("health-retries", "", "int", 0),
    ("health-start-interval", "", "duration", 0), ("health-start-period", "", "duration", 0), ("health-timeout", "", "duration", 0),
    ("link-local-ip", "", "list", None), ("net-alias", "", "list", None), ("network-alias", "", "list", None),
    ("no-healthcheck", "", "bool", False), ("restart", "", "string", ""),
)  # fmt: skip
MORE = frozenset(flag[0] for flag in MORE_FLAGS)
# Likewise of `create_limits`.
LIMIT_FLAGS: tuple[FlagSpec, ...] = (
    ("annotation", "", "map", None), ("blkio-weight", "", "weight", 0), ("blkio-weight-device", "", "device-weight", None),
    ("cgroup-parent", "", "string", ""), ("cpu-rt-period", "", "int", 0), ("cpu-rt-runtime", "", "int", 0),
    ("device-read-bps", "", "bps", None), ("device-read-iops", "", "iops", None), ("device-write-bps", "", "bps", None),
    ("device-write-iops", "", "iops", None), ("disable-content-trust", "", "bool", True), ("isolation", "", "string", ""),
    ("userns", "", "string", ""), ("volume-driver", "", "string", ""),
)  # fmt: skip
LIMITS = frozenset(flag[0] for flag in LIMIT_FLAGS)
# Not in the body: where to look for the image.
CREATE_FLAGS: tuple[FlagSpec, ...] = (*COMMON_FLAGS, *MORE_FLAGS, *LIMIT_FLAGS,
                                      ("platform", "", "string", ""), ("pull", "", "string", "missing"), ("quiet", "q", "bool", False))

# docker's flags that this version doesn't do: name -> shorthand. Refused by name, so that nothing is ignored.
REFUSED = {
    "cpu-count": "", "cpu-percent": "", "gpus": "", "io-maxbandwidth": "", "io-maxiops": "", "kernel-memory": "", "link": "",
    "storage-opt": "",
}  # fmt: skip


def build_body(opts: Opts, args: list[str], *, detach: bool, console: tuple[int, int] | None = None) -> dict[str, Any]:
    """The body (ContainerCreateRequest of the Engine API); CliError with exit code 125 for what docker's client refuses.

    `console` is (rows, columns) of the user's terminal, if there is one.
    """
    stdin, tty = opts["interactive"], opts["tty"]
    streams = attached(opts, detach=detach)
    binds, volumes = parse_volumes(opts["volume"])
    config: dict[str, Any] = {
        "Image": args[0],
        "Hostname": opts["hostname"],
        "User": opts["user"],
        "AttachStdin": streams["stdin"],
        "AttachStdout": streams["stdout"],
        "AttachStderr": streams["stderr"],
        "Tty": tty,
        "OpenStdin": stdin,
        "StdinOnce": stdin and streams["stdin"],
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
    networking: dict[str, Any] = {"EndpointsConfig": {}}
    if not MORE.isdisjoint(opts.changed):
        from .create_more import extend

        extend(config, host, networking, opts)
    if not LIMITS.isdisjoint(opts.changed):
        from . import create_limits

        create_limits.extend(host, opts)
    return {**config, "HostConfig": host, "NetworkingConfig": networking}


def attached(opts: Opts, *, detach: bool) -> dict[str, bool]:
    """The streams to be attached: those of -a, else the outputs, and stdin with -i."""
    given = opts["attach"]
    if detach and given:
        raise CliError("Conflicting options: -a and -d")
    if given:
        return {name: name in given for name in ("stdin", "stdout", "stderr")}
    return {"stdin": opts["interactive"] and not detach, "stdout": not detach, "stderr": not detach}


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
