# SPDX-License-Identifier: Apache-2.0
"""Where a new layer begins: the candidate in which files are made quickest, an empty directory in the workspace, nothing beside it."""
from __future__ import annotations

import os
from pathlib import Path

import pytest

from lamina.layers import placement


class Clock:
    """Each file takes the next of `costs`."""

    def __init__(self, costs: list[int]) -> None:
        self.costs = costs
        self.now = 0
        self.calls = 0

    def __call__(self) -> int:
        if self.calls % 2:
            self.now += self.costs.pop(0)
        self.calls += 1
        return self.now


@pytest.fixture
def ext4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "magic", lambda fd: placement.EXT4_SUPER_MAGIC)


@pytest.mark.usefixtures("ext4")
@pytest.mark.parametrize("quickest", [0, 2, 5])
def test_quickest_candidate_wins_by_its_best_file(tmp_path: Path, quickest: int) -> None:
    costs = [[900, 100, 800] for _ in range(6)]
    costs[quickest] = [5000, 5000, 10]
    made: list[str] = []
    mkdir = os.mkdir

    def spy(path: str, mode: int = 0o777) -> None:
        made.append(path)
        mkdir(path, mode)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "mkdir", spy)
        chosen = placement.choose(str(tmp_path / "w"), Clock([cost for candidate in costs for cost in candidate]))
    assert chosen == made[1 + quickest]
    assert os.listdir(chosen) == []
    assert os.stat(chosen).st_mode & 0o7777 == 0o700
    assert sorted(os.listdir(tmp_path / "w")) == sorted(os.path.basename(path) for path in made[1:])


def test_nothing_to_choose_on_other_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "magic", lambda fd: 0x01021994)
    chosen = placement.choose(str(tmp_path / "w"), Clock([]))
    assert os.listdir(tmp_path / "w") == [os.path.basename(chosen)]
    assert os.listdir(chosen) == []


def test_workspace_must_be_new(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        placement.choose(str(tmp_path))
