# SPDX-License-Identifier: Apache-2.0
"""What other kernels and cgroup versions decide, in virtual machines: `scripts/test-vm`, all its machines at once."""
from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
VM_RUN = Path(os.environ.get("LAMINA_VM_RUN", REPO.parent / "shared/vm/vm-run"))
MACHINES = ["v2", "v1", "systemd", "systemd-v1"]


@pytest.fixture(scope="module")
def told() -> str:
    """What `scripts/test-vm` says of all machines."""
    script = subprocess.Popen([REPO / "scripts/test-vm"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, start_new_session=True)  # fmt: skip
    try:
        return script.communicate()[0]
    except BaseException:
        os.killpg(script.pid, signal.SIGTERM)  # and its machines
        raise


@pytest.mark.all
@pytest.mark.timeout(4000)  # two machines at a time, and each is ended after half an hour
@pytest.mark.skipif(not VM_RUN.exists() or os.geteuid() != 0, reason="needs root, and a vm-run that boots Debian in qemu")
@pytest.mark.parametrize("machine", MACHINES)
def test_in_a_machine(told: str, machine: str) -> None:
    own = [line for line in told.splitlines() if line.startswith(machine + ": ")]
    assert own and re.fullmatch(rf"{machine}: [1-9]\d* passed, 0 failed, \d+ skipped", own[-1]), "\n".join(own)[-6000:] or told[-6000:]


def test_without_a_machine_it_says_what_it_needs() -> None:
    done = subprocess.run([REPO / "scripts/test-vm", "v2"], capture_output=True, text=True, env={**os.environ, "LAMINA_VM_RUN": "/nowhere"})
    assert done.returncode == 1 and "test-vm needs a vm-run" in done.stderr


def test_what_the_machines_run_exists() -> None:
    """A test that was renamed would only be missed half an hour later."""
    for line in (REPO / "tests/vm/kernel_tests").read_text().splitlines():
        if line and not line.startswith("#"):
            path, _, name = line.partition("::")
            text = (REPO / path).read_text()
            assert not name or re.search(rf"^def {re.escape(name.partition('[')[0])}\(", text, re.MULTILINE), line
