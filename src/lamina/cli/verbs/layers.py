# SPDX-License-Identifier: Apache-2.0
"""`layer ls|tree|path`: the read-only layers of the store, who uses them, and where their files are. Ours; docker has no such verbs.

The engine's rows have ChainId, DiffId, Parent, Driver, Size, Created (Unix seconds), Path, Depth, Images (names of those whose stack
holds the layer) and TopOf (names of those that end there), parents before children; a container's tree ends with its read-write layer.
"""
from __future__ import annotations

import time

from lamina.cli.context import Cli
from lamina.cli.flags import Opts, Verb
from lamina.cli.table import render, short_id
from lamina.cli.verbs.lifecycle import each
from lamina.util.sizes import human_duration, human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEADERS = {
    "ID": "LAYER ID", "DiffID": "DIFF ID", "Parent": "PARENT", "Driver": "DRIVER", "CreatedSince": "CREATED", "Size": "SIZE",
    "Images": "IMAGES", "Path": "PATH",
}  # fmt: skip
COLUMNS = ("ID", "DiffID", "Parent", "Driver", "CreatedSince", "Size", "Images")


class LayerRow:
    def __init__(self, layer: dict[str, Any], *, trunc: bool) -> None:
        self.layer = layer
        self.trunc = trunc

    def names(self) -> tuple[str, ...]:
        return tuple(HEADERS)

    def _id(self, value: str | None) -> str:
        if not value:
            return ""
        return short_id(value) if self.trunc else value

    def field(self, name: str) -> str:
        layer = self.layer
        if name == "ID":
            return self._id(layer["ChainId"])
        if name in ("DiffID", "Parent"):
            return self._id(layer["DiffId" if name == "DiffID" else "Parent"])
        if name == "CreatedSince":
            return human_duration(time.time() - layer["Created"]) + " ago"
        if name == "Size":
            return human_size(layer["Size"], 3)
        if name == "Images":
            return ", ".join(layer["Images"]) or "<none>"
        if name in ("Driver", "Path"):
            return str(layer[name])
        raise KeyError(name)


def ls(cli: Cli, opts: Opts, args: list[str]) -> int:
    rows = [LayerRow(layer, trunc=not opts["no-trunc"]) for layer in cli.engine.layers.ls()]
    template = opts["format"]
    if opts["quiet"]:
        for row in rows:
            cli.out(row.field("ID"))
    elif template and template != "table":
        from lamina.cli.formats import show

        show(cli, template, rows, HEADERS, kind="formatter.layerContext")
    else:
        cli.out(render([[HEADERS[c] for c in COLUMNS], *([cli.clean(row.field(c)) for c in COLUMNS] for row in rows)]), end="")
    return 0


def tree(cli: Cli, opts: Opts, args: list[str]) -> int:
    """All layers (or those of one image or container) from the bases up, each with its size and the images that end there."""
    layers = cli.engine.layers.tree(args[0] if args else None)
    for line in draw(layers, ascii_only=opts["ascii"], trunc=not opts["no-trunc"]):
        cli.out(cli.clean(line))
    return 0


def draw(layers: list[dict[str, Any]], *, ascii_only: bool, trunc: bool) -> list[str]:
    """A line a layer, children indented under their parent; rows come parents first, each with its Depth."""
    bar, fork, last = ("|  ", "|- ", "`- ") if ascii_only else ("\u2502  ", "\u251c\u2500 ", "\u2514\u2500 ")
    more = _siblings_below(layers)
    indents: list[str] = []  # by depth: what stands before the lines below that ancestor
    lines = []
    for i, layer in enumerate(layers):
        depth = layer["Depth"]
        del indents[depth:]
        mark = "" if not depth else fork if more[i] else last
        indents.append("" if not depth else bar if more[i] else "   ")
        row = LayerRow(layer, trunc=trunc)
        names = ", ".join(layer["TopOf"])
        lines.append("".join(indents[:-1]) + mark + f"{row.field('ID')}  {row.field('Size')}" + (f"  {names}" if names else ""))
    return lines


def _siblings_below(layers: list[dict[str, Any]]) -> list[bool]:
    """For each row, whether a later row has the same parent."""
    open_at: set[int] = set()  # depths at which a row further down waits for its elder siblings
    found = []
    for layer in reversed(layers):
        depth = layer["Depth"]
        open_at = {d for d in open_at if d <= depth}
        found.append(depth in open_at)
        open_at.add(depth)
    return found[::-1]


def path(cli: Cli, opts: Opts, args: list[str]) -> int:
    """Directories with the layers' files, the top one first: of a container, of an image, or of one layer by its id."""
    return 1 if each(cli, args, lambda ref: "\n".join(cli.clean(line) for line in cli.engine.layers.path(ref))) else 0


NO_TRUNC = ("no-trunc", "", "bool", False)
VERBS = {
    "ls": Verb(ls, "[OPTIONS]", 0, 0, (("format", "", "string", ""), NO_TRUNC, ("quiet", "q", "bool", False))),
    "tree": Verb(tree, "[OPTIONS] [IMAGE|CONTAINER]", 0, 1, (("ascii", "", "bool", False), NO_TRUNC)),
    "path": Verb(path, "IMAGE|CONTAINER|LAYER...", 1, None),
}
