# SPDX-License-Identifier: Apache-2.0
"""Attack 66: a bind mount of something precious was left inside a container's directory; removing the container must not empty it."""
from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.containers.store import ContainerStore, Record
from lamina.errors import StoreError
from lamina.linux.mount import MNT_DETACH, MS_BIND, mount, umount
from lamina.store import check, removal, trash
from lamina.store.open import Store
from lamina.util.ids import new_id


class Trap:
    def __init__(self, tmp_path: Path) -> None:
        self.store = Store.open(str(tmp_path / "root"), str(tmp_path / "run"))
        self.precious = tmp_path / "precious"
        self.precious.mkdir()
        (self.precious / "data").write_text("all I have")
        self.id = new_id()
        self.containers = ContainerStore(self.store)
        self.containers.insert(Record(self.id, "trap"))
        self.point = Path(self.store.paths.container(self.id), "rw", "diff", "a b")
        self.point.mkdir(parents=True)
        mount(str(self.precious), str(self.point), None, MS_BIND)


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Trap]:
    made = Trap(tmp_path)
    try:
        yield made
    finally:
        for left in trash.mounts_below(str(tmp_path)):
            umount(left, MNT_DETACH)
        made.store.close()


def test_control_a_plain_removal_empties_it(trap: Trap) -> None:
    shutil.rmtree(trap.store.paths.container(trap.id), ignore_errors=True)
    assert not (trap.precious / "data").exists()


def test_removal_is_refused_by_name_and_finished_later(trap: Trap) -> None:
    with pytest.raises(StoreError, match="rw/diff/a b: something is mounted there"):
        trap.containers.remove(trap.id)
    assert (trap.precious / "data").exists() and (trap.point / "data").exists()
    assert removal.pending(trap.store.db) == [("container", trap.id)], "it stays in the journal"
    assert len(removal.finish_all(trap.store)) == 1
    assert any("mounted there" in problem.text for problem in check.repair(trap.store)[1])
    umount(str(trap.point))
    assert removal.finish_all(trap.store) == []
    assert not os.path.exists(trap.store.paths.container(trap.id)) and (trap.precious / "data").exists()


def test_what_the_mount_table_did_not_show_is_seen_when_entered(trap: Trap, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mount comes after the look at the table: then it's the mount id of the opened directory that tells."""
    monkeypatch.setattr(trash, "mountinfo", lambda: [])
    with pytest.raises(StoreError, match="mounted"):
        trap.containers.remove(trap.id)
    assert (trap.precious / "data").exists()


def test_a_mounted_file_is_not_unlinked(trap: Trap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    umount(str(trap.point))
    target = trap.point / "hosts"
    target.touch()
    mount(str(trap.precious / "data"), str(target), None, MS_BIND)
    with pytest.raises(StoreError, match="mounted"):
        trap.containers.remove(trap.id)
    monkeypatch.setattr(trash, "mountinfo", lambda: [])
    with pytest.raises(StoreError, match="mounted"):
        trap.containers.discard(trap.id)
    assert (trap.precious / "data").read_text() == "all I have"


def test_a_root_that_a_dead_monitor_left_mounted_is_unmounted_first(trap: Trap) -> None:
    umount(str(trap.point))
    rootfs = trap.store.paths.rootfs(trap.id)
    os.mkdir(rootfs)
    mount(str(trap.precious), rootfs, None, MS_BIND)
    assert trap.containers.remove(trap.id)
    assert not os.path.lexists(rootfs) and (trap.precious / "data").exists()
