# SPDX-License-Identifier: Apache-2.0
"""What `save` writes is loaded, run and copied by Docker, Podman and skopeo, with the same ids; and what they save of it comes back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Lamina

from .conftest import Engines

pytestmark = pytest.mark.all
NAME = "lamina-test/travels:1"


def run(*words: str | Path) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture
def image(lamina: Lamina, box: str) -> str:
    """Two layers, the upper with a whiteout, a set-id file and a hard link."""
    lamina("run", "--name", "work", "--network", "none", "box", "sh", "-c",
           "echo text > /file; ln /file /link; chown 1000:50 /file; chmod 4755 /file; rm /etc/os-release").check()
    return lamina("commit", "-c", 'CMD ["/bin/sh", "-c", "cat /link; stat -c %u:%g:%a:%h /file; ls /etc/os-release"]', "work", NAME).out


WANTED = ["text", "1000:50:4755:2"]


class Peer:
    def __init__(self, prefix: list[str]) -> None:
        self.prefix = prefix

    def __call__(self, *words: str | Path) -> str:
        return run(*self.prefix, *words)

    def is_right(self, ref: str, image: str) -> None:
        assert self("inspect", "--format", "{{.Id}}", ref).strip().removeprefix("sha256:") == image.removeprefix("sha256:")
        done = subprocess.run([*self.prefix, "run", "--rm", "--network", "none", ref], capture_output=True, text=True)
        assert done.stdout.splitlines() == WANTED and "No such file" in done.stderr


@pytest.fixture(params=["docker", "docker26", "podman"])
def peer(engines: Engines, request: pytest.FixtureRequest) -> Iterator[Peer]:
    if request.param not in engines:
        pytest.skip(f"the harness has no {request.param}")
    peer = Peer(engines[request.param])
    yield peer
    subprocess.run([*peer.prefix, "rmi", "-f", NAME, "localhost/" + NAME], capture_output=True)


def test_docker_archive_there_and_back(lamina: Lamina, image: str, peer: Peer, tmp_path: Path) -> None:
    lamina("save", "-q", "-o", tmp_path / "a.tar", NAME).check()
    peer("load", "-i", tmp_path / "a.tar")
    peer.is_right(NAME, image)
    peer("save", "-o", tmp_path / "back.tar", NAME)
    lamina("rmi", NAME).check()
    assert NAME in lamina("load", "-q", "-i", tmp_path / "back.tar").out
    assert lamina("run", "--rm", "--network", "none", image).stdout.splitlines() == WANTED


@pytest.mark.parametrize("form", ["oci-archive", "oci-dir", "docker-dir"])
def test_the_other_formats_with_podman(lamina: Lamina, image: str, engines: Engines, form: str) -> None:
    podman = Peer(engines["podman"])
    tmp_path = Path(f"/var/tmp/lamina-test-{os.getpid()}")  # podman makes a name of an OCI directory's path: it must be one
    tmp_path.mkdir()
    try:
        lamina("save", "-q", "--format", form, "-o", tmp_path / "there", NAME).check()
        podman("load", "-i", tmp_path / "there")
        podman.is_right(image.removeprefix("sha256:"), image)
        lamina("rmi", NAME).check()
        podman("save", "--format", form, "-o", tmp_path / "back", image.removeprefix("sha256:"))
        lamina("load", "-q", "-i", tmp_path / "back").check()
        assert lamina("run", "--rm", "--network", "none", image).stdout.splitlines() == WANTED
    finally:
        shutil.rmtree(tmp_path)
        subprocess.run([*podman.prefix, "rmi", "-f", image.removeprefix("sha256:")], capture_output=True)


def test_skopeo_copies_each_format(lamina: Lamina, image: str, tmp_path: Path) -> None:
    sources = {"docker-archive": f"docker-archive:{tmp_path}/docker-archive:{NAME}", "oci-archive": f"oci-archive:{tmp_path}/oci-archive",
               "oci-dir": f"oci:{tmp_path}/oci-dir", "docker-dir": f"dir:{tmp_path}/docker-dir"}  # fmt: skip
    for form, source in sources.items():
        lamina("save", "-q", "--format", form, "-o", tmp_path / form, NAME).check()
        run("skopeo", "copy", "--insecure-policy", source, f"dir:{tmp_path}/copy-{form}")
        manifest = json.loads((tmp_path / f"copy-{form}" / "manifest.json").read_text())
        assert manifest["config"]["digest"] == image
        assert lamina("load", "-q", "-i", tmp_path / f"copy-{form}").out == f"Loaded image ID: {image}"
