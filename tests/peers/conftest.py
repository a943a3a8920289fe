# SPDX-License-Identifier: Apache-2.0
"""Docker 20.10, Docker 26.1 and Podman as neighbours, started by the harness beside the checkout."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPO

Engines = dict[str, list[str]]
PEERS = REPO.parent / "shared/bench/peers"


@pytest.fixture(scope="session")
def engines() -> Iterator[Engines]:
    """Command prefixes of docker, podman and (if the harness can have it) docker26. Those that weren't running before are stopped."""
    if not PEERS.exists():
        pytest.skip("needs the harness ../shared/bench/peers beside the checkout")
    where = os.environ.get("LAMINA_PEERS", "/var/tmp/lamina-peers")
    places = {"start": where, "start26": where + "26"}
    ours = [place for place in places.values() if not running(place)]
    try:
        yield {name: prefix for how, place in places.items() for name, prefix in start(how, place).items()}
    finally:
        for place in ours:
            subprocess.run([PEERS, "stop", place], capture_output=True)


def running(place: str) -> bool:
    """Whether a daemon of an earlier start is there."""
    for name in ("docker.pid", "docker26.pid"):
        try:
            if Path(f"/proc/{Path(place, name).read_text().strip()}").exists():
                return True
        except OSError:
            pass
    return False


def start(how: str, where: str) -> Engines:
    done = subprocess.run([PEERS, how, where], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{PEERS} {how}: {done.stderr.strip()[-300:]}")
    return {name: shlex.split(command) for name, _, command in (word.partition("=") for word in shlex.split(done.stdout) if "=" in word)}
