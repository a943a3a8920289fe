# SPDX-License-Identifier: Apache-2.0
"""`layer ls|tree|path`: the read-only layers of the store, who uses them, and where their files are. Ours; docker has no such verbs.

The engine's rows are objects with ChainId, DiffId, Parent, Size, Created (Unix seconds), Driver, Images (names that use the layer)
and Path.
"""
from __future__ import annotations

import time
from typing import Any

from lamina.cli.context import Cli
from lamina.cli.flags import Opts, Verb
from lamina.cli.table import render, short_id
from lamina.util.sizes import human_duration, human_size

HEADERS = {
    "ID": "LAYER ID", "DiffID": "DIFF ID", "Parent": "PARENT", "Driver": "DRIVER", "CreatedSince": "CREATED", "Size": "SIZE", "Images": "IMAGES",
    "Path": "PATH",
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
        if name in ("ID", "DiffID", "Parent"):
            return self._id(layer.get({"ID": "ChainId", "DiffID": "DiffId"}.get(name, name)))
        if name == "CreatedSince":
            return human_duration(time.time() - layer["Created"]) + " ago" if layer.get("Created") else "N/A"
        if name == "Size":
            return human_size(layer.get("Size") or 0, 3)
        if name == "Images":
            return ", ".join(layer.get("Images") or []) or "<none>"
        if name in ("Driver", "Path"):
            return str(layer.get(name) or "")
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
    known = {layer["ChainId"] for layer in layers}
    children: dict[str, list[dict[str, Any]]] = {}
    for layer in layers:
        parent = layer.get("Parent") or ""
        children.setdefault(parent if parent in known else "", []).append(layer)
    unicode = cli.is_tty(1) or not opts["ascii"]
    bar, fork, last = ("\u2502  ", "\u251c\u2500 ", "\u2514\u2500 ") if unicode and not opts["ascii"] else ("|  ", "|- ", "`- ")
    # a stack, not recursion: a chain may be hundreds of layers long
    stack = [(layer, "", None) for layer in reversed(children.get("", []))]
    pending: list[tuple[dict[str, Any], str, bool | None]] = list(stack)
    while pending:
        layer, indent, is_last = pending.pop()
        row = LayerRow(layer, trunc=not opts["no-trunc"])
        mark = "" if is_last is None else last if is_last else fork
        names = ", ".join(layer.get("TopOf") or [])
        line = f"{row.field('ID')}  {row.field('Size')}" + (f"  {names}" if names else "")
        cli.out(indent + mark + cli.clean(line))
        below = indent if is_last is None else indent + ("   " if is_last else bar)
        following = children.get(layer["ChainId"], [])
        for i, child in enumerate(reversed(following)):
            pending.append((child, below, i == 0))
    return 0


def path(cli: Cli, opts: Opts, args: list[str]) -> int:
    """The directories of an image's or container's layers, the top one first: what an overlay mount has as lowerdir."""
    for ref in args:
        for directory in cli.engine.layers.path(ref):
            cli.out(cli.clean(directory))
    return 0


NO_TRUNC = ("no-trunc", "", "bool", False)
VERBS = {
    "ls": Verb(ls, "[OPTIONS]", 0, 0, (("format", "", "string", ""), NO_TRUNC, ("quiet", "q", "bool", False))),
    "tree": Verb(tree, "[OPTIONS] [IMAGE|CONTAINER]", 0, 1, (("ascii", "", "bool", False), NO_TRUNC)),
    "path": Verb(path, "IMAGE|CONTAINER|LAYER [...]", 1, None),
}
