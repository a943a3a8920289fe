# SPDX-License-Identifier: Apache-2.0
"""The checker sees each kind of damage, repairs what it may, and leaves alone what is in use or somebody's data."""
from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lamina.containers.store import ContainerStore, Record
from lamina.content.blobs import BlobStore
from lamina.store import check, events, lease, removal
from lamina.store.lease import Lease
from lamina.store.open import Store
from lamina.util import identity
from lamina.util.digest import digest_of
from lamina.util.ids import new_id
from lamina.volumes.store import VolumeStore

CONFIG = b'{"os":"linux"}'
IMAGE = digest_of(CONFIG)
DIFF = "sha256:" + "d" * 64


@pytest.fixture
def full(store: Store) -> Store:
    """A store with one of everything, sound."""
    os.makedirs(store.paths.layer_diff("d" * 64))
    with store.db.write() as db:
        db.execute("INSERT INTO layer_data VALUES (?, 'overlay', 1, ?, 5, 'ready')", ("d" * 64, DIFF))
        db.execute("INSERT INTO layers VALUES (?, ?, '', ?, 5, 1)", (DIFF, DIFF, "d" * 64))
        db.execute("INSERT INTO images (id, config, chain_id) VALUES (?, ?, ?)", (IMAGE, CONFIG, DIFF))
        db.execute("INSERT INTO tags VALUES ('docker.io/library/x', 'latest', ?, NULL)", (IMAGE,))
    VolumeStore(store).create("data")
    ContainerStore(store).insert(Record("c" * 64, "box", image_id=IMAGE, layer_chain=DIFF), volumes=["data"])
    BlobStore(store).put(b"blob")
    events.append(store.paths.events, "container", "create", "c" * 64)
    assert check.check(store, full=True) == []
    return store


def sql(text: str, *params: object) -> Callable[[Store], None]:
    def run(store: Store) -> None:
        with store.db.write() as db:
            db.execute(text, params)
    return run


def made(path: str, *, directory: bool = True) -> Callable[[Store], None]:
    def run(store: Store) -> None:
        place = path.format(root=store.paths.root, run=store.paths.runroot)
        if directory:
            os.makedirs(place)
        else:
            Path(place).touch()
    return run


BLOB = digest_of(b"blob")[7:]
DAMAGE: dict[str, tuple[str, Callable[[Store], object], bool]] = {
    "root open to others": ("S1", lambda s: os.chmod(s.paths.root, 0o755), True),
    "directory lost": ("S1", lambda s: os.rmdir(s.paths.tmp), True),
    "blob cut short": ("S3", lambda s: (os.chmod(s.paths.blob("sha256:" + BLOB), 0o600), os.truncate(s.paths.blob("sha256:" + BLOB), 1)),
        False),
    "blob lost": ("S3", lambda s: os.unlink(s.paths.blob("sha256:" + BLOB)), True),
    "blob without row": ("S4", made("{root}/blobs/sha256/" + "e" * 64, directory=False), True),
    "tag of no image": ("S5", sql("INSERT INTO tags VALUES ('r', 't', 'sha256:none', NULL)"), True),
    "config changed": ("S5", sql("UPDATE images SET config=x'7b7d'"), False),
    "layer of image lost": ("S6", sql("UPDATE images SET chain_id='sha256:none'"), False),
    "parent image lost": ("S6", sql("UPDATE images SET parent='sha256:none'"), True),
    "layer data unknown": ("S7", sql("UPDATE layers SET data_key='none'"), False),
    "chain id wrong": ("S7", sql("UPDATE layers SET diff_id='sha256:other'"), False),
    "layer data lost": ("S8", lambda s: (os.rmdir(s.paths.layer_diff("d" * 64)), os.rmdir(s.paths.layer("d" * 64))), False),
    "layer data without row": ("S9", made("{root}/layers/" + "e" * 64 + "/diff"), True),
    "init layer of no image": ("S9", made("{root}/layers/init-" + "e" * 64 + "/diff"), True),
    "layer that nothing needs": ("S10", sql("INSERT INTO layers VALUES (?, ?, '', ?, 5, 1)", "sha256:" + "e" * 64, "sha256:" + "e" * 64,
        "d" * 64), True),
    "layer data without layer": ("S10", sql("INSERT INTO layer_data VALUES (?, 'vfs', 1, '', 0, 'ready')", "e" * 64), True),
    "bundle lost": ("S11", lambda s: os.rmdir(s.paths.container("c" * 64)), False),
    "bundle without row": ("S12", made("{root}/containers/" + "e" * 64 + "/rw"), True),
    "volume of no container": ("S13", sql("INSERT INTO container_volumes VALUES ('none', 'data')"), True),
    "volume data lost": ("S14", lambda s: os.rmdir(s.paths.volume_data("data")), False),
    "empty volume without row": ("S12", made("{root}/volumes/left/_data"), True),
    "endpoint of no container": ("S15", sql("INSERT INTO endpoints VALUES ('n', 'none', NULL, NULL)"), True),
    "lease of the dead": ("S16", sql("INSERT INTO leases VALUES ('x', 1, 1, 'other boot', 'w', 1, '')"), True),
    "removal cut off": ("S17", sql("INSERT INTO removals VALUES ('container', ?, 1, '')", "e" * 64), True),
    "temporary file": ("S18", made("{root}/tmp/blob-x", directory=False), True),
    "temporary file in a bundle": ("S18", made("{root}/containers/" + "c" * 64 + "/.tmp-x", directory=False), True),
    "trash": ("S19", made("{root}/trash/" + "e" * 64 + "/x"), True),
    "row that is no JSON": ("S20", sql("UPDATE volumes SET labels='{'"), False),
    "run-time directory": ("S21", made("{run}/containers/" + "e" * 64), True),
    "mount point": ("S21", made("{run}/rootfs/" + "e" * 64), True),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_seen_and_repaired_if_it_may_be(full: Store, name: str) -> None:
    code, damage, repairable = DAMAGE[name]
    damage(full)
    problems = check.check(full)
    assert code in {p.code for p in problems} and repairable in {p.repairable for p in problems if p.code == code}
    repaired, remaining = check.repair(full, problems)
    if repairable:
        assert repaired and remaining == [] and check.check(full, full=True) == []
    else:
        assert code in {p.code for p in remaining}
    assert full.db.value("SELECT name FROM containers") == "box", "nothing sound was touched"


def test_a_blob_with_a_wrong_byte_is_only_seen_in_full(full: Store) -> None:
    path = full.paths.blob("sha256:" + BLOB)
    os.chmod(path, 0o600)
    Path(path).write_bytes(b"blOb")
    assert check.check(full) == []
    (problem,) = check.check(full, full=True)
    assert problem.code == "S3" and "damaged" in problem.text


def test_a_volume_with_data_gets_its_row_back(full: Store) -> None:
    data = Path(full.paths.volume_data("found"))
    data.mkdir(parents=True)
    (data / "precious").touch()
    assert check.sweep(full) == 0
    assert check.repair(full)[1] == []
    assert VolumeStore(full).get("found").mountpoint == str(data) and (data / "precious").exists()


def test_what_the_living_hold_is_left_alone(full: Store) -> None:
    blob = "sha256:" + "e" * 64
    with Lease(full, "pull") as held, BlobStore(full).writer() as writer:
        for kind, key, path in (("blob", blob, full.paths.blob(blob)), ("layer_data", "e" * 64, full.paths.layer("e" * 64)),
                                ("tmp", "layer-x", full.paths.temp("layer-x"))):
            held.add(kind, key)
            os.mkdir(path)
        check.repair(full)
        assert all(os.path.isdir(path) for path in (full.paths.blob(blob), full.paths.layer("e" * 64), full.paths.temp("layer-x")))
        assert os.path.exists(writer.path)
    assert check.repair(full)[1] == [] and not os.path.exists(full.paths.blob(blob))


def test_leases_end_with_their_owner(full: Store) -> None:
    child = subprocess.Popen(["/bin/sleep", "60"])
    try:
        with full.db.write() as db:
            db.execute("INSERT INTO leases VALUES ('l', ?, ?, ?, 'pull x', 1, '')", (child.pid, identity.start_time(child.pid),
                identity.boot_id()))
            db.execute("INSERT INTO lease_items VALUES ('l', 'blob', 'b')")
        assert lease.held(full.db, "blob", "b") == "pull x" and lease.held_keys(full.db, "blob") == {"b"} and lease.drop_stale(full) == 0
    finally:
        child.kill()
        child.wait()
    assert lease.held(full.db, "blob", "b") == "" and lease.held_keys(full.db, "blob") == set() and lease.drop_stale(full) == 1
    assert full.db.value("SELECT count(*) FROM lease_items") == 0


def test_layers_that_nothing_needs_go_from_the_top(full: Store) -> None:
    """What an import that died left: two layers on a used one, with data. A living lease on the top holds all below it."""
    below = DIFF
    for key in ("e" * 64, "f" * 64):
        chain = digest_of(f"{below} sha256:{key}".encode())
        os.makedirs(full.paths.layer_diff(key))
        sql("INSERT INTO layer_data VALUES (?, 'overlay', 1, ?, 5, 'ready')", key, "sha256:" + key)(full)
        sql("INSERT INTO layers VALUES (?, ?, ?, ?, 5, 1)", chain, "sha256:" + key, below, key)(full)
        below = chain
    with Lease(full, "import") as held:
        held.add("layer", below)
        assert check.check(full) == []
    assert [p.code for p in check.check(full)] == ["S10", "S10"]
    assert check.repair(full)[1] == []
    assert full.db.execute("SELECT chain_id FROM layers") == [(DIFF,)] and os.listdir(full.paths.layers) == ["d" * 64]


def test_a_lease_is_released_by_an_error(full: Store) -> None:
    with pytest.raises(KeyError), Lease(full, "x") as held:
        held.add("blob", "b")
        raise KeyError
    assert full.db.value("SELECT count(*) FROM leases") == 0 and removal.pending(full.db) == []


def test_a_damaged_database_ends_the_check_with_a_problem(full: Store) -> None:
    full.close()
    Path(full.paths.database).write_bytes(b"x" * 9000)
    assert {p.code for p in check.check(full)} == {"S2"}


def test_rows_of_nobody_are_swept_beside_a_busy_store(full: Store) -> None:
    """sweep deletes garbage only: the dangling tag stays for `repair`."""
    sql("INSERT INTO tags VALUES ('r', 't', 'sha256:none', NULL)")(full)
    made("{root}/containers/" + new_id())(full)
    assert check.sweep(full) == 1
    assert {p.code for p in check.check(full)} == {"S5"}
