# SPDX-License-Identifier: Apache-2.0
"""The layer that a commit makes, loaded and run by Docker and Podman as it is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Lamina

from .conftest import Engines

pytestmark = pytest.mark.all


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_a_committed_layer_is_loaded_unchanged(lamina: Lamina, box: str, engines: Engines, engine: str, tmp_path: Path) -> None:
    script = """
        mkdir -p /new/deep; echo text > /new/deep/file; ln /new/deep/file /new/link; ln -s file /new/deep/soft; mkfifo /new/pipe
        chown 1000:50 /new/deep/file; chmod 4755 /new/deep/file; rm /etc/os-release; rm -r /var; mkdir /var; echo later > /var/again
    """
    lamina("run", "--name", "work", "--network", "none", "box", "sh", "-c", script).check()
    lamina("commit", "-m", "elsewhere", "work", "elsewhere").check()
    name = "lamina-test/elsewhere:1"
    lamina("tag", "elsewhere", name).check()
    tar = tmp_path / "image.tar"
    lamina("save", "-q", "-o", tar, name).check()
    diff_ids = json.loads(lamina("inspect", "elsewhere").out)[0]["RootFS"]["Layers"]
    prefix = engines[engine]
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
