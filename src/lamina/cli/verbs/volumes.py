# SPDX-License-Identifier: Apache-2.0
"""`volume create|inspect|ls|prune|rm`."""

from __future__ import annotations

from lamina.cli.context import Cli, CliError
from lamina.cli.flags import Opts, Verb
from lamina.cli.table import render
from lamina.util.sizes import human_size

from .images import confirm, with_settings
from .inspect import inspect_all
from .lifecycle import each
from .ps import filters_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEADERS = {
    "Driver": "DRIVER", "Name": "VOLUME NAME", "Scope": "SCOPE", "Mountpoint": "MOUNTPOINT", "Labels": "LABELS", "Links": "LINKS",
    "Size": "SIZE", "Availability": "AVAILABILITY", "Group": "GROUP", "Status": "STATUS",
}  # fmt: skip


class VolumeRow:
    def __init__(self, volume: dict[str, Any]) -> None:
        self.volume = volume

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(HEADERS))

    def field(self, name: str) -> str:
        if name == "Labels":
            return ",".join(f"{key}={value}" for key, value in sorted((self.volume["Labels"] or {}).items()))
        if name in ("Driver", "Name", "Scope", "Mountpoint"):
            return str(self.volume[name])
        usage = self.volume.get("UsageData")
        if usage and name in ("Links", "Size"):
            return str(usage["RefCount"]) if name == "Links" else human_size(usage["Size"])
        if name in HEADERS:
            return "N/A"
        raise KeyError(name)

    def method(self, name: str, wanted: str) -> str:
        if name != "Label":
            raise KeyError(name)
        return str((self.volume["Labels"] or {}).get(wanted, ""))


def create(cli: Cli, opts: Opts, args: list[str]) -> int:
    if args and opts["name"]:
        raise CliError("conflicting options: either specify --name or provide positional arg, not both")
    name = (args[0] if args else opts["name"]) or None
    made = cli.engine.volumes.create(name, driver=opts["driver"], labels=pairs(opts["label"]), options=pairs(opts["opt"]))
    cli.out(made["Name"])
    return 0


def pairs(given: list[str]) -> dict[str, str]:
    return {key: value for key, _, value in (text.partition("=") for text in given)}


def ls(cli: Cli, opts: Opts, args: list[str]) -> int:
    volumes = cli.engine.volumes.list(filters_of(opts["filter"]))
    rows, template = [VolumeRow(volume) for volume in volumes], opts["format"] or ("" if opts["quiet"] else cli.setting("volumesFormat"))
    if opts["quiet"] and (not template or template == "table"):
        for row in rows:
            cli.out(cli.clean(row.field("Name")))
    elif template and template != "table":
        from lamina.cli.formats import show

        show(cli, template, rows, HEADERS, kind="formatter.volumeContext")
    else:
        cells = [[HEADERS["Driver"], HEADERS["Name"]], *([cli.clean(row.field(c)) for c in ("Driver", "Name")] for row in rows)]
        cli.out(render(cells), end="")
    return 0


def inspect(cli: Cli, opts: Opts, args: list[str]) -> int:
    return inspect_all(cli, opts, args, cli.engine.volumes.inspect)


def rm(cli: Cli, opts: Opts, args: list[str]) -> int:
    def one(name: str) -> str:
        cli.engine.volumes.remove(name, force=opts["force"])
        return name

    return 1 if each(cli, args, one) else 0


def prune(cli: Cli, opts: Opts, args: list[str]) -> int:
    what = "all local volumes" if opts["all"] else "anonymous local volumes"
    question = f"WARNING! This will remove {what} not used by at least one container.\nAre you sure you want to continue? [y/N] "
    if not opts["force"] and not confirm(cli, question):
        return 0
    filters = filters_of(opts["filter"])
    if opts["all"]:
        filters["all"] = ["true"]
    cli.out(f"Total reclaimed space: {human_size(pruned(cli, filters))}")
    return 0


def pruned(cli: Cli, filters: dict[str, list[str]]) -> int:
    """Does it and lists what is gone; the bytes that are free now."""
    report = cli.engine.volumes.prune(with_settings(cli, filters))
    if report["VolumesDeleted"]:
        cli.out("Deleted Volumes:")
        for name in report["VolumesDeleted"]:
            cli.out(name)
        cli.out("")
    return int(report["SpaceReclaimed"])


VERBS = {
    "create": Verb(
        create, "[OPTIONS] [VOLUME]", 0, 1,
        (("driver", "d", "string", "local"), ("label", "", "label", None), ("name", "", "string", ""), ("opt", "o", "list", None)),
        refused={"availability": "", "group": "", "limit-bytes": "", "required-bytes": "", "scope": "", "secret": "", "sharing": "",
                 "topology-preferred": "", "topology-required": "", "type": ""},
    ),
    "inspect": Verb(inspect, "[OPTIONS] VOLUME [VOLUME...]", 1, None, (("format", "f", "string", ""),)),
    "ls": Verb(
        ls, "[OPTIONS]", 0, 0, (("filter", "f", "filter", None), ("format", "", "string", ""), ("quiet", "q", "bool", False)),
        refused={"cluster": ""},
    ),
    "prune": Verb(prune, "[OPTIONS]", 0, 0, (("all", "a", "bool", False), ("filter", "", "filter", None), ("force", "f", "bool", False))),
    "rm": Verb(rm, "[OPTIONS] VOLUME [VOLUME...]", 1, None, (("force", "f", "bool", False),)),
}  # fmt: skip
