# SPDX-License-Identifier: Apache-2.0
"""What the hot path of a container with a network imports: nothing slow, and none of the cold modules."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = str(Path(__file__).parents[2] / "src")
SLOW = {"typing", "dataclasses", "enum", "re", "json", "socket", "signal", "subprocess", "pathlib", "contextlib", "collections",
        "functools", "logging", "argparse", "threading", "tempfile", "shutil", "hashlib", "ctypes", "datetime"}
COLD = {f"lamina.network.{name}" for name in ("setup", "firewall", "foreign", "firewalld", "legacy", "programs", "teardown")}


@pytest.mark.parametrize("modules", ["bridge, ipam, files, model", "plug", "ports, holding, conntrack"])
def test_hot_modules(modules: str) -> None:
    script = f"import sys; sys.path.insert(0, {SOURCE!r}); from lamina.network import {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    loaded = set(done.stdout.split())
    assert "lamina.network" in loaded
    assert not loaded & (SLOW | COLD)
