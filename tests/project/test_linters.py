# SPDX-License-Identifier: Apache-2.0
"""ruff, mypy --strict and shell syntax over the whole tree."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
SCRIPTS = [
    p
    for p in [*sorted((REPO / "scripts").iterdir()), REPO / ".ci/run", *sorted((REPO / "bin").glob("*"))]
    if p.is_file() and p.read_bytes().startswith((b"#!/bin/sh", b"# shellcheck shell=sh"))
]


def check(*argv: str) -> None:
    done = subprocess.run([sys.executable, "-m", *argv], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff() -> None:
    check("ruff", "check", "--no-cache", "src", "tests", "scripts")


def test_mypy_strict(tmp_path: Path) -> None:
    check("mypy", "--cache-dir", str(tmp_path))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_shell_syntax(script: Path) -> None:
    done = subprocess.run(["/bin/sh", "-n", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_shellcheck() -> None:
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("needs shellcheck (a package of that name)")
    done = subprocess.run([program, *map(str, SCRIPTS)], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
