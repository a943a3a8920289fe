# SPDX-License-Identifier: Apache-2.0
"""`system df` and `system prune`: what is on disk, and taking away what nobody needs."""
from __future__ import annotations

from collections.abc import Sequence

from lamina.cli.context import Cli, CliError
from lamina.cli.flags import Opts, Verb
from lamina.cli.formats import RowLike, show, show_objects
from lamina.cli.table import render
from lamina.cli.template_funcs import to_json, typed
from lamina.util.sizes import human_size

from . import images, manage, ps, volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEADERS = {"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"}
IMAGES = ("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers")
CONTAINERS = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")
VOLUMES = ("Name", "Links", "Size")
CACHE = ("CACHE ID", "CACHE TYPE", "SIZE", "CREATED", "LAST USED", "USAGE", "SHARED")


class Sum:
    """One line of `system df`."""

    def __init__(self, kind: str, total: int, active: int, size: int, reclaimable: int) -> None:
        self.values = {"Type": kind, "TotalCount": str(total), "Active": str(active), "Size": human_size(size)}
        self.values["Reclaimable"] = human_size(reclaimable) + (f" ({100 * reclaimable // size}%)" if size else "")

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(HEADERS))

    def field(self, name: str) -> str:
        return self.values[name]


def sums(data: dict[str, Any]) -> list[Sum]:
    """What could be removed: layers that no used image has for itself alone, containers that don't run, volumes without a container."""
    used = [row for row in data["Images"] if row["Containers"]]
    layers, coming = data["LayersSize"], data["Partials"]
    running = [row for row in data["Containers"] if row["State"] in ("running", "paused", "restarting")]
    written, kept = (sum(row["SizeRw"] for row in rows) for rows in (data["Containers"], running))
    linked = [row["UsageData"] for row in data["Volumes"] if row["UsageData"]["RefCount"]]
    stored, held = sum(row["UsageData"]["Size"] for row in data["Volumes"]), sum(row["Size"] for row in linked)
    return [
        Sum("Images", len(data["Images"]), len(used), layers + coming, layers - sum(row["Size"] - row["SharedSize"] for row in used)),
        Sum("Containers", len(data["Containers"]), len(running), written, written - kept),
        Sum("Local Volumes", len(data["Volumes"]), len(linked), stored, stored - held),
        Sum("Build Cache", 0, 0, 0, 0),
    ]


def df(cli: Cli, opts: Opts, args: list[str]) -> int:
    data = cli.engine.system.df()
    template = opts["format"]
    if opts["verbose"]:
        detailed(cli, data, template)
    elif template and template != "table":
        show(cli, template, sums(data), HEADERS, kind="formatter.diskUsageImagesContext")
    else:
        cli.out(render([list(HEADERS.values()), *([row.values[name] for name in HEADERS] for row in sums(data))]), end="")
    return 0


def detailed(cli: Cli, data: dict[str, Any], template: str) -> None:
    """-v: every image, container and volume; a template sees the four lists."""
    plain = not template or template == "table"
    image_rows = images.image_rows(data["Images"], digests=False, trunc=plain)
    container_rows = [SizeRow(row, trunc=plain) for row in data["Containers"]]
    volume_rows = [volumes.VolumeRow(row) for row in data["Volumes"]]
    if not plain:
        lists: dict[str, Sequence[RowLike]] = {"Images": image_rows, "Containers": container_rows, "Volumes": volume_rows, "BuildCache": []}
        shown = {key: [{name: row.field(name) for name in row.names()} for row in rows] for key, rows in lists.items()}
        if template == "json":
            cli.out(to_json(typed(shown)))
        else:
            show_objects(cli, template, [shown])
        return
    tables: tuple[tuple[str, dict[str, str], tuple[str, ...], Sequence[RowLike]], ...] = (
        ("Images", images.HEADERS, IMAGES, image_rows), ("Containers", ps.HEADERS, CONTAINERS, container_rows),
        ("Local Volumes", volumes.HEADERS, VOLUMES, volume_rows),
    )  # fmt: skip
    for title, headers, names, rows in tables:
        cells = [[headers[name] for name in names], *([cli.clean(row.field(name)) for name in names] for row in rows)]
        cli.out(f"{title} space usage:\n\n{render(cells)}")
    cli.out(f"Build cache usage: 0B\n\n{render([list(CACHE)])}", end="")


class SizeRow(ps.Row):
    """A container whose size is its own layer's alone."""

    def field(self, name: str) -> str:
        return human_size(self.summary["SizeRw"], 3) if name == "Size" else super().field(name)


def prune(cli: Cli, opts: Opts, args: list[str]) -> int:
    everything, with_volumes = opts["all"], opts["volumes"]
    filters = ps.filters_of(opts["filter"])
    if with_volumes and "until" in filters:
        raise CliError('ERROR: The "until" filter is not supported with "--volumes"')
    if not opts["force"] and not images.confirm(cli, question(opts["filter"], everything=everything, with_volumes=with_volumes)):
        return 0
    reclaimed = manage.pruned(cli, filters)
    if with_volumes:
        reclaimed += volumes.pruned(cli, filters)
    reclaimed += images.pruned(cli, filters, everything=everything)
    cli.out(f"Total reclaimed space: {human_size(reclaimed)}")
    return 0


def question(filters: list[str], *, everything: bool, with_volumes: bool) -> str:
    lines = ["all stopped containers"]
    if with_volumes:
        lines.append("all anonymous volumes not used by at least one container")
    lines.append("all images without at least one container associated to them" if everything else "all dangling images")
    text = "WARNING! This will remove:\n" + "".join(f"  - {line}\n" for line in lines)
    if filters:
        text += "\n  Items to be pruned will be filtered with:\n" + "".join(f"  - {one}\n" for one in filters)
    return text + "\nAre you sure you want to continue? [y/N] "


VERBS = {
    "df": Verb(df, "[OPTIONS]", 0, 0, (("format", "", "string", ""), ("verbose", "v", "bool", False))),
    "prune": Verb(
        prune, "[OPTIONS]", 0, 0,
        (("all", "a", "bool", False), ("filter", "", "filter", None), ("force", "f", "bool", False), ("volumes", "", "bool", False)),
    ),
}  # fmt: skip
