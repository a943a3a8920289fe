# SPDX-License-Identifier: Apache-2.0
"""The init program as a file of its own: what the bytes are, and how entry 2 behaves. Entry 1: tests/engine/test_flags_init.py."""
from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lamina.runtime import initprogram

SOURCES = Path(initprogram.__file__).parent
NATIVE = os.uname().machine


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_bytes_are_what_the_source_says(machine: str, tmp_path: Path) -> None:
    native = NATIVE == machine
    names = [tool if native else f"{machine.replace('_', '-')}-linux-gnu-{tool}" for tool in ("as", "nm", "objcopy")]
    if not all(map(shutil.which, names)):
        pytest.skip(f"no assembler for {machine} (package binutils-{machine.replace('_', '-')}-linux-gnu)")
    assembler, nm, objcopy = names
    made = tmp_path / "init.o"
    subprocess.run([assembler, "-o", made, SOURCES / f"init_{machine}.s"], check=True)
    symbols = {line.split()[2]: int(line.split()[0], 16) for line in subprocess.check_output([nm, made], text=True).splitlines()}
    subprocess.run([objcopy, "-O", "binary", "-j", ".text", made, tmp_path / "init.bin"], check=True)
    code = (tmp_path / "init.bin").read_bytes()
    _, alone, text = initprogram.CODE[machine]
    assert bytes.fromhex(text) == code
    assert symbols["told"] == 0 and symbols["alone"] == alone and symbols["data"] == len(code)


def program(tmp_path: Path, *paths: str, machine: str = NATIVE) -> list[str]:
    """A command line that runs entry 2 for `paths`; for a foreign machine by its emulator."""
    runner: list[str] = []
    if machine != NATIVE:
        emulator = shutil.which(f"qemu-{machine}-static")
        if emulator is None:
            pytest.skip(f"no emulator for {machine} (package qemu-user-static)")
        runner = [emulator]
    file = tmp_path / "docker-init"
    file.write_bytes(initprogram.image(paths=[os.fsencode(path) for path in paths], machine=machine))
    file.chmod(0o755)
    return [*runner, str(file), "--"]


MACHINES = pytest.mark.parametrize("machine", ["x86_64", "aarch64"])


@MACHINES
def test_codes_and_paths(machine: str, tmp_path: Path) -> None:
    dull = tmp_path / "dull"
    dull.write_text("no program")
    sh = program(tmp_path, "/nonexistent/sh", str(dull / "below"), "/bin/sh", machine=machine)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*sh, *words], capture_output=True, text=True, env={"A": "b"}, timeout=60)

    done = run("sh", "-c", 'echo "$0 $A $*"', "x", "y z")
    assert (done.returncode, done.stdout, done.stderr) == (0, "x b y z\n", "")
    assert run("sh", "-c", "exit 200").returncode == 200
    assert run("sh", "-c", "kill -9 $$").returncode == 137
    assert run("sh", "-c", "kill -TERM $$").returncode == 143
    # a child that outlives the command is not waited for, one that ends before it is taken away
    assert run("sh", "-c", "(sleep 0.05 &) ; sleep 0.3; exit 4").returncode == 4
    for paths, code in (((str(dull),), 126), (("/nonexistent",), 127), (("/nonexistent", str(dull)), 126)):
        sh = program(tmp_path, *paths, machine=machine)
        done = run("it")
        assert (done.returncode, done.stderr) == (code, "docker-init: the command can't be executed\n")


@MACHINES
def test_signals_reach_the_command(machine: str, tmp_path: Path) -> None:
    script = "trap 'echo hup' HUP; trap 'echo term; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    line = program(tmp_path, "/bin/sh", machine=machine)
    running = subprocess.Popen([*line, "sh", "-c", script], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    running.send_signal(signal.SIGHUP)
    assert running.stdout.readline() == "hup\n"
    running.send_signal(signal.SIGTERM)
    assert running.stdout.readline() == "term\n"
    assert running.wait(30) == 9


def test_orphans_are_reaped(tmp_path: Path) -> None:
    """Also where it isn't process 1; without it they stay with whoever is."""
    look = f"{sys.executable} -c 'import os, time; os.fork() or os._exit(os.fork() and 0); print(os.getppid()); time.sleep(0.2)'"
    line = program(tmp_path, "/bin/sh")
    script = f"{look} & wait; sleep 0.5; ps -o stat= --ppid $PPID | grep -c Z; ps -o pid= --ppid $PPID | wc -l; echo $PPID"
    out = subprocess.run([*line, "sh", "-c", script], capture_output=True, text=True, timeout=60).stdout.split()
    assert out[-3] == "0" and out[-2] == "1", out  # no zombie; its only child is the command


def test_a_seal_keeps_the_program_as_it_is() -> None:
    fds = initprogram.open_program()
    try:
        with pytest.raises(PermissionError):
            os.write(fds[0], b"x")
        with pytest.raises(PermissionError):
            os.ftruncate(fds[0], 0)
        again = os.open(f"/proc/self/fd/{fds[0]}", os.O_RDWR)
        with pytest.raises(PermissionError):
            os.pwrite(again, b"x", 0)
        os.close(again)
    finally:
        for fd in fds:
            os.close(fd)
