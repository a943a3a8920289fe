# SPDX-License-Identifier: Apache-2.0
"""The file of all compiled modules: made by a command, used by the next one, and never believed beyond what a .pyc is."""
from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
# Tells which modules came from the file ("found"), after a command line was run in this process.
PROBE = """
import sys
sys.path.append(sys.argv[1])
from lamina import modules
modules.install()
from lamina.cli import main
assert main.main(["help"]) == 0
after = sys.argv[2] if len(sys.argv) > 2 else ""
exec(after)
missed = modules._installed.missed
ours = {n: "missed" if n in missed else "found" for n in sys.modules if n.startswith("lamina.") and not n.startswith("lamina.modules")}
modules.renew()
print("\\n".join(f"{how} {name}" for name, how in ours.items()), file=sys.stderr)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package, as an installation has it."""
    copy = tmp_path / "lamina"
    shutil.copytree(REPO / "src" / "lamina", copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def run(package: Path, after: str = "") -> dict[str, str]:
    """{module: "found" in the file or "missed"}, in a fresh process that runs `after` besides."""
    argv = [sys.executable, "-I", "-S", "-c", PROBE, str(package.parent), after]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout or after
    return {name: how for how, name in (line.split() for line in done.stderr.splitlines())}


def packs(package: Path) -> list[Path]:
    return list((package / "__pycache__").glob("lamina.*"))


def test_the_second_command_finds_all_in_the_file(package: Path) -> None:
    assert set(run(package).values()) == {"missed"}
    (pack,) = packs(package)  # and no temporary file
    written = pack.stat().st_ino
    assert set(run(package).values()) == {"found"}
    assert packs(package) == [pack] and pack.stat().st_ino == written, "made anew though nothing was missing"


def test_a_changed_module_is_read_anew(package: Path) -> None:
    run(package)
    changed = package / "cli" / "context.py"
    changed.write_text(changed.read_text() + "\nCHANGED = 1\n")
    told = run(package, "from lamina.cli import context; assert context.CHANGED == 1")
    assert told.pop("lamina.cli.context") == "missed" and set(told.values()) == {"found"}
    told = run(package, "from lamina.cli import context; assert context.CHANGED == 1")
    assert set(told.values()) == {"found"}


def test_packages_that_hold_nothing_are_packages(package: Path) -> None:
    run(package, "import lamina.containers.state")
    told = run(package, """
import lamina.containers.state, lamina.cli
made = lamina.containers
assert made.__path__ == [made.__file__.rpartition("/")[0]] and made.__package__ == made.__spec__.name == made.__name__, vars(made)
assert sys.modules["lamina.containers"] is made and made.state.State and lamina.cli.main.entry
""")
    assert told["lamina.cli"] == told["lamina.containers"] == "found"
    changed = package / "containers" / "__init__.py"
    changed.write_text(changed.read_text() + "\nCHANGED = 1\n")
    for _ in range(2):
        run(package, "import lamina.containers; assert lamina.containers.CHANGED == 1")


def test_a_removed_module_is_gone(package: Path) -> None:
    run(package, "import lamina.cli.formats")
    (package / "cli" / "formats.py").unlink()
    run(package, """
try:
    import lamina.cli.formats
except ModuleNotFoundError:
    pass
else:
    raise AssertionError("imported without a source")
""")


@pytest.mark.parametrize("damage", ["empty", "cut index", "cut code", "other magic", "noise"])
def test_damage_means_the_usual_way(package: Path, damage: str) -> None:
    run(package)
    (pack,) = packs(package)
    data = pack.read_bytes()
    pack.write_bytes({
        "empty": b"", "cut index": data[:500], "cut code": data[: len(data) // 3], "other magic": b"\0\0\0\0" + data[4:],
        "noise": data[:8] + bytes(b ^ 0x55 for b in data[8:2000]) + data[2000:],
    }[damage])  # fmt: skip
    assert "missed" in run(package).values()
    assert set(run(package).values()) == {"found"}, "was not made anew"


def test_another_file_in_its_place_is_not_read_by_old_offsets(package: Path) -> None:
    run(package, "import lamina.util.times")
    (pack,) = packs(package)
    told = run(package, f"""
import os
path = {str(pack)!r}
data = open(path, "rb").read()
with open(path + ".new", "wb") as f:
    f.write(data[:-1000] + bytes(1000))  # same size, other file
os.rename(path + ".new", path)
import lamina.util.times
""")
    assert told["lamina.util.times"] == "missed" and told["lamina.cli.context"] == "found"


def test_a_descriptor_that_is_closed_behind_its_back(package: Path) -> None:
    """As a forked monitor does: what has the file's number then is something else."""
    run(package, "import lamina.util.times")
    told = run(package, "import os; os.closerange(3, 100); os.open('/dev/zero', os.O_RDONLY); import lamina.util.times as t; t.now_ns()")
    assert told["lamina.util.times"] == "found"


def test_where_nothing_can_be_written_it_works_without(package: Path) -> None:
    shutil.rmtree(package / "__pycache__", ignore_errors=True)
    (package / "__pycache__").write_text("in the way")
    assert set(run(package).values()) == {"missed"}


def test_tracebacks_show_the_source(package: Path) -> None:
    run(package)
    run(package, """
import traceback, io
from lamina.cli import main
try:
    main.load("run")
except Exception:
    text = traceback.format_exc()
assert "found = sys.modules[name].VERBS[key]" in text, text
""")
