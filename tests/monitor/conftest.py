# SPDX-License-Identifier: Apache-2.0
"""Monitors of ordinary programs for the tests of streams."""
from __future__ import annotations

import _socket
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lamina.monitor.client import Client

SRC = Path(__file__).resolve().parents[2] / "src"
FAKE = Path(__file__).with_name("fake_monitor.py")


class Fake:
    """One running fake monitor; `first` is its first client, `connect` makes more."""

    def __init__(self, run_dir: Path, process: subprocess.Popen[bytes], first: Client) -> None:
        self.run_dir = run_dir
        self.process = process
        self.first = first

    def rss(self) -> int:
        """Resident memory in bytes."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    def fds(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Callable[..., Fake]]:
    running: list[Fake] = []

    def start(*argv: str, stdin: bool = False, tty: bool = False, stdin_once: bool = False, attach: dict[str, bool] | None = None,
              log: Path | None = None, max_size: int = 10_000_000, max_file: int = 3, **more: Any) -> Fake:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM, 0)
        attach = {"stdin": stdin, "stdout": True, "stderr": True} if attach is None else attach
        job = {"argv": argv, "stdin": stdin, "tty": tty, "stdin_once": stdin_once, "attach": attach, "log": log and str(log),
               "max_size": max_size, "max_file": max_file, **more}
        run_dir = tmp_path / f"run{len(running)}"
        run_dir.mkdir()
        process = subprocess.Popen([sys.executable, "-I", "-S", FAKE, SRC, run_dir, str(theirs.fileno()), json.dumps(job)],
                                   pass_fds=[theirs.fileno()])
        theirs.close()
        one = Fake(run_dir, process, Client(ours))
        running.append(one)
        one.first.wait_started(20)
        return one

    yield start
    for one in running:
        one.first.close()
        one.process.kill()
        one.process.wait()
