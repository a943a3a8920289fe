# SPDX-License-Identifier: Apache-2.0
"""Opening a store: who is refused, and that refusing changes nothing."""
from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lamina.errors import StoreError
from lamina.store import setup
from lamina.store.db import DB
from lamina.store.open import Store
from lamina.store.paths import Paths, engine_id
from lamina.store.schema import LAYOUT


def fingerprint(root: Path) -> dict[str, tuple[object, ...]]:
    """Name, mode, size, mtime and content of everything below."""
    found = {}
    for directory, names, files in os.walk(root):
        for path in [directory, *(f"{directory}/{name}" for name in files + names)]:
            s = os.lstat(path)
            content = hashlib.sha256(Path(path).read_bytes()).hexdigest() if os.path.isfile(path) else ""
            found[path] = (s.st_mode, s.st_size, s.st_mtime_ns, s.st_ino, content)
    return found


def roots(tmp_path: Path) -> tuple[str, str]:
    return str(tmp_path / "root"), str(tmp_path / "run")


def test_a_new_store(tmp_path: Path) -> None:
    root, run = roots(tmp_path)
    store = Store.open(root, run)
    assert store.engine_id == engine_id(root, run)
    assert json.loads(Path(root, "layout.json").read_text())["engine"] == json.loads(Path(run,
        "boot.json").read_text())["engine"] == store.engine_id
    for path in (root, run, root + "/containers", root + "/lamina.db"):
        assert os.stat(path).st_mode & 0o077 == 0
    assert store.names.bridge == store.names.table == "lm-" + store.engine_id and len(store.names.bridge) <= 15
    assert store.db.value("PRAGMA journal_mode") == "wal"


def test_opening_again_writes_nothing(tmp_path: Path) -> None:
    Store.open(*roots(tmp_path))
    before = fingerprint(tmp_path)
    Store.open(*roots(tmp_path))
    assert fingerprint(tmp_path) == before


def test_a_newer_store_is_refused_and_not_touched(tmp_path: Path) -> None:
    root, run = roots(tmp_path)
    with Store.open(root, run) as store, store.db.write() as db:
        db.execute("INSERT INTO meta VALUES ('x', 'y')")
    layout = Path(root, "layout.json")
    value = json.loads(layout.read_text())
    layout.write_text(json.dumps({**value, "layout": 7, "min_reader": 6, "future": [1]}))
    os.chmod(root, 0o755)  # even this isn't put right
    Path(run, "boot.json").write_text('{"boot_id":"older","engine":"x"}')
    before = fingerprint(tmp_path)
    with pytest.raises(StoreError, match=f"layout 7 and needs a lamina that reads layout 6; this one reads up to {LAYOUT}"):
        Store.open(root, run)
    with pytest.raises(StoreError, match="layout 7"):
        Store.open(root, str(tmp_path / "other"))
    assert fingerprint(tmp_path) == before


def test_a_newer_store_that_can_be_read_is_opened(tmp_path: Path) -> None:
    root, run = roots(tmp_path)
    Store.open(root, run)
    layout = Path(root, "layout.json")
    layout.write_text(json.dumps({**json.loads(layout.read_text()), "layout": LAYOUT + 1, "min_reader": LAYOUT}))
    assert Store.open(root, run).db.value("SELECT value FROM meta WHERE key='layout'") == str(LAYOUT)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"layout":1}', '{"layout":"1","min_reader":1,"engine":"x"}',
    '{"layout":true,"min_reader":1,"engine":"x"}'])
def test_a_damaged_layout_is_told(tmp_path: Path, text: str) -> None:
    root, run = roots(tmp_path)
    Store.open(root, run)
    Path(root, "layout.json").write_text(text)
    before = fingerprint(tmp_path)
    with pytest.raises(StoreError, match="layout.json: damaged"):
        Store.open(root, run)
    assert fingerprint(tmp_path) == before


def test_foreign_pairs_are_refused_both_ways(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    Store.open(str(a), str(tmp_path / "run-a"))
    Store.open(str(b), str(tmp_path / "run-b"))
    before = fingerprint(tmp_path)
    with pytest.raises(StoreError, match="belongs to engine"):
        Store.open(str(a), str(tmp_path / "run-b"))
    with pytest.raises(StoreError, match="belongs to engine"):
        Store.open(str(a), str(tmp_path / "run-new"))
    with pytest.raises(StoreError, match="belongs to another engine"):
        Store.open(str(tmp_path / "new"), str(tmp_path / "run-b"))
    assert fingerprint(tmp_path) == before


def test_a_runroot_of_another_boot_is_swept(tmp_path: Path) -> None:
    root, run = roots(tmp_path)
    store = Store.open(root, run)
    Path(run, "boot.json").write_text(json.dumps({"boot_id": "an earlier one", "engine": store.engine_id}))
    stale = Path(store.paths.run_container("a" * 64))
    stale.mkdir()
    (stale / "sock").touch()
    Path(run, "not-ours").touch()
    Store.open(root, run)
    assert not stale.exists() and stale.parent.is_dir() and Path(run, "not-ours").exists()
    assert Store.open(root, run).engine_id == store.engine_id


def test_a_linked_runroot_is_refused(tmp_path: Path) -> None:
    root, run = roots(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", run)
    for name in (run, run + "/"):
        with pytest.raises(StoreError, match="symbolic link"):
            Store.open(root, name)
    assert not os.path.exists(root) and not os.listdir(tmp_path / "elsewhere")


def test_someone_elses_directories_are_refused(tmp_path: Path) -> None:
    root, run = roots(tmp_path)
    os.mkdir(run, 0o777)
    os.chown(run, 12345, 12345)
    with pytest.raises(StoreError, match="belongs to user 12345"):
        Store.open(root, run)
    os.mkdir(tmp_path / "theirs")
    os.chown(tmp_path / "theirs", 12345, 12345)
    with pytest.raises(StoreError, match="belongs to user 12345"):
        Store.open(str(tmp_path / "theirs"), str(tmp_path / "run2"))


def test_a_directory_with_other_things_is_no_data_root(tmp_path: Path) -> None:
    root, run = roots(tmp_path)
    os.mkdir(root)
    Path(root, "thesis.tex").touch()
    with pytest.raises(StoreError, match="not empty \\(thesis.tex"):
        Store.open(root, run)
    assert os.listdir(root) == ["thesis.tex"] and not os.path.exists(run)


def test_roots_in_each_other_are_refused(tmp_path: Path) -> None:
    for root, run in ((tmp_path / "r", tmp_path / "r" / "run"), (tmp_path / "r" / "data", tmp_path / "r"), (tmp_path / "r",
        tmp_path / "r")):
        with pytest.raises(StoreError, match="may not lie in each other"):
            Store.open(str(root), str(run))


def test_an_open_mode_is_closed_again(tmp_path: Path) -> None:
    root, run = roots(tmp_path)
    Store.open(root, run)
    os.chmod(root, 0o755)
    Store.open(root, run)
    assert os.stat(root).st_mode & 0o777 == 0o700


def test_a_creation_cut_off_is_finished(tmp_path: Path) -> None:
    root, run = roots(tmp_path)
    Store.open(root, run).close()
    os.unlink(root + "/layout.json")  # the last step of creating
    store = Store.open(root, run)
    assert store.db.value("SELECT count(*) FROM containers") == 0 and os.path.exists(root + "/layout.json")


def test_many_create_at_once(tmp_path: Path) -> None:
    source = str(Path(__file__).resolve().parents[2] / "src")
    code = f"import sys; sys.path.insert(0, {source!r}); from lamina.store.open import Store; " \
           f"s = Store.open({roots(tmp_path)[0]!r}, {roots(tmp_path)[1]!r}); print(s.db.value('SELECT count(*) FROM images'))"
    children = [subprocess.Popen([sys.executable, "-I", "-S", "-c", code], stdout=subprocess.PIPE) for _ in range(6)]
    assert [child.communicate()[0] for child in children] == [b"0\n"] * 6


def test_a_second_host_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, run = roots(tmp_path)
    monkeypatch.setattr(setup, "network_fs", lambda path: "nfs4")
    store = Store.open(root, run)
    assert store.network_fs == "nfs4" and store.db.value("PRAGMA journal_mode") == "delete"
    store.close()
    Path(root, "host.json").write_text('{"host": "other/123"}')
    os.unlink(run + "/boot.json")
    with pytest.raises(StoreError, match="is on nfs4 and in use by host other/123"):
        Store.open(root, run)


def test_a_store_copied_to_a_network_leaves_wal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, run = roots(tmp_path)
    Store.open(root, run).close()
    os.unlink(run + "/boot.json")
    monkeypatch.setattr(setup, "network_fs", lambda path: "nfs4")
    with Store.open(root, run) as store:
        assert store.db.value("PRAGMA journal_mode") == "delete"


def test_the_mount_table_tells_the_file_system(tmp_path: Path) -> None:
    assert setup.file_system("/proc") == "proc"
    assert setup.network_fs("/proc") == ""


def test_adopting_a_moved_root(tmp_path: Path) -> None:
    root, run = roots(tmp_path)
    Store.open(root, run).close()
    paths = Paths(root, str(tmp_path / "new-run"))
    with pytest.raises(StoreError, match="of this boot"):
        setup.adopt(paths, engine_id(paths.root, paths.runroot))
    os.rename(root, tmp_path / "moved")
    moved = Paths(str(tmp_path / "moved"), str(tmp_path / "new-run"))
    with pytest.raises(StoreError, match="made as root") as refused:
        Store.open(moved.root, moved.runroot)
    assert "lamina system adopt" in refused.value.hint
    setup.adopt(moved, engine_id(moved.root, moved.runroot))
    assert Store.open(moved.root, moved.runroot).db.value("SELECT value FROM meta") == str(LAYOUT)


def test_a_damaged_database_is_told(tmp_path: Path) -> None:
    root, run = roots(tmp_path)
    Store.open(root, run).close()
    Path(root, "lamina.db").write_bytes(b"no database at all" * 500)
    with pytest.raises(StoreError, match="damaged"):
        Store.open(root, run).db.value("SELECT 1 FROM meta")


def test_a_missing_database_is_not_a_new_one(tmp_path: Path) -> None:
    root, run = roots(tmp_path)
    Store.open(root, run).close()
    os.unlink(root + "/lamina.db")
    with pytest.raises(StoreError):
        DB(root + "/lamina.db").value("SELECT 1 FROM meta")
