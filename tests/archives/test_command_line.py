# SPDX-License-Identifier: Apache-2.0
"""`save` and `load` as they are typed: files, pipes, directories, terminals; interrupted, and on a full disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive_maker import Image, archive, layout, recorded, tar_of

from tests.conftest import Lamina, traces


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Lamina]:
    """Another engine: where an archive is copied to."""
    (tmp_path / "second").mkdir()
    engine = Lamina(tmp_path / "second")
    yield engine
    engine("system", "reset", "--force").check()
    assert not traces(engine)


def test_a_changed_image_travels_and_runs_elsewhere(lamina: Lamina, second: Lamina, box: str, tmp_path: Path) -> None:
    """W5.5, in all formats, from file, pipe and directory."""
    lamina("run", "--name", "made", "--network", "none", "box", "sh", "-c", "echo hello > /tmp/testfile; rm /etc/group").check()
    image = lamina("commit", "made", "testfile").out
    file = tmp_path / "file.tar"
    saved = lamina("save", "-o", file, "testfile").check()
    assert saved.stdout == "" and file.stat().st_mode & 0o7777 == 0o600
    loaded = second("load", "-i", file).check()
    assert loaded.stdout == "Loaded image: testfile:latest\n"
    diff_ids = json.loads(lamina("inspect", "testfile").out)[0]["RootFS"]["Layers"]
    assert sorted(loaded.stderr.splitlines()) == sorted(
        f"{diff_id[7:19]}: {state}" for diff_id in diff_ids for state in ("Loading layer", "Loaded"))
    assert second("run", "--rm", "--network", "none", "testfile", "sh", "-c", "cat /tmp/testfile; ls /etc").out.split()[0] == "hello"
    lines = second("history", "testfile").out.splitlines()
    assert [line.split()[0] for line in lines] == ["IMAGE", image[7:19], "<missing>"], "the base has no image of its own there"
    inspected = json.loads(second("inspect", "testfile").out)[0]
    assert inspected["Id"] == image and inspected["RootFS"]["Layers"] == diff_ids
    again = second("load", "-i", file).check()
    assert sorted(again.stderr.splitlines()) == sorted(f"{diff_id[7:19]}: Already exists" for diff_id in diff_ids)
    second("rmi", "testfile").check()

    piped = subprocess.run([*lamina.prefix, "save", "-q", "testfile", "box"], capture_output=True, check=True)
    assert piped.stderr == b""
    loaded = second("load", "-q", stdin=piped.stdout).check()
    assert (loaded.stdout, loaded.stderr) == ("Loaded image: testfile:latest\nLoaded image: box:latest\n", "")
    second("rmi", "testfile", "box").check()
    for form in ("oci-archive", "oci-dir", "docker-dir"):
        target = tmp_path / form
        lamina("save", "-q", "--format", form, "-o", target, "testfile").check()
        assert target.stat().st_mode & 0o7777 == (0o700 if form.endswith("dir") else 0o600)
        told = second("load", "-q", "-i", target).out
        assert told == (f"Loaded image ID: {image}" if form == "docker-dir" else "Loaded image: testfile:latest")
        assert second("run", "--rm", "--network", "none", image, "cat", "/tmp/testfile").out == "hello"
        second("rmi", image).check()
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".lamina")]
    assert second("system", "check").out == "no problems found"


def test_terminals(lamina: Lamina, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(recorded("docker26-archive"))
    loaded = lamina.pty("load", "-i", str(tmp_path / "a.tar"))
    assert loaded.returncode == 0 and "Loaded image: golden/two:1" in loaded.stdout
    assert "be01e59fd3db: Loading layer" in loaded.stdout and "[====" in loaded.stdout and "\x1b[2K" in loaded.stdout
    refused = lamina.pty("save", "golden/two:1")
    assert refused.returncode == 1 and "cowardly refusing to save to a terminal. Use the -o flag or redirect" in refused.stdout
    assert "ustar" not in refused.stdout
    refused = lamina.pty("save", "-o", "/dev/tty", "golden/two:1")
    assert refused.returncode == 1 and "cowardly refusing" in refused.stdout
    refused = lamina.pty("load")
    assert refused.returncode == 1 and "requested load from stdin, but stdin is empty" in refused.stdout


def test_what_is_refused(lamina: Lamina, tmp_path: Path) -> None:
    lamina("load", stdin=recorded("docker26-archive")).check()
    full = tmp_path / "full"
    full.mkdir()
    (full / "x").touch()
    for words, text in (
        (("save", "nope"), "Error response from daemon: No such image: nope:latest"),
        (("save", "-o", "/nope/x", "golden/one:1"), 'failed to save image: invalid output path: directory "/nope" does not exist'),
        (("save", "-o", full, "golden/one:1"), f'failed to save image: invalid output path: "{full}" is a directory'),
        (("save", "--format", "oci-dir", "-o", full, "golden/one:1"), "no empty directory"),
        (("save", "--format", "oci-dir", "golden/one:1"), "--format oci-dir writes a directory. Use the -o flag"),
        (("save", "--format", "tar", "golden/one:1"), "unknown format 'tar'"),
        (("save", "--format", "docker-dir", "-o", tmp_path / "x", "golden/one", "golden/two:1"), "docker-dir holds one image only"),
        (("save", "--compression", "gzip", "golden/one:1"), "a docker-archive has uncompressed layers"),
        (("save", "--platform", "arm64", "golden/one:1"), "does not provide the specified platform (linux/arm64)"),
        (("load", "-i", tmp_path / "none"), f"open {tmp_path}/none: no such file or directory"),
        (("load", "-i", tmp_path / "full"), "not an archive of images"),
        (("load", "--platform", "x/y/z/a"), "cannot parse platform specifier"),
        (("load",), "the archive is empty"),
    ):
        done = lamina(*words)
        assert done.returncode == 1 and text in done.stderr and done.stdout == "", (words, done)
    assert sorted(os.listdir(tmp_path)) == ["full", "root", "run"] and os.listdir(full) == ["x"]


def large() -> bytes:
    """Three layers of random bytes."""
    return archive(layout(Image([tar_of({f"data{number}": os.urandom(1 << 20) * 12}) for number in range(3)])))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_load_leaves_nothing_and_says_so(lamina: Lamina, number: int, tmp_path: Path) -> None:
    (tmp_path / "large.tar").write_bytes(large())
    loading = lamina.start("load", "-i", str(tmp_path / "large.tar"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert loading.stderr is not None and b"Loading layer" in loading.stderr.readline()
    loading.send_signal(number)
    out, err = loading.communicate(timeout=60)
    assert (loading.returncode, out) == (130, b""), err
    assert err.endswith(b"load interrupted: nothing was loaded\n")
    assert [os.listdir(lamina.root / name) for name in ("layers", "blobs/sha256", "tmp", "trash")] == [[], [], [], []]
    assert lamina("system", "check").out == "no problems found" and lamina("images", "-aq").out == ""
    assert not children_left(loading.pid)


def test_a_killed_load_is_swept(lamina: Lamina, tmp_path: Path) -> None:
    (tmp_path / "large.tar").write_bytes(large())
    loading = lamina.start("load", "-i", str(tmp_path / "large.tar"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert loading.stderr is not None and b"Loading layer" in loading.stderr.readline()
    loading.kill()
    loading.communicate(timeout=60)  # ends when the last worker has: they die with it
    assert not children_left(loading.pid)
    lamina("image", "prune", "-f").check()
    assert os.listdir(lamina.root / "tmp") == os.listdir(lamina.root / "layers") == []
    assert lamina("system", "check").out == "no problems found"


def children_left(pid: int) -> list[str]:
    """Processes that have this one's session and command line, or it as their parent."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            if entry.read_text().rsplit(")", 1)[1].split()[1] == str(pid):
                found.append(entry.parent.name)
        except OSError:
            continue
    return found


def test_an_interrupted_save_leaves_no_file(lamina: Lamina, tmp_path: Path) -> None:
    lamina("load", stdin=large()).check()
    (tmp_path / "out").mkdir()
    for form, name in (("oci-archive", "x.tar"), ("oci-dir", "x")):
        saving = lamina.start("save", "--format", form, "--compression", "gzip", "-o", str(tmp_path / "out" / name), "made:1",
                               stderr=subprocess.PIPE)
        assert saving.stderr is not None and b"Compressing layer" in saving.stderr.readline()
        saving.send_signal(signal.SIGTERM)
        _, err = saving.communicate(timeout=60)
        assert saving.returncode == 130, err
        assert err.endswith(b"save interrupted: nothing was written\n")
    assert os.listdir(tmp_path / "out") == [] and os.listdir(lamina.root / "tmp") == []


@pytest.fixture
def small_disk(lamina: Lamina, tmp_path: Path) -> Iterator[Lamina]:
    """The engine's data root is a file system of 100 MB."""
    lamina.root.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m,mode=0700", "tmpfs", str(lamina.root)], check=True)
    yield lamina
    lamina("system", "reset", "--force").check()
    for _ in range(50):
        if subprocess.run(["umount", str(lamina.root)], stderr=subprocess.DEVNULL).returncode == 0:
            break
        time.sleep(0.1)
    lamina.root.rmdir()


def test_a_full_disk_is_told_and_nothing_stays(small_disk: Lamina, tmp_path: Path) -> None:
    lamina = small_disk
    lamina("load", stdin=recorded("docker26-archive")).check()  # the control: there is room for something
    before = lamina("images", "-q").out
    many = [tar_of({f"data{number}": os.urandom(1 << 20) * 40}) for number in range(3)]
    data = archive(layout(Image(many)))
    (tmp_path / "large.tar").write_bytes(data)
    for words, piped in ((("load", "-i", tmp_path / "large.tar"), None), (("load",), data)):
        done = lamina(*words, stdin=piped)
        assert done.returncode == 1 and done.stdout == ""
        assert "not enough space left" in done.stderr or "No space left on device" in done.stderr, done.stderr
        assert os.listdir(lamina.root / "tmp") == [] and lamina("images", "-q").out == before
    assert lamina("system", "check").out == "no problems found"
