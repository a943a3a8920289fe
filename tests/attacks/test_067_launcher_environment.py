# SPDX-License-Identifier: Apache-2.0
"""Attack 67: code from the current directory, PATH or PYTHON* variables gets into a command that runs as root."""
from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).resolve().parents[2] / "bin" / "lamina"
PAYLOAD = "import os\nos.open(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'fired'), os.O_CREAT)\n"
MODULES = ("os", "errno", "stat", "lamina", "sitecustomize", "usercustomize", "encodings", "readline")


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A directory whose Python modules and programs leave a mark when they run."""
    for name in MODULES:
        (tmp_path / f"{name}.py").write_text(PAYLOAD)
    for name in ("python3", "python3.11", "readlink", "sh", "env"):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n: > {tmp_path}/fired\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return tmp_path


def hostile(trap: Path) -> dict[str, str]:
    return {
        "PATH": f"{trap}:/usr/bin:/bin", "PYTHONPATH": str(trap), "PYTHONHOME": str(trap), "PYTHONSTARTUP": str(trap / "os.py"),
        "PYTHONUSERBASE": str(trap), "PYTHONINSPECT": "1", "PYTHONPLATLIBDIR": str(trap), "HOME": str(trap), "ENV": str(trap / "sh"),
        "BASH_ENV": str(trap / "sh"), "PYTHONEXECUTABLE": str(trap / "python3"), "PYTHONPYCACHEPREFIX": str(trap),
    }  # fmt: skip


@pytest.mark.parametrize("linked", [False, True])
def test_nothing_of_the_caller_is_run(trap: Path, tmp_path_factory: pytest.TempPathFactory, linked: bool) -> None:
    program = LAUNCHER
    if linked:
        program = tmp_path_factory.mktemp("bin") / "lamina"
        program.symlink_to(LAUNCHER)
    command = [str(program), "--version"]
    done = subprocess.run(command, cwd=trap, env=hostile(trap), stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    assert done.returncode == 0 and done.stdout.startswith(b"lamina version"), done.stderr
    assert not (trap / "fired").exists()


def test_control_a_plain_interpreter_is_caught(trap: Path) -> None:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(trap)}
    subprocess.run([sys.executable, "-c", "import usercustomize, lamina"], cwd=trap, env=env, capture_output=True, timeout=30)
    assert (trap / "fired").exists()
