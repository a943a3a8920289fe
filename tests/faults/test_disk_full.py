# SPDX-License-Identifier: Apache-2.0
"""The disk is full: at one write after the other of import, commit, create and run (that write alone, or all that follow it), and for
real, on a small file system. The error says so, the store stays in order, and the space comes back."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Lamina, make_tar, traces

from . import world
from .sweep import Point, on_disk, settle, sweep
from .test_kills import case_of, some

if TYPE_CHECKING:
    from collections.abc import Callable

COMMANDS = ["import", "import-known", "commit", "create", "run", "run-rm"]


def fill(lamina: Lamina, tar: Path, directory: Path, name: str, chosen: Callable[[list[Point]], list[Point]], ever: bool) -> None:
    hits, bad = sweep(case_of(name, lamina, tar, directory), lambda found: chosen(on_disk(found)), what="full", ever=ever)
    assert not bad, "\n".join(bad)
    assert hits, "no write was ever met"


@pytest.mark.parametrize("name", ["import", "commit", "run-rm"])
def test_full_at_some_writes(struck: Lamina, busybox_tar: Path, tmp_path: Path, name: str) -> None:
    fill(struck, busybox_tar, tmp_path, name, some, ever=name in ("import", "commit"))


@pytest.mark.all
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("ever", [False, True], ids=["once", "ever"])
@pytest.mark.parametrize("name", COMMANDS)
def test_full_at_every_write(struck: Lamina, busybox_tar: Path, tmp_path: Path, name: str, ever: bool) -> None:
    fill(struck, busybox_tar, tmp_path, name, list, ever)


@pytest.fixture(params=["tmpfs", "ext4"])
def small(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Lamina]:
    """An engine whose data root is on a file system of some 96 MB, with an image `box` in it."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it mounts a file system")
    place = tmp_path / "small"
    place.mkdir()
    if request.param == "tmpfs":
        line = ["mount", "-t", "tmpfs", "-o", "size=96m", "small", str(place)]
    else:
        disk = tmp_path / "disk"
        disk.touch()
        os.truncate(disk, 104 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", str(disk)], check=True)
        line = ["mount", "-o", "loop", str(disk), str(place)]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode and request.param == "ext4":
        pytest.skip(f"no loop devices here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    lamina = Lamina(tmp_path)
    lamina.root = place / "root"
    lamina.prefix[2] = str(lamina.root)
    try:
        yield lamina
        lamina("system", "reset", "-f").check()
    finally:
        subprocess.run(["umount", str(place)], check=True)
    assert not traces(lamina)


def free(lamina: Lamina) -> int:
    os.sync()
    status = os.statvfs(lamina.root)
    return status.f_bfree * status.f_frsize


def test_a_small_disk(small: Lamina, busybox_tar: Path, tmp_path: Path) -> None:
    lamina = small
    lamina("import", busybox_tar, "box").check()
    lamina("run", "--rm", "--network", "none", "box", "true").check()
    lamina("ps").check()
    before, at_first = free(lamina), world.objects(lamina)
    assert before > 80 << 20
    big = tmp_path / "big.tar"
    big.write_bytes(make_tar({"d": None, **{f"d/{n}": os.urandom(1 << 20) for n in range(72)}}))
    slack = 256 << 10  # the database's log, and directories that have grown

    def full(*words: str) -> None:
        done = lamina(*words)
        assert done.returncode != 0
        assert "space left" in done.stderr.lower(), done.stderr
        assert "Traceback" not in done.stderr and "internal error" not in done.stderr
        lamina("ps").check()
        assert not world.wrong(lamina)

    full("import", str(big), "big")  # 64 MiB stay free (layers/tar/limits.py)
    assert free(lamina) > before - slack
    half = before * 6 // 10 // 1024
    lamina("run", "--name", "c1", "--network", "none", "box", "dd", "if=/dev/urandom", "of=/new", "bs=1024", f"count={half}").check()
    full("commit", "c1", "second")
    filled = lamina("run", "--rm", "--name", "c2", "--network", "none", "box", "dd", "if=/dev/zero", "of=/more", "bs=64k")
    assert filled.returncode == 1 and "No space left" in filled.stderr
    lamina("ps").check()
    assert lamina("ps", "-a", "--format", "{{.Names}}").out.split() == ["c1"]
    assert not settle(lambda: world.wrong(lamina))
    lamina("rm", "c1").check()
    lamina("volume", "prune", "-af").check()
    assert not world.wrong(lamina)
    assert world.objects(lamina) == at_first
    assert free(lamina) > before - slack
    assert shutil.disk_usage(lamina.root).free
    assert lamina("run", "--rm", "--network", "none", "box", "echo", "works").out == "works"
