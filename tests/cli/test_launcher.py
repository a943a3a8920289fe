# SPDX-License-Identifier: Apache-2.0
"""The sh launchers: from the checkout, through links, from prefixes and environments as pip lays them out; nothing else is believed."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
LAUNCHER = REPO / "bin" / "lamina"
VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"


def run(program: Path | str, *argv: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program), *argv], capture_output=True, text=True, timeout=30, **options)  # type: ignore[call-overload,no-any-return]


def lay_out(prefix: Path, *, editable: bool = False, venv: bool = True) -> Path:
    """A prefix as pip makes it, without pip: bin/lamina, the package (or the .pth file of `pip install -e`), a python."""
    site = prefix / "lib" / VERSION / "site-packages"
    site.mkdir(parents=True)
    (prefix / "bin").mkdir()
    shutil.copy(LAUNCHER, prefix / "bin" / "lamina")
    if editable:
        (site / "__editable__.lamina-0.1.0.pth").write_text(f"{REPO / 'src'}\n")
    else:
        shutil.copytree(REPO / "src" / "lamina", site / "lamina")
    if venv:
        (prefix / "pyvenv.cfg").write_text(f"home = {Path(os.path.realpath(sys.executable)).parent}\n")
        (prefix / "bin" / "python3").symlink_to(os.path.realpath(sys.executable))
    else:
        (prefix / "bin" / VERSION).symlink_to(os.path.realpath(sys.executable))
    return prefix / "bin" / "lamina"


def test_from_the_checkout() -> None:
    assert run(LAUNCHER, "--version").stdout.startswith("lamina version ")


@pytest.mark.parametrize("link", ["absolute", "relative", "chain"])
def test_through_links(tmp_path: Path, link: str) -> None:
    path = tmp_path / "docker"
    if link == "absolute":
        path.symlink_to(LAUNCHER)
    elif link == "relative":
        path.symlink_to(os.path.relpath(LAUNCHER, tmp_path))
    else:
        (tmp_path / "middle").symlink_to(LAUNCHER)
        path.symlink_to("middle")
    assert run(path, "--version", cwd="/").stdout.startswith("lamina version ")
    assert run("docker", "--version", env={"PATH": str(tmp_path)}).stdout.startswith("lamina version ")


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    script = tmp_path / "real"
    shutil.copy(LAUNCHER, script)
    done = run(script, "--version")
    assert done.returncode == 125 and "its Python package is not where" in done.stderr


@pytest.mark.parametrize("editable", [False, True])
@pytest.mark.parametrize("venv", [False, True])
def test_from_a_prefix(tmp_path: Path, editable: bool, venv: bool) -> None:
    program = lay_out(tmp_path / "prefix with a space", editable=editable, venv=venv)
    assert run(program, "--version").stdout.startswith("lamina version ")
    (tmp_path / "ln").symlink_to(program)
    assert run(tmp_path / "ln", "--version").stdout.startswith("lamina version ")


def test_the_interpreter_is_started_bare(tmp_path: Path) -> None:
    """-I -S, one path added, last; no .pth file of the environment is run."""
    program = lay_out(tmp_path / "venv")
    site = tmp_path / "venv" / "lib" / VERSION / "site-packages"
    (site / "zz.pth").write_text(f"import os; os.open({str(tmp_path / 'ran')!r}, os.O_CREAT)\n")
    main = site / "lamina" / "cli" / "main.py"
    show = "sys.flags.isolated, sys.flags.no_site, sys.path[-1], sys._xoptions['lamina.site']"
    main.write_text(f"import sys\ndef entry():\n    print({show})\n")
    directory = f"{tmp_path}/venv/bin/../lib/{VERSION}/site-packages"
    assert run(program).stdout.split() == ["1", "1", directory, directory]
    assert not (tmp_path / "ran").exists()
    subprocess.run([str(tmp_path / "venv/bin/python3"), "-c", "pass"], timeout=30, check=True)
    assert (tmp_path / "ran").exists(), "the control: with site, that .pth file does run"


def test_both_launchers_differ_by_their_face_only() -> None:
    one, other = (LAUNCHER.read_text(), (REPO / "bin" / "lamina-runtime").read_text())
    assert one.replace("# lamina: finds", "# lamina-runtime: finds").replace("face=cli", "face=runtime") == other
    for program in (LAUNCHER, REPO / "bin" / "lamina-runtime"):
        assert os.access(program, os.X_OK)


def test_bytecode_is_kept_although_the_environment_forbids_it(tmp_path: Path) -> None:
    program = lay_out(tmp_path / "venv")
    package = tmp_path / "venv" / "lib" / VERSION / "site-packages" / "lamina"
    for cache in package.rglob("__pycache__"):
        shutil.rmtree(cache)
    assert run(program, "--version", env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}).returncode == 0
    assert list((package / "cli" / "__pycache__").glob("main.*.pyc"))


def test_closed_descriptors_are_not_reused(tmp_path: Path) -> None:
    """With stdout closed, no file of the store becomes descriptor 1 and gets the output."""
    program = lay_out(tmp_path / "venv")
    main = tmp_path / "venv" / "lib" / VERSION / "site-packages" / "lamina" / "cli" / "main.py"
    kept = tmp_path / "store"
    body = f"    fd = os.open({str(kept)!r}, os.O_CREAT | os.O_RDWR)\n    os.write(1, b'output')\n    os._exit(fd)\n"
    main.write_text(f"import os\ndef entry():\n{body}")
    done = subprocess.run(["sh", "-c", '"$0" <&- >&- 2>&-', str(program)], timeout=30)
    assert done.returncode >= 3 and kept.read_bytes() == b""
