# SPDX-License-Identifier: Apache-2.0
"""kill -9 at the points where a command, its monitor or a container's init changes the world (points.py, inject.py). One further command
of any kind, and host and store are as they were before it or as they are after it: mounts, cgroups, links, firewall, processes, files,
rows. The default tier takes a few points of each command, the other one all of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import make_tar

from . import points, world
from .cases import CASES
from .sweep import Case, Point, sweep

if TYPE_CHECKING:
    from tests.conftest import Lamina

FEW = 2  # points of each process in the default tier


def case_of(name: str, lamina: Lamina, tar: Path, directory: Path) -> Case:
    before, command = CASES[name]
    other = directory / "other.tar"
    other.write_bytes(make_tar({"d": None, "d/e": None, "d/e/f": b"f" * 70000, "d/g": b"g"}))

    def words(line: list[str]) -> list[str]:
        return [{"TAR": str(tar), "OTHER": str(other)}.get(word, word) for word in line]

    return Case(lamina, directory, [words(line) for line in before], words(command))


def some(found: list[Point]) -> list[Point]:
    """A few of each process, spread over its life; which ones moves on by a step whenever the code changes their number."""
    chosen = []
    for process in sorted({point.process for point in found}):
        mine = [point for point in found if point.process == process]
        step = max(1, len(mine) // FEW)
        chosen += mine[len(mine) % step :: step][:FEW]
    return chosen


@pytest.mark.parametrize("name", ["import", "create", "start", "run-rm", "exec", "commit", "rm", "rmi"])
def test_killed_at_some_points(struck: Lamina, busybox_tar: Path, tmp_path: Path, name: str) -> None:
    hits, bad = sweep(case_of(name, struck, busybox_tar, tmp_path), some)
    assert not bad, "\n".join(bad)
    assert hits, "no kill ever hit"


@pytest.mark.all
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", CASES)
def test_killed_at_every_point(struck: Lamina, busybox_tar: Path, tmp_path: Path, name: str) -> None:
    hits, bad = sweep(case_of(name, struck, busybox_tar, tmp_path), list)
    assert not bad, "\n".join(bad)
    assert hits > 20


def test_every_passage_is_in_the_list(struck: Lamina, busybox_tar: Path, tmp_path: Path) -> None:
    """The list is read from the source; whoever stands in the doors meets nothing that isn't in it. And it isn't empty where it matters."""
    table = points.by_file()
    case = case_of("run-rm", struck, busybox_tar, tmp_path)
    passed = {line for lines in (case.record() and case.passages).values() for line in lines}
    assert len(passed) > 100
    for point in passed:
        door, _, where = point.partition(" ")
        file, _, rest = where.partition(":")
        sites = points.find(table, file, int(rest.split(" ")[0]))
        doors = {site.door for site in sites}
        assert door in doors or (door == "os.mkdir" and "os.makedirs" in doors), f"{point}: not in the list ({doors})"
    listed = {site.file.split("/")[0] for site in points.sites()}
    assert {"linux", "runtime", "monitor", "network", "store", "layers", "volumes", "containers", "engine", "util"} <= listed


def test_control_the_look_sees_what_is_left(struck: Lamina) -> None:
    """One of each kind, put there by hand, is found."""
    assert not world.wrong(struck)
    (struck.root / "trash" / ("a" * 64)).mkdir()
    (struck.root / "tmp/layer-x").mkdir()
    (struck.runroot / "active/4194303-1").touch()
    (struck.runroot / "containers" / ("b" * 64)).mkdir()
    found = "\n".join(world.wrong(struck))
    assert all(word in found for word in ("S18", "S19", "S21", "marker"))
    assert struck("images").returncode == 0
    assert not world.wrong(struck)
