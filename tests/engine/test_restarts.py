# SPDX-License-Identifier: Apache-2.0
"""Restart policies: kept by the monitor, ended by a user's word, and kept by the next command where the monitor was lost.

Waits, counts, texts and the order of events are docker 26.1's, recorded beside it.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Lamina

OFF = ("--network", "none")
TRAP = 'trap "exit 5" TERM; while :; do sleep 0.05; done'


def until(true: Callable[[], Any], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def inspect(lamina: Lamina, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lamina("inspect", name).out)[0]
    return found


def state_file(lamina: Lamina, name: str) -> Path:
    return lamina.root / "containers" / inspect(lamina, name)["Id"] / "state.json"


def state(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def actions(lamina: Lamina, name: str) -> list[str]:
    flags = ("--since", "1", "--until", str(int(time.time())), "--filter", f"container={name}", "--format", "{{.Action}}")
    return lamina("events", *flags).out.splitlines()


def test_on_failure_counts(lamina: Lamina, box: str) -> None:
    done = lamina("run", *OFF, "--name", "cc", "--restart", "on-failure:2", "box", "sh", "-c", "echo run; exit 3")
    assert (done.returncode, done.stdout) == (3, "run\n"), "who is attached sees the first run, and its end"
    assert lamina("wait", "cc").out == "3"
    shown = inspect(lamina, "cc")
    assert (shown["State"]["Status"], shown["State"]["ExitCode"], shown["RestartCount"]) == ("exited", 3, 2)
    assert shown["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}
    assert lamina("logs", "cc").out == "run\nrun\nrun"
    time.sleep(1.1)  # `events` counts in whole seconds
    assert [one for one in actions(lamina, "cc") if one in ("start", "die", "restart", "stop")] == ["start", "die"] * 3
    assert lamina("start", "-a", "cc").returncode == 3
    lamina("wait", "cc").check()
    assert inspect(lamina, "cc")["RestartCount"] == 2, "counted anew from a user's start"
    lamina("run", *OFF, "--name", "fine", "--restart", "on-failure", "box", "true").check()
    lamina("wait", "fine").check()
    assert inspect(lamina, "fine")["RestartCount"] == 0


def test_wait_waits_for_the_last_run(lamina: Lamina, box: str) -> None:
    script = "echo x >> /n; [ $(wc -l < /n) -ge 3 ] && exit 0; sleep 0.1; exit 7"
    lamina("run", "-d", *OFF, "--name", "cc", "--restart", "on-failure", "box", "sh", "-c", script).check()
    assert lamina("wait", "cc").out == "0"
    assert inspect(lamina, "cc")["RestartCount"] == 2
    assert lamina("diff", "cc").out == "A /n", "one read-write layer for all runs"


def test_between_two_runs(lamina: Lamina, box: str) -> None:
    lamina("run", "-d", "--name", "cc", "--restart", "always", "-p", "127.0.0.1::80", "box", "sh", "-c", "exit 1").check()
    file = state_file(lamina, "cc")
    until(lambda: state(file)["restart_count"] >= 1)
    fds = f"/proc/{state(file)['monitor_pid']}/fd"
    first = len(os.listdir(fds))
    until(lambda: state(file)["restart_count"] == 7 and state(file)["status"] == "restarting")  # 6.4 seconds follow
    shown = inspect(lamina, "cc")
    assert shown["State"] | {"StartedAt": "", "FinishedAt": ""} == {
        "Status": "restarting", "Running": True, "Paused": False, "Restarting": True, "OOMKilled": False, "Dead": False, "Pid": 0,
        "ExitCode": 1, "Error": "", "StartedAt": "", "FinishedAt": "",
    }  # fmt: skip
    assert shown["State"]["FinishedAt"] > shown["State"]["StartedAt"] > "2"
    assert lamina("ps", "--format", "{{.Status}}").out.startswith("Restarting (1) ")
    wait = f"Container {shown['Id']} is restarting, wait until the container is running"
    for words, text in (
        (["exec", "cc", "true"], f"Error response from daemon: {wait}"), (["top", "cc"], f"Error response from daemon: {wait}"),
        (["pause", "cc"], f"Error response from daemon: {wait}"),
        (["unpause", "cc"], f"Error response from daemon: Container {shown['Id']} is not paused"),
        (["attach", "cc"], "You cannot attach to a restarting container, wait until it is running"),
        (["rm", "cc"], 'Error response from daemon: cannot remove container "/cc": container is restarting: '
                      "stop the container before removing or force remove"),
    ):  # fmt: skip
        done = lamina(*words)
        assert (done.returncode, done.stderr.strip()) == (1, text)
    assert lamina("ps", "--format", "{{.Ports}}").out == ""
    assert lamina("cp", "cc:/etc/passwd", "-").returncode == 0, "its files are there"
    assert len(os.listdir(fds)) <= first, "nothing was left open by the runs before"
    assert lamina("stop", "cc").out == "cc"
    shown = inspect(lamina, "cc")["State"]
    assert (shown["Status"], shown["ExitCode"], shown["Restarting"]) == ("exited", 1, False), "ended by stop, while it waited"
    assert state(file)["restart_count"] == 7
    until(lambda: not Path(fds).exists())


@pytest.mark.parametrize("end", [("stop", "-t", "0"), ("kill",), ("kill", "-s", "TERM"), ("rm", "-f")], ids=" ".join)
def test_a_users_word_ends_it(lamina: Lamina, box: str, end: tuple[str, ...]) -> None:
    lamina("run", "-d", *OFF, "--name", "cc", "--restart", "always", "box", "sh", "-c", TRAP).check()
    file = state_file(lamina, "cc")
    os.kill(state(file)["pid"], signal.SIGKILL)
    until(lambda: state(file)["restart_count"] == 1 and state(file)["status"] == "running")  # control: anything else restarts it
    lamina(*end, "cc").check()
    if end[0] == "rm":
        assert lamina("ps", "-aq").out == ""
    else:
        assert lamina("wait", "cc").out in ("137", "5")
        assert (state(file)["status"], state(file)["restart_count"]) == ("exited", 1)


def test_a_signal_of_another_kind_does_not(lamina: Lamina, box: str) -> None:
    """With a stop signal of its own: docker's rule. "unless-stopped" is ended by any."""
    script = 'trap "exit 5" USR1; while :; do sleep 0.05; done'
    for name, policy, runs in (("always", "always", 2), ("unless", "unless-stopped", 1)):
        flags = ("--name", name, "--restart", policy, "--stop-signal", "QUIT")
        lamina("run", "-d", *OFF, *flags, "box", "sh", "-c", "echo run; " + script).check()
        until(lambda name=name: lamina("logs", name).out == "run")
        time.sleep(0.1)  # the trap is set
        lamina("kill", "-s", "USR1", name).check()
        until(lambda name=name, runs=runs: lamina("logs", name).out == "\n".join(["run"] * runs))
    assert lamina("wait", "unless").out == "5"
    lamina("stop", "-t", "0", "always").check()


def test_update_while_it_runs(lamina: Lamina, box: str) -> None:
    lamina("run", "-d", *OFF, "--name", "cc", "-m", "64m", "box", "sleep", "1000").check()
    lamina("update", "--restart", "on-failure:9", "-m", "48m", "--memory-swap", "-1", "cc").check()
    file = state_file(lamina, "cc")
    os.kill(state(file)["pid"], signal.SIGKILL)
    until(lambda: state(file)["restart_count"] == 1 and state(file)["status"] == "running")
    cid = inspect(lamina, "cc")["Id"]
    names = ("memory.limit_in_bytes", "memory.max")
    limits = [p.read_text().strip() for p in Path("/sys/fs/cgroup").glob(f"**/{cid}/memory.*") if p.name in names]
    assert limits == [str(48 << 20)], "the next run has the limits that were set meanwhile"
    assert inspect(lamina, "cc")["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 9}
    lamina("update", "--restart", "no", "cc").check()
    os.kill(state(file)["pid"], signal.SIGKILL)
    assert lamina("wait", "cc").out == "137"
    lamina("run", "-d", *OFF, "--rm", "--name", "rr", "box", "sleep", "1000").check()
    done = lamina("update", "--restart", "always", "rr")
    text = "Restart policy cannot be updated because AutoRemove is enabled for the container"
    assert done.returncode == 1 and done.stderr.strip().endswith(text)


def lose(lamina: Lamina, name: str) -> None:
    kill_monitor(state_file(lamina, name))


def kill_monitor(file: Path) -> None:
    monitor = state(file)["monitor_pid"]
    os.kill(monitor, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{monitor}").exists() or Path(f"/proc/{monitor}/stat").read_text().rpartition(") ")[2][0] == "Z")


def test_lost_monitor(lamina: Lamina, box: str) -> None:
    for name, policy in (("aa", "always"), ("ff", "on-failure:1"), ("nn", "no")):
        lamina("run", "-d", *OFF, "--name", name, "--restart", policy, "box", "sleep", "1000").check()
    for file in [state_file(lamina, name) for name in ("aa", "ff", "nn")]:
        kill_monitor(file)
    shown = lamina("ps", "-a", "--format", "{{.Names}} {{.Status}}").out
    assert shown.count("Exited (137)") == 3, "the next command says so"
    names = lamina("ps", "--format", "{{.Names}} {{.Status}}").out
    assert "aa Up" in names and "ff Up" in names and "nn " not in names, "and starts them again"
    assert [inspect(lamina, name)["RestartCount"] for name in ("aa", "ff", "nn")] == [1, 1, 0]
    lose(lamina, "ff")
    lamina("ps", "-a").check()
    assert lamina("ps", "--format", "{{.Names}}").out == "aa", "once too often"
    lose(lamina, "aa")
    lamina("stop", "aa").check()
    assert lamina("ps", "-q").out == "", "who is told to stop stays so"
    assert lamina("system", "check").returncode == 0


def test_prune_leaves_what_will_be_started(lamina: Lamina, box: str) -> None:
    for name, policy in (("aa", "always"), ("nn", "no")):
        lamina("run", "-d", *OFF, "--name", name, "--restart", policy, "box", "sleep", "1000").check()
    for file in [state_file(lamina, name) for name in ("aa", "nn")]:
        kill_monitor(file)
    lamina("container", "prune", "-f").check()
    assert lamina("ps", "--format", "{{.Names}}").out == "aa"


def test_boot(lamina: Lamina, box: str) -> None:
    """As after a reboot: the state files are of another boot."""
    policies = {"always": "always", "stopped": "always", "unless": "unless-stopped", "ended": "unless-stopped", "no": "no"}
    for name, policy in policies.items():
        lamina("run", "-d", *OFF, "--name", name, "--restart", policy, "box", "sleep", "1000").check()
    lamina("stop", "-t", "0", "stopped", "ended").check()
    assert lamina("system", "boot").out == "", "nothing to do in the boot in which they were stopped"
    files = {name: state_file(lamina, name) for name in policies}
    for name in ("always", "unless", "no"):
        kill_monitor(files[name])
    for file in files.values():
        file.write_text(json.dumps({**state(file), "boot_id": "0" * 36}))
    assert lamina("system", "boot").out.split() == ["always", "stopped", "unless"]
    assert sorted(lamina("ps", "--format", "{{.Names}}").out.split()) == ["always", "stopped", "unless"]
    assert lamina("system", "boot").out == ""


def test_a_failing_restart_says_why(lamina: Lamina, box: str) -> None:
    lamina("run", "-d", *OFF, "--name", "cc", "--restart", "always", "box", "sh", "-c", "rm /bin/sh; exit 4").check()
    assert lamina("wait", "cc").out == "4"
    shown = inspect(lamina, "cc")["State"]
    assert shown["Status"] == "exited" and 'exec: "sh": executable file not found in $PATH' in shown["Error"]
    assert lamina("start", "cc").returncode == 1
    assert inspect(lamina, "cc")["State"]["Status"] == "exited", "what ran once is no longer just created"


def test_a_namespace_that_has_gone_is_not_joined(lamina: Lamina, box: str) -> None:
    """The pid of the container that it was shared with may be anybody's by the next run."""
    for name, more in (("donor", ()), ("cc", ("--pid", "container:donor", "--restart", "always"))):
        lamina("run", "-d", *OFF, "--name", name, *more, "box", "sleep", "1000").check()
    file = state_file(lamina, "cc")
    os.kill(state(file)["pid"], signal.SIGKILL)
    until(lambda: state(file)["restart_count"] == 1 and state(file)["status"] == "running")  # control: it lives
    lamina("restart", "-t", "0", "donor").check()
    assert lamina("wait", "cc").out == "137"
    shown = inspect(lamina, "cc")["State"]
    assert shown["Status"] == "exited" and "the container whose namespaces it joins has ended" in shown["Error"]


TEXTS: list[tuple[list[str], int, str]] = [
    (["--restart", "bogus"], 1, "invalid restart policy: unknown policy 'bogus'; use one of 'no', 'always', 'on-failure', or 'unless-"),
    (["--restart", "on-failure:x"], 125, "invalid restart policy format: maximum retry count must be an integer"),
    (["--restart", "on-failure:2:3"], 125, "invalid restart policy format: maximum retry count must be an integer"),
    (["--restart", "on-failure:-1"], 1, "invalid restart policy: maximum retry count cannot be negative"),
    (["--restart", "always:3"], 1, "invalid restart policy: maximum retry count can only be used with 'on-failure'"),
    (["--restart", ":3"], 125, "invalid restart policy format: no policy provided before colon"),
    (["--restart", "always", "--rm"], 125, "Conflicting options: --restart and --rm"),
    (["--restart", "no", "--rm"], 0, ""), (["--restart="], 0, ""), (["--restart", "unless-stopped"], 0, ""),
]  # fmt: skip


def test_texts(lamina: Lamina, box: str) -> None:
    for flags, code, text in TEXTS:
        done = lamina("create", *flags, "box", "true")
        assert done.returncode == code and text in done.stderr, (flags, done.stderr)
    assert len(lamina("ps", "-aq").out.split()) == sum(code == 0 for _, code, _ in TEXTS)
