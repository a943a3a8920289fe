# SPDX-License-Identifier: Apache-2.0
"""From tar to image, container, commit and history, in docker's shapes (W1, W3, W5.4)."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from image_world import World, small_tar

from lamina.errors import ArchiveError, InvalidArgument, NotFound
from lamina.images.commit import commit_image
from lamina.images.history import history
from lamina.images.import_ import import_image
from lamina.images.inspect import inspect_image
from lamina.images.listing import list_images
from lamina.images.mount import mount_image, mounted_images, umount_image
from lamina.images.prune import prune_images
from lamina.images.tagging import tag
from lamina.store.check import check


def write(root: Path) -> None:
    (root / "new").write_bytes(b"x" * 10)


def test_import_then_commit_then_history(world: World) -> None:
    base = world.image("img/one:v1", changes=['CMD ["/bin/sh"]', "ENV A=1", "LABEL a=b"], message="msg")
    record = world.container("img/one:v1", "c1", {"Hostname": "hosty", "Tty": True, "Cmd": ["touch", "/new"], "Env": ["X=y", "A=1"]}, write)
    two = commit_image(world.images, record, repository="two", author="A Name <a@b>", message="added git", changes=["CMD foo bar"])
    shown = inspect_image(world.images, "two")
    assert (shown["Id"], shown["Parent"], shown["Container"], shown["Author"]) == (two, base, record.id, "A Name <a@b>")
    assert shown["Comment"] == "added git" and shown["DockerVersion"] and shown["Created"].endswith("Z")
    assert (
        shown["ContainerConfig"]["Tty"]
        and shown["ContainerConfig"]["Cmd"] == ["touch", "/new"]
        and shown["ContainerConfig"]["Image"] == "img/one:v1"
    )
    assert (
        shown["Config"]["Cmd"] == ["/bin/sh", "-c", "foo bar"]
        and shown["Config"]["Labels"] == {"a": "b"}
        and shown["Config"]["Hostname"] == "hosty"
    )
    assert len(shown["RootFS"]["Layers"]) == 2 and shown["RepoTags"] == ["two:latest"] and shown["Size"] == 3 - 1 + 10
    steps = history(world.images, "two")
    assert [(s["Id"], s["CreatedBy"], s["Comment"], s["Size"], s["Tags"]) for s in steps] == [
        (two, "touch /new", "added git", 10, ["two:latest"]),
        (base, "", "msg", 2, ["img/one:v1"]),
    ]
    assert check(world.store) == []


def test_steps_without_an_image_are_missing(world: World) -> None:
    base = world.image("one")
    two = commit_image(world.images, world.container("one", "c1", change=write), repository="two")
    with world.store.db.write() as db:
        db.execute("UPDATE images SET parent = '' WHERE id = ?", (two,))
    assert [step["Id"] for step in history(world.images, "two")] == [two, "<missing>"] != [two, base]


def test_the_layer_of_a_commit_is_deterministic_and_without_the_init_layer(world: World) -> None:
    world.image("one")
    record = world.container("one", "c1", change=write)
    first, second = (world.images.by_id(commit_image(world.images, record)) for _ in range(2))
    assert first is not None and second is not None and first.id != second.id and first.chain_id == second.chain_id
    root = world.layers.view(first.chain_id).open_root()
    assert sorted(os.listdir(root)) == ["bin", "new"]
    os.close(root)


def test_nothing_changed_is_an_empty_step(world: World) -> None:
    base = world.images.by_id(world.image("one"))
    image = world.images.by_id(commit_image(world.images, world.container("one", "c1")))
    assert base is not None and image is not None and image.chain_id == base.chain_id
    assert image.document["history"][-1]["empty_layer"] is True and len(world.layers.list()) == 1
    assert check(world.store) == []


def test_import_defaults_and_platform(world: World) -> None:
    shown = inspect_image(world.images, world.image(platform_="linux/arm64", source="-"))
    assert (shown["Architecture"], shown["Os"], shown["Comment"], shown["RepoTags"]) == ("arm64", "linux", "Imported from -", [])
    with pytest.raises(InvalidArgument, match="operating system is not supported"):
        world.image(platform_="windows/amd64")


def test_what_is_wrong_is_told_before_a_byte_is_read(world: World) -> None:
    class Untouched(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise AssertionError("read")

    for more in ({"repository": "BAD"}, {"repository": "a@sha256:" + "0" * 64}, {"changes": ["RUN x"]}, {"platform_": "x/y/z/v"}):
        with pytest.raises(InvalidArgument):
            import_image(world.images, Untouched(), **more)  # type: ignore[arg-type]


def test_a_broken_archive_leaves_nothing(world: World) -> None:
    with pytest.raises(ArchiveError):
        import_image(world.images, io.BytesIO(small_tar({"a": b"x" * 5000})[:3000]), repository="one")
    assert world.images.all() == [] and world.layers.list() == [] and check(world.store) == []


def test_resolving(world: World) -> None:
    one = world.image("root/ubuntu:14.04")
    for ref in ("root/ubuntu:14.04", "docker.io/root/ubuntu:14.04", one, one[7:], one[7:19], "sha256:" + one[7:20]):
        assert world.images.resolve(ref).id == one
    for ref, text in (
        ("root/ubuntu", "No such image: root/ubuntu:latest"),
        ("x", "No such image: x:latest"),
        ("f" * 64, "No such image: sha256:" + "f" * 64),
    ):
        with pytest.raises(NotFound) as error:
            world.images.resolve(ref)
        assert error.value.message == text
    with pytest.raises(InvalidArgument, match="invalid reference format"):
        world.images.resolve("a:b:c")


def test_an_ambiguous_prefix_is_told(world: World) -> None:
    world.image()
    with world.store.db.write() as db:
        for last in "01":
            db.execute("INSERT INTO images (id, config) VALUES (?, '{}')", ("sha256:" + "ab" * 31 + "a" + last,))
    with pytest.raises(InvalidArgument, match="multiple IDs found with provided prefix: abab"):
        world.images.resolve("abab")


def test_a_name_moves_and_leaves_the_old_image_dangling(world: World) -> None:
    first = world.image("one")
    second = world.image("one", {"other": b""})
    tag(world.images, "one", "quay.io/a/b:c")
    assert world.images.tags(second) == ["one:latest", "quay.io/a/b:c"] and world.images.tags(first) == []
    assert [row["Id"] for row in list_images(world.images, filters={"dangling": ["true"]})] == [first]
    with pytest.raises(InvalidArgument, match="refusing to create a tag with a digest reference"):
        tag(world.images, "one", "a@sha256:" + "0" * 64)


def test_listing_and_its_filters(world: World) -> None:
    one = world.image("one:a", changes=["LABEL k=v"])
    mid = commit_image(world.images, world.container("one:a", "c1", change=write))
    top = commit_image(world.images, world.container(mid, "c2", change=lambda root: (root / "y").mkdir()), repository="quay.io/x/top")

    def ids(all: bool = False, **filters: list[str]) -> list[str]:
        return [row["Id"] for row in list_images(world.images, all=all, filters=filters)]

    assert ids() == [top, one] and ids(all=True) == [top, mid, one]
    assert (
        ids(reference=["one"]) == [one] == ids(reference=["on*:a"])
        and ids(reference=["*"]) == [one]
        and ids(reference=["quay.io/*/*"]) == [top]
    )
    assert (
        ids(label=["k=v"]) == [top, one]
        and ids(label=["k=w"]) == []
        and ids(before=["quay.io/x/top"]) == [one]
        and ids(since=["one:a"]) == [top]
    )
    assert ids(dangling=["false"]) == [top, one] and ids(dangling=["true"]) == [] and ids(until=["1h"]) == []
    for name, value in (("nope", "x"), ("dangling", "maybe")):
        with pytest.raises(InvalidArgument, match="invalid filter"):
            ids(**{name: [value]})
    row = list_images(world.images)[0]
    assert row["RepoTags"] == ["quay.io/x/top:latest"] and row["ParentId"] == mid and row["Labels"] == {"k": "v"}


def test_prune(world: World) -> None:
    old, keep = world.image("one"), world.image("one", {"k": b""})
    used = world.image("two", {"u": b""})
    record = world.container("two", "c1")
    assert prune_images(world.images)["ImagesDeleted"][0] == {"Deleted": old}
    done = prune_images(world.images, {"dangling": ["false"]})
    assert done["ImagesDeleted"][0] == {"Untagged": "one:latest"} and {"Deleted": keep} in done["ImagesDeleted"]
    assert [image.id for image in world.images.all()] == [used] and check(world.store) == []
    world.containers.remove(record.id)


def test_image_mount(world: World) -> None:
    image = world.image("one")
    path = mount_image(world.images, "one")
    try:
        assert mount_image(world.images, "one") == path and os.listdir(path) == ["bin"] and mounted_images(world.images) == {image: path}
        with pytest.raises(OSError, match="Read-only"):
            Path(path, "x").write_bytes(b"")
    finally:
        assert umount_image(world.images, "one") == image
    assert mounted_images(world.images) == {}
    with pytest.raises(NotFound):
        umount_image(world.images, "one")


def test_graph_driver_shows_the_directories(world: World) -> None:
    world.image("one")
    commit_image(world.images, world.container("one", "c1", change=write), repository="two")
    shown = inspect_image(world.images, "two")["GraphDriver"]
    if world.layers.driver.name == "vfs":
        assert shown == {"Data": None, "Name": "vfs"}
        return
    assert os.listdir(shown["Data"]["UpperDir"]) == ["new"] and os.listdir(shown["Data"]["LowerDir"]) == ["bin"]
    assert json.dumps(shown)
