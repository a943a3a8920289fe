# SPDX-License-Identifier: Apache-2.0
"""events and stats."""

from __future__ import annotations

import json
import re
import subprocess
import time

from tests.conftest import Lamina


def test_events_of_a_life_in_order(lamina: Lamina, box: str) -> None:
    begin = f"{time.time() - 1:.3f}"
    cid = lamina("run", "-d", "--name", "life", "-l", "k=v", "--network", "none", "box", "sleep", "600").out
    lamina("kill", "life").check()
    lamina("rm", "life").check()
    end = f"{time.time() + 0.001:.3f}"
    seen = [json.loads(line) for line in lamina("events", "--since", begin, "--until", end, "--format", "json").out.splitlines()]
    of_container = [event for event in seen if event["Type"] == "container"]
    assert [event["Action"] for event in of_container] == ["create", "start", "kill", "die", "destroy"]
    assert all(event["Actor"]["ID"] == cid and event["Actor"]["Attributes"]["name"] == "life" for event in of_container)
    die = of_container[3]["Actor"]["Attributes"]
    assert die["exitCode"] == "137" and die["k"] == "v" and die["image"] == "box"
    times = [event["timeNano"] for event in seen]
    assert times == sorted(set(times))
    only = lamina("events", "--since", begin, "--until", end, "--filter", "event=die", "--filter", "container=life").out
    assert re.fullmatch(rf"\S+ container die {cid} \([^()]*exitCode=137, image=box, k=v, name=life\)", only), only
    assert lamina("events", "--since", begin, "--until", end, "--filter", "container=other").out == ""
    assert "invalid filter 'nonsense'" in lamina("events", "--since", begin, "--until", end, "--filter", "nonsense=1").stderr


def test_events_are_followed(lamina: Lamina, box: str) -> None:
    watcher = lamina.start("events", "--filter", "event=create", "--format", "{{.Actor.Attributes.name}}", stdout=subprocess.PIPE)
    assert watcher.stdout is not None
    try:
        time.sleep(0.5)
        lamina("create", "--name", "seen", "box", "true").check()
        assert watcher.stdout.readline() == b"seen\n"
    finally:
        watcher.terminate()
        watcher.wait(10)
        watcher.stdout.close()


def test_stats_shows_what_is_used(lamina: Lamina, box: str) -> None:
    lamina("run", "-d", "--name", "busy", "-m", "64m", "--network", "none", "box", "sh", "-c", "while :; do :; done").check()
    lines = lamina("stats", "--no-stream").out.splitlines()
    assert re.split(r"\s{2,}", lines[0]) == ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"]
    cells = re.split(r"\s{2,}", lines[1])
    assert cells[1] == "busy" and float(cells[2][:-1]) > 5 and cells[3].endswith(" / 64MiB") and cells[7] == "1"
    sample = json.loads(lamina("stats", "--no-stream", "--format", "json", "busy").out)
    assert sample["Container"] == "busy" and sample["PIDs"] == "1"
    lamina("kill", "busy").check()
    assert lamina("stats", "--no-stream", "--all", "--format", "{{.Name}} {{.PIDs}}").out == "busy 0"
    assert "No such container: nosuch" in lamina("stats", "--no-stream", "nosuch").stderr
