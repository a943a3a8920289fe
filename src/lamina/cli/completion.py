# SPDX-License-Identifier: Apache-2.0
"""What can be typed next: the hidden verb `__complete -- WORDS...`, which the scripts of `lamina completion` ask at each tab.

WORDS are those after `lamina` up to the cursor; the last one is the beginning of what is wanted, maybe "". Candidates come one a line,
from the tables that the parser and the help use. Exit code 0: these and no others; 3: names of files, too. Nothing is ever made or
changed: without a store there are no names in it.
"""
from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .flags import EXPLAIN
from .helptexts import HIDDEN
from .registry import GROUPS, TOP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .context import Cli
    from .flags import FlagSpec

FILES = 3
STOPPED_ONLY = ("lifecycle:start",)
RUNNING_ONLY = ("exec:exec", "lifecycle:kill", "lifecycle:stop", "manage:attach", "manage:pause", "manage:top", "port:port", "watch:stats")
# Flags whose values are words of a short list; and those that are files.
VALUES = {
    "cap-add": "all", "cap-drop": "all", "driver": "local", "log-level": "debug info warn error fatal", "network": "bridge host none",
    "signal": "HUP INT KILL QUIT TERM USR1 USR2", "type": "container image volume", "pull": "always missing never",
    "ipc": "host none private shareable", "restart": "always no on-failure unless-stopped", "log-driver": "json-file none",
    "cgroupns": "host private", "pid": "host", "uts": "host", "attach": "stdin stdout stderr",
}  # fmt: skip
FILE_FLAGS = frozenset(("env-file", "label-file", "output", "root", "runroot", "volume", "cidfile"))


def main(cli: Cli, words: list[str]) -> int:
    """Prints the candidates; never an error text, which would land in the middle of what is being typed."""
    try:
        found, files = candidates(words[1:] if words[:1] == ["--"] else words)
    except Exception:  # the shell has no use for a reason
        return 0
    for word in found:
        if "\n" not in word:
            cli.out(word)
    return FILES if files else 0


def candidates(words: Sequence[str]) -> tuple[list[str], bool]:
    """(sorted candidates for the last word, whether file names are as well)."""
    from .main import GLOBAL_FLAGS, load

    *before, current = words or [""]
    line = Line(GLOBAL_FLAGS, interspersed=False)
    line.take(before)
    rest = line.rest
    if not rest:
        if line.open or current.startswith("-"):
            return line.flags_or_value(current, ())
        return matching([*TOP, *GROUPS, "help"], current), False
    if rest[0] == "help":
        rest = rest[1:]
        line.help = True
        if not rest:
            return matching([*TOP, *GROUPS], current), False
    if rest[0] in GROUPS:
        group = GROUPS[rest[0]]
        if len(rest) == 1:
            return matching([primary for primary, _ in group.values()], current), False
        if rest[1] not in group:
            return [], False
        target, rest = group[rest[1]][1], rest[2:]
    elif rest[0] in TOP:
        target, rest = TOP[rest[0]], rest[1:]
    else:
        return [], False
    if line.help:
        return [], False
    verb = load(target)
    inner = Line((*verb.flags, EXPLAIN), interspersed=verb.interspersed)
    inner.take(rest)
    if inner.open or (current.startswith("-") and inner.flags_allowed):
        return inner.flags_or_value(current, HIDDEN.get(target, ()))
    if verb.maximum is not None and len(inner.rest) >= verb.maximum:
        return [], False
    found, files = positional(verb.usage, len(inner.rest), target, line.before(before), current)
    return matching(found, current), files


class Line:
    """Words typed so far, read as the parser would: `rest` are the arguments, `open` the flag that still wants its value."""

    def __init__(self, flags: Sequence[FlagSpec], *, interspersed: bool) -> None:
        self.flags = flags
        self.interspersed = interspersed
        self.rest: list[str] = []
        self.open: FlagSpec | None = None
        self.flags_allowed = True
        self.help = False

    def take(self, words: Sequence[str]) -> None:
        for i, word in enumerate(words):
            if self.open is not None:
                self.open = None
            elif not self.flags_allowed or len(word) < 2 or word[0] != "-":
                self.rest.append(word)
                if not self.interspersed:
                    self.rest += words[i + 1 :]
                    self.flags_allowed = False
                    return
            elif word == "--":
                self.flags_allowed = False
            elif word[1] == "-":
                flag = next((f for f in self.flags if f[0] == word[2:]), None)
                self.open = flag if flag and flag[2] != "bool" else None
            else:
                self.open = self.short(word[1:])

    def short(self, letters: str) -> FlagSpec | None:
        """The flag at the end of -abc that has no value yet."""
        for i, letter in enumerate(letters):
            flag = next((f for f in self.flags if f[1] == letter), None)
            if flag is None or flag[2] != "bool":
                return flag if i == len(letters) - 1 else None
        return None

    def before(self, words: Sequence[str]) -> Sequence[str]:
        """Of these words, the global flags."""
        return words[: len(words) - len(self.rest)]

    def flags_or_value(self, current: str, hidden: Sequence[str]) -> tuple[list[str], bool]:
        name, sign, _ = current.partition("=")
        if self.open is not None:
            return matching(VALUES.get(self.open[0], "").split(), current), self.open[0] in FILE_FLAGS
        if sign and name.startswith("--"):
            return matching([f"{name}={value}" for value in VALUES.get(name[2:], "").split()], current), name[2:] in FILE_FLAGS
        shown = [flag for flag in self.flags if flag[0] not in hidden]
        return matching([f"--{flag[0]}" for flag in shown] + [f"-{flag[1]}" for flag in shown if flag[1]] + ["--help"], current), False


def matching(found: Sequence[str], current: str) -> list[str]:
    return sorted({word for word in found if word.startswith(current)})


def positional(usage: str, index: int, target: str, options: Sequence[str], current: str) -> tuple[list[str], bool]:
    """What the usage line has at this place: CONTAINER, IMAGE, VOLUME, words to choose from, or files."""
    places = [word for word in usage.replace("\n\t", " ").split(" ") if word != "[OPTIONS]"]
    if target == "cp:cp":
        ref, colon, _ = current.partition(":")
        return ([] if colon else [name + ":" for name in names("CONTAINER", target, options)]), not colon or not ref
    if not places:
        return [], False
    place = places[min(index, len(places) - 1)]
    if index >= len(places) and "..." not in place:
        return [], False
    kinds = place.replace("[", "").replace("]", "").replace("...", "").partition(":")[0].split("|")
    if "file" in kinds:
        return [], True
    if all(kind.islower() for kind in kinds):
        return kinds, False
    if "NAME" in kinds:
        kinds = ["CONTAINER", "IMAGE", "VOLUME"]
    return [name for kind in kinds for name in names(kind, target, options)], kinds[0] in ("COMMAND", "ARG")


def names(kind: str, target: str, options: Sequence[str]) -> list[str]:
    """Names in the store that the command line's own options mean."""
    from .main import _cli, _globals

    kind = {"SOURCE_IMAGE": "IMAGE", "TARGET_IMAGE": "IMAGE", "REPOSITORY": "IMAGE"}.get(kind, kind)
    if kind not in ("CONTAINER", "IMAGE", "VOLUME"):
        return []
    opts, _ = _globals(list(options))
    cli = _cli(opts)
    if not os.path.exists(os.path.join(cli.root, "layout.json")):
        return []
    try:
        engine = cli.engine
        engine.reap_at_close = False
        if kind == "CONTAINER":
            found = engine.containers.list(all=True)
            if target in RUNNING_ONLY or target in STOPPED_ONLY:
                found = [row for row in found if (row["State"] in ("running", "paused")) == (target in RUNNING_ONLY)]
            return [name.removeprefix("/") for row in found for name in row["Names"]]
        if kind == "IMAGE":
            return [tag for row in engine.images.list() for tag in row["RepoTags"] or () if "<none>" not in tag]
        return [row["Name"] for row in engine.volumes.list()]
    finally:
        cli.close()
