# SPDX-License-Identifier: Apache-2.0
"""Attack 3 (CVE-2024-21626): a working directory that is a leaked descriptor of the host."""
from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from box import make_root, make_spec, run

from lamina.errors import StartError
from lamina.linux import fs


@pytest.mark.parametrize("fd", range(3, 21))
def test_a_descriptor_as_working_directory_is_refused(tmp_path: Path, fd: int) -> None:
    root = make_root(tmp_path / "root")
    with pytest.raises(StartError):
        run(root, make_spec("ls", cwd=f"/proc/self/fd/{fd}"))


def test_a_link_to_it_as_well(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root")
    (root / "w").symlink_to("/proc/self/fd/7")
    with pytest.raises(StartError):
        run(root, make_spec("ls", cwd="/w"))


def test_control_a_plain_chdir_gets_out(tmp_path: Path) -> None:
    held = os.open("/", os.O_RDONLY)
    pid = os.fork()
    if pid == 0:
        os.chroot(tmp_path)
        inside = os.fstat(held).st_ino == os.stat("..", dir_fd=held).st_ino
        os._exit(0 if inside and os.path.lexists(f"/proc/self/fd/{held}") is False else 1)
    _, status = os.waitpid(pid, 0)
    os.chdir(f"/proc/self/fd/{held}")  # what runc did: a magic link is followed to wherever it points
    assert os.getcwd() == "/"
    with pytest.raises(OSError):
        fs.open_beneath(held, f"/proc/self/fd/{held}", os.O_PATH)
    os.close(held)
    assert status == 0
