# SPDX-License-Identifier: Apache-2.0
"""The init layer: exactly what is missing, in nobody's diff, and never outside the image's root (W2.2)."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest
from layer_archives import make_tar

from lamina.layers.store import LayerStore
from lamina.store.lease import Lease

ALL = {
    "/dev/pts",
    "/dev/shm",
    "/proc",
    "/sys",
    "/.dockerenv",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/hostname",
    "/dev/console",
    "/etc/mtab",
}


def image(layers: LayerStore, *members: tuple[str, object]) -> str:
    with Lease(layers.store, "test") as lease:
        return layers.add(io.BytesIO(make_tar(*members)), "", lease).chain_id


def init_tree(layers: LayerStore, top: str) -> Path:
    return Path(layers.store.paths.layer_diff(layers.init_layer(top)))


def files(tree: Path) -> set[str]:
    return {"/" + str(p.relative_to(tree)) for p in tree.rglob("*")}


def test_exactly_the_files_of_the_article(overlay: LayerStore) -> None:
    tree = init_tree(overlay, image(overlay, ("bin/", None)))
    assert files(tree) == ALL | {"/dev", "/etc"}
    assert os.readlink(tree / "etc/mtab") == "/proc/mounts"
    for name in (".dockerenv", "etc/hosts", "etc/hostname", "etc/resolv.conf", "dev/console"):
        status = (tree / name).lstat()
        assert stat.S_ISREG(status.st_mode) and status.st_size == 0 and status.st_mode & 0o7777 == 0o755


def test_what_the_image_has_stays(overlay: LayerStore) -> None:
    top = image(overlay, ("etc/", None), ("etc/hosts", b"mine"), ("etc/mtab", b"x"), ("proc/", 0o555), ("dev/", None), ("dev/shm/", 0o1777))
    assert files(init_tree(overlay, top)) == ALL - {"/etc/hosts", "/etc/mtab", "/proc", "/dev/shm"} | {"/dev", "/etc"}


def test_directories_copied_up_keep_their_attributes(layers: LayerStore) -> None:
    tree = init_tree(layers, image(layers, ("./", 0o711), ("etc/", 0o750), ("dev/", 0o705)))
    for name, mode in (("", 0o711), ("etc", 0o750), ("dev", 0o705)):
        status = (tree / name).stat()
        assert stat.S_IMODE(status.st_mode) == mode and status.st_mtime == 1_500_000_000, name


def test_the_content_depends_on_the_image_alone(layers: LayerStore) -> None:
    top = image(layers, ("./", 0o755), ("bin/", None))

    def seen() -> list[tuple[str, int, int]]:
        tree = init_tree(layers, top)
        return sorted((str(p.relative_to(tree)), p.lstat().st_mode, p.lstat().st_mtime_ns) for p in [tree, *tree.rglob("*")])

    first = seen()
    layers.driver.remove(layers.init_layer(top))
    assert seen() == first


def test_it_is_made_once_and_shared(layers: LayerStore) -> None:
    top = image(layers, ("bin/", None))
    first = init_tree(layers, top).stat()
    assert init_tree(layers, top).stat().st_ino == first.st_ino


@pytest.mark.parametrize("target", ["absolute", "relative"])
def test_links_never_lead_out(layers: LayerStore, tmp_path: Path, target: str) -> None:
    """An image whose /etc or /etc/hosts is a link to a place of the host: nothing appears there."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "hosts").write_bytes(b"host's own")
    lead = str(outside) if target == "absolute" else "../" * 20 + str(outside).lstrip("/")
    for members in (
        (("etc", "->" + lead), ("dev", "->" + lead)),
        (("etc/", None), ("etc/hosts", f"->{lead}/hosts"), ("etc/mtab", f"->{lead}/mtab"), ("proc", "->" + lead), ("sys", f"->{lead}/sys")),
    ):
        tree = init_tree(layers, image(layers, *members))
        assert os.listdir(outside) == ["hosts"] and (outside / "hosts").read_bytes() == b"host's own"
        assert (tree / ".dockerenv").exists()


def test_a_link_in_the_place_of_a_file_is_replaced(overlay: LayerStore) -> None:
    """A mount over a link would go to its target, and a dangling one has none."""
    tree = init_tree(overlay, image(overlay, ("etc/", None), ("etc/resolv.conf", "->../run/systemd/resolve/stub-resolv.conf")))
    assert stat.S_ISREG((tree / "etc/resolv.conf").lstat().st_mode)


def test_a_file_in_the_place_of_a_directory_is_left_to_the_start(layers: LayerStore) -> None:
    tree = init_tree(layers, image(layers, ("etc", b"a file"), ("proc", b"a file")))
    assert (tree / ".dockerenv").exists() and not (tree / "etc").is_dir()
