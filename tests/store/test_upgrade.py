# SPDX-License-Identifier: Apache-2.0
"""Upgrades: every step resumable at every point; and the kept fixture store of each layout opens, upgrades and checks clean."""
from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from lamina.containers.store import ContainerStore
from lamina.errors import StoreError
from lamina.layers.store import LayerStore
from lamina.store import schema, setup, upgrade
from lamina.store.check import check
from lamina.store.db import DB
from lamina.store.open import Store, read_json
from lamina.store.paths import Paths, engine_id
from lamina.volumes.store import VolumeStore

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "stores"


class Cut(Exception):
    pass


def rows(db: DB) -> None:
    db.execute("CREATE TABLE new_table (a)")
    db.execute("INSERT INTO new_table VALUES (7)")


def files(paths: Paths) -> None:
    os.makedirs(paths.root + "/new-directory", exist_ok=True)


NOW, NEXT, LAST = schema.LAYOUT, schema.LAYOUT + 1, schema.LAYOUT + 2
STEPS = {
    NEXT: upgrade.Step(NEXT, NEXT, rows, files),
    LAST: upgrade.Step(LAST, NEXT, lambda db: db.execute("ALTER TABLE new_table ADD COLUMN b") and None),
}


def run(paths: Paths) -> None:
    upgrade.upgrade(paths, read_json(paths.layout) or {}, wal=True, steps=STEPS, target=LAST)


def upgraded(paths: Paths) -> None:
    db = DB(paths.database)
    assert db.value("SELECT a FROM new_table") == 7 and db.value("SELECT value FROM meta WHERE key='layout'") == str(LAST)
    layout = read_json(paths.layout)
    assert layout is not None and layout["layout"] == LAST and layout["min_reader"] == NEXT and "upgrading" not in layout
    db.close()


def test_steps_follow_each_other(store: Store) -> None:
    store.close()
    run(store.paths)
    upgraded(store.paths)
    run(store.paths)  # nothing left to do
    upgraded(store.paths)
    with pytest.raises(StoreError, match=f"needs a lamina that reads layout {NEXT}"):
        Store.open(store.paths.root, store.paths.runroot)


@pytest.mark.parametrize("point", range(8))
def test_cut_off_anywhere_it_is_resumed(store: Store, point: int, monkeypatch: pytest.MonkeyPatch) -> None:
    store.close()
    count = 0

    def cut(real: object) -> object:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal count
            count += 1
            if count > point:
                raise Cut
            return real(*args, **kwargs)  # type: ignore[operator]
        return call

    with monkeypatch.context() as patch:
        patch.setattr(setup, "write_layout", cut(setup.write_layout))
        patch.setattr(DB, "execute", cut(DB.execute))
        with pytest.raises(Cut):
            run(store.paths)
    if point >= 1 and (read_json(store.paths.layout) or {}).get("upgrading"):
        with pytest.raises(StoreError, match=f"reads layout ({NEXT}|{LAST})"):  # an old lamina stays away from half an upgrade
            Store.open(store.paths.root, store.paths.runroot)
    run(store.paths)
    upgraded(store.paths)


def test_a_gap_is_refused(store: Store) -> None:
    store.close()
    with pytest.raises(StoreError, match="can't be upgraded"):
        upgrade.upgrade(store.paths, read_json(store.paths.layout) or {}, wal=True, steps={LAST: STEPS[LAST]}, target=LAST)


def test_there_is_a_fixture_of_every_layout() -> None:
    assert sorted(path.name for path in FIXTURES.glob("layout-*.tar.xz")) == [f"layout-{n}.tar.xz" for n in range(1, schema.LAYOUT + 1)]


@pytest.mark.parametrize("archive", sorted(FIXTURES.glob("layout-*.tar.xz")), ids=lambda p: p.name)
def test_fixture_stores_open_upgrade_and_check(archive: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "-xJf", str(archive), "-C", str(tmp_path), "--numeric-owner", "--xattrs", "--xattrs-include=*"], check=True)
    paths = Paths(str(tmp_path / "root"), str(tmp_path / "run"))
    setup.adopt(paths, engine_id(paths.root, paths.runroot))
    with Store.open(paths.root, paths.runroot) as store:
        assert check(store, full=True) == []
        assert json.loads(Path(paths.layout).read_text())["layout"] == schema.LAYOUT
        tags = [tuple(row) for row in store.db.execute("SELECT repo, tag FROM tags ORDER BY tag")]
        assert tags == [("docker.io/library/fixture", "2"), ("docker.io/library/fixture", "latest")]
        (record,) = ContainerStore(store).list()
        assert record.name == "fixture_box" and ContainerStore(store).state(record.id).exit_code == 3
        (volume,) = VolumeStore(store).list()
        assert (Path(volume.mountpoint) / "note").read_text() == "kept\n"
        layers = LayerStore(store)
        top = str(store.db.value("SELECT chain_id FROM images WHERE parent != ''"))
        assert len(layers.chain(top)) == 2
        for layer in layers.chain(top):
            layers.verify(layer.chain_id)  # the exact tar of each comes out again
        root = layers.view(top).open_root()
        try:
            assert sorted(os.listdir(root)) == ["etc", "hello", "link", "new"] and os.readlink("link", dir_fd=root) == "hello"
            etc = os.open("etc", os.O_RDONLY, dir_fd=root)
            assert os.listdir(etc) == []
            os.close(etc)
        finally:
            os.close(root)
