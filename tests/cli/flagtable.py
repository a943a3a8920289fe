# SPDX-License-Identifier: Apache-2.0
"""docs/flags.md: docker 26.1's help (goldens/help.json) against our own tables, verb by verb and flag by flag.

scripts/flag-table writes the page, test_flag_table holds it.
"""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lamina.cli import absent
from lamina.cli.main import GLOBAL_FLAGS, GLOBAL_REFUSED, load
from lamina.cli.registry import GROUPS, TOP

TREE: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "goldens" / "help.json").read_text())
INTRO = """# Docker's verbs and flags

Every verb and flag that the help of Docker 26.1 shows, in all its forms: done here, or refused with the reason, which is also what
the command says. Nothing is accepted and then ignored. This page is made by `scripts/flag-table` from Docker's recorded help and
lamina's own tables; `tests/cli/test_flag_table.py` holds them together. What is done differently: [compatibility](compatibility.md).
"""


def target_of(path: str) -> str:
    """The registry's target of "ps" or "container ls"; "" if there is none."""
    words = path.split()
    if len(words) == 1:
        return TOP.get(words[0], "")
    return GROUPS.get(words[0], {}).get(words[1], ("", ""))[1] if len(words) == 2 else ""


def forms(path: str) -> list[str]:
    return list(dict.fromkeys([*TREE[path]["aliases"], path]))


def verbs() -> dict[str, list[str]]:
    """Docker's verbs that lamina has: target -> all forms, the shortest first."""
    found: dict[str, dict[str, None]] = {}
    for path, node in TREE.items():
        if path and not node["commands"] and target_of(path):
            found.setdefault(target_of(path), {}).update(dict.fromkeys(forms(path)))
    return {target: sorted(paths, key=lambda p: (len(p.split()), p not in TREE, p)) for target, paths in found.items()}


def missing() -> list[str]:
    """Docker's verbs that lamina hasn't, all forms."""
    return sorted({form for path, node in TREE.items() if path and not node["commands"] for form in forms(path) if not target_of(form)})


def flags_of(target: str) -> dict[str, list[str]]:
    """{flag: [shorthand, kind]} of docker's verb; --help is the parser's."""
    path = next(path for path in verbs()[target] if path in TREE)
    return {name: spec for name, spec in TREE[path]["flags"].items() if name != "help"}


def code(name: str, short: str) -> str:
    return f"`-{short}`&nbsp;`--{name}`" if short else f"`--{name}`"


def row(flags: dict[str, list[str]], have: set[str], refused: dict[str, str]) -> tuple[str, str]:
    done = " ".join(code(name, spec[0]) for name, spec in sorted(flags.items()) if name in have)
    reasons: dict[str, list[str]] = {}
    for name, short in sorted(refused.items()):
        reasons.setdefault(absent.flag(name), []).append(code(name, short))
    return done, "; ".join(f"{' '.join(names)}: {reason}" for reason, names in reasons.items())


def page() -> str:
    lines = [INTRO, "## Verbs that are there", "", "| verb | also | flags | refused |", "|---|---|---|---|"]
    globals_ = row(TREE[""]["flags"], {flag[0] for flag in GLOBAL_FLAGS}, GLOBAL_REFUSED)
    lines.append(f"| `lamina` | | {globals_[0]} | {globals_[1]} |")
    for target, paths in sorted(verbs().items(), key=lambda item: item[1]):
        verb = load(target)
        done, refused = row(flags_of(target), {flag[0] for flag in verb.flags}, verb.refused)
        lines.append(f"| `{paths[0]}` | {', '.join(f'`{p}`' for p in paths[1:])} | {done} | {refused} |")
    lines += ["", "`--host` and `--context` are there to be refused with a clear text: lamina has no daemon.", ""]
    lines += ["## Verbs that aren't", "", "| verbs | why |", "|---|---|"]
    reasons: dict[str, list[str]] = {}
    for form in missing():
        reasons.setdefault(absent.verb(*form.split()), []).append(form)
    for reason, paths in sorted(reasons.items(), key=lambda item: item[1]):
        lines.append(f"| {', '.join(f'`{p}`' for p in paths)} | {reason} |")
    lines += ["", "## Only here, or not shown by Docker's help", "", "| verb | flags |", "|---|---|"]
    own = [flag[0] for flag in GLOBAL_FLAGS if flag[0] not in TREE[""]["flags"]]
    lines.append("| `lamina` | " + " ".join(f"`--{name}`" for name in own) + " |")
    for target, paths in sorted(ours().items(), key=lambda item: item[1]):
        known = flags_of(target) if target in verbs() else {}
        more = [flag for flag in load(target).flags if flag[0] not in known]
        if more or target not in verbs():
            lines.append(f"| {', '.join(f'`{p}`' for p in paths)} | {' '.join(code(f[0], f[1]) for f in more)} |")
    return "\n".join(lines) + "\n"


def ours() -> dict[str, list[str]]:
    """Every target and its forms in lamina."""
    found: dict[str, list[str]] = {}
    for word, target in TOP.items():
        found.setdefault(target, []).append(word)
    for group, words in GROUPS.items():
        for word, (_, target) in words.items():
            found.setdefault(target, []).append(f"{group} {word}")
    return found
