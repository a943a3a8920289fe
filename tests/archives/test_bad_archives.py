# SPDX-License-Identifier: Apache-2.0
"""Archives that can't be believed (attacks 41, 45 to 49): each is refused by name, and leaves nothing. Honest ones beside them are the
control."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from archive_maker import INDEX, LAYER, MANIFEST, Files, Image, archive, blob, compact, digest, layout, recorded, tar_of, with_json
from archive_shelf import Shelf
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.errors import ArchiveError, LaminaError
from lamina.layers.tar import compress
from lamina.spec import manifest as spec

LOWER = tar_of({"etc": None, "etc/one": b"1\n"})
UPPER = tar_of({"etc": None, "etc/two": b"2\n"})
IMAGE = Image([LOWER, UPPER])
PACKED = Image([LOWER, UPPER], packed=True)
CONFIG, DOCUMENT = blob(IMAGE.config), blob(compact(IMAGE.manifest))


def changed(change: Callable[[dict[str, Any]], Any], image: Image = IMAGE) -> Files:
    """A layout whose manifest was changed and is rightly named."""
    made = Image([LOWER, UPPER], packed=image is PACKED)
    found = change(made.manifest)
    if found is not None:
        made.manifest = found
    return layout(made)


def with_digest(value: str) -> Files:
    def change(manifest: dict[str, Any]) -> None:
        manifest["layers"][0]["digest"] = value

    return changed(change)


def config_with(**more: Any) -> Files:
    made = Image([LOWER, UPPER])
    made.config = compact({**json.loads(made.config), **more})
    made.manifest["config"].update(digest=digest(made.config), size=len(made.config))
    return layout(made)


def nested(depth: int) -> Files:
    files = layout(IMAGE, index=True)
    entry = json.loads(files["index.json"])["manifests"][0]
    for _ in range(depth):
        inner = {key: entry[key] for key in ("mediaType", "digest", "size")}
        data = compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": [inner]})
        files[blob(data)] = data
        entry = {"mediaType": INDEX, "digest": digest(data), "size": len(data)}
    files["index.json"] = compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]})
    return files


def docker(**more: Any) -> Files:
    entry = {"Config": CONFIG, "RepoTags": ["x:1"], "Layers": [blob(LOWER), blob(UPPER)], **more}
    return {**IMAGE.files(), "manifest.json": compact([{key: value for key, value in entry.items() if value is not ...}])}


def but(name: str, data: bytes, image: Image = IMAGE) -> Files:
    return {**layout(image), name: data}


def less(name: str, image: Image = IMAGE) -> Files:
    return {key: value for key, value in layout(image).items() if key != name}


BAD: dict[str, tuple[Files, str]] = {
    # blobs: absent, wrong, of another size (a size that lies is told before anything is read)
    "no layer": (less(blob(UPPER)), f"the layer {digest(UPPER)}"),
    "no config": (less(CONFIG), f"the config {IMAGE.id}"),
    "no manifest": (less(DOCUMENT), "the manifest sha256:"),
    "no marker": (less("oci-layout"), "without oci-layout"),
    "another layer": (but(blob(UPPER), UPPER[:-1] + b"\1"), f"instead of {digest(UPPER)}"),
    "a shorter layer": (but(blob(UPPER), UPPER[:-512]), f"{len(UPPER) - 512} bytes instead of {len(UPPER)}"),
    "another config": (but(CONFIG, IMAGE.config.replace(b"amd64", b"arm64")), f"instead of {IMAGE.id}"),
    "another manifest": (but(DOCUMENT, compact(IMAGE.manifest).replace(b":2", b": 2", 1)), "instead of"),
    "another packed layer": (but(blob(PACKED.blobs[1]), gzip.compress(UPPER, mtime=1), PACKED), f"instead of {digest(PACKED.blobs[1])}"),
    "damaged gzip": (but(blob(PACKED.blobs[1]), PACKED.blobs[1][:-9] + b"\0" * 9, PACKED), f"instead of {digest(PACKED.blobs[1])}"),
    "gzip of another tar": (layout(Image([LOWER, UPPER], packed=True)), ""),  # the control of the next
    # documents
    "two kinds at once": (changed(lambda m: {**m, "manifests": []}), "ambiguous"),
    "index with layers": (with_json(layout(IMAGE), "index.json", lambda v: {**v, "layers": []}), "ambiguous"),
    "another type": (changed(lambda m: {**m, "mediaType": INDEX}), "announced as"),
    "unknown type": (with_json(layout(IMAGE), "index.json", lambda v: v["manifests"][0].update(mediaType="text/html")), "announced as"),
    "schema 1": (changed(lambda m: {**m, "schemaVersion": 1, "fsLayers": []}), "schema 1"),
    "no schema": (changed(lambda m: {key: value for key, value in m.items() if key != "schemaVersion"}), "schemaVersion"),
    "schema true": (changed(lambda m: {**m, "schemaVersion": True}), "schemaVersion"),
    "no config entry": (changed(lambda m: {key: value for key, value in m.items() if key != "config"}), "no config"),
    "a list": (but("index.json", b"[]"), "must be a JSON object"),
    "twice a key": (but("index.json", b'{"schemaVersion":2,"manifests":[],"manifests":[]}'), "twice"),
    "no JSON": (but("index.json", b"{"), "not valid JSON"),
    "deep": (but("index.json", b'{"a":' * 2000 + b"1" + b"}" * 2000), "nested too deeply"),
    "too large": (but("index.json", b" " * (5 << 20)), "too large"),
    "too many layers": (changed(lambda m: {**m, "layers": m["layers"] * 2100}), "at most 4096"),
    "more layers than diff ids": (changed(lambda m: {**m, "layers": m["layers"] * 2}), "its config 2"),
    "no layer's type": (changed(lambda m: m["layers"][0].update(mediaType="application/x-sh")), "no media type of a layer"),
    "an artifact": (changed(lambda m: m["config"].update(mediaType="application/vnd.cyclonedx+json")), "an artifact"),
    "a null in it": (changed(lambda m: {**m, "layers": [None]}), "no descriptor"),
    "negative size": (changed(lambda m: m["layers"][0].update(size=-1)), "has the size -1"),
    "huge size": (changed(lambda m: m["layers"][0].update(size=1 << 63)), "has the size"),
    "size true": (changed(lambda m: m["layers"][0].update(size=True)), "must be a whole number"),
    "a version to come": (with_json(layout(IMAGE), "oci-layout", lambda v: {"imageLayoutVersion": "9"}), "version '9'"),
    # digests (attack 47)
    "digest upwards": (with_digest("../../etc/passwd:" + "0" * 64), "unsupported digest algorithm"),
    "digest in capitals": (with_digest("sha256:" + "A" * 64), "invalid checksum digest format"),
    "digest too short": (with_digest("sha256:" + "0" * 63), "invalid checksum digest length"),
    "sha512": (with_digest("sha512:" + "0" * 128), "only sha256 is used"),
    "no digest": (with_digest("0" * 64), "invalid checksum digest format"),
    # indexes (attack 46)
    "four deep": (nested(3), "more than 3 deep"),
    # configs
    "a layer claimed": (config_with(rootfs={"type": "layers", "diff_ids": [digest(LOWER), digest(b"private")]}), "instead of its diff id"),
    "windows": (config_with(os="windows"), "cannot load windows image on linux"),
    "config of numbers": (config_with(config={"Env": [1]}), "must hold strings only"),
    # names (attack 52)
    "name with a newline": (layout(IMAGE, names=["docker.io/library/x:1\n"]), "invalid reference format"),
    "name in capitals": (layout(IMAGE, names=["docker.io/library/X:1"]), "must be lowercase"),
    # docker's manifest.json
    "docker: no layer": (docker(Layers=["none.tar", blob(UPPER)]), "none.tar is missing"),
    "docker: fewer layers": (docker(Layers=[blob(LOWER)]), "layers length mismatch"),
    "docker: layers in another order": (docker(Layers=[blob(UPPER), blob(LOWER)]), "instead of"),
    "docker: no config": (docker(Config="none.json"), "none.json is missing"),
    "docker: config upwards": (docker(Config="../../etc/passwd"), "leads out of the root"),
    "docker: no Config": (docker(Config=...), "Config must be a string"),
    "docker: tag without a tag": (docker(RepoTags=["x"]), "invalid tag"),
    "docker: tag of a digest": (docker(RepoTags=["x@sha256:" + "0" * 64]), "digest"),
    "docker: tags of numbers": (docker(RepoTags=[1]), "must be a list of strings"),
    "docker: a parent that is no digest": (docker(Parent="../x"), "Parent"),
    "docker: null": ({**IMAGE.files(), "manifest.json": b"null"}, "must be a list"),
    "nothing": ({"etc/passwd": b"root"}, "not an archive of images"),
}
del BAD["gzip of another tar"]


def gzip_of_another_tar() -> Files:
    """Rightly named bytes that unpack to something else than the config says."""
    made = Image([LOWER, UPPER])
    packed = gzip.compress(tar_of({"evil": b""}), mtime=0)
    made.manifest["layers"][1] = {"mediaType": LAYER + "+gzip", "digest": digest(packed), "size": len(packed)}
    return {**layout(made), blob(packed): packed}


BAD["another tar in it"] = gzip_of_another_tar(), f"instead of {digest(UPPER)}"


@pytest.mark.parametrize("name", BAD)
def test_a_bad_archive_is_refused_by_name_and_leaves_nothing(shelf: Shelf, name: str) -> None:
    files, text = BAD[name]
    with pytest.raises(LaminaError) as error:
        shelf.load(files)
    assert text in error.value.message, error.value.message
    shelf.assert_empty()


@pytest.mark.parametrize("files", [layout(IMAGE), layout(PACKED), layout(IMAGE, index=True), nested(2), docker(), docker(Parent=None)],
                         ids=["layout", "gzip", "index", "index in index", "docker", "docker with null"])  # fmt: skip
def test_the_honest_archives_are_loaded(shelf: Shelf, files: Files) -> None:
    """The control: what the bad ones were made of."""
    shelf.load(files)
    assert [image.id for image in shelf.images.all()] == [IMAGE.id]
    shelf.assert_sound()


def test_a_bad_archive_changes_nothing_that_is_there(shelf: Shelf) -> None:
    shelf.load(recorded("docker26-archive"))
    before, tags = shelf.rows(), shelf.tags()
    good = Image([LOWER])
    files = layout(good, Image([LOWER, tar_of({"x": b"y"})]), names=["docker.io/golden/two:1", "docker.io/library/bad:1"])
    files[blob(tar_of({"x": b"y"}))] = tar_of({"x": b"z"})
    with pytest.raises(ArchiveError):
        shelf.load(files)
    assert (shelf.rows(), shelf.tags()) == (before, tags), "not even the image that was whole"
    shelf.assert_sound()


def test_a_layer_that_is_here_already_must_be_right_in_the_archive_too(shelf: Shelf) -> None:
    """Being known by its diff id grants nothing: its bytes are read (attack 46), and a blob that isn't there is missing."""
    shelf.load(layout(IMAGE))
    for bad in (less(blob(LOWER)), but(blob(LOWER), LOWER[:-1] + b"\1"), but(blob(PACKED.blobs[0]), gzip.compress(b"x" * 10), PACKED)):
        with pytest.raises(ArchiveError):
            shelf.load(bad)
    shelf.load(layout(PACKED))
    assert shelf.rows()["blobs"] == 4
    shelf.assert_sound()


def raw_tar(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_links_lead_nowhere_but_into_the_archive(shelf: Shelf, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(UPPER)
    for target, text in ((str(secret), "is missing"), ("../../../../../../../.." + str(secret), "leads out of the root"),
                         ("upper", "too many symbolic links")):  # fmt: skip
        kept = {key: value for key, value in docker(Layers=[blob(LOWER), "upper"]).items() if key != blob(UPPER)}
        with pytest.raises(ArchiveError, match=text):
            shelf.load(tar_of({**kept, "upper": target}))
    # the control: the same link, to a member
    shelf.load(tar_of({**docker(Layers=[blob(LOWER), "a/upper"]), "a": None, "a/upper": "../" + blob(UPPER)}))
    assert shelf.tags() == {"x:1": IMAGE.id}

    # in a directory no link is followed, and nothing is waited for
    place = tmp_path / "layout"
    for name, data in layout(IMAGE).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    shelf.load(place)
    (place / blob(UPPER)).unlink()
    (place / blob(UPPER)).symlink_to(secret)
    with pytest.raises(ArchiveError, match="is a symbolic link"):
        shelf.load(place)
    (place / blob(UPPER)).unlink()
    os.mkfifo(place / blob(UPPER))
    with pytest.raises(ArchiveError, match="no regular file"):
        shelf.load(place)


def test_a_name_twice_in_a_tar_and_a_tar_cut_off(shelf: Shelf) -> None:
    data = archive(layout(IMAGE))
    with pytest.raises(ArchiveError, match="is in it twice"):
        shelf.load(raw_tar([(tarfile.TarInfo(name), value) for name, value in [*layout(IMAGE).items(), ("./index.json", b"{}")]]))
    for size in (0, 100, 512, 700, len(data) // 2, len(data) - 10241):
        with pytest.raises(ArchiveError):
            shelf.load(data[:size])
    shelf.assert_empty()


def test_bombs_end_early(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """gzip of zeros, as the archive itself and as a layer: bounded by its ratio, long before the disk is full."""
    monkeypatch.setattr(compress, "FREE", 4 << 20)  # for each stream; 1 GiB would take this test ten seconds
    with pytest.raises(ArchiveError, match="decompression bomb"):
        shelf.load(gzip.compress(bytes(64 << 20), 9))
    made = Image([LOWER])
    bomb = gzip.compress(LOWER + bytes(64 << 20), 9)
    made.manifest["layers"] = [{"mediaType": LAYER + "+gzip", "digest": digest(bomb), "size": len(bomb)}]
    with pytest.raises(ArchiveError, match="decompression bomb"):
        shelf.load({**layout(made), blob(bomb): bomb})
    shelf.assert_empty()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.text(max_size=8) | st.sampled_from([MANIFEST, INDEX, IMAGE.id]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["schemaVersion", "mediaType", "config", "layers", "manifests", "digest", "size", "platform", "annotations", "os"]),
        inner, max_size=6),
    max_leaves=30,
)  # fmt: skip


@given(JSON, st.sampled_from(["", MANIFEST, INDEX]))
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_any_json_is_a_manifest_an_index_or_an_archive_error(value: Any, announced: str) -> None:
    try:
        found = spec.parse(compact(value), announced)
    except ArchiveError:
        return
    entries = found.manifests if isinstance(found, spec.Index) else [found.config, *found.layers]
    assert all(entry.digest.startswith("sha256:") and len(entry.digest) == 71 and entry.size >= 0 for entry in entries)


@given(st.binary(max_size=60), st.integers(0, len(compact(IMAGE.manifest))))
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_a_damaged_manifest_is_an_archive_error_or_none(damage: bytes, at: int) -> None:
    data = compact(IMAGE.manifest)
    try:
        spec.parse(data[:at] + damage + data[at + len(damage) :], MANIFEST)
    except ArchiveError:
        pass
