# SPDX-License-Identifier: Apache-2.0
"""Docker 20.10, Docker 26.1 and Podman as neighbours, started by the harness beside the checkout."""

from __future__ import annotations

import os
import shlex
import subprocess

import pytest

from tests.conftest import REPO

Engines = dict[str, list[str]]
PEERS = REPO.parent / "shared/bench/peers"


@pytest.fixture(scope="session")
def engines() -> Engines:
    """Command prefixes of docker, podman and (if the harness can have it) docker26."""
    if not PEERS.exists():
        pytest.skip("needs the harness ../shared/bench/peers beside the checkout")
    where = os.environ.get("LAMINA_PEERS", "/var/tmp/lamina-peers")
    found = start("start", where)
    return {**found, **start("start26", where + "26")}


def start(how: str, where: str) -> Engines:
    done = subprocess.run([PEERS, how, where], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{PEERS} {how}: {done.stderr.strip()[-300:]}")
    return {name: shlex.split(command) for name, _, command in (word.partition("=") for word in shlex.split(done.stdout) if "=" in word)}
