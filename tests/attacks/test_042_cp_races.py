# SPDX-License-Identifier: Apache-2.0
"""Attack 42 (CVE-2018-15664, CVE-2019-18466, CVE-2026-41568): a container exchanges a directory on the path of a `cp` for a link to the
host, as fast as it can, while files go in and out. Nothing is written outside, and nothing of outside is read.

Also CVE-2019-14271 and CVE-2026-41567: nothing of the container is loaded or run. A copy runs no program at all."""
from __future__ import annotations

import io
import os
import signal
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lamina.engine.copying import Files
from lamina.engine.copywalk import of_tar, to_tar
from lamina.engine.engine import Engine
from lamina.errors import LaminaError
from lamina.linux import fs
from tests.conftest import Lamina, make_tar

SECONDS = 1.5  # for each of both kinds of link, each way


class Place:
    """The container's work directory as seen from the host, and the tripwire outside."""

    def __init__(self, lamina: Lamina, base: Path, pid: int) -> None:
        self.lamina, self.pid = lamina, pid
        self.outside = base / "outside"
        self.outside.mkdir()
        (self.outside / "secret").write_text("of the host")
        self.tree = Path(f"/proc/{pid}/root/w")

    def tripped(self) -> list[str]:
        return sorted(set(os.listdir(self.outside)) - {"secret"})


@pytest.fixture
def place(lamina: Lamina, box: str, tmp_path: Path) -> Place:
    made = "mkdir -p /w/x; echo inside >/w/x/mine; exec sleep 1000"
    lamina("run", "-d", "--name", "evil", "--network", "none", "box", "sh", "-c", made).check()
    pid = int(lamina("inspect", "-f", "{{.State.Pid}}", "evil").out)
    end = time.monotonic() + 10
    while not Path(f"/proc/{pid}/root/w/x/mine").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    return Place(lamina, tmp_path, pid)


@pytest.fixture(params=["absolute", "climbing"])
def racer(place: Place, request: pytest.FixtureRequest) -> Iterator[int]:
    """Exchanges /w/x (a directory) and /w/y (a link that leads to the tripwire on the host) in the container's own root."""
    target = str(place.outside) if request.param == "absolute" else "../" * 30 + str(place.outside)[1:]
    (place.tree / "y").symlink_to(target)
    pid = os.fork()
    if pid == 0:
        fd = os.open(place.tree, os.O_PATH)
        started = os.getppid()
        while os.getppid() == started:
            fs.renameat2(fd, "x", fd, "y", fs.RENAME_EXCHANGE)
        os._exit(0)
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def race(place: Place, copy: Callable[[Files], None]) -> tuple[int, int]:
    """(copies that went through, copies that the racer has spoilt with an error)."""
    done = spoilt = 0
    end = time.monotonic() + SECONDS
    with Engine(str(place.lamina.root), str(place.lamina.runroot)) as engine:
        while time.monotonic() < end:
            try:
                with Files(engine.containers, "evil") as files:
                    copy(files)
                done += 1
            except LaminaError:
                spoilt += 1
            assert place.tripped() == []
    return done, spoilt


def test_in(place: Place, racer: int) -> None:
    data = make_tar({"x": None, "x/file": b"written", "x/new/deep": b"written"})

    def copy(files: Files) -> None:
        try:
            files.write("/w/x", of_tar(io.BytesIO(make_tar({"direct": b"written", "a/b": b"written"}))))
        except LaminaError:
            pass
        files.write("/w", of_tar(io.BytesIO(data)))

    done, spoilt = race(place, copy)
    assert done + spoilt > 20
    assert (place.outside / "secret").read_text() == "of the host"
    assert (place.outside / "secret").stat().st_mode & 0o777 == 0o644


def test_out(place: Place, racer: int) -> None:
    seen: set[bytes] = set()

    def copy(files: Files) -> None:
        for path in ("/w/x/secret", "/w/x/.", "/w/y/", "/w"):
            raw = io.BytesIO()
            try:
                to_tar(files.read(path), raw.write)
            except LaminaError:
                continue
            raw.seek(0)
            with tarfile.open(fileobj=raw) as tar:
                for member in tar:
                    if member.isfile() and (found := tar.extractfile(member)):
                        seen.add(found.read())

    done, _ = race(place, copy)
    assert done > 20 and seen == {b"inside\n"}


@pytest.mark.parametrize("racer", ["absolute"], indirect=True)
def test_control_by_names_it_leaks_both_ways(place: Place, racer: int) -> None:
    """What a copy by path, after a look, does: read and write through the swapped directory."""
    end = time.monotonic() + 30
    leaked = False
    while not (leaked and place.tripped()):
        assert time.monotonic() < end
        here = place.tree / "x"
        if here.is_symlink():
            continue
        try:
            leaked |= os.open(here / "secret", os.O_RDONLY) >= 0
        except OSError:
            pass
        if here.is_symlink():
            continue
        try:
            (here / "file").write_text("written")
        except OSError:
            pass


def test_absolute_links_still_work(lamina: Lamina, box: str, tmp_path: Path) -> None:
    """moby's first fix of this attack broke /var/run -> /run."""
    lamina("run", "--name", "links", "--network", "none", "box", "sh", "-c", "mkdir /run; ln -s /run /var/run; echo 1 >/run/pid").check()
    lamina("cp", "links:/var/run/pid", tmp_path / "pid").check()
    lamina("cp", tmp_path / "pid", "links:/var/run/again").check()
    assert lamina("cp", "links:/run/again", tmp_path).check() and (tmp_path / "again").read_text() == "1\n"


def test_links_in_a_container_lead_nowhere_on_the_host(lamina: Lamina, box: str, tmp_path: Path) -> None:
    """Copied out twice: what came first as a link isn't followed by what comes then."""
    (tmp_path / "outside").mkdir()
    plant = f"mkdir /d; ln -s {tmp_path}/outside /d/l; mkdir -p /e/l; echo bad >/e/l/file; ln -s /proc/1/root/etc /d/m; ln -s / /d/n"
    lamina("run", "--name", "trap", "--network", "none", "box", "sh", "-c", plant).check()
    lamina("cp", "trap:/d", tmp_path / "out").check()
    assert lamina("cp", "trap:/e/.", tmp_path / "out").returncode == 1
    assert os.listdir(tmp_path / "outside") == [] and os.readlink(tmp_path / "out/n") == "/"
