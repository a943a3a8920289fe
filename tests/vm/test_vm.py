# SPDX-License-Identifier: Apache-2.0
"""The suite's kernel parts on other kernels and cgroup versions: `scripts/test-vm`, a machine a test."""
from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
VM_RUN = Path(os.environ.get("LAMINA_VM_RUN", REPO.parent / "shared/vm/vm-run"))


@pytest.mark.all
@pytest.mark.skipif(not VM_RUN.exists() or os.geteuid() != 0, reason="needs root, and a vm-run that boots Debian in qemu")
@pytest.mark.parametrize("machine", ["v2", "v1", "systemd", "systemd-v1"])
def test_in_a_machine(machine: str) -> None:
    done = subprocess.run([REPO / "scripts/test-vm", machine], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    last = done.stdout.splitlines()[-1] if done.stdout else ""
    assert done.returncode == 0 and last.endswith("passed, 0 failed"), (done.stdout + done.stderr)[-6000:]


def test_without_a_machine_it_says_what_it_needs() -> None:
    done = subprocess.run([REPO / "scripts/test-vm", "v2"], capture_output=True, text=True, env={**os.environ, "LAMINA_VM_RUN": "/nowhere"})
    assert done.returncode == 1 and "test-vm needs a vm-run" in done.stderr
