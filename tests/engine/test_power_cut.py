# SPDX-License-Identifier: Apache-2.0
"""What a power cut leaves of a container that was being made: its row may be on the disk without its directories (tests/vm/crash)."""
from __future__ import annotations

import json
import os
import shutil

from tests.conftest import Lamina


def reboot(lamina: Lamina) -> None:
    """As after a boot: what the runroot says is of another one."""
    path = lamina.runroot / "boot.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "boot_id": "0" * 8}))


def test_half_made_containers_go_and_all_others_stay(lamina: Lamina, box: str) -> None:
    ids = {name: lamina("create", "--name", name, "--network", "none", "-v", "/data", "box", "true").out
           for name in ("whole", "gone", "empty", "torn", "used")}  # fmt: skip
    lamina("start", "used").check()
    lamina("wait", "used").check()
    bundle = lamina.root / "containers"
    shutil.rmtree(bundle / ids["gone"])
    shutil.rmtree(bundle / ids["empty"] / "rw")
    os.rmdir(bundle / ids["torn"] / "rw/work")
    shutil.rmtree(bundle / ids["used"] / "rw")
    lamina("ps").check()
    assert len(lamina("ps", "-aq").out.split()) == 5, "they were removed without a power cut"
    reboot(lamina)
    lamina("ps").check()
    # That of `used` was told to somebody: whatever took its directory was no power cut, and a person is to decide.
    assert sorted(lamina("ps", "-a", "--format", "{{.Names}}").out.split()) == ["used", "whole"]
    assert len(lamina("volume", "ls", "-q").out.split()) == 2
    lamina("start", "-a", "whole").check()
    assert sorted(os.listdir(bundle)) == sorted([ids["used"], ids["whole"]])
    assert lamina("system", "check").returncode == 0
