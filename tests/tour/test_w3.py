# SPDX-License-Identifier: Apache-2.0
"""docs/tour/w3.md: an image is modified, and looked under."""

from __future__ import annotations

import json
import re
import sqlite3

from tests.conftest import Lamina

RFC3339_NANO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")


def test_w3(lamina: Lamina, box: str) -> None:
    lamina("tag", "box", "ubuntu:14.04").check()
    session = lamina.pty("run", "-t", "-i", "ubuntu:14.04", "/bin/sh", typed=b"echo added > /git\nexit\n")
    assert session.returncode == 0, session.stdout
    cid = lamina("ps", "-a", "-q", "--no-trunc").out

    # 1. commit with message and author, and run the result
    image = lamina("commit", "-m", "added git", "-a", "A Name", cid[:12], "root/ubuntu:14.04").out
    again = lamina.pty("run", "-t", "-i", "root/ubuntu:14.04", "/bin/sh", typed=b"cat /git\nexit\n")
    assert again.returncode == 0 and "added" in again.stdout

    # 2. the short id is the start of the full one in the store's table of names
    short = lamina("images", "-q", "root/ubuntu").out
    assert len(short) == 12
    with sqlite3.connect(f"file:{lamina.root}/lamina.db?mode=ro", uri=True) as db:
        rows = db.execute("SELECT repo, tag, image_id FROM tags").fetchall()
    assert ("docker.io/root/ubuntu", "14.04", image) in rows and image.startswith("sha256:" + short)

    # 3. inspect
    info = json.loads(lamina("inspect", "root/ubuntu:14.04").out)[0]
    assert info["Id"] == image and info["Parent"] == box
    assert info["Comment"] == "added git" and info["Author"] == "A Name"
    assert RFC3339_NANO.fullmatch(info["Created"])
    assert info["Container"] == cid
    assert (info["Os"], info["Architecture"]) == ("linux", {"x86_64": "amd64", "aarch64": "arm64"}[__import__("os").uname().machine])
    assert info["Size"] > 0 and info["DockerVersion"]
    assert len(info["RootFS"]["Layers"]) == 2
    assert info["GraphDriver"]["Name"] == "overlay" and {"LowerDir", "UpperDir", "MergedDir", "WorkDir"} <= set(info["GraphDriver"]["Data"])
    config, ran = info["Config"], info["ContainerConfig"]
    keys = {"Hostname", "Domainname", "User", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce", "Env",
            "Cmd", "Image", "Volumes", "WorkingDir", "Entrypoint", "OnBuild", "Labels"}  # fmt: skip
    assert keys <= set(config) and keys <= set(ran)
    assert ran["Tty"] is True and ran["OpenStdin"] is True and ran["Hostname"] == cid[:12] and ran["Image"] == "ubuntu:14.04"
    assert ran["Cmd"] == config["Cmd"] == ["/bin/sh"]

    # and its history
    lines = lamina("history", "root/ubuntu:14.04").out.splitlines()
    assert lines[0].split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert lines[1].startswith(short) and "added git" in lines[1]
    assert lines[2].startswith(box[7:19]), "the base is an image of its own in this store"


def test_a_layer_is_the_same_when_committed_twice(lamina: Lamina, box: str) -> None:
    cid = lamina(
        "run", "-d", "--network", "none", "box", "sh", "-c", "mkdir /d; echo x > /d/f; ln /d/f /d/g; rm /etc/os-release; sleep 60"
    ).out
    while "D /etc/os-release" not in lamina("diff", cid).out:
        pass
    lamina("commit", cid, "one").check()
    lamina("commit", cid, "two").check()
    layers = [json.loads(lamina("inspect", name).out)[0]["RootFS"]["Layers"] for name in ("one", "two")]
    assert layers[0] == layers[1] and len(layers[0]) == 2
    assert lamina("run", "--rm", "--network", "none", "one", "sh", "-c", "cat /d/g; ls /etc").out.split() == [
        "x",
        "group",
        "hostname",
        "hosts",
        "mtab",
        "passwd",
        "resolv.conf",
    ]
