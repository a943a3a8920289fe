# SPDX-License-Identifier: Apache-2.0
"""The layer that a commit makes, loaded and run by Docker and Podman as it is."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.conftest import REPO, Lamina

Engines = dict[str, list[str]]
pytestmark = pytest.mark.all
PEERS = REPO.parent / "shared/bench/peers"

# What the test needs of an image for which there is no verb yet (save comes later): its config and its layers, exactly.
READ = """
import sys
from lamina.engine.engine import Engine
root, runroot, ref, out = sys.argv[1:]
with Engine(root, runroot) as engine:
    image = engine.image_store.resolve(ref)
    open(out + "/config.json", "wb").write(image.config)
    for n, layer in enumerate(reversed(engine.layer_store.chain(image.chain_id))):
        with open(f"{out}/{n}.tar", "wb") as file:
            engine.layer_store.export_tar(layer.chain_id, file.write)
"""


@pytest.fixture(scope="module")
def engines() -> Engines:
    """Command prefixes of docker 20.10 and podman."""
    if not PEERS.exists():
        pytest.skip("needs the harness ../shared/bench/peers beside the checkout")
    where = os.environ.get("LAMINA_PEERS", "/var/tmp/lamina-peers")
    words = shlex.split(subprocess.run([PEERS, "start", where], capture_output=True, text=True, check=True).stdout)
    return {name: shlex.split(command) for name, _, command in (word.partition("=") for word in words if "=" in word)}


def archive(lamina: Lamina, ref: str, work: Path) -> tuple[Path, list[str]]:
    """A docker archive of an image, put together from its own bytes; and the diff ids."""
    work.mkdir()
    reader = [sys.executable, "-c", READ, str(lamina.root), str(lamina.runroot), ref, str(work)]
    subprocess.run(reader, check=True, env={"PYTHONPATH": str(REPO / "src")})
    config = (work / "config.json").read_bytes()
    names = [f"{n}.tar" for n in range(len(json.loads(config)["rootfs"]["diff_ids"]))]
    with tarfile.open(work / "image.tar", "w") as tar:
        manifest = json.dumps([{"Config": "config.json", "RepoTags": [f"lamina-test/{ref}:1"], "Layers": names}]).encode()
        for name, data in (("manifest.json", manifest), ("config.json", config)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name in names:
            tar.add(work / name, name)
    return work / "image.tar", ["sha256:" + hashlib.sha256((work / name).read_bytes()).hexdigest() for name in names]


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_a_committed_layer_is_loaded_unchanged(lamina: Lamina, box: str, engines: Engines, engine: str, tmp_path: Path) -> None:
    script = """
        mkdir -p /new/deep; echo text > /new/deep/file; ln /new/deep/file /new/link; ln -s file /new/deep/soft; mkfifo /new/pipe
        chown 1000:50 /new/deep/file; chmod 4755 /new/deep/file; rm /etc/os-release; rm -r /var; mkdir /var; echo later > /var/again
    """
    lamina("run", "--name", "work", "--network", "none", "box", "sh", "-c", script).check()
    lamina("commit", "-m", "elsewhere", "work", "elsewhere").check()
    tar, diff_ids = archive(lamina, "elsewhere", tmp_path / "archive")
    assert json.loads(lamina("inspect", "elsewhere").out)[0]["RootFS"]["Layers"] == diff_ids, "the exact tar of each layer"
    prefix = engines[engine]
    name = "lamina-test/elsewhere:1"
    try:
        subprocess.run([*prefix, "load", "-i", str(tar)], check=True, capture_output=True)
        seen = json.loads(subprocess.run([*prefix, "inspect", name], check=True, capture_output=True).stdout)[0]
        assert seen["RootFS"]["Layers"] == diff_ids
        look = "cat /new/link; stat -c '%u:%g %a %h' /new/deep/file; readlink /new/deep/soft; test -p /new/pipe && echo pipe; ls /var; "
        look += "ls /etc/os-release"
        done = subprocess.run([*prefix, "run", "--rm", "--network", "none", name, "sh", "-c", look], capture_output=True, text=True)
        assert done.stdout.splitlines() == ["text", "1000:50 4755 2", "file", "pipe", "again"], done.stderr
        assert "No such file" in done.stderr
    finally:
        subprocess.run([*prefix, "rmi", "-f", name], capture_output=True)
