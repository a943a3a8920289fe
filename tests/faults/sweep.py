# SPDX-License-Identifier: Apache-2.0
"""Kills a command, or what it has started, at one fault point after the other, and looks at what is left after one further command."""

from __future__ import annotations

import json
import mmap
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamina.engine.engine import Engine
from lamina.errors import NotFound
from lamina.volumes.store import VolumeStore

from . import inject, points, world

if TYPE_CHECKING:
    from tests.conftest import Lamina

HERE = Path(__file__).resolve().parent
# Any of them is enough to put things right; which one follows is decided by the point's place in the list.
FURTHER = (["ps", "-a"], ["images"], ["volume", "ls"], ["system", "check"], ["run", "--rm", "--network", "none", "box", "true"])
PATIENCE = 8.0  # seconds for what goes on in the background after a command


class Point:
    """One passage: process ("c", "c0", ...), point (see inject), number of the passage, before or after the call."""

    __slots__ = ("number", "point", "process", "when")

    def __init__(self, process: str, point: str, number: int, when: str) -> None:
        self.process, self.point, self.number, self.when = process, point, number, when

    def __repr__(self) -> str:
        return f"{self.process} {self.when} {self.point} #{self.number}"


class Job:
    def __init__(self, lamina: Lamina, directory: Path) -> None:
        self.lamina = lamina
        self.file, self.log = directory / "job.json", directory / "map"

    def run(self, command: Sequence[str], do: dict[str, Any] | None = None) -> subprocess.CompletedProcess[bytes]:
        job = {"src": str(points.SRC), "doors": {k: list(v) for k, v in points.WORLD.items()}, "reading": list(points.READING),
               "methods": list(points.METHODS), "log": str(self.log), "do": do}  # fmt: skip
        self.log.unlink(missing_ok=True)
        self.file.write_text(json.dumps(job))
        line = [sys.executable, "-I", "-S", str(HERE / "inject.py"), str(self.file), "--", *self.lamina.prefix[1:], *command]
        return subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, timeout=120)

    def passages(self) -> dict[str, list[str]]:
        """Process -> the points that it has passed, in order (of each the first three times)."""
        found: dict[str, list[str]] = {}
        with open(self.log, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as map:
            def walk(process: str) -> None:
                start = inject.slot_of(process) * inject.REGION
                if map[start]:
                    found[process] = map[start : map.find(bytes(1), start)].decode().splitlines()
                    for digit in range(inject.FAN if len(process) < 5 else 0):
                        walk(process + str(digit))
            walk("c")
        return found

    def struck(self) -> bool:
        return any("!" in lines for lines in self.passages().values())


def every_point(passages: dict[str, list[str]]) -> list[Point]:
    """Each point, of those passed several times the first and the last passage that was written down; before it and after it."""
    found = []
    for process, lines in sorted(passages.items()):
        for point in dict.fromkeys(lines):
            count = lines.count(point)
            for number in dict.fromkeys((0, count - 1)):
                found += [Point(process, point, number, when) for when in ("before", "after")]
    return found


def on_disk(found: list[Point]) -> list[Point]:
    """Those at which a disk can be full, each once."""
    return [point for point in found if point.when == "before" and point.point.split(" ")[0] in inject.ON_DISK]


def settle(true: Callable[[], list[str]], seconds: float = PATIENCE) -> list[str]:
    """What `true` says once it says nothing, or when the time is up."""
    end = time.monotonic() + seconds
    while found := true():
        if time.monotonic() > end:
            return found
        time.sleep(0.05)
    return []


class Case:
    """A command and its surroundings. `before` makes what it needs, `after` (any exit code) takes away what may be there."""

    def __init__(self, lamina: Lamina, directory: Path, before: Sequence[Sequence[str]], command: Sequence[str]) -> None:
        self.lamina, self.before, self.command = lamina, before, command
        self.job = Job(lamina, directory)

    def prepare(self) -> None:
        for line in self.before:
            self.lamina(*line).check()

    def clear(self) -> None:
        """Takes away all that the commands may have made. By the library, as that is quicker; the test is over by now."""
        with Engine(str(self.lamina.root), str(self.lamina.runroot)) as engine:
            for row in engine.containers.list(all=True):
                engine.containers.remove(row["Id"], force=True, volumes=True)
            volumes = VolumeStore(engine.store)
            for volume in volumes.list():
                volumes.remove(volume.name)
            try:
                engine.images.remove("second")
            except NotFound:
                pass

    def record(self) -> list[Point]:
        """Runs it once unharmed; what it passes, and what is there afterwards, which may also be there when it was cut off."""
        self.prepare()
        self.start = world.objects(self.lamina)
        done = self.job.run(self.command)
        assert done.returncode == 0, done.stderr
        self.lamina(*FURTHER[0]).check()  # strikes from the journal what the monitor of a --rm container has removed
        found = settle(lambda: world.wrong(self.lamina))
        assert not found, f"not killed: {found}"
        self.passages = self.job.passages()
        self.end = world.objects(self.lamina)
        self.clear()
        return every_point(self.passages)

    def strike(self, point: Point, further: Sequence[str], what: str = "kill", *, ever: bool = False) -> str:
        """Strikes at the point: kills, or lets the disk be full (for that one call, or ever after). What is wrong after one further
        command, "" if nothing. "-" if the point wasn't reached this time."""
        self.prepare()
        do = {"process": point.process, "point": point.point, "number": point.number, "when": point.when, "what": what, "ever": ever}
        done = self.job.run(self.command, do)
        hit = self.job.struck()
        told = done.stderr.decode(errors="replace")
        trouble = []
        if "Traceback" in told or "internal error" in told:
            trouble.append(told)
        if what == "kill" and hit and point.process == "c" and done.returncode != -signal.SIGKILL:
            trouble.append(f"exit {done.returncode}")
        if what == "full" and done.returncode and "space left" not in told.lower():
            trouble.append(f"exit {done.returncode}, and no word of the disk: {told}")
        settle(lambda: [p for p in world.processes(self.lamina) if str(self.job.file) in p], 2)
        next_one = self.lamina(*further)
        if next_one.returncode:
            trouble.append(f"{further}: exit {next_one.returncode}: {next_one.stdout}{next_one.stderr}")
        trouble += settle(lambda: world.wrong(self.lamina))
        trouble += self.unexpected()
        self.clear()
        trouble += [f"after clearing: {one}" for one in settle(lambda: world.wrong(self.lamina))]
        return "\n    ".join(trouble) if trouble else "" if hit else "-"

    def unexpected(self) -> list[str]:
        """Objects that were there neither before nor after. A container may also be anything between: made, ended with its monitor."""
        found = []
        for one in world.objects(self.lamina) - self.start - self.end:
            kind, name, *state = one.split()
            if kind != "container" or not any(other.split()[:2] == [kind, name] for other in self.start | self.end):
                found.append(f"unexpected: {one}")
        lost = {one.split()[1] for one in (self.start & self.end)} - {one.split()[1] for one in world.objects(self.lamina)}
        return found + [f"lost: {one}" for one in lost]


def sweep(
    case: Case, chosen: Callable[[list[Point]], list[Point]], tell: Callable[[str], object] = lambda text: None,
    what: str = "kill", *, ever: bool = False,
) -> tuple[int, list[str]]:  # fmt: skip
    """(points that were hit, what was wrong at which)."""
    hits, bad = 0, []
    for at, point in enumerate(chosen(case.record())):
        found = case.strike(point, FURTHER[at % len(FURTHER)], what, ever=ever)
        hits += found != "-"
        if found not in ("", "-"):
            bad.append(f"{point} then {FURTHER[at % len(FURTHER)][0]}:\n    {found}")
        tell(f"{at} {found or 'ok'} {point}")
    return hits, bad
