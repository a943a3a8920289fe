# SPDX-License-Identifier: Apache-2.0
"""The fault points, read from the source: every call in src/lamina by which it changes the world, found in its syntax tree.

`WORLD` names the doors: functions of `os` and their like, and lamina's own ways to the kernel (`syscall`), to netlink and to SQLite.
A point is one such call; `inject.py`, which stands in those doors at run time, tells which of them a command passes.
"""

from __future__ import annotations

import ast
from pathlib import Path

SRC = Path(__file__).resolve().parents[2] / "src"

# module -> functions of it. `os.open` counts only when it may make a file.
WORLD: dict[str, tuple[str, ...]] = {
    "os": (
        "mkdir", "rename", "unlink", "rmdir", "write", "symlink", "link", "mknod", "mkfifo", "chmod", "fchmod", "chown", "fchown", "lchown",
        "utime", "setxattr", "removexattr", "kill", "fork", "truncate", "ftruncate", "fsync", "fdatasync", "posix_spawn", "copy_file_range",
        "sendfile", "open", "chroot", "makedirs", "replace", "pwrite", "posix_fallocate",
    ),
    "fcntl": ("ioctl",),
}  # fmt: skip
SYSCALLS = ("syscall", "syscall_holding_gil")
# Calls of the kernel after which nothing is there that would outlive their caller.
READING = (
    "FSTATFS", "GETSOCKOPT", "CAPGET", "OPENAT2", "PIDFD_OPEN", "OPEN_TREE", "FSOPEN", "PRCTL", "CLOSE_RANGE", "SYNCFS", "FSCONFIG",
    "FSMOUNT", "SETNS",
)  # fmt: skip
METHODS = ("sendto", "bind")  # of sockets: netlink's requests, and the names of Unix sockets


class Site:
    """One call: file below src/, first and last line, and the door's name."""

    __slots__ = ("door", "file", "first", "last")

    def __init__(self, file: str, node: ast.Call, door: str) -> None:
        self.file, self.first, self.last, self.door = file, node.lineno, node.end_lineno or node.lineno, door

    def __repr__(self) -> str:
        return f"{self.file}:{self.first} {self.door}"


def door_of(node: ast.Call) -> str:
    """The door that a call goes through, or ""."""
    called = node.func
    if ast.unparse(called).removeprefix("_libc.") in SYSCALLS and node.args:
        number = ast.unparse(node.args[0]).removeprefix("_libc.")
        return "" if number in READING else f"syscall.{number}"
    if isinstance(called, ast.Attribute):
        if isinstance(called.value, ast.Name) and called.attr in WORLD.get(called.value.id, ()):
            if called.attr == "open" and "O_CREAT" not in ast.unparse(node):
                return ""
            return f"{called.value.id}.{called.attr}"
        if called.attr in METHODS:
            return f"socket.{called.attr}"
        if called.attr == "execute" and ast.unparse(called.value) in ("connection", "self._open()"):
            return "sqlite.execute"
        if called.attr == "close" and ast.unparse(called.value) == "connection":
            return "sqlite.close"
        if called.attr == "executemany" and ast.unparse(called.value) == "self._open()":
            return "sqlite.execute"
    elif isinstance(called, ast.Name):
        if called.id == "ioctl":
            return "fcntl.ioctl"
        if called.id == "use":
            return "socket.bind"  # sockets.with_short_path calls what it is handed
    return ""


def sites() -> list[Site]:
    """Every point of src/lamina, file by file."""
    found = []
    for path in sorted((SRC / "lamina").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call) and (door := door_of(node)):
                found.append(Site(str(path.relative_to(SRC / "lamina")), node, door))
    return found


def find(table: dict[str, list[Site]], file: str, line: int) -> list[Site]:
    return [site for site in table.get(file, ()) if site.first <= line <= site.last]


def by_file() -> dict[str, list[Site]]:
    table: dict[str, list[Site]] = {}
    for site in sites():
        table.setdefault(site.file, []).append(site)
    return table
