# SPDX-License-Identifier: Apache-2.0
"""Looks at one disk as a power cut left it: state.py IMAGE FS DISK ROOT RUNROOT MARKS. Prints a JSON list of what is wrong with it.

Run in a mount namespace of its own (`unshare -m`), so that nothing stays mounted. MARKS is a file with all marks of the whole run as JSON:
the image has those up to its power cut, but how the layers look that are in it may have been marked later.
"""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(REPO / "src"), str(REPO)]

ABSENT = ""
REMOVALS = ("rmi", "rm")
Allowed = dict[str, set[str]]


def allowed(marks: list[dict[str, Any]], every: list[dict[str, Any]]) -> Allowed:
    """Name -> ids that it may stand for after a cut behind `marks`, or ABSENT. What has ended is certain, what has begun isn't."""
    names: Allowed = {}
    for mark in marks:
        name = mark.get("name")
        if not name:
            continue
        before = names.get(name, {ABSENT})
        if mark["at"] == "end":
            names[name] = {ABSENT} if mark["what"] in REMOVALS else {mark["id"]}
        elif mark["what"] in REMOVALS:
            names[name] = before | {ABSENT}
        else:
            names[name] = before | {m["id"] for m in every if m.get("at") == "end" and m["name"] == name and m["what"] not in REMOVALS}
    return names


def layers(root: str, runroot: str, every: list[dict[str, Any]]) -> list[str]:
    """Layers whose bytes aren't those of their diff id, or whose tree isn't as it was when it was made."""
    from lamina.errors import LaminaError
    from lamina.layers.store import LayerStore
    from lamina.store.open import Store
    from tests.vm.crash.writer import manifest

    wrong = []
    trees: dict[str, set[str]] = {}
    for mark in every:
        if mark.get("at") == "tree":
            trees.setdefault(mark["key"], set()).add(mark["tree"])
    with Store.open(root, runroot) as store:
        known = LayerStore(store)
        for layer in known.list():
            try:
                known.verify(layer.chain_id)
            except (LaminaError, OSError) as error:
                wrong.append(f"layer {layer.data_key}: {error}")
                continue
            if layer.data_key in trees and manifest(known.path(layer.chain_id)) not in trees[layer.data_key]:
                wrong.append(f"layer {layer.data_key}: its tree has changed")
    return wrong


def main() -> list[str]:
    from tests.vm.crash.writer import read_marks

    image, fs, disk, root, runroot, marks_file = sys.argv[1:]
    every = json.loads(Path(marks_file).read_text())
    marks = read_marks(image)
    wrong = []
    subprocess.run(["mount", "-t", fs, "-o", "loop", image, disk], check=True)

    def lamina(*args: str) -> str:
        done = subprocess.run([str(REPO / "bin/lamina"), "--root", root, "--runroot", runroot, *args], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True)
        if done.returncode:
            wrong.append(f"{' '.join(args)}: exit {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    lamina("ps", "-a")  # any next command finishes what was cut off
    lamina("system", "check", "--full")
    containers = lamina("ps", "-a", "--no-trunc", "--format", "{{.Names}} {{.ID}}")
    there = dict(line.split() for line in (lamina("images", "--no-trunc", "--format", "{{.Repository}} {{.ID}}") + containers).splitlines())
    for name, ids in allowed(marks, every).items():
        if there.get(name, ABSENT) not in ids:
            wrong.append(f"{name} is {there.get(name) or 'not there'} instead of {' or '.join(i or 'not there' for i in ids)}")
    wrong += layers(root, runroot, every)
    for name in ("w0-0", "w1-0"):
        if name in there:
            lamina("run", "--rm", "--network", "none", name, "true")
    for line in containers.splitlines():
        lamina("start", line.split()[1])
    lamina("system", "reset", "--force")
    return wrong


if __name__ == "__main__":
    print(json.dumps(main()))
