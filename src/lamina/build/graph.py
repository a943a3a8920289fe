# SPDX-License-Identifier: Apache-2.0
"""Which stage needs which: by FROM, by COPY --from, by RUN --mount from=.

A name stands for the last stage of that name that is known there; COPY --from=N for the Nth. What is no stage is an image or a named
context. A stage may only need those above it.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from .instructions import Copy, Instruction, OnBuild, Run, make
from .lines import command
from .parse import Dockerfile, Stage
from .source import DockerfileError
from .suggest import mean

SCRATCH = "scratch"


@dataclass(slots=True)
class Need:
    """why: the instruction that needs it; None for FROM. kind: "FROM", "COPY" or "mount"."""

    kind: str
    node: Node | None  # None: an image
    image: str
    why: Instruction | None


@dataclass(slots=True, eq=False)
class Node:
    """A stage with its base as it came out of the variables. `scratch` and images are no nodes."""

    index: int
    stage: Stage
    base_name: str
    base: Node | None = None
    needs: list[Need] = field(default_factory=list)
    triggers: list[Instruction] = field(default_factory=list)  # of ONBUILD, run before its own instructions

    @property
    def name(self) -> str:
        return self.stage.name or f"stage-{self.index}"

    def instructions(self) -> Iterator[Instruction]:
        yield from self.triggers
        yield from self.stage.instructions


class Graph:
    def __init__(self, dockerfile: Dockerfile, bases: list[str]) -> None:
        """bases: of each stage, with its variables expanded. DockerfileError for a need that can't be."""
        self.dockerfile = dockerfile
        self.nodes: list[Node] = []
        self._by_name: dict[str, Node] = {}
        for index, (stage, base) in enumerate(zip(dockerfile.stages, bases, strict=True)):
            node = Node(index, stage, base, self._by_name.get(base))
            self.nodes.append(node)
            if stage.name:
                self._by_name[stage.name] = node
        for node in self.nodes:
            if node.base is not None or node.base_name != SCRATCH:
                node.needs.append(Need("FROM", node.base, "" if node.base else node.base_name, None))
            for one in triggers(node.base, dockerfile.escape):
                self._trigger(node, one)
            for instruction in node.stage.instructions:
                node.needs += self._needs(instruction)
        self._refuse_cycles()

    def _trigger(self, node: Node, instruction: Instruction) -> None:
        node.triggers.append(instruction)
        node.needs += self._needs(instruction)

    def add_triggers(self, node: Node, texts: list[str]) -> None:
        """Those of the image that a stage stands on."""
        for text in texts:
            line = command(text, self.dockerfile.escape)
            line.span = node.stage.origin.span
            self._trigger(node, make(line, self.dockerfile.escape))

    def find(self, name: str) -> Node | None:
        return self._by_name.get(name.lower())

    def target(self, name: str) -> Node:
        """The last stage for "". DockerfileError for one that isn't there."""
        if not name:
            return self.nodes[-1]
        found = self.find(name)
        if found is None:
            raise DockerfileError(mean(f'target stage "{name}" could not be found', name, [node.name for node in self.nodes]))
        return found

    def reachable(self, target: Node) -> list[Node]:
        """What is built for the target, in the file's order."""
        seen, todo = {target.index}, [target]
        while todo:
            for need in todo.pop().needs:
                if need.node is not None and need.node.index not in seen:
                    seen.add(need.node.index)
                    todo.append(need.node)
        return [node for node in self.nodes if node.index in seen]

    def _needs(self, instruction: Instruction) -> Iterator[Need]:
        if isinstance(instruction, Copy) and instruction.source_stage:
            name, line = instruction.source_stage, instruction.line
            if "$" in name.replace("\\$", ""):
                raise line.error("variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope "
                                 "as a workaround", line.text.find("--from"))
            if name.isascii() and name.lstrip("+-").isdigit():
                number = int(name) if len(name) < 10 else len(self.nodes)
                if not 0 <= number < len(self.nodes):
                    raise line.error(f"invalid stage index {name}", line.text.find("--from"))
                yield Need("COPY", self.nodes[number], "", instruction)
            else:
                yield self._need("COPY", name, instruction)
        elif isinstance(instruction, Run):
            for mount in instruction.mounts:
                if mount.source_stage:
                    yield self._need("mount", mount.source_stage, instruction)

    def _need(self, kind: str, name: str, instruction: Instruction) -> Need:
        node = self.find(name)
        return Need(kind, node, "" if node else name, instruction)

    def _refuse_cycles(self) -> None:
        """Without recursion: a file may have very many stages."""
        done: set[int] = set()
        for start in self.nodes:
            path: list[tuple[Node, Iterator[Need]]] = [(start, iter(start.needs))] if start.index not in done else []
            on_path = {start.index}
            why: list[Need] = []
            while path:
                node, needs = path[-1]
                need = next((need for need in needs if need.node is not None and need.node.index not in done), None)
                if need is None or need.node is None:
                    done.add(node.index)
                    on_path.discard(node.index)
                    path.pop()
                    del why[-1:]
                    continue
                if need.node.index in on_path:
                    steps = zip([*why, need], path, strict=True)
                    spans = [one.why.span if one.why else before.stage.origin.span for one, (before, _) in steps]
                    raise DockerfileError(f"circular dependency detected on stage: {start.name}", spans)
                why.append(need)
                path.append((need.node, iter(need.node.needs)))
                on_path.add(need.node.index)


def triggers(base: Node | None, escape: str) -> Iterator[Instruction]:
    """What ONBUILD of the stage below has asked for, each made anew."""
    for instruction in base.stage.instructions if base is not None else ():
        if isinstance(instruction, OnBuild):
            yield make(instruction.inner, escape)
