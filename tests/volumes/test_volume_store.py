# SPDX-License-Identifier: Apache-2.0
"""Named and anonymous volumes."""
from __future__ import annotations

import os
from pathlib import Path

import pytest

from lamina.containers.store import ContainerStore, Record
from lamina.errors import Conflict, InvalidArgument, NotFound
from lamina.store import removal, trash
from lamina.store.check import check
from lamina.store.open import Store
from lamina.util.ids import is_id, new_id
from lamina.volumes.store import ANONYMOUS_LABEL, VolumeStore


@pytest.fixture
def volumes(store: Store) -> VolumeStore:
    return VolumeStore(store)


def test_a_named_volume(volumes: VolumeStore) -> None:
    old = os.umask(0o077)
    try:
        volume = volumes.create("data", labels={"a": "b"})
    finally:
        os.umask(old)
    status = os.stat(volume.mountpoint)
    assert volume.mountpoint == volumes.store.paths.root + "/volumes/data/_data"
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o755, 0, 0)
    assert volumes.get("data") == volume and volume.labels == {"a": "b"} and not volume.anonymous
    assert volumes.create("data", labels={"other": "x"}) == volume, "an existing one is returned as it is"
    assert list(volumes.list()) == [volume]


def test_an_anonymous_volume(volumes: VolumeStore) -> None:
    volume = volumes.create()
    assert is_id(volume.name) and volume.anonymous and volume.labels == {ANONYMOUS_LABEL: ""}


@pytest.mark.parametrize("name", ["x!", "..", ".a", "-a", "_a", "a/b", "a b", "é1", "ab\n", "x" * 256])
def test_bad_names(volumes: VolumeStore, name: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        volumes.create(name)
    assert refused.value.message == (f'create {name}: "{name}" includes invalid characters for a local volume name, only '
                                     '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path')
    assert os.listdir(volumes.store.paths.volumes) == []


def test_other_refusals(volumes: VolumeStore) -> None:
    with pytest.raises(InvalidArgument) as short:
        volumes.create("x")
    assert short.value.message == "create x: volume name is too short, names should be at least two alphanumeric characters"
    with pytest.raises(NotFound) as plugin:
        volumes.create("ab", driver="foo")
    assert plugin.value.message == 'create ab: error looking up volume plugin foo: plugin "foo" not found'
    with pytest.raises(InvalidArgument, match='invalid option: "a"'):
        volumes.create("ab", options={"a": "b"})
    for call in (volumes.get, volumes.remove):
        with pytest.raises(NotFound) as missing:
            call("nope")
        assert missing.value.message == "get nope: no such volume"
    assert volumes.remove("nope", force=True) is False


def test_a_volume_in_use_stays(volumes: VolumeStore) -> None:
    containers = ContainerStore(volumes.store)
    volumes.create("data")
    record = Record(new_id(), "box")
    containers.insert(record, volumes=["data"])
    for force in (False, True):
        with pytest.raises(Conflict) as refused:
            volumes.remove("data", force=force)
        assert refused.value.message == f"remove data: volume is in use - [{record.id}]"
    assert list(volumes.unused(anonymous_only=False)) == [] and [v.name for v in volumes.of_container(record.id)] == ["data"]
    containers.remove(record.id)
    assert [v.name for v in volumes.unused(anonymous_only=False)] == ["data"] and list(volumes.unused()) == []
    assert volumes.remove("data") and not os.path.exists(volumes.store.paths.volume("data"))


def test_a_name_that_is_still_being_removed_can_be_made_again(volumes: VolumeStore) -> None:
    """The first remover, finishing late, doesn't hit the new volume."""
    volume = volumes.create("data")
    Path(volume.mountpoint, "old").touch()
    with volumes.store.db.write() as db:
        db.execute("DELETE FROM volumes")
        removal.enter(db, removal.VOLUME, "data")
    again = volumes.create("data")
    assert os.listdir(again.mountpoint) == []
    Path(again.mountpoint, "new").touch()
    assert not removal.finish(volumes.store, removal.VOLUME, "data")
    assert os.listdir(again.mountpoint) == ["new"] and os.listdir(volumes.store.paths.trash) == [] and check(volumes.store) == []


def test_a_link_in_the_place_of_a_volume_is_refused(volumes: VolumeStore, tmp_path: Path) -> None:
    os.symlink(tmp_path, volumes.store.paths.volume("data"))
    with pytest.raises(Conflict, match="no directory"):
        volumes.create("data")
    assert volumes.find("data") is None


def test_links_in_a_volume_are_not_followed_by_its_removal(volumes: VolumeStore, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "x").touch()
    volume = volumes.create("data")
    os.symlink(tmp_path / "precious", volume.mountpoint + "/link")
    volumes.remove("data")
    assert (tmp_path / "precious" / "x").exists() and trash.mounts_below(str(tmp_path)) == []
