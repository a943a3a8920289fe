# SPDX-License-Identifier: Apache-2.0
"""What `run`, `start`, `exec`, `ps` and the monitor import: the hot path stays lean only if something holds it (design.md 2, latency.md 1).

Each verb runs for real, in an interpreter started as the launcher does, and then writes down its sys.modules. Allowed are a bare
interpreter's own modules, a list of cheap C modules, and modules of ours that are meant for it: those of HOT_PACKAGES, and others
whose docstring says [hot].
"""
from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Lamina

REPO = Path(__file__).resolve().parents[2]
CHEAP = frozenset((
    "__future__", "sys", "posix", "errno", "stat", "_stat", "time", "select", "fcntl", "_struct", "marshal", "zlib",
    "mmap", "_socket", "_json", "_sqlite3", "_signal", "_posixsubprocess", "_ctypes", "_hashlib", "_sha256", "_sha2",
    "binascii", "gc", "itertools", "_functools",
    "os", "os.path", "posixpath", "genericpath", "_collections_abc",  # os and what it brings
))  # fmt: skip
# Runs main() as the process `lamina` would, then tells what is loaded, on a descriptor that nobody else writes to.
PROBE = """
import sys, os
bare = set(sys.modules)
report = int(sys.argv[1])
sys.path.append(sys.argv[2])
from lamina.cli.main import main
code = main(sys.argv[3:])
os.write(report, "\\n".join(sorted(set(sys.modules) - bare)).encode())
os._exit(code)
"""


def loaded(lamina: Lamina, *argv: str) -> set[str]:
    read, write = os.pipe()
    try:
        command = [sys.executable, "-I", "-S", "-c", PROBE, str(write), str(REPO / "src"), *lamina.prefix[1:], *argv]
        done = subprocess.run(command, pass_fds=[write], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        os.close(write)
        write = -1
        assert done.returncode == 0, done.stderr.decode()
        names = b""
        while data := os.read(read, 65536):
            names += data
    finally:
        os.close(read)
        if write >= 0:
            os.close(write)
    return set(names.decode().split())


# Packages that are on the hot path as a whole (docs/architecture.md); of other packages the modules that say so.
HOT_PACKAGES = ("lamina.linux", "lamina.monitor", "lamina.runtime", "lamina.cli.attach", "lamina.store.schema")


def is_hot(module: str) -> bool:
    base = REPO / "src" / Path(*module.split("."))
    path = base.with_suffix(".py") if base.with_suffix(".py").exists() else base / "__init__.py"
    text = ast.get_docstring(ast.parse(path.read_bytes())) or ""
    return path.name == "__init__.py" or module.startswith(HOT_PACKAGES) or "[hot" in text or "on the hot path" in text


def is_code(module: str) -> bool:
    """Not a package: those are empty."""
    return (REPO / "src" / Path(*module.split("."))).with_suffix(".py").exists()


def check(modules: set[str]) -> None:
    ours = {name for name in modules if name.split(".")[0] == "lamina"}
    foreign = sorted(modules - ours - CHEAP)
    assert not foreign, f"the hot path imports {foreign}: each costs 1 to 40 ms at every start (see latency.md 1)"
    cold = sorted(name for name in ours if not is_hot(name))
    assert not cold, f"the hot path imports {cold}, whose docstring doesn't say [hot]: load them where they are needed"


@pytest.fixture
def running(lamina: Lamina, box: str) -> str:
    return lamina("run", "-d", "--network", "none", "box", "sleep", "1000").out


@pytest.mark.parametrize("network", ["none", "bridge"])
def test_run(lamina: Lamina, box: str, network: str) -> None:
    lamina("run", "--rm", "--network", network, "box", "true").check()  # what is made once (init layer, bridge) may cost more
    check(loaded(lamina, "run", "--rm", "--network", network, "box", "true"))


def test_run_detached_and_start(lamina: Lamina, box: str) -> None:
    lamina("run", "--rm", "--network", "none", "box", "true").check()
    check(loaded(lamina, "run", "-d", "--name", "hot", "--network", "none", "box", "true"))
    lamina("wait", "hot").check()
    check(loaded(lamina, "start", "hot"))


def test_exec(lamina: Lamina, running: str) -> None:
    check(loaded(lamina, "exec", running, "true"))


def test_ps(lamina: Lamina, running: str) -> None:
    check(loaded(lamina, "ps"))
    check(loaded(lamina, "ps", "-aq"))


@pytest.mark.parametrize("load", ["from lamina.monitor import main; main.get_ready()", "from lamina.monitor import execmon"])
def test_monitor(load: str) -> None:
    """What the helper of `Prepared` loads for a container and for an exec: all that their monitors will ever have."""
    probe = f"""
import sys
bare = set(sys.modules)
sys.path.append(sys.argv[1])
from lamina.monitor import launch
{load}
sys.stdout.write("\\n".join(set(sys.modules) - bare))
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", probe, str(REPO / "src")], capture_output=True, text=True, timeout=30)
    modules = set(done.stdout.split())
    assert "lamina.runtime.create" in modules, done.stderr
    check(modules)
    assert not {m for m in modules if m.startswith(("lamina.engine", "lamina.cli", "lamina.images", "lamina.store.db"))}


def test_before_the_fork() -> None:
    """What a command loads before it forks the helper: only what both need anyway, as each millisecond there is one of both."""
    probe = """
import sys
bare = set(sys.modules)
sys.path.append(sys.argv[1])
from lamina.monitor import prepared
prepared.load_shared()
sys.stdout.write("\\n".join(set(sys.modules) - bare))
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", probe, str(REPO / "src")], capture_output=True, text=True, timeout=30)
    loaded = set(done.stdout.split())
    assert {name for name in loaded if name.startswith("lamina") and is_code(name)} == {
        "lamina.monitor.prepared", "lamina.monitor.wire", "lamina.containers.state", "lamina.store.presence", "lamina.errors",
        "lamina.util.fastjson", "lamina.util.atomic", "lamina.util.identity", "lamina.util.digest", "lamina.util.ids", "lamina.util.steps",
        "lamina.util.times",
    }, done.stderr  # fmt: skip
    assert loaded <= CHEAP | {name for name in loaded if name.startswith("lamina")}


def test_the_face_alone_needs_no_engine() -> None:
    """The parser and the verbs of the hot path, without any engine: what parsing costs."""
    probe = """
import sys
bare = set(sys.modules)
sys.path.append(sys.argv[1])
from lamina.cli.main import load
for target in ("run:run", "exec:exec", "lifecycle:start", "ps:ps"):
    load(target)
sys.stdout.write("\\n".join(set(sys.modules) - bare))
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", probe, str(REPO / "src")], capture_output=True, text=True, timeout=30)
    modules = set(done.stdout.split())
    assert "lamina.cli.verbs.ps" in modules and "lamina.errors" in modules, done.stderr
    check(modules)
    assert not {m for m in modules if m.startswith(("lamina.engine", "lamina.store", "lamina.runtime"))}


def test_the_check_can_fail() -> None:
    with pytest.raises(AssertionError, match="'json'"):
        check({"json"})
    with pytest.raises(AssertionError, match=r"lamina\.cli\.template"):
        check({"lamina.cli.template"})
