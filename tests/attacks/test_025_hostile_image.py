# SPDX-License-Identifier: Apache-2.0
"""Attacks 10, 25, 27, 53 and 54: what an image's config says is data of a stranger;
and the image's tree, when the engine writes into it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Done, Lamina, busybox_tree


def doctor(lamina: Lamina, config: dict[str, Any] | None, *, top: dict[str, Any] | None = None) -> None:
    """Gives the image `box` a config that no `import --change` would write, as a pulled one might have it."""
    db = sqlite3.connect(lamina.root / "lamina.db")
    [(image, data)] = db.execute("SELECT id, config FROM images").fetchall()
    document = json.loads(data)
    document["config"] = {**document["config"], **config} if config is not None else None
    document.update(top or {})
    db.execute("UPDATE images SET config=? WHERE id=?", (json.dumps(document).encode(), image))
    db.commit()
    db.close()


def run(lamina: Lamina, *args: str, **more: Any) -> Done:
    return lamina("run", "--rm", "--network", "none", *args, **more)


def leftovers(lamina: Lamina) -> list[str]:
    """Directories of containers and volumes, after whoever deletes files in the background is through."""
    places = (lamina.root / "containers", lamina.runroot / "rootfs", lamina.root / "volumes")
    end = time.monotonic() + 3
    while (found := [name for place in places for name in os.listdir(place)]) and time.monotonic() < end:
        lamina("ps", "-a").check()
        time.sleep(0.05)
    return found


# -- 10: a working directory through a link that leads out


@pytest.fixture
def linked(lamina: Lamina, tmp_path: Path) -> Path:
    """An image in which /a leads, from wherever its root lies on the host, to the directory `outside`."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o711)
    tree = busybox_tree(tmp_path / "tree")
    (tree / "a").symlink_to("../" * 40 + str(outside).lstrip("/"))
    (tree / "b").symlink_to(outside)
    subprocess.run(["tar", "-C", str(tree), "-cf", str(tmp_path / "linked.tar"), "."], check=True)
    lamina("import", tmp_path / "linked.tar", "linked").check()
    return outside


@pytest.mark.parametrize("workdir", ["/a/new", "/b/new", "/a/../b/new", "/a"])
def test_a_working_directory_is_made_inside(lamina: Lamina, linked: Path, workdir: str) -> None:
    for _ in range(2):
        assert run(lamina, "-u", "1000", "-w", workdir, "linked", "sh", "-c", "pwd -P; ls").out.startswith(str(linked.parent))
    cid = lamina("run", "-d", "--network", "none", "linked", "sleep", "60").out
    lamina("exec", "-w", workdir, cid, "true")
    assert os.listdir(linked) == [] and linked.stat().st_mode & 0o7777 == 0o711 and linked.stat().st_uid == 0


def test_control_a_path_by_string_leads_out(linked: Path, tmp_path: Path) -> None:
    os.makedirs(str(tmp_path / "tree") + "/a/new")
    assert os.listdir(linked) == ["new"]


# -- 25: labels


def test_an_image_doesnt_speak_for_the_engine(lamina: Lamina, busybox_tar: Path) -> None:
    ours = 'io.lamina.restart="always" io.lamina.logger="binary:///bin/sh?x" io.lamina.=x'
    labels = f"LABEL {ours} harmless=yes name=forged image=forged exitCode=9"
    lamina("import", "--change", labels, busybox_tar, "labelled").check()
    cid = lamina("create", "--network", "none", "labelled", "true").out
    found = json.loads(lamina("inspect", "-f", "{{json .Config.Labels}}", cid).out)
    assert found == {"harmless": "yes", "name": "forged", "image": "forged", "exitCode": "9"}
    lamina("start", cid).check()
    lamina("wait", cid).check()
    news = b"".join(path.read_bytes() for path in (lamina.root / "events").glob("*.log"))
    died = news[news.index(b'"action":"die"') :]
    assert b'"exitCode":"0"' in died and b'"image":"labelled"' in died and b"forged" not in died and b"binary:" not in died


def test_control_labels_of_the_command_line_are_the_users(lamina: Lamina, box: str) -> None:
    cid = lamina("create", "-l", "io.lamina.x=mine", "box", "true").out
    assert json.loads(lamina("inspect", "-f", "{{json .Config.Labels}}", cid).out) == {"io.lamina.x": "mine"}


# -- 27: environment


def test_nothing_of_our_environment_gets_in(lamina: Lamina, box: str) -> None:
    doctor(lamina, {"Env": ["SECRET_TOKEN", "*", "SECRET_*", "HOME", "=x", "", "$SECRET_TOKEN", "A=$SECRET_TOKEN", "B=${SECRET_TOKEN}"]})
    secret = {"SECRET_TOKEN": "hunter2"}
    out = run(lamina, "box", "env", env=secret).check().stdout
    assert "hunter2" not in out and "SECRET_*" not in out
    assert "A=$SECRET_TOKEN" in out.splitlines()
    cid = lamina("run", "-d", "--network", "none", "box", "sleep", "60", env=secret).out
    assert "hunter2" not in lamina("exec", cid, "env", env=secret).check().stdout
    for words in (("inspect", cid), ("ps", "-a", "--no-trunc"), ("image", "inspect", "box"), ("history", "--no-trunc", "box")):
        assert "hunter2" not in lamina(*words, env=secret).check().stdout
    for path in (lamina.root / "containers" / cid).glob("*.json"):
        assert b"hunter2" not in path.read_bytes()


def test_control_what_the_user_names_is_passed(lamina: Lamina, box: str) -> None:
    assert "SECRET_TOKEN=hunter2" in run(lamina, "-e", "SECRET_TOKEN", "box", "env", env={"SECRET_TOKEN": "hunter2"}).check().stdout


# -- 53: volumes


NOWHERE = ["/", "//", "/.", "/x/..", "/../..", "/proc", "//proc", "/proc/self", "/x/../proc", "/sys", "//sys//kernel", "", "x", "."]


@pytest.mark.parametrize("path", NOWHERE)
def test_volumes_where_none_may_be(lamina: Lamina, box: str, path: str) -> None:
    doctor(lamina, {"Volumes": {path: {}}})
    done = run(lamina, "box", "true")
    assert done.returncode == 125, done
    assert leftovers(lamina) == []


def test_a_volume_is_filled_from_the_image_only(lamina: Lamina, box: str, tmp_path: Path) -> None:
    """CVE-2022-23648: VOLUME /../../../etc, or over a link that leads out, copied the host's directory."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_text("of the host")
    tree = busybox_tree(tmp_path / "tree")
    for number, target in enumerate([str(secret), "../" * 40 + str(secret).lstrip("/")]):
        (tree / f"v{number}").symlink_to(target)
    subprocess.run(["tar", "-C", str(tree), "-cf", str(tmp_path / "v.tar"), "."], check=True)
    up = "/../../../../../../../../../.." + str(secret)
    lamina("import", "--change", f'VOLUME ["/v0", "/v1", "{up}", "/../../etc"]', tmp_path / "v.tar", "v").check()
    out = run(lamina, "v", "sh", "-c", f"ls -A /v0/ /v1/ {secret}; cat /etc/os-release; find / -xdev -name file").out
    assert "ID=box" in out and "file" not in out.replace("os-release", "").split("\n"), out
    assert os.listdir(secret) == ["file"]
    assert leftovers(lamina) == []  # anonymous volumes went with the container


# -- 54: types


JUNK: list[dict[str, Any]] = [
    {"User": "0x0"}, {"User": "root:"}, {"User": "-1"}, {"User": "4294967296"}, {"User": "a\nb"}, {"User": "a\0b"}, {"User": 5},
    {"User": ["root"]},
    {"Entrypoint": "sh"}, {"Entrypoint": {"a": 1}}, {"Entrypoint": [1, None]}, {"Entrypoint": ["a\0b"]}, {"Cmd": 7}, {"Cmd": [["true"]]},
    {"Env": {"A": "b"}}, {"Env": [None, 3, ["A=b"], "A=b"]}, {"Env": "A=b"}, {"Env": ["A=b\0c"]},
    {"Labels": ["a"]}, {"Labels": {"a": 1, "b": None, "c": {"d": []}}}, {"Labels": "x"}, {"Labels": {"a\x1b[2J\n": "b\x1b]0;x\x07"}},
    {"WorkingDir": "/a\0b"}, {"WorkingDir": "/a\nb"}, {"WorkingDir": "rel"}, {"WorkingDir": 9}, {"WorkingDir": "/" + "x" * 300},
    {"WorkingDir": "/x" * 4000},
    {"Volumes": ["/x"]}, {"Volumes": "x"}, {"Volumes": {"/a\0b": {}}}, {"Volumes": {"/a\nb": {}}}, {"Volumes": {"/" + "y" * 300: {}}},
    {"Volumes": {"/etc/passwd": {}}},
    {"ExposedPorts": ["80"]}, {"ExposedPorts": {"99999999/x": None}}, {"ExposedPorts": {"": {}}}, {"ExposedPorts": 80},
    {"StopSignal": "SIGWHAT"}, {"StopSignal": 9}, {"StopSignal": "-1"}, {"StopSignal": "99999999999999999999"}, {"StopTimeout": "x"},
    {"Healthcheck": "x"}, {"Healthcheck": {"Test": 5}}, {"Shell": "x"}, {"OnBuild": 3}, {"Hostname": "a\nb"}, {"Domainname": "a\nb"},
    {"Hostname": 3},
]  # fmt: skip


def test_junk_is_told_and_harms_nothing(lamina: Lamina, box: str) -> None:
    """Each is an error of ours with a text, or runs; never a traceback, and nothing is left."""
    db = sqlite3.connect(lamina.root / "lamina.db")
    [(clean,)] = db.execute("SELECT config FROM images").fetchall()
    for config in [*JUNK, None]:
        doctor(lamina, config)
        words = () if config and ("Entrypoint" in config or "Cmd" in config) else ("sh", "-c", "cat /etc/hosts /etc/hostname; id")
        done = run(lamina, "box", *words, timeout=20)
        shown = f"{config}: {done.returncode} {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr and "internal error" not in done.stderr.lower() and "bug" not in done.stderr, shown
        assert done.returncode in (0, 1, 125, 126, 127), shown
        if config and "User" in config and config["User"] != "root:":
            assert done.returncode == 125, shown
        for looking in (("images", "-a"), ("image", "inspect", "box"), ("history", "box"), ("ps", "-a")):
            seen = lamina(*looking)
            assert "Traceback" not in seen.stderr and seen.returncode in (0, 1), f"{config}: {looking} {seen}"
        assert leftovers(lamina) == [], shown
        db.execute("UPDATE images SET config=?", (clean,))
        db.commit()
    db.close()


NO_TEXT = [("run", "-e", "A=\udcff"), ("run", "-l", "A=\udcff"), ("exec", "x\udcff"), ("rmi", "x\udcff")]


@pytest.mark.parametrize("words", NO_TEXT, ids=range(4))
def test_bytes_that_are_no_text_are_told(lamina: Lamina, box: str, words: tuple[str, ...]) -> None:
    done = lamina(*words, "box", "true")
    assert done.returncode in (1, 125) and "internal error" not in done.stderr
    assert leftovers(lamina) == []
