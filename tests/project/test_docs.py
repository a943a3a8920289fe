# SPDX-License-Identifier: Apache-2.0
"""The documentation: every relative link resolves, and what the README says about commands is what the command line knows."""
from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from lamina.cli.flags import UsageError, parse
from lamina.cli.main import GLOBAL_FLAGS, load
from lamina.cli.registry import GROUPS, TOP

REPO = Path(__file__).resolve().parents[2]
README = REPO / "README.md"
PAGES = sorted([*REPO.glob("*.md"), *(REPO / "docs").rglob("*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
OWN_HOSTS = {"keepachangelog.com"}


def name(page: Path) -> str:
    return str(page.relative_to(REPO))


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """What #links of a page may name: its headings, as GitHub makes anchors of them."""
    found = re.findall(r"^#+ +(.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_resolve(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if link.startswith("https://"):
            assert link.split("/")[2] in OWN_HOSTS, f"{name(page)}: {link}: the docs stand by themselves"
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(REPO) and target.exists(), f"{name(page)}: {link} leads nowhere"
        if anchor:
            assert anchor in anchors(target), f"{name(page)}: {link}: {name(target)} has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_of_the_repository_that_pages_name_exist(page: Path) -> None:
    """`src/...`, `tests/...`, `scripts/...`, `docs/...` in code quotes."""
    for path in re.findall(r"`((?:src|tests|scripts|docs|bin)/[\w./-]+)`", prose(page)):
        if path == "docs/performance.md":
            continue  # made by scripts/bench
        assert (REPO / path).exists(), f"{name(page)} names {path}"


def test_every_page_is_reached_from_the_readme() -> None:
    seen, todo = set(), [README]
    while todo:
        page = todo.pop()
        if page not in seen:
            seen.add(page)
            links = [(page.parent / link.split("#")[0]).resolve() for link in LINK.findall(prose(page))]
            todo += [target for target in links if target.suffix == ".md"]
    assert not set(PAGES) - seen


def test_the_readme_takes_two_minutes() -> None:
    lines = README.read_text().splitlines()
    assert len(lines) < 200
    assert len(prose(README).split()) < 900


def commands() -> list[list[str]]:
    """Each `lamina ...` of the README, typed at a prompt or in code quotes, as words; of a pipe or a comment only our part."""
    text = README.read_text()
    found = re.findall(r"`(lamina [^`]+)`", FENCE.sub("", text))
    for block in FENCE.findall(text):
        found += re.findall(r"^# (?:.*\| )?(lamina [^|>#\n]+)", block, re.M)
    return [shlex.split(line)[1:] for line in found]


def test_commands_of_the_readme_exist_with_their_flags() -> None:
    found = commands()
    assert len(found) >= 5
    for words in found:
        where = GROUPS[words[0]][words[1]][1] if words[0] in GROUPS else TOP[words[0]]
        verb = load(where)
        try:
            _, args = parse(verb, words[2 if words[0] in GROUPS else 1 :])
        except UsageError as error:
            # the README also shows how a flag is refused
            assert str(error) in README.read_text(), f"lamina {' '.join(words)}: {error}"
        else:
            assert len(args) >= verb.minimum, f"lamina {' '.join(words)}: too few arguments"
            assert verb.maximum is None or len(args) <= verb.maximum, f"lamina {' '.join(words)}: too many arguments"


def run_flags() -> set[str]:
    """Every way to write a flag of `run` that is done."""
    flags = load(TOP["run"]).flags
    return {*("--" + flag[0] for flag in flags), *("-" + flag[1] for flag in flags if flag[1])}


def test_flags_in_the_text_of_the_readme_are_known() -> None:
    """`--flag ...` outside of the table (whose cells have a test of their own) belongs to lamina itself or to run."""
    known = run_flags() | {"--" + flag[0] for flag in GLOBAL_FLAGS}
    for quoted in re.findall(r"`(-[^`]+)`", re.sub(r"^\|.*", "", prose(README), flags=re.M)):
        for word in quoted.split():
            assert not word.startswith("-") or word in known, f"README: {word}"


def table() -> list[tuple[str, str]]:
    """(works, not yet) of each row of "What works today"."""
    rows = re.findall(r"^\| \w+ \| (.+) \| (.+) \|$", README.read_text(), re.M)
    assert len(rows) >= 5
    return rows


def test_verbs_that_work_are_there_and_the_others_are_not() -> None:
    for works, missing in table():
        for quoted in re.findall(r"`([a-z][a-z ]*)`", works):
            words = quoted.split()
            if quoted not in {"lamina", "none", "host"}:
                assert words[0] in TOP or words[1] in GROUPS[words[0]], f"README: {quoted} doesn't exist"
        for quoted in re.findall(r"`([a-z]+)`", missing):
            assert quoted not in TOP and quoted not in GROUPS, f"README: {quoted} works by now"


def test_flags_of_the_table_are_done_or_not_as_it_says() -> None:
    known = run_flags()
    for works, missing in table():
        for flag in re.findall(r"`(--?[a-z-]+)`", works):
            assert flag in known, f"README: run has no {flag}"
        for flag in re.findall(r"`(--?[a-z-]+)`", missing):
            assert flag not in known, f"README: {flag} works by now"


def test_pages_tell_no_place_of_our_machines() -> None:
    tracked = subprocess.run(["git", "ls-files", "*.md", "*.svg"], cwd=REPO, capture_output=True, text=True)
    pages = {*PAGES, *(REPO / line for line in tracked.stdout.splitlines())}
    for page in pages:
        text = page.read_text()
        assert not re.search(r"https?://[a-z.]*debian", text), name(page)
        assert REPO.parent == Path("/") or f"{REPO.parent}/" not in text, name(page)
