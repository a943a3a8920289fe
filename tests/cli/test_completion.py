# SPDX-License-Identifier: Apache-2.0
"""Completion: what `__complete` answers, and the scripts in real shells. The answers come from the parser's own tables, all of them."""
from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from lamina.cli.completion import candidates
from lamina.cli.helptexts import HIDDEN
from lamina.cli.main import load
from lamina.cli.registry import GROUPS, TOP
from tests.conftest import REPO, Lamina

COMMANDS = [([word], target) for word, target in TOP.items()]
COMMANDS += [([group, word], target) for group, words in GROUPS.items() for word, (_, target) in words.items()]


@pytest.mark.parametrize(("words", "target"), COMMANDS, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_every_flag_of_every_verb(words: list[str], target: str) -> None:
    found, _ = candidates([*words, "--"])
    shown = {f"--{flag[0]}" for flag in load(target).flags if flag[0] not in HIDDEN.get(target, ())}
    assert set(found) == shown | {"--help", "--explain"}


def test_verbs_and_groups() -> None:
    assert set(candidates([""])[0]) == {*TOP, *GROUPS, "help"}
    assert set(candidates(["container", ""])[0]) == {primary for primary, _ in GROUPS["container"].values()}
    assert candidates(["-D", "--log-level", "debug", "commi"]) == (["commit"], False)
    assert candidates(["help", "commi"]) == (["commit"], False)
    assert candidates(["nosuch", ""]) == ([], False)
    assert candidates(["--log-level", "de"]) == (["debug"], False)
    assert candidates(["--ro"]) == (["--root"], False)


@pytest.mark.parametrize(("words", "answer"), [
    (["run", "--network", "n"], (["none"], False)),
    (["run", "--network=n"], (["--network=none"], False)),
    (["run", "--restart", "un"], (["unless-stopped"], False)),
    (["run", "-a", "std"], (["stderr", "stdin", "stdout"], False)),
    (["run", "-v", ""], ([], True)),
    (["run", "-itv", ""], ([], True)),
    (["run", "--rm", "box", "--net"], ([], True)),
    (["run", "--rm", "box", ""], ([], True)),
    (["export", "-o", ""], ([], True)),
    (["import", ""], ([], True)),
    (["completion", ""], (["bash", "fish", "zsh"], False)),
    (["completion", "bash", ""], ([], False)),
    (["rename", "a", "b", ""], ([], False)),
    (["ps", "x"], ([], False)),
    (["rm", "--", "--f"], ([], False)),
])  # fmt: skip
def test_values_and_places(words: Sequence[str], answer: tuple[list[str], bool], tmp_path: Path) -> None:
    assert candidates(["--root", str(tmp_path), *words]) == answer


def test_names_of_what_is_there(lamina: Lamina, box: str) -> None:
    lamina("create", "--name", "sleeper", "-v", "data:/d", "box", "sleep", "100").check()
    lamina("run", "-d", "--name", "runner", "--network", "none", "box", "sleep", "100").check()
    lamina("tag", "box", "registry.test:5000/a/b:1").check()

    def ask(*words: str) -> list[str]:
        done = subprocess.run([lamina.prefix[0], "__complete", "--", *lamina.prefix[1:], *words], capture_output=True, text=True)
        assert done.stderr == ""
        return done.stdout.split()

    assert ask("rm", "") == ["runner", "sleeper"] and ask("container", "rm", "-f", "r") == ["runner"]
    assert ask("stop", "") == ["runner"] and ask("start", "") == ["sleeper"] and ask("exec", "-it", "") == ["runner"]
    assert ask("run", "--rm", "") == ["box:latest", "registry.test:5000/a/b:1"]
    assert ask("cp", "s") == ["sleeper:"] and ask("cp", "sleeper:/x") == []
    assert ask("volume", "rm", "") == ["data"]
    assert ask("inspect", "") == ["box:latest", "data", "registry.test:5000/a/b:1", "runner", "sleeper"]


def test_asking_makes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    argv = [str(REPO / "bin/lamina"), "__complete", "--", "--root", str(root), "--runroot", str(tmp_path / "run"), "rm", ""]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "") and not root.exists() and not (tmp_path / "run").exists()


def test_unknown_shell(lamina: Lamina) -> None:
    done = lamina("completion", "tcsh")
    assert done.returncode == 1 and done.stderr == 'unsupported shell "tcsh": there are scripts for bash, zsh and fish\n'


# -- real shells

def shell(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} isn't installed (package {name})")
    return path


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An environment in which `lamina` is this checkout's, with a store of the test's own."""
    (tmp_path / "home").mkdir()
    return {"PATH": f"{REPO / 'bin'}:{os.environ['PATH']}", "HOME": str(tmp_path / "home"), "TERM": "dumb", "PS1": "> ",
            "LAMINA_ROOT": str(tmp_path / "root"), "LAMINA_RUNROOT": str(tmp_path / "run")}  # fmt: skip


def bash(env: dict[str, str], *words: str, breaks: str = " \t\n\"'><=;|&(:") -> list[str]:
    """What bash would offer: the function called with words split as readline does."""
    line = " ".join(words)
    pieces: list[str] = []
    for word in words:
        split = "".join(f"\0{c}\0" if c in breaks else c for c in word).split("\0")
        pieces += [piece for piece in split if piece] or [""]
    script = 'source <(lamina completion bash); COMP_WORDBREAKS=$1 COMP_LINE=$2 COMP_POINT=${#2}; shift 2; COMP_WORDS=("$@"); '
    script += 'COMP_CWORD=$(($# - 1)); _lamina; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run([shell("bash"), "--norc", "-c", script, "bash", breaks, line, *pieces], capture_output=True, text=True, env=env)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout.split()


def test_bash_offers(lamina: Lamina, box: str, env: dict[str, str]) -> None:
    env |= {"LAMINA_ROOT": str(lamina.root), "LAMINA_RUNROOT": str(lamina.runroot)}
    lamina("tag", "box", "registry.test:5000/a/b:1").check()
    assert bash(env, "lamina", "compl") == ["completion"]
    assert bash(env, "lamina", "run", "--network=n") == ["none"]
    assert bash(env, "lamina", "run", "--network=n", breaks=" \t\n") == ["--network=none"]
    assert bash(env, "lamina", "rmi", "registry.test:5") == ["5000/a/b:1"]
    assert bash(env, "lamina", "rmi", "registry.test:5000/a/b:") == ["1"]
    assert bash(env, "lamina", "rmi", "registry.test:5", breaks=" \t\n") == ["registry.test:5000/a/b:1"]
    assert bash(env, "lamina", "rmi", "") == ["box:latest", "registry.test:5000/a/b:1"]


def typed(argv: list[str], env: dict[str, str], setup: str, keys: str, wanted: str) -> str:
    """Types into an interactive shell on a terminal until `wanted` shows up; what was shown after `keys` were typed."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(argv[0], argv, env)
    try:
        def until(text: str, seconds: float = 20) -> str:
            seen, end = "", time.monotonic() + seconds
            while text not in seen:
                assert select.select([fd], [], [], max(0, end - time.monotonic()))[0], f"{text!r} didn't come, but {seen!r}"
                seen = (seen + os.read(fd, 65536).decode(errors="replace")).replace(" \b", "")  # zsh takes back the space it added
            return seen

        os.write(fd, f"{setup}; echo rea''dy\n".encode())
        until("ready")
        os.write(fd, keys.encode())
        return until(wanted)
    finally:
        os.close(fd)
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_bash_on_a_terminal(env: dict[str, str]) -> None:
    typed([shell("bash"), "--norc", "-i"], env, "source <(lamina completion bash)", "lamina conta\tinsp\t", "lamina container inspect ")


def test_zsh_on_a_terminal(env: dict[str, str]) -> None:
    setup = "autoload -Uz compinit; compinit -u -D; source <(lamina completion zsh)"
    typed([shell("zsh"), "-f", "-i"], env, setup, "lamina complet\tz\t", "lamina completion zsh ")


def test_fish_offers(env: dict[str, str]) -> None:
    def ask(line: str) -> list[str]:
        argv = [shell("fish"), "--no-config", "-c", "lamina completion fish | source; complete -C $argv[1]", line]
        done = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=60)
        assert done.returncode == 0 and done.stderr == "", done.stderr
        return done.stdout.split()

    assert ask("lamina compl") == ["completion"] and ask("lamina container insp") == ["inspect"]
    assert ask("lamina run --network n") == ["none"] and ask("lamina completion ") == ["bash", "fish", "zsh"]
    (Path(env["HOME"]) / "image.tar").touch()
    assert ask(f"lamina import {env['HOME']}/im") == [f"{env['HOME']}/image.tar"]
