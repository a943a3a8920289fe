# SPDX-License-Identifier: Apache-2.0
"""How checks, outlines, lists of targets and graphs are shown: the texts and JSON of `docker buildx build --call`."""
from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from lamina.images.shellwords import Expander

from .check import Report
from .graph import SCRATCH, Graph, Node
from .instructions import Run
from .parse import Dockerfile
from .source import DockerfileError, Source, Span
from .variables import Globals, Request, Scope, Value, global_args


def check_text(report: Report) -> str:
    """What goes to stdout."""
    warnings = sorted(report.warnings, key=lambda warning: warning.span.first)
    text = ""
    if warnings:
        text = "Check complete, " + ("1 warning has" if len(warnings) == 1 else f"{len(warnings)} warnings have") + " been found!\n"
    for warning in warnings:
        url = f" - {warning.url}" if warning.url else ""
        text += f"\nWARNING: {warning.rule}{url}\n{warning.detail}\n{report.source.show([warning.span])}"
    if report.error is not None:
        return text + "\n" if warnings else text
    return text or "Check complete, no warnings found.\n"


def error_text(error: DockerfileError) -> str:
    """Message and place, as a check tells it."""
    return f"{error.message}\n" + (error.source.show(error.spans, column=True) if error.source is not None else "")


def check_json(report: Report) -> str:
    warnings = [
        {"ruleName": one.rule, "description": one.description, **({"url": one.url} if one.url else {}), "detail": one.detail,
         "location": {"ranges": ranges([one.span])}}
        for one in report.warnings
    ]  # fmt: skip
    found: dict[str, Any] = {"warnings": warnings or None, "sources": [source_json(report.source)]}
    if report.error is not None:
        found["buildError"] = {"message": report.error.message, "location": {"ranges": ranges(report.error.spans, column=True)}}
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def ranges(spans: list[Span], *, column: bool = False) -> list[dict[str, Any]]:
    """A range for each line, as BuildKit has them; of an error the first with its column."""
    found: list[dict[str, Any]] = []
    for span in spans:
        for line in range(span.first, span.last + 1):
            start: dict[str, int] = {"line": line}
            if column and line == span.first:
                start["character"] = span.column
            found.append({"start": start, "end": {"line": line}})
    return found


def source_json(source: Source) -> dict[str, str]:
    data = base64.b64encode(source.text.encode("utf-8", "surrogateescape")).decode()
    return {"filename": source.name, "language": "Dockerfile", "data": data}


# -- targets


def targets(dockerfile: Dockerfile) -> list[dict[str, Any]]:
    last = len(dockerfile.stages) - 1
    return [
        {key: value for key, value in (
            ("name", stage.name), ("default", index == last), ("description", stage.origin.description), ("base", stage.origin.base),
            ("platform", stage.origin.platform), ("location", {"ranges": ranges([stage.origin.span])})) if value}
        for index, stage in enumerate(dockerfile.stages)
    ]  # fmt: skip


def targets_text(dockerfile: Dockerfile) -> str:
    rows = [("TARGET", "DESCRIPTION")]
    for one in targets(dockerfile):
        name = one.get("name", "")
        if one.get("default"):
            name = f"{name} (default)".lstrip()
        rows.append((name, one.get("description", "")))
    return columns(rows, 1)


def targets_json(dockerfile: Dockerfile) -> str:
    data = source_json(dockerfile.source)["data"]
    return json.dumps({"targets": targets(dockerfile), "sources": [data]}, indent=2, ensure_ascii=False) + "\n"


def columns(rows: Sequence[tuple[str, ...]], gap: int) -> str:
    """As Go's tabwriter lays them out; the last one isn't padded."""
    widths = [max(len(row[n]) for row in rows) + gap for n in range(len(rows[0]) - 1)]
    return "".join("".join(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)) + row[-1] + "\n" for row in rows)


# -- outline: what can be given to a build


class Outline:
    """Arguments, secrets and ssh agents that the target takes, its stages' included."""

    def __init__(self, dockerfile: Dockerfile, request: Request) -> None:
        self.outer = global_args(dockerfile, request)
        bases = [Expander(self.outer.env, escape=dockerfile.escape).word(stage.origin.base) for stage in dockerfile.stages]
        self.graph = Graph(dockerfile, bases)
        self.target = self.graph.target(request.target)
        self.args: dict[str, Value] = {}
        self.secrets: dict[str, tuple[bool, Span]] = {}
        self.ssh: dict[str, tuple[bool, Span]] = {}
        scopes: dict[int, Scope] = {}
        for node in self.graph.reachable(self.target):
            scope = scopes[node.base.index].copy() if node.base else Scope({})
            scopes[node.index] = scope
            self._stage(node, scope, request)
        self.args = dict(sorted(self.args.items(), key=lambda item: item[1].span.first))

    def _stage(self, node: Node, scope: Scope, request: Request) -> None:
        origin = node.stage.origin
        expander = Expander(self.outer.env, escape=self.graph.dockerfile.escape)
        expander.word(origin.base)
        expander.word(origin.platform)
        used = set(expander.matched)
        for instruction in node.instructions():
            scope.meet(instruction, self.graph.dockerfile, request, self.outer)
            scope.take(instruction)
            for mount in instruction.mounts if isinstance(instruction, Run) else ():
                if mount.type == "secret":
                    name = mount.id or mount.source or mount.target.rpartition("/")[2]
                    self.secrets.setdefault(name, (mount.required, instruction.span))
                elif mount.type == "ssh":
                    self.ssh.setdefault(mount.id or "default", (mount.required, instruction.span))
        self._use(used | scope.used, scope, self.outer)

    def _use(self, names: set[str], scope: Scope, outer: Globals) -> None:
        todo, seen = list(names), set[str]()
        while todo:
            name = todo.pop()
            value = scope.values.get(name) or outer.values.get(name)
            if name in seen or value is None:
                continue
            seen.add(name)
            todo += value.uses
            self.args.setdefault(name, value)

    def text(self) -> str:
        origin = self.target.stage.origin
        text = ""
        if origin.stage or origin.description:
            rows = [("TARGET:", origin.stage or "(default)"), *([("DESCRIPTION:", origin.description)] if origin.description else [])]
            text += columns(rows, 1) + "\n"
        if self.args:
            text += columns([("BUILD ARG", "VALUE", "DESCRIPTION"),
                             *((name, one.value, one.argument.description) for name, one in self.args.items())], 3) + "\n"
        for head, found in (("SECRET", self.secrets), ("SSH", self.ssh)):
            if found:
                rows = [(head, "REQUIRED"), *((name, "true" if required else "") for name, (required, _) in found.items())]
                text += columns(rows, 3) + "\n"
        return text

    def json(self) -> str:
        origin = self.target.stage.origin
        found: dict[str, Any] = {}
        if origin.stage:
            found["name"] = origin.stage
        if origin.description:
            found["description"] = origin.description
        if self.args:
            found["args"] = [
                {key: value for key, value in (("name", name), ("description", one.argument.description), ("value", one.value),
                                               ("location", {"ranges": ranges([one.span])})) if value}
                for name, one in self.args.items()
            ]  # fmt: skip
        for key, things in (("secrets", self.secrets), ("ssh", self.ssh)):
            if things:
                found[key] = [{"name": name, **({"required": True} if required else {}), "location": {"ranges": ranges([span])}}
                              for name, (required, span) in things.items()]  # fmt: skip
        found["sources"] = [source_json(self.graph.dockerfile.source)["data"]]
        return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


# -- the graph


def draw(graph: Graph, target: Node, *, ascii_only: bool = False) -> str:
    """The stages, each with its lines in the file and what it needs; what the target doesn't need is said to be so."""
    wanted = {node.index for node in graph.reachable(target)}
    fork, last = ("|- ", "`- ") if ascii_only else ("\u251c\u2500 ", "\u2514\u2500 ")
    lines = []
    for node in graph.nodes:
        ends = max((one.span.last for one in node.stage.instructions), default=node.stage.origin.span.last)
        notes = [f"lines {node.stage.origin.span.first}-{ends}"]
        notes += ["target"] if node is target else [] if node.index in wanted else ["not needed"]
        lines.append(f"{node.name}  ({', '.join(notes)})")
        needs = [(need.kind, need.node.name if need.node else need.image, need.why) for need in node.needs]
        if node.base is None and node.base_name == SCRATCH:
            needs.insert(0, ("FROM", SCRATCH, None))
        for i, (kind, name, why) in enumerate(needs):
            where = f"  (line {why.span.first})" if why is not None else ""
            text = {"FROM": "stands on", "COPY": "copies from", "mount": "mounts"}[kind]
            image = "" if graph.find(name) or name == SCRATCH or kind == "FROM" and node.base else ", an image" if name != SCRATCH else ""
            lines.append((last if i == len(needs) - 1 else fork) + f"{text} {name}{image}{where}")
    return "\n".join(lines) + "\n"
