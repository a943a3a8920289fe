# SPDX-License-Identifier: Apache-2.0
"""--help: usage, aliases and options laid out as docker's (pflag wraps descriptions so that a line has at most 80 columns)."""
from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lamina.cli.flags import KINDS, Verb
from lamina.cli.helptexts import COMMON, FLAGS, GLOBAL, GROUP_SHORTS, HIDDEN, IN_OUT, SHORTS, VALUE_WORDS
from lamina.cli.registry import GROUPS, TOP

if TYPE_CHECKING:
    from lamina.cli.flags import FlagSpec

WIDTH = 80
COMMON_COMMANDS = ("run", "exec", "ps", "images", "version", "info")


def short_of(target: str) -> str:
    """One line about a verb, docker's words."""
    return SHORTS[target]


def usage_line(command: str, verb: Verb) -> str:
    return f"Usage:  lamina {command} {verb.usage}".rstrip()


def verb_help(command: str, target: str, verb: Verb) -> str:
    """The whole text of `lamina COMMAND --help`."""
    lines = []
    if target in IN_OUT:
        lines += [IN_OUT[target], ""]
    lines += [usage_line(command, verb), "", short_of(target)]
    aliases = aliases_of(target)
    if len(aliases) > 1:
        lines += ["", "Aliases:", "  " + ", ".join(f"lamina {name}" for name in aliases)]
    flags = [flag for flag in verb.flags if flag[0] not in HIDDEN.get(target, ())]
    if flags:
        lines += ["", "Options:", options(flags, {**COMMON, **FLAGS.get(target, {})})]
    return "\n".join(lines) + "\n"


def aliases_of(target: str) -> list[str]:
    """Every command path of a verb: the group's primary word, its other words, then the short form."""
    names = []
    for group, words in GROUPS.items():
        mine = [(word != primary, word) for word, (primary, goal) in words.items() if goal == target]
        names += [f"{group} {word}" for _, word in sorted(mine)]
    return names + [word for word, goal in TOP.items() if goal == target]


def options(flags: list[FlagSpec], texts: dict[str, str]) -> str:
    rows = []
    for name, short, kind, default in sorted(flags):
        word = VALUE_WORDS.get(name) or KINDS[kind][2]
        left = f"  -{short}, --{name}" if short else f"      --{name}"
        left += f" {word}" if word else ""
        text = texts[name]
        if kind == "bool" and default:
            text += " (default true)"
        elif kind == "string" and default:
            text += f' (default "{default}")'
        elif kind == "int" and default:
            text += f" (default {default})"
        rows.append((left, text))
    width = max(len(left) for left, _ in rows) + 3
    return "\n".join(left.ljust(width) + wrap(text, width) for left, text in rows)


def wrap(text: str, indent: int) -> str:
    """Words in lines that fit, continued under the text; lines of `text` itself stay lines."""
    room = WIDTH - indent
    lines: list[str] = []
    for part in text.split("\n"):
        line = ""
        for word in part.split(" "):
            if line and len(line) + 1 + len(word) > room:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}" if line else word
        lines.append(line)
    return ("\n" + " " * indent).join(lines)


def commands(pairs: list[tuple[str, str]]) -> str:
    return "\n".join(f"  {name:<11} {text}" for name, text in pairs)


def group_usage(group: str) -> str:
    verbs = sorted({primary: target for primary, target in GROUPS[group].values()}.items())
    return (
        f"Usage:  lamina {group} COMMAND\n\n{GROUP_SHORTS[group]}\n\nCommands:\n"
        + commands([(primary, SHORTS[target]) for primary, target in verbs])
        + f"\n\nRun 'lamina {group} COMMAND --help' for more information on a command.\n"
    )


def top_usage() -> str:
    main = sys.modules["lamina.cli.main"]
    flags = list(main.GLOBAL_FLAGS)
    names: dict[str, str] = {}  # an alias (unmount) stands in its command's own help alone
    for word, target in sorted(TOP.items()):
        names.setdefault(target, word)
    rest = [(word, SHORTS[target]) for target, word in names.items() if word not in COMMON_COMMANDS]
    return (
        "Usage:  lamina [OPTIONS] COMMAND\n\nA container engine without a daemon\n\nCommon Commands:\n"
        + commands([(word, SHORTS[TOP[word]]) for word in COMMON_COMMANDS])
        + "\n\nManagement Commands:\n"
        + commands(sorted(GROUP_SHORTS.items()))
        + "\n\nCommands:\n"
        + commands(rest)
        + "\n\nGlobal Options:\n"
        + options(flags, GLOBAL)
        + "\n\nRun 'lamina COMMAND --help' for more information on a command.\n"
    )
