# SPDX-License-Identifier: Apache-2.0
"""The architecture of docs/architecture.md as a test: who may import whom, and who may touch what."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src" / "lamina"

# Rows from the top down. A package may import the rows below its own, never its own row's siblings, never upwards.
ROWS = [
    {"__main__"},
    {"cli"},
    {"engine"},
    {"monitor", "build"},
    {"images", "containers", "volumes", "network", "registry", "runtime"},
    {"content", "layers"},
    {"store"},
    {"util", "spec"},
    {"linux"},
    {"errors"},
    {"modules"},  # how all others are imported
]
ROW_OF = {name: i for i, row in enumerate(ROWS) for name in row}

# What crosses the rows on purpose, each with its reason.
ALLOWED = {
    ("images", "containers"): "commit turns a container's record into an image; removal asks which containers use it",
    ("spec", "util"): "reference and config parsing use digest grammar and JSON",
}

ONLY = {
    "_ctypes": ("linux/", "kernel calls stay in one package of thin wrappers"),
    "ctypes": ("linux/", "kernel calls stay in one package of thin wrappers"),
    "subprocess": ("util/proc.py", "one place starts programs: absolute path, clean environment, no shell"),
    "pickle": ("", "stored and received bytes are data, never code"),
    "tarfile": ("", "its extraction filters have been bypassed again and again; layers/tar is ours"),
}


def modules() -> list[Path]:
    return sorted(SRC.rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything that a file imports (also inside functions, also only for types)."""
    package = ["lamina", *path.relative_to(SRC).parent.parts]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
                stem = ".".join([*base, *(node.module or "").split(".")]).rstrip(".")
            else:
                stem = node.module or ""
            if stem == "lamina":
                for alias in node.names:
                    yield node.lineno, f"lamina.{alias.name}"
            else:
                yield node.lineno, stem


def owner(path: Path) -> str:
    first = path.relative_to(SRC).parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SRC)))
def test_imports_go_down_only(path: Path) -> None:
    me = owner(path)
    if me == "__init__":
        return  # the library's facade re-exports lazily, from the top
    assert me in ROW_OF, f"{me}: a package that has no row in ROWS; place it"
    for line, name in imports(path):
        if not name.startswith("lamina."):
            continue
        other = name.split(".")[1]
        if other == me or other not in ROW_OF or (me, other) in ALLOWED:
            continue
        assert ROW_OF[other] > ROW_OF[me], (
            f"{path.relative_to(SRC)}:{line} imports {name}: '{me}' (row {ROW_OF[me]}) may not import '{other}' (row {ROW_OF[other]}); "
            "imports go down only and siblings don't know each other, so that each part can be used and tested without what stands on it"
        )


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SRC)))
def test_who_may_import_what(path: Path) -> None:
    where = str(path.relative_to(SRC))
    for line, name in imports(path):
        rule = ONLY.get(name.split(".")[0])
        if rule is None:
            continue
        place, why = rule
        assert place and where.startswith(place), f"{where}:{line} imports {name}, allowed in {place or 'no module'}: {why}"


FACES = ("cli/", "runtime/cli", "monitor/__main__.py", "__main__.py")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SRC)))
def test_only_faces_read_the_environment_print_or_exit(path: Path) -> None:
    where = str(path.relative_to(SRC))
    if where.startswith(FACES):
        return
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"print", "exit", "quit", "input"}, (
                f"{where}:{node.lineno} calls {node.func.id}(): only the faces talk to the user"
            )
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            dotted = f"{node.value.id}.{node.attr}"
            assert dotted not in {"sys.exit", "sys.argv", "os.environ", "os.getenv", "sys.stdout", "sys.stderr"}, (
                f"{where}:{node.lineno} uses {dotted}: only the faces read the environment and argv, print or exit"
            )


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SRC)))
def test_every_file_names_its_licence(path: Path) -> None:
    assert path.read_text().startswith("# SPDX-License-Identifier: Apache-2.0\n"), path
