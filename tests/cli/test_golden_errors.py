# SPDX-License-Identifier: Apache-2.0
"""Errors of usage, against what the real docker prints (goldens/usage_errors.json, recorded by scripts/golden)."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lamina.cli.context import Cli
from lamina.cli.main import main

GOLDENS = json.loads((Path(__file__).parent / "goldens" / "usage_errors.json").read_text())


@pytest.mark.parametrize("case", GOLDENS, ids=lambda c: " ".join(c["argv"]))
def test_same_text_and_exit_code(case: dict[str, Any], capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code = main(case["argv"], Cli(str(tmp_path / "root"), str(tmp_path / "run")))
    out, err = capfd.readouterr()
    assert err == case["stderr"].replace("docker", "lamina").replace("Docker version", "lamina version"), out
    assert (code, out) == (case["code"], case["stdout"].replace("docker", "lamina"))
    assert not (tmp_path / "root").exists(), "a command line that is wrong must not touch the store"
