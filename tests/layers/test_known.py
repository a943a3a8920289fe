# SPDX-License-Identifier: Apache-2.0
"""A tar that is here already isn't laid out again; one that only looks like it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lamina.engine.engine import Engine
from lamina.errors import ArchiveError
from lamina.layers import ingest
from lamina.store.lease import Lease
from tests.conftest import make_tar


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    if os.geteuid() != 0:
        pytest.skip("needs root: owners of files are part of a layer")
    return Engine(str(tmp_path / "root"), str(tmp_path / "run"))


def import_(engine: Engine, path: Path, name: str) -> str:
    with open(path, "rb", buffering=0) as file:
        image = engine.images.import_(file, repository=name)
        assert file.read() == b"", "the stream is at its end"
    return image


def laid_out(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is made from now on."""
    made: list[str] = []
    real = ingest._make

    def noted(*args: object, **more: object) -> object:
        made.append("made")
        return real(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(ingest, "_make", noted)
    return made


def test_the_same_tar_again_is_only_read(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tar = tmp_path / "a.tar"
    tar.write_bytes(make_tar({"f": b"one", "d/": None}))
    with engine:
        first = import_(engine, tar, "first")
        made = laid_out(engine, monkeypatch)
        second = import_(engine, tar, "second")
        assert not made
        layers = [engine.images.inspect(image)["RootFS"]["Layers"] for image in (first, second)]
        assert layers[0] == layers[1] and len(engine.layers.ls()) == 1
        engine.images.remove("first")
        assert engine.layers.path("second"), "the layer is the second image's, too"
        engine.images.remove("second")
        assert engine.layers.ls() == [] and engine.system.check(full=True) == []


def test_another_tar_of_the_same_size_is_another_layer(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = tmp_path / "one.tar", tmp_path / "two.tar"
    one.write_bytes(make_tar({"f": b"one"}))
    two.write_bytes(make_tar({"f": b"two"}))
    assert one.stat().st_size == two.stat().st_size
    with engine:
        import_(engine, one, "one")
        made = laid_out(engine, monkeypatch)
        import_(engine, two, "two")
        assert made and len(engine.layers.ls()) == 2
        assert (Path(engine.layers.path("two")[0]) / "f").read_bytes() == b"two"
        assert engine.system.check(full=True) == []


def test_a_known_tar_under_a_wrong_digest_is_refused(engine: Engine, tmp_path: Path) -> None:
    tar, wrong = tmp_path / "a.tar", "sha256:" + "0" * 64
    tar.write_bytes(make_tar({"f": b"one"}))
    with engine:
        import_(engine, tar, "a")
        digest = engine.images.inspect("a")["RootFS"]["Layers"][0]
        with open(tar, "rb", buffering=0) as file, Lease(engine.store, "test") as lease:
            with pytest.raises(ArchiveError, match=f"layer has digest {digest} instead of {wrong}"):
                engine.layer_store.add(file, "", lease, wrong)
        assert engine.system.check(full=True) == []


def test_a_layer_that_has_gone_is_made_again(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tar = tmp_path / "a.tar"
    tar.write_bytes(make_tar({"f": b"one"}))
    with engine:
        import_(engine, tar, "a")
        engine.images.remove("a")
        made = laid_out(engine, monkeypatch)
        import_(engine, tar, "a")
        assert made and (Path(engine.layers.path("a")[0]) / "f").read_bytes() == b"one"
