# SPDX-License-Identifier: Apache-2.0
"""Docker, Podman and skopeo pull what we pushed to the real server, and we pull what Docker pushed: the same image id."""
from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import Lamina
from tests.registry.docker_registry import docker_registry

from .conftest import Engines

pytestmark = pytest.mark.all


@pytest.mark.parametrize("engine", ["docker", "docker26", "podman"])
def test_pushed_here_pulled_there_and_back(lamina: Lamina, box: str, engines: Engines, engine: str, tmp_path: Path) -> None:
    if engine not in engines:
        pytest.skip(f"the harness has no {engine}")
    peer = engines[engine]
    unsafe = ["--tls-verify=false"] if engine == "podman" else []

    def ask(*words: str) -> str:
        done = subprocess.run([*peer, *words], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout.strip()

    with docker_registry(tmp_path / "registry") as host:
        ours, theirs = f"{host}/ours:1", f"{host}/theirs:1"
        lamina("tag", "box", ours).check()
        lamina("push", ours).check()
        try:
            ask("pull", *unsafe, ours)
            assert box.removeprefix("sha256:") in ask("image", "inspect", "--format", "{{.Id}}", ours)
            ask("tag", ours, theirs)
            ask("push", *unsafe, theirs)
        finally:
            subprocess.run([*peer, "rmi", "-f", ours, theirs], capture_output=True)
        lamina("rmi", "-f", box).check()
        assert lamina("pull", "-q", theirs).out == theirs
        assert lamina("run", "--rm", "--network", "none", theirs, "echo", "back").out == "back"
        if engine != "podman":  # it writes a config of its own
            assert lamina("images", "-q", "--no-trunc", theirs).out == box


def test_skopeo_copies_what_was_pushed(lamina: Lamina, box: str, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "registry") as host:
        lamina("tag", "box", f"{host}/box").check()
        for compression in ("gzip:1", "none"):
            lamina("push", "--compression", compression, f"{host}/box").check()
            target = tmp_path / f"copied-{compression[:4]}"
            copy = ["skopeo", "copy", "--src-tls-verify=false", f"docker://{host}/box", f"dir:{target}"]
            subprocess.run(copy, check=True, capture_output=True)
            assert (target / box.removeprefix("sha256:")).exists()
