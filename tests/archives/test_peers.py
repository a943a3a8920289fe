# SPDX-License-Identifier: Apache-2.0
"""What docker 20.10, docker 26.1, podman 4.3 and skopeo 1.9 wrote (recorded by scripts/golden-archives) is loaded, with their ids."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from archive_maker import files_of, legacy, recorded
from archive_shelf import Shelf

# Name -> start of the image id that the engine itself showed ("" where the archive gives no name: the id alone).
DOCKER26 = {"golden/two:1": "3bf5f2e59a66", "golden/two:other": "3bf5f2e59a66", "golden/one:1": "938346460893"}
PODMAN = {"localhost/golden/two:1": "916b85f3e521"}
RECORDED: dict[str, dict[str, str]] = {
    "docker20-archive": {"golden/two:1": "d61b15a29276", "golden/two:other": "d61b15a29276", "golden/one:1": "85927a95acd2"},
    "docker26-archive": DOCKER26,
    "podman-docker-archive": {**PODMAN, "localhost/golden/one:1": "3d32a0316a56"},
    "podman-oci-archive": PODMAN,
    "podman-oci-dir": PODMAN,
    "podman-docker-dir": {"": "916b85f3e521"},
    "podman-docker-dir-compressed": {"": "916b85f3e521"},
    "skopeo-docker-archive": {"golden/two:1": "3bf5f2e59a66"},
    "skopeo-oci-archive": {"golden/two:1": "737de5c17cd7"},
    "skopeo-oci-dir": {"golden/two:1": "737de5c17cd7"},
    "skopeo-docker-dir": {"": "3bf5f2e59a66"},
}


def unpacked(name: str, target: Path) -> Path:
    with tarfile.open(fileobj=io.BytesIO(recorded(name))) as archive:
        archive.extractall(target, filter="data")
    return target


def content(shelf: Shelf, image_id: str) -> dict[str, bytes]:
    """The files of an image's layers, upper ones win."""
    found: dict[str, bytes] = {}
    image = shelf.images.by_id(image_id)
    assert image is not None
    for layer in reversed(shelf.layers.chain(image.chain_id)):
        out = io.BytesIO()
        shelf.layers.export_tar(layer.chain_id, out.write)
        found.update((name.removeprefix("./"), data) for name, data in files_of(out.getvalue()).items() if isinstance(data, bytes))
    return found


@pytest.mark.parametrize("name", RECORDED)
def test_an_archive_of_a_peer_is_loaded_with_its_ids(shelf: Shelf, tmp_path: Path, name: str) -> None:
    done = shelf.load(unpacked(name, tmp_path / "dir") if "dir" in name else recorded(name))
    wanted = RECORDED[name]
    assert {tag: image[7:19] for tag, image in shelf.tags().items()} == {tag: short for tag, short in wanted.items() if tag}
    if "" in wanted:
        assert [image[7:19] for image in done.images] == [wanted[""]] and done.names == []
    two = next(image.id for image in shelf.images.all() if image.id[7:].startswith(next(iter(wanted.values()))))
    assert content(shelf, two) == {"etc/one": b"first\n", "etc/two": b"second\n"}
    shelf.assert_sound()


@pytest.mark.parametrize("version,ids", [
    ("", {"golden/two:1": "a8f2f9818203", "golden/one:1": "85927a95acd2"}),
    ("1.6.2", {"golden/two:1": "416b2ac4ce3b", "golden/one:1": "616a3cfd0e24"}),
])  # fmt: skip
def test_layer_directories_of_old_docker_get_the_ids_that_docker_gives_them(shelf: Shelf, version: str, ids: dict[str, str]) -> None:
    """The ids are those that docker 20.10 showed after loading the same archives; it makes an image of each layer, too."""
    shelf.load(legacy(version))
    assert {name: shelf.tags()[name][7:19] for name in ids} == ids
    below = {"": "2042a29feef6", "1.6.2": "e83125c92df9"}[version]
    two = shelf.images.resolve("golden/two:1")
    assert two.parent[7:19] == below
    assert content(shelf, two.id) == {"etc/one": b"first\n", "etc/two": b"second\n"}
    shelf.assert_sound()


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstd], ids=["gzip", "bzip2", "xz", "zstd"])
def test_a_compressed_archive_is_loaded(shelf: Shelf, pack: Callable[[bytes], bytes]) -> None:
    shelf.load(pack(recorded("docker26-archive")))
    assert shelf.tags()["golden/two:1"].startswith("sha256:3bf5f2e59a66")
    shelf.assert_sound()


def test_what_docker_26_wrote_is_written_again_in_the_same_words(shelf: Shelf) -> None:
    """All documents but the configs of docker before 1.10, which nobody reads any more; its archive's times differ."""
    theirs = files_of(recorded("docker26-archive"))
    shelf.load(recorded("docker26-archive"))
    ours = files_of(shelf.save("golden/two:1", "golden/two:other", "golden/one:1"))
    assert set(ours) < set(theirs) and {"index.json", "manifest.json", "oci-layout", "repositories"} < set(ours)
    listed = theirs["manifest.json"]
    assert isinstance(listed, bytes)
    if listed.find(b"golden/two") > listed.find(b"golden/one"):  # docker's order is that of a map
        theirs = {name: data for name, data in theirs.items() if name not in ("manifest.json", "index.json")}
    for name in set(ours) & set(theirs):
        assert ours[name] == theirs[name], name
