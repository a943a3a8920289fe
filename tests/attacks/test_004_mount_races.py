# SPDX-License-Identifier: Apache-2.0
"""Attacks 4, 7 and 11 (CVE-2021-30465, CVE-2025-52565, CVE-2024-45310): a neighbour swaps a directory on the way to a mount target
for a link that leads out, thousands of times, while containers are made. Nothing appears outside, and nothing of outside inside."""
from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lamina.errors import LaminaError
from lamina.linux import fs
from lamina.linux.ns import start_time
from lamina.runtime import rootfs
from tests.box import make_root, make_spec, run

SECONDS = 2.5


class Place:
    """root (of the container), vol (shared, contains the racer's `x`), outside (the tripwire)."""

    def __init__(self, base: Path) -> None:
        self.root = make_root(base / "root")
        self.vol, self.outside = base / "vol", base / "outside"
        for path in (self.vol / "x", self.outside / "x"):
            path.mkdir(parents=True)
        (self.outside / "marker").write_text("of the host")
        # Absolute for who resolves in the host; climbing for who resolves in a subdirectory.
        self.targets = [str(self.outside), "../" * 30 + str(self.outside).lstrip("/")]

    def tripped(self) -> list[str]:
        return sorted(set(os.listdir(self.outside)) - {"marker", "x"}) + os.listdir(self.outside / "x")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(params=[0, 1], ids=["absolute", "climbing"])
def racer(place: Place, request: pytest.FixtureRequest) -> Iterator[int]:
    """A process that exchanges vol/x (a directory) and vol/y (a link that leads out) as fast as it can."""
    (place.vol / "y").symlink_to(place.targets[request.param])
    pid = os.fork()
    if pid == 0:
        fd = os.open(place.vol, os.O_PATH)
        started = os.getppid()
        while os.getppid() == started:
            fs.renameat2(fd, "x", fd, "y", fs.RENAME_EXCHANGE)
        os._exit(0)
    assert start_time(pid)
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def mounts(place: Place) -> list[dict[str, Any]]:
    """Directories, files and a terminal's neighbourhood, all on a path through the racer's `x`."""
    return [
        {"destination": "/v", "type": "bind", "source": str(place.vol), "options": ["rbind"]},
        {"destination": "/v/x/dir/deep", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/v/x/file", "type": "bind", "source": str(place.root / "etc/passwd"), "options": ["bind"]},
    ]


@pytest.mark.parametrize("fallback", [False, True], ids=["openat2", "walk"])
def test_nothing_appears_outside(place: Place, racer: int, fallback: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fs, "force_fallback", fallback)
    end, made, refused = time.monotonic() + SECONDS / 2, 0, 0
    look = "cat /v/x/marker /v/y/marker /v/x/../marker /v/x/dir/marker 2>/dev/null; [ -e /dev/console ]; :"
    while time.monotonic() < end or made + refused < 11:  # a virtual machine may not get that far in the time
        try:
            code, out = run(place.root, make_spec("sh", "-c", look, mounts=mounts(place)), terminal=made % 2 == 1)
            assert code == 0 and out == "", out
            made += 1
        except LaminaError:
            refused += 1  # the racer won a round, and has got an error for it
        assert place.tripped() == []
    here = Path("/proc/self/mountinfo").read_text()
    assert str(place.outside) not in here and str(place.vol) not in here


def test_control_by_names_it_gets_out(place: Place, racer: int) -> None:
    end = time.monotonic() + 20
    while not place.tripped():
        assert time.monotonic() < end
        path = f"{place.vol}/x/dir"
        if not os.path.islink(f"{place.vol}/x"):  # looked at ...
            try:
                os.makedirs(path)  # ... and then used
            except OSError:
                pass
            try:
                os.rmdir(path)
            except OSError:
                pass
        for name in ("x", "y"):
            try:
                os.rmdir(place.vol / name / "dir")
                break
            except OSError:
                pass
        if place.tripped():
            break
        # makedirs itself may have won: what it made is then there until one of the removals hits it
        try:
            os.mkdir(f"{place.vol}/x/dir")
        except OSError:
            pass


def test_control_the_old_root_under_the_new_one_is_reached(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why the old root must be unmounted before anything of the container runs: ".." at the top goes on to what is mounted there, so a
    climbing link reads the host's files. This, and no race, is how a pivot without that unmount shows the marker."""
    (place.vol / "y").symlink_to(place.targets[1])
    spec = make_spec("cat", "/v/y/marker", mounts=mounts(place)[:1])
    assert run(place.root, spec)[0] == 1
    monkeypatch.setattr(rootfs.m, "umount", lambda target, flags=0: None)
    assert run(place.root, spec) == (0, "of the host")
