# SPDX-License-Identifier: Apache-2.0
"""The contract of layer drivers: every driver runs every test. What is seen through a mount is what counts."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from layer_archives import make_tar

from lamina.layers.driver import Mount
from lamina.layers.drivers import NAMES, load
from lamina.store.open import Store

if TYPE_CHECKING:
    from lamina.layers.driver import Driver


@pytest.fixture(params=NAMES)
def driver(store: Store, request: pytest.FixtureRequest) -> Driver:
    return load(request.param, store)


@contextmanager
def mounted(mount: Mount) -> Iterator[Path]:
    fd = mount.open_root()
    try:
        yield Path(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def key(n: int) -> str:
    return f"{n:064x}"


class Stack:
    """Committed layers, as the store would keep them: `parents` are directories, top first."""

    def __init__(self, store: Store, driver: Driver) -> None:
        self.store, self.driver, self.parents, self.count = store, driver, [], 0  # type: ignore[var-annotated]

    def active(self, name: str) -> str:
        return self.store.paths.temp(name)

    def below(self) -> list[str]:
        return self.parents[:1] if self.driver.whole_trees else self.parents

    def add(self, *members: tuple[str, object]) -> str:
        self.count += 1
        active = self.active(f"layer-{self.count}")
        self.driver.prepare(active, self.below() if self.driver.whole_trees else ())
        self.driver.apply(active, self.below(), io.BytesIO(make_tar(*members)))
        assert self.driver.commit(active, key(self.count))
        self.parents.insert(0, self.store.paths.layer_diff(key(self.count)))
        return key(self.count)

    def container(self, name: str = "rw") -> tuple[str, Mount]:
        active = self.active(name)
        self.driver.prepare(active, self.below())
        return active, self.driver.mounts(active, self.below())


@pytest.fixture
def stack(store: Store, driver: Driver) -> Stack:
    return Stack(store, driver)


def test_upper_layers_win_and_whiteouts_hide(stack: Stack) -> None:
    stack.add(("a", b"1"), ("d/", None), ("d/x", b"x"), ("o/", None), ("o/old", b""))
    stack.add(("a", b"2"), ("d/.wh.x", b""), ("o/.wh..wh..opq", b""), ("o/new", b""))
    with mounted(stack.driver.view(stack.below())) as root:
        assert (root / "a").read_bytes() == b"2"
        assert os.listdir(root / "d") == [] and os.listdir(root / "o") == ["new"]


def test_a_view_cannot_be_written(stack: Stack) -> None:
    stack.add(("a", b"1"))
    stack.add(("b", b"1"))
    with mounted(stack.driver.view(stack.below())) as root:
        with pytest.raises(OSError, match="Read-only"):
            (root / "a").write_bytes(b"2")


def test_writes_stay_in_the_active_set(stack: Stack) -> None:
    stack.add(("a", b"1"), ("gone", b""))
    stack.add(("b", b"1"))
    _, mount = stack.container()
    with mounted(mount) as root:
        (root / "a").write_bytes(b"2")
        (root / "gone").unlink()
        (root / "new").mkdir()
    _, other = stack.container("other")
    with mounted(other) as root:
        assert (root / "a").read_bytes() == b"1" and sorted(os.listdir(root)) == ["a", "b", "gone"]
    with mounted(mount) as root:
        assert (root / "a").read_bytes() == b"2" and sorted(os.listdir(root)) == ["a", "b", "new"]


def test_changes_and_diff_tell_the_same_and_apply_gives_the_tree_again(stack: Stack) -> None:
    stack.add(("a", b"1"), ("gone", b""), ("d/", None), ("d/keep", b""), ("d/go", b""))
    active, mount = stack.container()
    with mounted(mount) as root:
        (root / "a").write_bytes(b"two")
        (root / "gone").unlink()
        (root / "d/go").unlink()
        (root / "n").mkdir(0o700)
        (root / "n/f").write_bytes(b"f")
        os.link(root / "n/f", root / "n/hard")
        (root / "l").symlink_to("/etc")
    changes = stack.driver.changes(active, stack.below())
    assert changes == [
        ("C", b"/a"),
        ("C", b"/d"),
        ("D", b"/d/go"),
        ("D", b"/gone"),
        ("A", b"/l"),
        ("A", b"/n"),
        ("A", b"/n/f"),
        ("A", b"/n/hard"),
    ]
    first, second = io.BytesIO(), io.BytesIO()
    stack.driver.diff(active, stack.below(), first.write)
    stack.driver.diff(active, stack.below(), second.write)
    assert first.getvalue() == second.getvalue()
    again = stack.active("again")
    stack.driver.prepare(again, stack.below() if stack.driver.whole_trees else ())
    stack.driver.apply(again, stack.below(), io.BytesIO(first.getvalue()))
    assert stack.driver.commit(again, key(77))
    stack.parents.insert(0, stack.store.paths.layer_diff(key(77)))
    with mounted(stack.driver.view(stack.below())) as root:
        assert sorted(os.listdir(root)) == ["a", "d", "l", "n"] and os.listdir(root / "d") == ["keep"]
        assert (root / "n").stat().st_mode & 0o7777 == 0o700 and (root / "n/hard").samefile(root / "n/f")
        assert os.readlink(root / "l") == "/etc"


def test_nothing_changed_is_no_change(stack: Stack) -> None:
    stack.add(("a", b"1"), ("d/", None))
    active, mount = stack.container()
    with mounted(mount) as root:
        assert (root / "a").read_bytes() == b"1"
    assert stack.driver.changes(active, stack.below()) == []


def test_the_root_looks_as_in_the_layer_below(stack: Stack) -> None:
    stack.add(("./", 0o711), ("a", b""))
    _, mount = stack.container()
    with mounted(mount) as root:
        status = root.stat()
        assert stat.S_IMODE(status.st_mode) == 0o711 and status.st_mtime == 1_500_000_000


def test_commit_is_once_and_remove_is_idempotent(stack: Stack) -> None:
    name = stack.add(("a", b"1"))
    active = stack.active("again")
    stack.driver.prepare(active, ())
    assert stack.driver.commit(active, name) is False and os.path.isdir(active)
    assert list(stack.driver.walk()) == [name]
    stack.driver.remove(name)
    stack.driver.remove(name)
    assert list(stack.driver.walk()) == [] and os.listdir(stack.store.paths.trash) == []


def test_cleanup_removes_only_the_unknown(stack: Stack) -> None:
    first, second = stack.add(("a", b"1")), stack.add(("b", b"1"))
    assert stack.driver.cleanup([first]) == [second]
    assert list(stack.driver.walk()) == [first]


def test_usage_counts_blocks_and_hard_links_once(stack: Stack) -> None:
    stack.add(("a", b"x" * 100_000), ("h", "=a"))
    usage = stack.driver.usage(stack.parents[0])
    assert 100_000 <= usage.bytes < 150_000 and usage.inodes == 2


def test_400_layers(stack: Stack) -> None:
    count = 40 if stack.driver.whole_trees else 400  # whole trees don't stack: the number says nothing there
    for n in range(count):
        stack.add((f"f{n}", b""), ("top", str(n).encode()))
    _, mount = stack.container()
    with mounted(mount) as root:
        assert len(os.listdir(root)) == count + 1 and (root / "top").read_bytes() == str(count - 1).encode()
        (root / "f0").unlink()
        assert len(os.listdir(root)) == count
    with mounted(stack.driver.view(stack.below())) as root:
        assert len(os.listdir(root)) == count + 1
    if stack.driver.name == "overlay":
        assert len(mount.plan()["lowers"]) == 400


def test_no_parents_at_all(stack: Stack) -> None:
    active, mount = stack.container()
    with mounted(mount) as root:
        (root / "a").write_bytes(b"1")
    assert stack.driver.changes(active, ()) == [("A", b"/a")]
