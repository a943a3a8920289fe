# SPDX-License-Identifier: Apache-2.0
"""`rmi` by docker's rules: who may go, what goes along, and what is said (texts recorded from dockerd 20.10)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from image_world import World

from lamina.errors import Conflict, NotFound
from lamina.images.commit import commit_image
from lamina.images.remove import remove_image
from lamina.images.tagging import tag
from lamina.store.check import check


def refused(world: World, ref: str, text: str, *, force: bool = False) -> None:
    before = (world.images.all()[0].id, world.store.db.execute("SELECT * FROM tags"))
    with pytest.raises(Conflict) as error:
        remove_image(world.images, ref, force=force)
    assert error.value.message == text
    assert (world.images.all()[0].id, world.store.db.execute("SELECT * FROM tags")) == before


def write(root: Path) -> None:
    (root / "new").write_bytes(b"x")


def test_by_name_the_image_goes_with_its_last_name(world: World) -> None:
    image = world.image("one")
    chain = world.images.resolve("one").chain_id
    tag(world.images, "one", "two:x")
    assert remove_image(world.images, "one") == [{"Untagged": "one:latest"}]
    assert remove_image(world.images, "two:x") == [{"Untagged": "two:x"}, {"Deleted": image}, {"Deleted": chain}]
    assert os.listdir(world.store.paths.layers) == [] and check(world.store) == []
    with pytest.raises(NotFound, match="No such image: two:x"):
        remove_image(world.images, "two:x")


def test_a_child_keeps_its_parent_which_goes_with_it(world: World) -> None:
    base = world.image("base")
    record = world.container("base", "c1", change=write)
    top = commit_image(world.images, record, repository="top")
    world.containers.remove(record.id)
    refused(world, base, f"conflict: unable to delete {base[7:19]} (cannot be forced) - image has dependent child images")
    refused(world, base, f"conflict: unable to delete {base[7:19]} (cannot be forced) - image has dependent child images", force=True)
    chains = [world.images.resolve(ref).chain_id for ref in ("top", "base")]
    assert remove_image(world.images, "base") == [{"Untagged": "base:latest"}]
    assert remove_image(world.images, "top") == [
        {"Untagged": "top:latest"},
        {"Deleted": top},
        {"Deleted": chains[0]},
        {"Deleted": base},
        {"Deleted": chains[1]},
    ]
    assert os.listdir(world.store.paths.layers) == [] and check(world.store) == []


def test_no_prune_keeps_the_untagged_parent(world: World) -> None:
    base = world.image("base")
    record = world.container("base", "c1", change=write)
    commit_image(world.images, record, repository="top")
    world.containers.remove(record.id)
    remove_image(world.images, "base")
    remove_image(world.images, "top", no_prune=True)
    assert [image.id for image in world.images.all()] == [base]


def test_a_stopped_container(world: World) -> None:
    image = world.image("one")
    record = world.container("one", "c1")
    refused(
        world,
        "one",
        f'conflict: unable to remove repository reference "one" (must force) - container {record.id[:12]} is using its '
        f"referenced image {image[7:19]}",
    )
    refused(
        world,
        image,
        f"conflict: unable to delete {image[7:19]} (must be forced) - image is being used by stopped container {record.id[:12]}",
    )
    assert remove_image(world.images, image, force=True) == [{"Untagged": "one:latest"}, {"Deleted": image}]
    assert len(world.layers.list()) == 1, "the container still stands on the layer"
    assert check(world.store) == []
    world.containers.remove(record.id)
    assert len(world.layers.remove_unused()) == 1


def test_a_running_container(world: World) -> None:
    image = world.image("one")
    record = world.container("one", "c1")
    world.runs(record)
    text = f"conflict: unable to delete {image[7:19]} (cannot be forced) - image is being used by running container {record.id[:12]}"
    refused(world, image, text)
    refused(world, image, text, force=True)
    assert remove_image(world.images, "one", force=True) == [{"Untagged": "one:latest"}]
    assert world.images.by_id(image) is not None


def test_by_id_several_repositories(world: World) -> None:
    image = world.image("one")
    tag(world.images, "one", "two")
    refused(world, image, f"conflict: unable to delete {image[7:19]} (must be forced) - image is referenced in multiple repositories")
    refused(world, image[7:15], f"conflict: unable to delete {image[7:19]} (must be forced) - image is referenced in multiple repositories")
    records = remove_image(world.images, image[7:15], force=True)
    assert records[:3] == [{"Untagged": "one:latest"}, {"Untagged": "two:latest"}, {"Deleted": image}]


def test_digests_go_with_the_last_tag_of_their_repository(world: World) -> None:
    image = world.image("one")
    digest = "sha256:" + "0" * 64
    with world.store.db.write() as db:
        db.execute("INSERT INTO repo_digests VALUES ('docker.io/library/one', ?, ?)", (digest, image))
    assert remove_image(world.images, "one")[:3] == [{"Untagged": "one:latest"}, {"Untagged": "one@" + digest}, {"Deleted": image}]
