# SPDX-License-Identifier: Apache-2.0
"""Docker 26.1's whole help tree: each verb and flag is done, or refused with its reason; none is accepted and then ignored."""
from __future__ import annotations

import ast
from pathlib import Path

import pytest

import lamina.cli
from lamina.cli import absent
from lamina.cli.flags import KINDS
from lamina.cli.main import GLOBAL_FLAGS, GLOBAL_REFUSED, load
from tests.cli.fake_engine import Fake, run
from tests.cli.flagtable import TREE, flags_of, missing, ours, page, verbs
from tests.conftest import REPO

Capture = pytest.CaptureFixture[str]
SOURCE = Path(lamina.cli.__file__).parent
CREATE = ("run:run", "run:create")
TABLES = set("VERBS COMMON_FLAGS MORE_FLAGS CREATE_FLAGS LIMIT_FLAGS LIMITS REFUSED GLOBAL_FLAGS SIZE FORMAT CHANGE MESSAGE NO_TRUNC QUIET "
             "MORE".split())


def test_the_page_is_up_to_date() -> None:
    assert (REPO / "docs" / "flags.md").read_text() == page(), "scripts/flag-table writes it anew"


def test_the_tree_is_dockers() -> None:
    """A control: what docker surely has was found in its help."""
    assert len(TREE) > 150 and sum(len(node["flags"]) for node in TREE.values()) > 1000
    assert {"detach", "gpus", "volumes-from", "link-local-ip"} <= set(TREE["run"]["flags"])
    assert TREE["container ls"]["aliases"] == ["container ls", "container list", "container ps", "ps"]


@pytest.mark.parametrize("target", verbs())
def test_every_flag_is_done_or_refused(target: str) -> None:
    """By name, with docker's letter, and with a value where docker's has one."""
    verb = load(target)
    have = {flag[0]: flag for flag in verb.flags}
    for name, (short, kind) in flags_of(target).items():
        if name in verb.refused:
            assert name not in have and verb.refused[name] == short
            continue
        assert name in have, f"{target}: docker has --{name}"
        assert have[name][1] == short and (have[name][2] == "bool") == (kind == "bool"), have[name]
        assert name == "help" or KINDS[have[name][2]]


def test_global_flags() -> None:
    have = {flag[0]: flag[1] for flag in GLOBAL_FLAGS} | GLOBAL_REFUSED
    assert {name: spec[0] for name, spec in TREE[""]["flags"].items()}.items() <= have.items()


@pytest.mark.parametrize("target", verbs())
def test_refused_flags_say_why(target: str, capfd: Capture) -> None:
    verb = load(target)
    for name, short in verb.refused.items():
        for shown, typed in ((f"--{name}", f"--{name}"), (f"-{short}, --{name}", f"-{short}")):
            if typed == "-":
                continue
            fake = Fake({})
            command = next(form for form in verbs()[target] if form in TREE)
            assert run(fake, *command.split(), typed, "x", "y") == 125 and not fake.calls
            assert capfd.readouterr().err == f"unsupported flag: {shown} ({absent.flag(name)})\nSee 'lamina {command} --help'.\n"


@pytest.mark.parametrize("form", missing())
def test_missing_verbs_say_why(form: str, capfd: Capture) -> None:
    fake = Fake({})
    words = form.split()
    reason = absent.verb(*words)
    assert reason, f"docker has {form}: done or a reason"
    assert run(fake, *words, "x") == 1 and not fake.calls
    known = words[0] in ("container", "image", "manifest", "system", "volume")
    name, where = (form, f"{words[0]} ") if known else (words[0], "")
    assert capfd.readouterr().err == f"lamina has no '{name}': {reason}\nSee 'lamina {where}--help'\n"


def test_no_reason_is_left_over() -> None:
    """Of what is done by now."""
    gone = {*missing(), *(word.split()[0] for word in missing()), "buildx", "compose", "volume update"}
    assert set(absent.VERBS) <= gone
    refused = {name for target in ours() for name in load(target).refused} | set(GLOBAL_REFUSED)
    assert set(absent.FLAGS) <= refused


def constants(*modules: str) -> set[str]:
    """Every string that the code of these modules reads by: a key in brackets, an argument, an element; not the tables of flags."""
    found: set[str] = set()
    for module in modules:
        tree = ast.parse((SOURCE / module).read_text())
        for node in tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
            names = {target.id for target in targets if isinstance(target, ast.Name)}
            if names & TABLES:
                continue
            found |= {inner.value for inner in ast.walk(node) if isinstance(inner, ast.Constant) and isinstance(inner.value, str)}
    return found


@pytest.mark.parametrize("target", ours())
def test_no_flag_is_accepted_and_ignored(target: str) -> None:
    """Each one that a verb takes is looked at by the code of that verb."""
    module = f"verbs/{target.partition(':')[0]}.py"
    used = constants(module, *(("create.py", "create_more.py", "create_limits.py") if target in CREATE else ()))
    if module in ("verbs/lifecycle.py", "verbs/manage.py", "verbs/exec.py", "verbs/volumes.py"):
        used |= constants("verbs/run.py", "verbs/inspect.py")  # what they share
    for name, *_ in load(target).flags:
        assert name in used, f"{target}: nothing looks at --{name}"


def test_a_flag_that_nobody_reads_would_be_found() -> None:
    assert "no-such-flag" not in constants("verbs/ps.py") and "latest" in constants("verbs/ps.py")
