# SPDX-License-Identifier: Apache-2.0
"""`ps` (`container ls`). The plain table needs only hot modules; `--format` loads the template engine. [hot]"""
from __future__ import annotations

import time

from lamina.cli.context import Cli
from lamina.cli.flags import Verb
from lamina.cli.table import ellipsis, quote, render, short_id
from lamina.util.sizes import human_duration, human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lamina.cli.flags import Opts

HEADERS = {
    "ID": "CONTAINER ID", "Image": "IMAGE", "Command": "COMMAND", "RunningFor": "CREATED", "Status": "STATUS", "Ports": "PORTS",
    "Names": "NAMES", "Size": "SIZE", "CreatedAt": "CREATED AT", "State": "STATE", "Labels": "LABELS", "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES", "Networks": "NETWORKS", "Platform": "PLATFORM",
}  # fmt: skip
COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")


def filters_of(given: list[str]) -> dict[str, list[str]]:
    """["name=x", "name=y"] -> {"name": ["x", "y"]}, the form of the API."""
    found: dict[str, list[str]] = {}
    for text in given:
        name, _, value = text.partition("=")
        found.setdefault(name.strip().lower(), []).append(value.strip())
    return found


def ps(cli: Cli, opts: Opts, args: list[str]) -> int:
    limit = 1 if opts["latest"] else opts["last"]
    template = opts["format"] or ("" if opts["quiet"] else cli.setting("psFormat"))
    wants_size = opts["size"] or (".Size" in template and not template.startswith("json"))
    summaries = cli.engine.containers.list(
        all=opts["all"] or limit > 0, limit=max(limit, 0), size=wants_size, filters=filters_of(opts["filter"])
    )
    trunc = not opts["no-trunc"]
    if opts["quiet"]:
        if template and template != "table":
            cli.warn("Ignoring custom format, because both --format and --quiet are set.")
        for summary in summaries:
            cli.out(short_id(summary["Id"]) if trunc else summary["Id"])
        return 0
    if template and template != "table":
        from lamina.cli.formats import show

        errors = ("failed to parse template", "failed to execute template")
        shown = [Row(summary, trunc=trunc) for summary in summaries]
        show(cli, template, shown, HEADERS, kind="formatter.ContainerContext", errors=errors)
        return 0
    columns = (*COLUMNS, "Size") if opts["size"] else COLUMNS
    rows = [[HEADERS[name] for name in columns]]
    for summary in summaries:
        row = Row(summary, trunc=trunc)
        rows.append([cli.clean(row.field(name)) for name in columns])
    cli.out(render(rows), end="")
    return 0


class Row:
    """One container as the columns and the templates show it."""

    __slots__ = ("summary", "trunc")

    def __init__(self, summary: dict[str, Any], *, trunc: bool) -> None:
        self.summary = summary
        self.trunc = trunc

    def fields(self) -> dict[str, Any]:
        """All columns, for templates and JSON; computed when asked for."""
        return {name: self.field(name) for name in HEADERS}

    def names(self) -> tuple[str, ...]:
        return tuple(HEADERS)

    def field(self, name: str) -> str:
        s = self.summary
        if name == "ID":
            return short_id(s["Id"]) if self.trunc else str(s["Id"])
        if name == "Image":
            return self._image()
        if name == "Command":
            command = s["Command"]
            return quote(ellipsis(command, 20) if self.trunc else command)
        if name == "RunningFor":
            return human_duration(time.time() - s["Created"]) + " ago"
        if name == "Status":
            return str(s["Status"])
        if name == "State":
            return str(s["State"])
        if name == "Ports":
            if not s.get("Ports"):
                return ""
            from lamina.cli.ports import shown

            return shown(s["Ports"])
        if name == "Names":
            names = [n.removeprefix("/") for n in s["Names"]]
            return ",".join([n for n in names if "/" not in n] or names if self.trunc else names)
        if name == "Size":
            written = human_size(s.get("SizeRw") or 0, 3)
            total = s.get("SizeRootFs") or 0
            return f"{written} (virtual {human_size(total, 3)})" if total else written
        if name == "CreatedAt":
            return local_time(s["Created"])
        if name == "Labels":
            return ",".join(f"{k}={v}" for k, v in sorted((s.get("Labels") or {}).items()))
        if name == "Mounts":
            found = [m.get("Name") or m.get("Source") or "" for m in s.get("Mounts") or []]
            return ",".join(ellipsis(m, 15) if self.trunc else m for m in found)
        if name == "LocalVolumes":
            return str(sum(m.get("Driver") == "local" for m in s.get("Mounts") or []))
        if name == "Networks":
            return ",".join(sorted((s.get("NetworkSettings") or {}).get("Networks") or {}))
        if name == "Platform":
            return ""
        raise KeyError(name)

    def _image(self) -> str:
        image, image_id = str(self.summary["Image"]), str(self.summary["ImageID"])
        if not image:
            return "<no image>"
        if not self.trunc:
            return image
        if short_id(image_id) == short_id(image):
            return short_id(image)
        name, at, _ = image.partition("@")  # with a tag and a digest the tag says enough
        return name if at and ":" in name.rsplit("/", 1)[-1] else image

    def method(self, name: str, *args: Any) -> str:
        """`{{.Label "name"}}` of a template."""
        if name == "Label" and len(args) == 1:
            return str((self.summary.get("Labels") or {}).get(args[0], ""))
        raise KeyError(name)


def local_time(seconds: float) -> str:
    """Go's time.Time.String(): "2026-11-21 08:01:19 +0000 UTC"."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(seconds))


VERBS = {
    "ps": Verb(
        ps,
        "[OPTIONS]",
        0,
        0,
        (
            ("all", "a", "bool", False),
            ("filter", "f", "filter", None),
            ("format", "", "string", ""),
            ("last", "n", "int", -1),
            ("latest", "l", "bool", False),
            ("no-trunc", "", "bool", False),
            ("quiet", "q", "bool", False),
            ("size", "s", "bool", False),
        ),
    )
}
