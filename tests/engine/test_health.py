# SPDX-License-Identifier: Apache-2.0
"""Health checks: what a container's monitor runs in it, and what `inspect`, `ps` and events make of the results.

States, texts and rules are docker 26.1's, recorded beside it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Lamina

OFF = ("--network", "none")
OFTEN = ("--health-interval", "100ms")


def until(true: Callable[[], Any], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def state(lamina: Lamina, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lamina("inspect", "-f", "{{json .State}}", name).out)
    return found


def health(lamina: Lamina, name: str) -> dict[str, Any]:
    found: dict[str, Any] = state(lamina, name)["Health"]
    return found


def children(pid: int) -> list[str]:
    """States of the monitor's children: S sleeps, Z is a zombie."""
    found = []
    for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            found.append(Path(f"/proc/{one}/stat").read_text().rpartition(") ")[2][0])
        except FileNotFoundError:
            pass
    return found


def test_life(lamina: Lamina, box: str) -> None:
    test = "echo out; echo err >&2; test -e /ok"
    flags = ("--health-cmd", test, "--health-interval", "150ms", "--health-retries", "2", "--health-start-period", "1h")
    cid = lamina("run", "-d", *OFF, "--name", "cc", *flags, "--health-start-interval", "100ms", "box", "sleep", "1000").out
    assert health(lamina, "cc")["Status"] == "starting"
    until(lambda: len(health(lamina, "cc")["Log"]) == 5)
    now = health(lamina, "cc")
    assert (now["Status"], now["FailingStreak"]) == ("starting", 0), "the start period: failures don't count before a success"
    assert [entry["ExitCode"] for entry in now["Log"]] == [1] * 5 and {entry["Output"] for entry in now["Log"]} == {"out\nerr\n"}
    assert now["Log"][0]["Start"] < now["Log"][0]["End"] < now["Log"][1]["Start"], "one after the other"
    assert lamina("ps", "--format", "{{.Status}}").out.endswith(" (health: starting)")
    lamina("exec", "cc", "touch", "/ok").check()
    until(lambda: health(lamina, "cc")["Status"] == "healthy")
    assert lamina("ps", "--format", "{{.Status}}").out.endswith(" (healthy)")
    lamina("exec", "cc", "rm", "/ok").check()
    until(lambda: health(lamina, "cc")["Status"] == "unhealthy")
    assert health(lamina, "cc")["FailingStreak"] >= 2
    lamina("exec", "cc", "touch", "/ok").check()
    until(lambda: health(lamina, "cc")["Status"] == "healthy" and health(lamina, "cc")["FailingStreak"] == 0)
    lamina("pause", "cc").check()
    assert lamina("ps", "--format", "{{.Status}}").out.endswith(" (Paused)")
    paused = health(lamina, "cc")
    assert paused["Status"] == "unhealthy"
    time.sleep(0.4)
    assert health(lamina, "cc") == paused, "nothing is checked meanwhile"
    lamina("unpause", "cc").check()
    until(lambda: health(lamina, "cc")["Status"] == "healthy")
    for value, found in (("healthy", True), ("unhealthy", False), ("starting", False), ("none", False)):
        assert bool(lamina("ps", "-q", "--filter", f"health={value}").out) == found
    file = lamina.root / "containers" / cid / "state.json"
    monitor = json.loads(file.read_text())["monitor_pid"]
    until(lambda: "Z" not in children(monitor))
    lamina("exec", "cc", "rm", "/ok").check()
    lamina("stop", "-t", "0", "cc").check()
    assert state(lamina, "cc")["Status"] == "exited" and health(lamina, "cc")["Status"] == "unhealthy"
    lamina("start", "cc").check()
    now = health(lamina, "cc")
    assert (now["Status"], now["FailingStreak"]) == ("starting", 0) and len(now["Log"]) == 5
    time.sleep(1.1)
    flags = ("--since", "1", "--until", str(int(time.time())), "--filter", "event=health_status", "--format", "{{.Action}}")
    heard = lamina("events", *flags).out.splitlines()
    assert heard[:4] == [f"health_status: {word}" for word in ("healthy", "unhealthy", "healthy", "healthy")]


def test_late_missing_and_long(lamina: Lamina, box: str) -> None:
    """What isn't a plain answer: each is a failure, with docker's words."""
    for name, command, more in (
        ("late", "echo so far; sleep 1000", ("--health-timeout", "300ms")),
        ("deaf", "trap '' TERM; while :; do sleep 0.1; done", ("--health-timeout", "200ms")),
        ("long", "yes | head -c 9000; exit 3", ()), ("bytes", "printf 'a\\377b'; exit 1", ()),
    ):  # fmt: skip
        flags = (*OFF, "--name", name, *OFTEN, "--health-retries", "1", "--health-cmd", command, *more)
        lamina("run", "-d", *flags, "box", "sleep", "1000").check()
    body = ('HEALTHCHECK --interval=100ms --retries=1 CMD ["/no/such", "thing"]',)
    lamina("create", "--name", "base", "box", "sleep", "1000").check()
    lamina("commit", "--change", body[0], "base", "checked").check()
    lamina("run", "-d", *OFF, "--name", "none", "checked").check()
    for name, code, text in (
        ("late", -1, "Health check exceeded timeout (300ms): so far\n"), ("long", 3, ("y\n" * 2048) + "..."), ("bytes", 1, "a\ufffdb"),
        ("none", -1, 'OCI runtime exec failed: exec failed: unable to start container process: exec: "/no/such": stat /no/such: '
                     "no such file or directory: unknown"),
    ):  # fmt: skip
        until(lambda name=name: health(lamina, name)["Status"] == "unhealthy")
        last = health(lamina, name)["Log"][-1]
        assert (last["ExitCode"], last["Output"]) == (code, text)
    lamina("rm", "-f", "late", "long", "bytes", "none").check()
    until(lambda: "while" in lamina("top", "deaf").out)
    lamina("stop", "-t", "0", "deaf").check()  # in the middle of a check that ignores SIGTERM
    assert state(lamina, "deaf")["Status"] == "exited"


def test_what_an_image_says(lamina: Lamina, box: str) -> None:
    """Field by field the request's, then the image's; NONE takes it away; a restart policy begins anew."""
    lamina("create", "--name", "base", "box", "sleep", "1000").check()
    change = "HEALTHCHECK --interval=100ms --timeout=7s --retries=4 CMD test -e /tmp"
    lamina("commit", "--change", change, "base", "checked").check()
    flags = ("--health-retries", "9", "--restart", "always")
    cid = lamina("run", "-d", *OFF, "--name", "cc", *flags, "checked").out
    shown = json.loads(lamina("inspect", "-f", "{{json .Config.Healthcheck}}", "cc").out)
    assert shown == {"Test": ["CMD-SHELL", "test -e /tmp"], "Interval": 10**8, "Timeout": 7 * 10**9, "Retries": 9}
    until(lambda: health(lamina, "cc")["Status"] == "healthy")
    file = lamina.root / "containers" / cid / "state.json"
    os.kill(json.loads(file.read_text())["pid"], 9)
    until(lambda: json.loads(file.read_text())["restart_count"] == 1 and health(lamina, "cc")["Status"] == "healthy")
    for name, more in (("off", ("--no-healthcheck",)), ("plain", ())):
        lamina("run", "-d", *OFF, "--name", name, *more, "checked" if more else "box", "sleep", "1000").check()
        assert "Health" not in state(lamina, name)
    assert sorted(lamina("ps", "--filter", "health=none", "--format", "{{.Names}}").out.split()) == ["off", "plain"]
    assert lamina("inspect", "-f", "{{.Config.Healthcheck.Test}}", "off").out == "[NONE]"
    assert not (lamina.root / "containers" / lamina("inspect", "-f", "{{.Id}}", "plain").out / "health.json").exists()


@pytest.mark.parametrize("mode", [("--pid", "host"), ("-u", "user"), ("--privileged",)], ids=" ".join)
def test_where_a_check_runs(lamina: Lamina, box: str, mode: tuple[str, ...]) -> None:
    """As the container's own process: its user, its namespaces, its cgroup; and it ends with the container."""
    test = "id -u; cat /proc/self/cgroup; readlink /proc/self/ns/mnt; sleep 1000; true"
    cid = lamina("run", "-d", *OFF, "--name", "cc", *mode, *OFTEN, "--health-cmd", test, "box", "sleep", "1000").out
    file = lamina.root / "containers" / cid / "state.json"
    before = json.loads(file.read_text())
    cgroups = list(Path("/sys/fs/cgroup").glob(f"**/{cid}/cgroup.procs"))

    def sleepers() -> list[str]:
        found = []
        for pid in max((p.read_text().split() for p in cgroups), key=len):
            try:
                found += [pid] if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep\0") else []
            except FileNotFoundError:
                pass
        return found

    until(lambda: len(sleepers()) == 2)  # its process's and the check's
    pids = sleepers()
    assert len({os.readlink(f"/proc/{pid}/ns/mnt") for pid in pids} | {os.readlink(f"/proc/{before['pid']}/ns/mnt")}) == 1
    assert len({Path(f"/proc/{pid}/status").read_text().partition("Uid:")[2].split()[0] for pid in pids}) == 1
    lamina("rm", "-f", "cc").check()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in [*pids, str(before["monitor_pid"])]))


TEXTS: list[tuple[list[str], int, str]] = [
    (["--no-healthcheck", "--health-cmd", "x"], 125, "--no-healthcheck conflicts with --health-* options"),
    (["--health-interval", "-1s"], 125, "--health-interval cannot be negative"),
    (["--health-retries", "-1"], 125, "--health-retries cannot be negative"),
    (["--health-start-period", "-2s"], 125, "--health-start-period cannot be negative"),
    (["--health-start-interval", "-2s"], 125, "--health-start-interval cannot be negative"),
    (["--health-interval", "1"], 125, 'invalid argument "1" for "--health-interval" flag: time: missing unit in duration "1"'),
    (["--health-interval", "1us"], 1, "Interval in Healthcheck cannot be less than 1ms"),
    (["--health-timeout", "100us", "--health-cmd", "x"], 1, "Timeout in Healthcheck cannot be less than 1ms"),
]  # fmt: skip


def test_texts(lamina: Lamina, box: str) -> None:
    for flags, code, text in TEXTS:
        done = lamina("create", *flags, "box", "true")
        assert done.returncode == code and text in done.stderr, (flags, done.stderr)
    assert lamina("ps", "-aq").out == ""
