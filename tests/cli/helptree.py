# SPDX-License-Identifier: Apache-2.0
"""docker's own --help, read as data: `scripts/golden` walks the tree with it and keeps that as goldens/help.json."""
from __future__ import annotations

import re
import subprocess
from typing import Any

HEADING = re.compile(r"^([A-Z][A-Za-z ]*):\s*$")
FLAG = re.compile(r"^ {2,6}(?:-(?P<short>\w), )?--(?P<name>[\w.-]+)(?: (?P<kind>[a-z][\w-]*))?(?: {2,}|$)")
COMMAND = re.compile(r"^ {2}([a-z][\w-]*)\*? {2,}\S")
# Verbs that docker shows to the managers of a swarm only.
UNSEEN = ("config", "node", "secret", "service", "stack")


def parse(text: str) -> dict[str, Any]:
    """One help text: {"short": line, "aliases": ["container ls", ...], "commands": [words], "flags": {name: [shorthand, kind]}}."""
    short, aliases, commands = "", [], []
    flags: dict[str, list[str]] = {}
    section = ""
    for line in text.splitlines():
        heading = HEADING.match(line)
        if line.startswith("Usage:"):
            section = "usage"
        elif heading:
            section = heading[1]
        elif section == "usage" and line and not line.startswith((" ", "\t")) and not short:
            short = line
        elif section == "Aliases" and line.strip():
            aliases += [name.strip().removeprefix("docker ") for name in line.split(",")]
        elif section.endswith("Commands") and (command := COMMAND.match(line)):
            commands.append(command[1])
        elif section.endswith("Options") and (flag := FLAG.match(line)):
            flags[flag["name"]] = [flag["short"] or "", flag["kind"] or "bool"]
    return {"short": short, "aliases": aliases, "commands": commands, "flags": flags}


def walk(docker: list[str]) -> dict[str, dict[str, Any]]:
    """Every command of this client by its words ("" is docker itself), as far as its help shows them."""
    found: dict[str, dict[str, Any]] = {}
    todo = [""]
    while todo:
        path = todo.pop()
        done = subprocess.run([*docker, *path.split(), "--help"], capture_output=True, text=True, timeout=60, check=True)
        node = found[path] = parse(done.stdout)
        if not path:
            node["commands"] = sorted({*node["commands"], *UNSEEN})
        todo += [f"{path} {word}".strip() for word in node["commands"]]
    return dict(sorted(found.items()))
