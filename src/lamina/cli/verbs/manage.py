# SPDX-License-Identifier: Apache-2.0
"""`pause`, `unpause`, `restart`, `rename`, `update`, `top`, `attach` and `container prune`."""

from __future__ import annotations

from lamina.cli.context import Cli, CliError
from lamina.cli.flags import Opts, Verb
from lamina.cli.table import render
from lamina.errors import LaminaError
from lamina.util.sizes import human_size

from .images import confirm, with_settings
from .lifecycle import MANY, each
from .ps import filters_of
from .run import attach as stay
from .run import check_keys, check_tty, wanted


def pause(cli: Cli, opts: Opts, refs: list[str]) -> int:
    def one(ref: str) -> str:
        cli.engine.containers.pause(ref)
        return ref

    return 1 if each(cli, refs, one) else 0


def unpause(cli: Cli, opts: Opts, refs: list[str]) -> int:
    def one(ref: str) -> str:
        cli.engine.containers.unpause(ref)
        return ref

    return 1 if each(cli, refs, one) else 0


def restart(cli: Cli, opts: Opts, refs: list[str]) -> int:
    timeout = opts["timeout"] if "timeout" in opts.changed else opts["time"] if "time" in opts.changed else None

    def one(ref: str) -> str:
        cli.engine.containers.restart(ref, timeout=timeout, signal=opts["signal"] or None)
        return ref

    return 1 if each(cli, refs, one) else 0


def rename(cli: Cli, opts: Opts, args: list[str]) -> int:
    old, new = args[0].strip(), args[1].strip()
    if not old or not new:
        raise CliError("Error: Neither old nor new names may be empty")
    try:
        cli.engine.containers.rename(old, new)
    except LaminaError as e:
        raise CliError(f"Error response from daemon: {e.message}\nError: failed to rename container named {old}")
    return 0


def update(cli: Cli, opts: Opts, refs: list[str]) -> int:
    if not opts.changed:
        raise CliError("you must provide one or more flags when using this command")
    body = {
        "Memory": opts["memory"],
        "MemorySwap": opts["memory-swap"],
        "MemoryReservation": opts["memory-reservation"],
        "NanoCpus": opts["cpus"],
        "CpuShares": opts["cpu-shares"],
        "CpuPeriod": opts["cpu-period"],
        "CpuQuota": opts["cpu-quota"],
        "CpusetCpus": opts["cpuset-cpus"],
        "CpusetMems": opts["cpuset-mems"],
        "PidsLimit": opts["pids-limit"],
        "BlkioWeight": opts["blkio-weight"],
        "CpuRealtimePeriod": opts["cpu-rt-period"],
        "CpuRealtimeRuntime": opts["cpu-rt-runtime"],
    }
    if opts["restart"]:
        from lamina.cli.create_more import restart_policy

        body["RestartPolicy"] = restart_policy(opts["restart"])

    def one(ref: str) -> str:
        for warning in cli.engine.containers.update(ref, body)["Warnings"]:
            cli.warn(warning)
        return ref

    return 1 if each(cli, refs, one) else 0


def top(cli: Cli, opts: Opts, args: list[str]) -> int:
    found = cli.engine.containers.top(args[0], args[1:])
    rows = [[cli.clean(cell) for cell in row] for row in found["Processes"]]
    cli.out(render([found["Titles"], *rows], min_width=20), end="")  # docker's columns of `top` are this wide
    return 0


def attach(cli: Cli, opts: Opts, args: list[str]) -> int:
    keys = check_keys(cli, opts)
    containers = cli.engine.containers
    facts = containers.inspect(args[0])
    state = facts["State"]
    if not state["Running"]:
        raise CliError("You cannot attach to a stopped container, start it first")
    if state["Paused"]:
        raise CliError("You cannot attach to a paused container, unpause it first")
    if state["Restarting"]:
        raise CliError("You cannot attach to a restarting container, wait until it is running")
    config = facts["Config"]
    stdin = bool(config["OpenStdin"]) and not opts["no-stdin"]
    check_tty(cli, stdin=stdin, tty=bool(config["Tty"]))
    client = containers.attach(args[0], wanted(stdin=stdin))
    tty, proxy = bool(config["Tty"]), opts["sig-proxy"]
    return stay(cli, client, facts["Id"], stdin=stdin, tty=tty, detach_keys=keys, sig_proxy=proxy, redraw=True)


def prune(cli: Cli, opts: Opts, args: list[str]) -> int:
    question = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N] "
    if not opts["force"] and not confirm(cli, question):
        return 0
    cli.out(f"Total reclaimed space: {human_size(pruned(cli, filters_of(opts['filter'])))}")
    return 0


def pruned(cli: Cli, filters: dict[str, list[str]]) -> int:
    """Does it and lists what is gone; the bytes that are free now."""
    report = cli.engine.containers.prune(with_settings(cli, filters))
    if report["ContainersDeleted"]:
        cli.out("Deleted Containers:")
        for container in report["ContainersDeleted"]:
            cli.out(container)
        cli.out("")
    return int(report["SpaceReclaimed"])


VERBS = {
    "pause": Verb(pause, "CONTAINER [CONTAINER...]", 1, None),
    "unpause": Verb(unpause, "CONTAINER [CONTAINER...]", 1, None),
    "restart": Verb(restart, MANY, 1, None, (("signal", "s", "string", ""), ("time", "t", "int", 10), ("timeout", "", "int", 10))),
    "rename": Verb(rename, "CONTAINER NEW_NAME", 2, 2),
    "update": Verb(
        update, MANY, 1, None,
        (
            ("memory", "m", "bytes", 0), ("memory-swap", "", "swap", 0), ("memory-reservation", "", "bytes", 0), ("cpus", "", "decimal", 0),
            ("cpu-shares", "c", "int", 0), ("cpu-period", "", "int", 0), ("cpu-quota", "", "int", 0), ("cpuset-cpus", "", "string", ""),
            ("cpuset-mems", "", "string", ""), ("pids-limit", "", "int", 0), ("restart", "", "string", ""),
            ("blkio-weight", "", "weight", 0), ("cpu-rt-period", "", "int", 0), ("cpu-rt-runtime", "", "int", 0),
        ),
    ),
    "top": Verb(top, "CONTAINER [ps OPTIONS]", 1, None, interspersed=False),
    "attach": Verb(
        attach, "[OPTIONS] CONTAINER", 1, 1,
        (("detach-keys", "", "string", ""), ("no-stdin", "", "bool", False), ("sig-proxy", "", "bool", True)),
    ),
    "prune": Verb(prune, "[OPTIONS]", 0, 0, (("filter", "", "filter", None), ("force", "f", "bool", False))),
}  # fmt: skip
