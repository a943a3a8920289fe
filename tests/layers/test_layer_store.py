# SPDX-License-Identifier: Apache-2.0
"""LayerStore: rows and data, sharing, verification, removal, and that nothing is left when something fails."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import threading
from pathlib import Path

import pytest
from layer_archives import make_tar

from lamina.errors import ArchiveError, NotFound, NotSupported, StoreError
from lamina.layers import chain
from lamina.layers.store import LayerStore
from lamina.store.check import check
from lamina.store.lease import Lease
from lamina.store.open import Store

A, B = make_tar(("a", b"1"), ("etc/", None)), make_tar(("b", b"2"))


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def add(layers: LayerStore, data: bytes, parent: str = "", expected: str = "") -> str:
    with Lease(layers.store, "test") as lease:
        return layers.add(io.BytesIO(data), parent, lease, expected).chain_id


def hold(layers: LayerStore, top: str) -> None:
    """An image row, as far as layers care."""
    config = b'{"top":"%b"}' % top.encode()
    with layers.store.db.write() as db:
        db.execute("INSERT INTO images (id, config, chain_id) VALUES (?, ?, ?)", (digest(config), config, top))


def exported(layers: LayerStore, top: str) -> bytes:
    parts: list[bytes] = []
    layers.export_tar(top, lambda view: parts.append(bytes(view)))
    return b"".join(parts)


def test_ids_are_those_of_the_spec(layers: LayerStore) -> None:
    first = add(layers, A)
    second = add(layers, gzip.compress(B), first)
    assert first == digest(A) and second == digest(f"{digest(A)} {digest(B)}".encode())
    assert chain.chain_ids([digest(A), digest(B)]) == [first, second]
    assert [layer.diff_id for layer in layers.chain(second)] == [digest(B), digest(A)]
    hold(layers, second)
    assert layers.size(second) == 2 and check(layers.store) == []


def test_the_exact_tar_comes_back(layers: LayerStore) -> None:
    first = add(layers, A + b"\0" * 5000)  # with padding of its own
    second = add(layers, make_tar(("c", b""), (".wh.a", b""), ("a2", b"x")), first)
    assert exported(layers, first) == A + b"\0" * 5000
    assert digest(exported(layers, second)) == layers.get(second).diff_id
    layers.verify(second)


def test_a_changed_file_is_found(layers: LayerStore) -> None:
    first = add(layers, A)
    Path(layers.path(first), "a").write_bytes(b"X")
    with pytest.raises(StoreError):
        layers.verify(first)


def test_rows_share_data_in_overlay_only(layers: LayerStore) -> None:
    first, other = add(layers, A), add(layers, make_tar(("z", b"")))
    one, two = add(layers, B, first), add(layers, B, other)
    keys = {layers.get(one).data_key, layers.get(two).data_key}
    assert len(keys) == (1 if layers.driver.name == "overlay" else 2)
    for top, name in ((one, "a"), (two, "z")):
        root = layers.view(top).open_root()
        assert sorted(os.listdir(root)) == sorted([name, "b", *(["etc"] if name == "a" else [])])
        os.close(root)


def test_layers_go_with_their_last_user(layers: LayerStore) -> None:
    first = add(layers, A)
    one, two = add(layers, B, first), add(layers, make_tar(("z", b"")), first)
    hold(layers, one)
    hold(layers, two)
    with layers.store.db.write() as db:
        db.execute("DELETE FROM images WHERE chain_id = ?", (two,))
        gone, keys = layers.drop_unused(db, two)
    layers.finish_removals(keys)
    assert gone == [two] and len(os.listdir(layers.store.paths.layers)) == 2 and check(layers.store) == []
    with layers.store.db.write() as db:
        db.execute("DELETE FROM images")
        gone, keys = layers.drop_unused(db, one)
    layers.finish_removals(keys)
    assert gone == [one, first] and os.listdir(layers.store.paths.layers) == [] and check(layers.store) == []


def test_data_that_another_row_shares_stays(overlay: LayerStore) -> None:
    first, other = add(overlay, A), add(overlay, make_tar(("z", b"")))
    one, two = add(overlay, B, first), add(overlay, B, other)
    hold(overlay, one)
    assert sorted(overlay.remove_unused()) == sorted([two, other])
    assert exported(overlay, one) == B


def test_a_lease_holds_a_layer_that_no_image_has_yet(layers: LayerStore) -> None:
    with Lease(layers.store, "pull") as lease:
        top = layers.add(io.BytesIO(A), "", lease).chain_id
        assert layers.remove_unused() == []
        layers.get(top)
    assert layers.remove_unused() == [top]


@pytest.mark.parametrize(
    "data", [A[:700], b"\x1f\x8b" + b"x" * 100, b"no tar at all" * 100, make_tar(("../../../out", b""))], ids=["cut", "gzip", "text", "up"]
)
def test_nothing_is_left_of_what_is_refused(layers: LayerStore, data: bytes) -> None:
    with pytest.raises(ArchiveError):
        add(layers, data)
    for place in ("tmp", "layers", "trash"):
        assert os.listdir(f"{layers.store.paths.root}/{place}") == []
    assert layers.list() == [] and check(layers.store) == []


def test_what_is_expected_is_compared(layers: LayerStore) -> None:
    with pytest.raises(ArchiveError, match="instead of"):
        add(layers, B, expected=digest(A))
    assert layers.list() == []
    assert add(layers, A, expected=digest(A)) == digest(A)


def test_existing_data_is_used_only_after_these_bytes_were_hashed(overlay: LayerStore) -> None:
    secret = add(overlay, A)
    hold(overlay, secret)
    with pytest.raises(ArchiveError):
        add(overlay, B, expected=secret)  # claims the private layer, has other bytes
    assert [layer.chain_id for layer in overlay.list()] == [secret]


def test_a_directory_in_the_way_of_a_crash_is_replaced(overlay: LayerStore) -> None:
    left = Path(overlay.store.paths.layer(digest(A)[7:]), "diff")
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"")
    first = add(overlay, A)
    assert sorted(os.listdir(overlay.path(first))) == ["a", "etc"]


def test_an_unknown_parent_is_an_error(layers: LayerStore) -> None:
    with pytest.raises(StoreError):
        add(layers, A, "sha256:" + "0" * 64)
    with pytest.raises(NotFound):
        layers.get("sha256:" + "0" * 64)


def test_two_at_once_make_one_layer(overlay: LayerStore) -> None:
    paths, results = overlay.store.paths, []

    def work() -> None:
        with Store.open(paths.root, paths.runroot) as mine:
            results.append(add(LayerStore(mine), A))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hold(overlay, digest(A))
    assert results == [digest(A)] * 3 and len(os.listdir(paths.layers)) == 1 and check(overlay.store) == []


def test_kinds_may_mix_below_one_container(store: Store) -> None:
    """A stack ends at the first whole tree."""
    layers = LayerStore(store)
    layers.use_driver("vfs")
    first = add(layers, A)
    second = add(layers, B, first)
    with store.db.write() as db:
        db.execute("UPDATE meta SET value = 'overlay' WHERE key = 'layer_driver'")
    mixed = LayerStore(store)
    third = add(mixed, make_tar(("c", b"3"), (".wh.a", b"")), second)
    assert len(mixed.lowers(third)) == 2
    root = mixed.view(third).open_root()
    assert sorted(os.listdir(root)) == ["b", "c", "etc"]
    os.close(root)


def test_the_driver_is_chosen_once(store: Store) -> None:
    layers = LayerStore(store)
    assert layers.driver.name == "overlay" and os.listdir(store.paths.tmp) == []
    assert store.db.value("SELECT value FROM meta WHERE key = 'layer_driver'") == "overlay"
    with pytest.raises(StoreError, match="uses the layer driver overlay, not vfs"):
        LayerStore(store).use_driver("vfs")


def test_an_unknown_driver_is_refused(store: Store) -> None:
    with pytest.raises(NotSupported):
        LayerStore(store).use_driver("zfs")


def test_the_tree_names_its_users(layers: LayerStore) -> None:
    first = add(layers, A)
    second = add(layers, B, first)
    hold(layers, second)
    rows = layers.tree()
    assert [(row["ChainId"], row["Depth"]) for row in rows] == [(first, 0), (second, 1)]
    assert rows[0]["Images"] == rows[1]["Images"] and len(rows[0]["Images"]) == 1
