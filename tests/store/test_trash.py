# SPDX-License-Identifier: Apache-2.0
"""Deleting: everything of ours, nothing else."""
from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from lamina.errors import InvalidArgument, StoreError
from lamina.store import removal, trash
from lamina.store.open import Store
from lamina.store.paths import Paths, check_key, check_token, is_volume_name
from lamina.util.ids import new_id


def test_a_tree_of_everything_goes_and_links_stay_alone(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    tree = Path(store.paths.container(new_id()))
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "link").symlink_to(outside)
    (tree / "a" / "up").symlink_to("../../..")
    os.link(outside / "precious", tree / "hard")
    os.mkfifo(tree / "fifo")
    (tree / "a" / os.fsdecode(b"\xff\n name")).touch()
    os.chmod(tree / "a", 0)
    trash.discard(store, str(tree))
    assert not tree.exists() and os.listdir(store.paths.trash) == []
    assert (outside / "precious").read_text() == "x"
    trash.discard(store, str(tree))  # gone already: no error


def test_a_link_in_the_place_of_a_tree_is_unlinked(store: Store, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").touch()
    place = Path(store.paths.container(new_id()))
    place.symlink_to(tmp_path / "outside")
    trash.discard(store, str(place))
    assert not os.path.lexists(place) and (tmp_path / "outside" / "precious").exists()


def test_trees_deeper_than_paths_and_descriptors(store: Store) -> None:
    top = store.paths.container(new_id())
    os.mkdir(top)
    fd = os.open(top, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("deep-directory-name", dir_fd=fd)
        inner = os.open("deep-directory-name", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        trash.discard(store, top)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not os.path.exists(top) and os.listdir(store.paths.trash) == []


@pytest.mark.parametrize("path", ["/etc", "{root}/../victim", "{root}", "{root}x/y", "relative", "/"])
def test_only_below_the_store(store: Store, path: str) -> None:
    with pytest.raises(StoreError, match="outside"):
        trash.discard(store, path.format(root=store.paths.root))


def test_only_our_names_are_emptied(store: Store) -> None:
    Path(store.paths.trash, "not-an-id").mkdir()
    Path(store.paths.trash, new_id()).mkdir()
    assert trash.empty(store) == 1
    assert os.listdir(store.paths.trash) == ["not-an-id"]


def test_paths_take_no_foreign_names() -> None:
    paths = Paths("/r", "/u")
    for bad in ("", ".", "..", "../x", "a/b", "A" * 64, "a" * 63, "a" * 65, "a" * 63 + "\n", "x" * 64):
        for make in (paths.container, paths.rootfs, paths.run_container, paths.layer, paths.image_mount):
            if make == paths.image_mount and bad in ("a" * 63,):
                continue  # a mount of an image may be named by a prefix
            with pytest.raises(InvalidArgument):
                make(bad)
    for bad in ("sha256:..", "../../x:" + "a" * 64, "sha512:" + "a" * 128):
        with pytest.raises(InvalidArgument):
            paths.blob(bad)
    for bad in ("", ".", "..", "a/b", "-x", ".x", "a\n", "é", "x" * 256):
        assert not is_volume_name(bad)
        with pytest.raises(InvalidArgument):
            paths.volume(bad)
    for bad in ("", "..", ".x", "a/b", "A"):
        with pytest.raises(InvalidArgument):
            check_token(bad)
    assert check_key("init-" + "a" * 64) and paths.init_key("") == "init-" + "0" * 64


def test_the_journal_finishes_what_was_cut_off(store: Store) -> None:
    cid = new_id()
    for path in (store.paths.container(cid), store.paths.run_container(cid), store.paths.rootfs(cid)):
        os.makedirs(path)
    with store.db.write() as db:
        removal.enter(db, removal.CONTAINER, cid)
    assert removal.pending(store.db) == [("container", cid)]
    assert removal.finish_all(store) == []
    assert removal.pending(store.db) == []
    assert not any(os.path.lexists(p) for p in (store.paths.container(cid), store.paths.run_container(cid), store.paths.rootfs(cid)))
    assert not removal.finish(store, removal.CONTAINER, cid)
