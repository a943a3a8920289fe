# SPDX-License-Identifier: Apache-2.0
"""Images go out and come in again: the same ids, the same bytes each time, manifests kept where they can be."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from archive_maker import Files, Image, blob, digest, files_of, layout, recorded, tar_of
from archive_shelf import Shelf

from lamina.errors import ArchiveError, InvalidArgument, NotFound, NotSupported
from lamina.images.listing import list_images
from lamina.images.platforms import for_platform
from lamina.images.prune import prune_images
from lamina.images.remove import remove_image
from lamina.images.tagging import tag
from lamina.spec.platform import host, parse

LOWER = tar_of({"etc": None, "etc/one": b"1\n", "bin": None, "bin/sh": b"#!" + bytes(range(256)) * 4000})
UPPER = tar_of({"etc": None, "etc/.wh.one": b"", "etc/two": b"2\n", "tmp": None})


def document(data: bytes, name: str) -> Any:
    found = files_of(data)[name]
    assert isinstance(found, bytes)
    return json.loads(found)


def two(shelf: Shelf, **more: Any) -> Image:
    image = Image([LOWER, UPPER], **more)
    shelf.load(layout(image, names=["docker.io/library/two:1"]))
    return image


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_ids_stay_and_the_archive_is_the_same_each_time(shelf: Shelf, other: Shelf, form: str) -> None:
    shelf.load(recorded("docker20-archive"))
    refs = ("golden/two:1", "golden/two:other", "golden/one:1")
    first = shelf.save(*refs, form=form)
    assert shelf.save(*refs, form=form) == first
    other.load(first)
    assert other.tags() == shelf.tags()
    assert [layer.diff_id for layer in other.layers.chain(other.images.resolve("golden/two:1").chain_id)] == \
        [layer.diff_id for layer in shelf.layers.chain(shelf.images.resolve("golden/two:1").chain_id)]
    other.assert_sound()
    # a store that was filled in another way writes the same; parents are in docker-archive only, and between images of the archive
    assert other.save(*refs, form=form) == first
    parent = other.images.resolve("golden/two:1").parent
    assert parent == (shelf.tags()["golden/one:1"] if form == "docker-archive" else "")


def test_a_repository_stands_for_its_tags_and_an_id_for_none(shelf: Shelf) -> None:
    shelf.load(recorded("docker26-archive"))
    assert document(shelf.save("golden/two"), "manifest.json")[0]["RepoTags"] == ["golden/two:1", "golden/two:other"]
    by_id = shelf.save(shelf.tags()["golden/two:1"][7:20])
    assert document(by_id, "manifest.json")[0]["RepoTags"] is None and "repositories" not in files_of(by_id)
    assert len(document(shelf.save("golden/two:1", "golden/two:1"), "manifest.json")) == 1
    for wrong in ("golden/two:none", "golden/none", "golden/two:1@sha256:" + "0" * 64):
        with pytest.raises(NotFound, match="No such image: golden/"):
            shelf.save(wrong)


def test_an_untagged_image_comes_back_without_a_name(shelf: Shelf, other: Shelf) -> None:
    image = two(shelf)
    done = other.load(shelf.save(image.id))
    assert done.images == [image.id] and not done.names
    assert other.load(shelf.save(image.id, form="oci-archive")).images == [image.id]


def test_a_name_moves_to_what_was_loaded_last(shelf: Shelf) -> None:
    image, later = two(shelf), Image([LOWER])
    done = shelf.load(layout(later, names=["docker.io/library/two:1"]))
    assert done.names == [("two:1", image.id)] and shelf.tags() == {"two:1": later.id}


@pytest.mark.parametrize("packed", [False, True], ids=["uncompressed", "gzip"])
def test_manifest_digests_are_kept_where_the_bytes_can_be_had(shelf: Shelf, other: Shelf, packed: bool) -> None:
    image = two(shelf, packed=packed)
    wanted = image.descriptor()["digest"]
    if packed:  # gzip by another library: the bytes are gone
        made = shelf.save("two:1", form="oci-archive")
        assert document(made, "index.json")["manifests"][0]["digest"] != wanted
        assert len(shelf.notes) == 1 and wanted in shelf.notes[0]
        with pytest.raises(NotSupported, match=wanted):
            shelf.save("two:1", form="oci-archive", preserve=True)
        other.load(made)  # but what we compressed we compress again to the same
        assert other.save("two:1", form="oci-archive", preserve=True) == made and other.notes == []
        shelf.load(layout(image, names=["docker.io/library/two:1"]), keep_blobs=True)
    kept = shelf.save("two:1", form="oci-archive", preserve=True)
    assert document(kept, "index.json")["manifests"][0]["digest"] == wanted
    assert set(image.files()) < set(files_of(kept)) and shelf.notes == []
    shelf.assert_sound()


@pytest.mark.parametrize("compression", ["gzip", "gzip:1", "zstd", "none"])
def test_compressions_of_an_oci_archive(shelf: Shelf, other: Shelf, compression: str) -> None:
    image = two(shelf)
    data = shelf.save("two:1", form="oci-archive", compression=compression)
    assert data == shelf.save("two:1", form="oci-archive", compression=compression)
    manifest = document(data, "blobs/sha256/" + document(data, "index.json")["manifests"][0]["digest"][7:])
    kind = compression.partition(":")[0]
    assert {layer["mediaType"].partition("tar")[2] for layer in manifest["layers"]} == {"" if kind == "none" else "+" + kind}
    other.load(data)
    assert other.tags() == {"two:1": image.id}
    other.assert_sound()


@pytest.mark.parametrize("wrong", ["lz4", "gzip:0", "gzip:10", "gzip:", "gzip:²", "none:1", "zstd:23"])
def test_compressions_that_do_not_exist_are_refused(shelf: Shelf, wrong: str) -> None:
    two(shelf)
    with pytest.raises(InvalidArgument, match="compression"):
        shelf.save("two:1", form="oci-archive", compression=wrong)


def test_an_image_without_layers_goes_and_comes(shelf: Shelf, other: Shelf) -> None:
    image = Image([])
    shelf.load(layout(image))
    for form in ("docker-archive", "oci-archive"):
        assert other.load(shelf.save("made:1", form=form)).names[0][0] == "made:1"
        assert other.tags() == {"made:1": image.id}


def test_kept_blobs_and_manifests_go_with_the_image(shelf: Shelf) -> None:
    shelf.load(layout(Image([LOWER, UPPER], packed=True), Image([LOWER], packed=True)), keep_blobs=True)
    assert shelf.rows()["blobs"] == 2 and len(os.listdir(shelf.store.paths.blobs)) == 2
    remove_image(shelf.images, "made:1")
    assert shelf.rows()["blobs"] == 1, "the lower one is needed by the other image"
    remove_image(shelf.images, "made:2")
    shelf.assert_empty()


def several() -> tuple[Image, Image, Image]:
    """amd64, arm64 and arm/v7 of one name: the lower layer is shared."""
    return (Image([LOWER, UPPER]), Image([LOWER, tar_of({"arm64": b"8"})], architecture="arm64"),
            Image([LOWER, tar_of({"arm": b"7"})], architecture="arm", variant="v7"))  # fmt: skip


def test_of_an_index_every_platform_is_loaded_and_goes_by_the_name(shelf: Shelf, other: Shelf) -> None:
    images = several()
    files = layout(*images, index=True)
    done = shelf.load(files)
    assert done.names == [("made:1", "")] and done.images == []
    own = shelf.images.resolve("made:1")
    assert own.document["architecture"] == host().architecture
    assert for_platform(shelf.images, "made:1", own, parse("linux/arm/v7")).id == images[2].id
    assert for_platform(shelf.images, "made:1", own, parse("linux/s390x")).id == own.id, "the caller tells that it is another"
    assert all(row["RepoTags"] == ["made:1"] for row in list_images(shelf.images)) and len(list_images(shelf.images)) == 3
    assert prune_images(shelf.images)["ImagesDeleted"] is None, "none of them is dangling"
    tag(shelf.images, "made:1", "second:1")

    # out and in again: all of them, in both formats; the index is the same where the manifests are
    index = json.loads(files["index.json"])["manifests"][0]["digest"]
    kept = shelf.save("made:1", "second:1", form="oci-archive", preserve=True)
    assert [entry["digest"] for entry in document(kept, "index.json")["manifests"]] == [index, index]
    assert set(files) < set(files_of(kept))
    other.load(shelf.save("made:1"))
    assert {image.id for image in other.images.all()} == {image.id for image in images}
    one = document(shelf.save("made:1", platform="arm64"), "manifest.json")
    assert [entry["Config"] for entry in one] == [blob(images[1].config)] and one[0]["RepoTags"] == ["made:1"]
    with pytest.raises(NotFound, match=r"made:1 was found but does not provide the specified platform \(linux/s390x\)"):
        shelf.save("made:1", platform="s390x")

    remove_image(shelf.images, "made:1")
    assert len(shelf.images.all()) == 3, "the second name stands for all, too"
    remove_image(shelf.images, "second:1")
    shelf.assert_empty()


def without(files: Files, *gone: bytes) -> Files:
    return {name: data for name, data in files.items() if name not in {blob(data) for data in gone}}


def test_a_platform_that_is_not_there_is_not_present_and_one_half_there_is_refused(shelf: Shelf) -> None:
    amd, arm64, arm = several()
    files = without(layout(amd, arm64, arm, index=True), *arm.blobs[1:], *arm64.blobs[1:])
    with pytest.raises(ArchiveError, match=digest(arm64.blobs[1])):  # the lower layer is there, as it is amd64's, too
        shelf.load(files)
    shelf.assert_empty()
    shelf.load(files, platform="amd64")
    assert {image.id for image in shelf.images.all()} == {amd.id}
    # the index is kept as it came: what isn't present may come later
    again = shelf.save("made:1", form="oci-archive")
    assert document(again, "index.json")["manifests"][0]["digest"] == json.loads(files["index.json"])["manifests"][0]["digest"]

    alone = Image([tar_of({"x": b"only here"})], architecture="arm64")
    for gone in ((*alone.blobs, alone.config), tuple(alone.blobs)):
        done = shelf.load(without(layout(amd, alone, index=True, names=["docker.io/library/part:1"]), *gone))
        assert done.names[0][0] == "part:1" and {image.id for image in shelf.images.all()} == {amd.id}
    with pytest.raises(ArchiveError, match="is missing"):
        shelf.load(without(layout(amd, alone, index=True), *alone.blobs), platform="arm64")
    with pytest.raises(NotFound, match="no image for linux/s390x"):
        shelf.load(layout(amd, arm64, index=True), platform="s390x")
    with pytest.raises(ArchiveError, match="no image of the index"):
        shelf.load(without(layout(alone, index=True), *alone.blobs))
    shelf.assert_sound()


def test_attestations_are_no_images(shelf: Shelf) -> None:
    image = Image([LOWER])
    note = Image([tar_of({"in-toto": b"{}"})], cmd="/attest")
    note.platform = {"architecture": "unknown", "os": "unknown"}
    shelf.load(layout(image, note, index=True))
    assert [one.id for one in shelf.images.all()] == [image.id]


def test_both_halves_of_an_archive_are_read_and_must_agree(shelf: Shelf) -> None:
    one, two_ = Image([LOWER]), Image([LOWER, UPPER])
    files = layout(one, names=["docker.io/library/x:1"])
    files.update(two_.files())

    def entry(image: Image, name: str) -> dict[str, Any]:
        return {"Config": blob(image.config), "RepoTags": [name], "Layers": [blob(data) for data in image.blobs]}

    listed = json.dumps([entry(two_, "y:1"), entry(one, "x:1")]).encode()
    shelf.load({**files, "manifest.json": listed})
    assert shelf.tags() == {"x:1": one.id, "y:1": two_.id}
    assert shelf.rows()["manifests"] == 1
    with pytest.raises(ArchiveError, match="the name x:1 is given to two different images"):
        shelf.load({**files, "manifest.json": json.dumps([entry(two_, "x:1")]).encode()})
