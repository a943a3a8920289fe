# SPDX-License-Identifier: Apache-2.0
"""docs/tour/w4.md: the verbs, one by one. Each line of the page's table is the one that its verb's help opens with, and is true."""

from __future__ import annotations

import json
import os
import re
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import REPO, Lamina

ROWS = dict(re.findall(r"^\| `([a-z]+)` \| (.+) \|$", (REPO / "docs/tour/w4.md").read_text(), re.M))
LIVELY = "trap 'exit 7' TERM; touch /ready; n=0; while :; do n=$((n+1)); echo $n > /count; sleep 0.02; done"


def until(what: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def pid_of(lamina: Lamina, name: str) -> int:
    return int(lamina("inspect", "-f", "{{.State.Pid}}", name).out)


def upper_of(lamina: Lamina, name: str) -> Path:
    return Path(lamina("layer", "path", name).out.split()[0])


def names(lamina: Lamina, *flags: str) -> set[str]:
    return set(lamina("ps", "--format", "{{.Names}}", *flags).out.split())


@pytest.fixture
def lively(lamina: Lamina, box: str) -> Iterator[str]:
    """A running container that counts in /count."""
    lamina("run", "-d", "--name", "lively", "--network", "none", "box", "sh", "-c", LIVELY).check()
    until(lambda: (upper_of(lamina, "lively") / "count").exists())
    yield "lively"


@pytest.mark.parametrize("verb", ROWS)
def test_a_verbs_help_opens_with_its_line(lamina: Lamina, verb: str) -> None:
    opening = lamina(verb, "--help").out.partition("\n\nUsage:")[0]
    assert " ".join(opening.split()) == ROWS[verb]


def test_the_table_is_whole() -> None:
    assert ROWS.keys() >= set("create start run ps images stop kill pause unpause rm rmi commit exec inspect export import history".split())


def test_create_start_run_and_ps(lamina: Lamina, box: str) -> None:
    cid = lamina("create", "--name", "one", "--network", "none", "box", "sleep", "1000").out
    assert upper_of(lamina, "one").is_dir() and not list(upper_of(lamina, "one").iterdir())
    assert names(lamina) == set() and names(lamina, "-a") == {"one"} and pid_of(lamina, "one") == 0
    # a process space around its union view, and one only, however often it is asked for
    first = lamina.start("start", "one"), lamina.start("start", "one")
    assert [process.wait(60) for process in first] == [0, 0]
    pid = pid_of(lamina, "one")
    started = [event for event in map(json.loads, lamina("events", "--since", "10m", "--until", "0s", "--format", "json").out.splitlines())
               if event["Action"] == "start"]  # fmt: skip
    assert len(started) == 1 and len(lamina("top", "one").out.splitlines()) == 2
    assert os.path.samefile(f"/proc/{pid}/root/bin", lamina("mount", "one").out + "/bin")
    assert lamina("start", "one").out == "one" and pid_of(lamina, "one") == pid
    assert names(lamina) == {"one"}
    # run is both; what its process did stays
    lamina("run", "--name", "happy", "--network", "none", "box", "touch", "happiness.txt").check()
    actions = lamina("events", "--since", "10m", "--until", "0s", "-f", "container=happy", "--format", "{{.Action}}").out.split()
    assert [action for action in actions if action in ("create", "start", "die")] == ["create", "start", "die"]
    assert names(lamina, "-a") == {"one", "happy"} and names(lamina) == {"one"}
    assert cid in lamina("ps", "-aq", "--no-trunc").out


def test_happiness(lamina: Lamina, box: str) -> None:
    """With nothing running, the file is on the host exactly once: in that container's read-write layer."""
    lamina("run", "--name", "happy", "box", "touch", "happiness.txt").check()
    found = list(lamina.root.rglob("happiness.txt"))
    assert found == [upper_of(lamina, "happy") / "happiness.txt"]
    assert names(lamina) == set() and not list(lamina.runroot.rglob("happiness.txt"))


def test_exec_and_pause(lamina: Lamina, lively: str) -> None:
    pid = pid_of(lamina, lively)
    assert lamina("exec", lively, "cat", "/proc/1/comm").out == "sh"
    lamina("exec", "-d", lively, "sleep", "777").check()
    further = next(line.split()[1] for line in lamina("top", lively).out.splitlines() if line.endswith("sleep 777"))
    for kind in ("mnt", "pid", "net", "ipc", "uts", "cgroup"):
        assert os.readlink(f"/proc/{further}/ns/{kind}") == os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")

    def count() -> str:
        return (upper_of(lamina, lively) / "count").read_text()

    lamina("pause", lively).check()
    frozen = count()
    state = re.search(r"^State:\t(\S)", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert state and state[1] != "T", "not stopped by a signal"
    time.sleep(0.3)
    assert count() == frozen and "(Paused)" in lamina("ps").out
    lamina("unpause", lively).check()
    until(lambda: count() not in (frozen, ""))


def test_stop_kill_and_what_is_left(lamina: Lamina, lively: str) -> None:
    def code() -> str:
        return lamina("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", lively).out

    lamina("stop", lively).check()
    assert code() == "exited 7", "it was asked by SIGTERM"
    for how, expected in ((("kill",), "exited 137"), (("kill", "-s", "TERM"), "exited 7"), (("stop", "-t", "0"), "exited 137")):
        (upper_of(lamina, lively) / "ready").unlink()
        lamina("start", lively).check()
        until(lambda: (upper_of(lamina, lively) / "ready").exists())
        lamina(*how, lively).check()
        until(lambda: not names(lamina))
        assert code() == expected or how == ("stop", "-t", "0") and code() == "exited 7"
    # SIGKILL after a grace time for who doesn't listen
    deaf = "trap '' TERM; touch /deaf; while :; do sleep 1; done"
    lamina("run", "-d", "--name", "deaf", "--network", "none", "box", "sh", "-c", deaf).check()
    until(lambda: (upper_of(lamina, "deaf") / "deaf").exists())
    lamina("stop", "-t", "1", "deaf").check()
    assert lamina("inspect", "-f", "{{.State.ExitCode}}", "deaf").out == "137"
    assert lamina("start", "deaf").out == "deaf", "a normal container is left"


def test_images_layers_commit_history_and_inspect(lamina: Lamina, lively: str, box: str) -> None:
    first = lamina("commit", lively).out  # of a running one, without a name
    lamina("run", "--name", "kid", "--network", "none", first, "touch", "more").check()
    second = lamina("commit", "-m", "next", "kid", "box:next").out  # of a stopped one
    shown = set(lamina("images", "-q", "--no-trunc").out.split())
    assert shown == {box, second} and set(lamina("images", "-aq", "--no-trunc").out.split()) == {box, first, second}
    # every layer, with the images that use it
    rows = [re.split(r" {3,}", line) for line in lamina("layer", "ls").out.splitlines()[1:]]
    assert [row[-1] for row in rows] == [f"box:latest, {first[7:19]}, box:next", f"{first[7:19]}, box:next", "box:next"]
    history = lamina("history", "--no-trunc", "-q", "box:next").out.split()
    assert history == [second, first, box]
    top = json.loads(lamina("inspect", "box:next").out)[0]
    assert (top["Id"], top["Parent"], top["Comment"]) == (second, first, "next") and len(top["RootFS"]["Layers"]) == 3
    assert top["GraphDriver"]["Data"]["UpperDir"] == lamina("layer", "path", "box:next").out.split()[0]
    container = json.loads(lamina("inspect", "kid").out)[0]
    assert (container["Name"], container["Image"]) == ("/kid", first)


def test_export_import_and_what_each_is_for(lamina: Lamina, box: str, tmp_path: Path) -> None:
    lamina("run", "--name", "happy", "--network", "none", "box", "sh", "-c", "touch happiness.txt; rm etc/os-release").check()
    flat = tmp_path / "flat.tar"
    lamina("export", "-o", flat, "happy").check()
    with tarfile.open(flat) as tar:
        members = set(tar.getnames())
    assert {"happiness.txt", "bin/busybox"} <= members and "etc/os-release" not in members, "the union view"
    assert not any(name.endswith(("json", "layer.tar", ".wh.os-release")) for name in members), "no metadata"
    lamina("import", flat, "flat").check()
    info = json.loads(lamina("inspect", "flat").out)[0]
    assert len(info["RootFS"]["Layers"]) == 1 and not info["Parent"] and not info["Config"]["Cmd"]
    assert lamina("run", "--rm", "--network", "none", "flat", "ls", "/happiness.txt").out == "/happiness.txt"
    refused = lamina("export", "-o", flat, "box")
    assert refused.returncode == 1 and "No such container: box" in refused.stderr and "`save` writes an image" in refused.stderr
    refused = lamina("save", "-o", tmp_path / "saved.tar", "happy")
    assert refused.returncode == 1 and "No such image: happy" in refused.stderr and "`export` writes a container's files" in refused.stderr
    assert not (tmp_path / "saved.tar").exists()


def test_rm_and_rmi(lamina: Lamina, lively: str, box: str) -> None:
    lamina("tag", "box", "again").check()
    # by name: the tag goes, the image stays while it has another; the last one doesn't go while a container uses it
    assert lamina("rmi", "again").out == "Untagged: again:latest"
    for ref in ("box", box[7:19]):
        refused = lamina("rmi", ref)
        assert refused.returncode == 1 and lamina("ps", "-q").out in refused.stderr, "names the user"
    lamina("commit", lively, "other").check()
    # a running container's read-write layer goes by force only
    upper = upper_of(lamina, lively)
    refused = lamina("rm", lively)
    assert refused.returncode == 1 and "container is running" in refused.stderr and upper.exists()
    assert lamina("rm", "-f", lively).out == lively and not upper.exists()
    # a child has the image as Parent: its name goes, the image stays; a shared layer stands in nobody's way
    base = lamina("layer", "path", "box").out
    assert lamina("rmi", "box").out == "Untagged: box:latest"
    assert lamina("run", "--rm", "--network", "none", "other", "ls", "/ready").out == "/ready" and os.path.isdir(base)
    deleted = lamina("rmi", "other").out.splitlines()
    assert deleted[0] == "Untagged: other:latest" and f"Deleted: {box}" in deleted
    assert lamina("layer", "ls", "-q").out == "" and not os.path.exists(base) and "no problems" in lamina("system", "check").out
