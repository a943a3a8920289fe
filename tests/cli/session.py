# SPDX-License-Identifier: Apache-2.0
"""Sessions: command lines given to an engine one after the other, with what came back. `scripts/golden` records docker's, a test replays.

goldens/session.txt has a command line a line, in shell words without `docker`. Before it may stand marks, each ended by a blank:
`tty` (stdin, stdout and stderr are one terminal of 100x40), `in=TEXT` (stdin; \\n is a newline), `wait` (a pause before it).
In a line {id:NAME}, {short:NAME}, {image:NAME} and {imageshort:NAME} stand for ids of that container or image, {dir} for the
directory in which everything runs, {port} for a port of the host that nobody has. There are box.tar, the tree of an image that is
exactly 5 MB by docker's reckoning, and tiny.tar, with one file of 12 bytes.
"""
from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import shlex
import socket
import struct
import subprocess
import tarfile
import termios
import time
from pathlib import Path
from typing import Any

BUSYBOX = Path("/bin/busybox")
APPLETS = (
    "sh cat echo ls true false sleep id env hostname grep ps kill touch mkdir rm ln cp mv chmod stat head wc tr printf test stty tty pwd"
).split()
BOX_SIZE = 5_000_000
REFERENCE = re.compile(r"\{(id|short|image|imageshort):([^}]+)\}")
AGE = r"(?:Less than a second|About a minute|About an hour|\d+ (?:second|minute|hour)s?)"
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z| ?[+-]\d\d:?\d\d(?: [A-Z]+)?)")


def make_files(directory: Path) -> None:
    """What the command lines name."""
    with tarfile.open(directory / "tiny.tar", "w") as tar:
        add(tar, "hello", b"hello, file\n")
    with tarfile.open(directory / "box.tar", "w") as tar:
        for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "usr", "usr/bin", "var"):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(info)
        files = {
            "bin/busybox": BUSYBOX.read_bytes(), "etc/group": b"root:x:0:\nuser:x:1000:\n",
            "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n", "etc/plain": b"no program\n",
        }  # fmt: skip
        for name, data in files.items():
            add(tar, name, data, 0o755 if name.startswith("bin/") else 0o644)
        for name in APPLETS:
            info = tarfile.TarInfo(f"bin/{name}")
            info.type, info.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(info)
        add(tar, "var/filler", bytes(BOX_SIZE - sum(map(len, files.values())) - len("busybox") * len(APPLETS)))
    (directory / "envfile").write_text("FROM_FILE=1\n# a comment\nB=two words\n")
    (directory / "badenv").write_text("with blank=1\n")
    (directory / "labels").write_text("from.file=yes\n")
    (directory / "note").write_text("a note\n")


def add(tar: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), mode, 1_700_000_000
    tar.addfile(info, io.BytesIO(data))


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


class Session:
    """One engine, in one directory; `ids` are those that its command lines or answers can name."""

    def __init__(self, command: list[str], directory: Path, *, pause: float = 1.2) -> None:
        self.command = command
        self.pause = pause  # for `wait`: docker orders by whole seconds
        self.directory = directory
        self.ids: dict[str, str] = {}
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = str(server.getsockname()[1])

    def run(self, line: str) -> dict[str, Any]:
        """{"line", "code", "stdout", "stderr"}; on a terminal all that it showed is "stdout"."""
        marks, text = [], self.fill(line)
        while (word := text.split(" ", 1)[0]) in ("tty", "wait") or word.startswith("in="):
            marks.append(word)
            text = text[len(word) + 1 :]
        words = shlex.split(text)
        typed = "".join(mark[3:].replace("\\n", "\n") for mark in marks if mark.startswith("in=")).encode()
        if "wait" in marks:
            time.sleep(self.pause)
        argv = [*self.command, *words]
        if "tty" in marks:
            code, out, err = *on_terminal(argv, self.directory, typed), b""
        else:
            done = subprocess.run(argv, input=typed, capture_output=True, timeout=60, cwd=self.directory)
            code, out, err = done.returncode, done.stdout, done.stderr
        stdout, stderr = (self.normal(data.decode(errors="replace")) for data in (out, err))
        return {"line": line, "code": code, "stdout": stdout, "stderr": stderr}

    def fill(self, line: str) -> str:
        def one(match: re.Match[str]) -> str:
            kind, name = match.groups()
            what = "image" if kind.startswith("image") else "container"
            key = f"{what}:{name}"
            if key not in self.ids:
                argv = [*self.command, "inspect", "--type", what, "--format", "{{.Id}}", name]
                self.ids[key] = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
            full = self.ids[key]
            return full.removeprefix("sha256:")[:12] if kind.endswith("short") else full

        return REFERENCE.sub(one, line).replace("{dir}", str(self.directory)).replace("{port}", self.port)

    def normal(self, text: str) -> str:
        """The text without what differs from run to run: ids that no command line has named, ages, times, the directory."""
        for key, full in self.ids.items():
            kind, name = key.split(":", 1)
            digits = full.removeprefix("sha256:")
            text = text.replace(digits, f"<{kind} {name}>").replace(digits[:12], f"<{kind} {name} short>")
        text = text.replace(str(self.directory), "<dir>").replace(self.port, "<port>")
        text = re.sub(r"\b[0-9a-f]{64}\b", "<id>", text)
        text = re.sub(r"\b[0-9a-f]{12}\b", "<short id>", text)
        text = TIME.sub("<time>", text)
        text = re.sub(AGE, "<age>", text)
        # a column with an age is as wide as the age
        return re.sub(" {3,}", "   ", text) if "<age>" in text else text


def on_terminal(argv: list[str], directory: Path, typed: bytes) -> tuple[int, bytes]:
    leader, follower = pty.openpty()
    fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = subprocess.Popen(argv, stdin=follower, stdout=follower, stderr=follower, cwd=directory, start_new_session=True)
    os.close(follower)
    seen = bytearray()
    if typed:
        os.write(leader, typed)
    try:
        while select.select([leader], [], [], 60)[0]:
            seen += os.read(leader, 65536)
    except OSError:  # EIO: the last holder of the other end is gone
        pass
    os.close(leader)
    return process.wait(60), bytes(seen)
