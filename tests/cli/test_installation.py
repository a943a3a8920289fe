# SPDX-License-Identifier: Apache-2.0
"""What `pip install` and `pip install -e` leave behind works: both programs, with a container from a zstd-compressed archive.

pip runs without the network, with the setuptools of the tests' own environment; pipx is the same pip with links to the programs.
"""
from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Lamina

REPO = Path(__file__).resolve().parents[2]


def done(*argv: str | Path) -> str:
    result = subprocess.run(list(map(str, argv)), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, f"{argv}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what an installation needs, as pip writes beside the sources."""
    copy = tmp_path / "a checkout"
    copy.mkdir()
    for name in ("src", "bin"):
        shutil.copytree(REPO / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for file in (REPO / "pyproject.toml", *REPO.glob("README*"), *REPO.glob("LICEN*")):
        shutil.copy(file, copy)
    return copy


@pytest.mark.parametrize("options", [[], ["-e"]], ids=["pip", "pip -e"])
@pytest.mark.parametrize("linked", [False, True], ids=["itself", "through a link, as by pipx"])
def test_an_installation_works(
    lamina: Lamina, checkout: Path, tmp_path: Path, busybox_tar: Path, options: list[str], linked: bool
) -> None:
    builder = importlib.util.find_spec("setuptools")  # not imported: it would replace distutils in this process
    if builder is None or builder.origin is None or importlib.util.find_spec("pip") is None:
        pytest.skip("needs pip and setuptools in the environment of the tests")
    if int(importlib.metadata.version("setuptools").split(".")[0]) < 71:
        pytest.skip("needs setuptools >= 71, which makes wheels by itself")
    if shutil.which("zstd") is None:
        pytest.skip("needs the program zstd")
    environment = tmp_path / "environment"
    done(sys.executable, "-m", "venv", "--without-pip", environment)
    (site,) = environment.glob("lib/python3.*/site-packages")
    for pattern in ("setuptools*", "_distutils_hack"):  # instead of the download of an isolated build
        for part in Path(builder.origin).parents[1].glob(pattern):
            (site / part.name).symlink_to(part)
    pip = [sys.executable, "-m", "pip", "--python", environment / "bin/python", "install", "-q", "--disable-pip-version-check"]
    done(*pip, "--no-index", "--no-deps", "--no-build-isolation", *options, checkout)
    programs = environment / "bin"
    if linked:
        programs = tmp_path / "programs"
        programs.mkdir()
        for name in ("lamina", "lamina-runtime"):
            (programs / name).symlink_to(environment / "bin" / name)

    if not options:
        shutil.rmtree(checkout)  # nothing of it is needed any more
    ours, lamina.prefix[0] = lamina.prefix[0], str(programs / "lamina")
    assert "Version:" in lamina("version").out
    done("zstd", "-q", busybox_tar, "-o", tmp_path / "box.tar.zst")
    assert lamina("import", tmp_path / "box.tar.zst", "box").out.startswith("sha256:")
    assert lamina("run", "--rm", "box", "true").check().stdout == ""
    assert done(programs / "lamina-runtime", "--version").startswith("lamina-runtime version ")

    if options:
        shutil.rmtree(checkout)
        assert "its Python package is not where" in lamina("version").stderr, "the control: -e runs what is in the checkout"
    lamina.prefix[0] = ours
