# SPDX-License-Identifier: Apache-2.0
"""The power goes while images are imported, committed and removed: nothing that was acknowledged is missing or damaged afterwards.

One run of `crash/writer.py` in a virtual machine whose disk has a cache gives as many disks as one likes that a power cut may have left
(`vm-replay`: all that was flushed, and some of the rest, in any order). Each is mounted here, which replays its journal, and looked at by
`crash/state.py`. `scripts/test-vm crash` looks at 100 of them; LAMINA_CRASH_STATES says another number.
"""
from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path

import pytest

from tests.vm.crash.writer import DISK_BYTES, FS_BYTES, read_marks

REPO = Path(__file__).resolve().parents[2]
VM = Path(os.environ.get("LAMINA_VM_RUN", REPO.parent / "shared/vm/vm-run"))
STATES = int(os.environ.get("LAMINA_CRASH_STATES", "25"))
OPERATIONS = 25
MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-F", "{disk}", f"{FS_BYTES >> 10}k"],
    "xfs": ["mkfs.xfs", "-q", "-d", f"size={FS_BYTES}", "{disk}"],
    "btrfs": ["mkfs.btrfs", "-q", "--byte-count", str(FS_BYTES), "{disk}"],
}


@pytest.mark.all
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not VM.exists() or os.geteuid() != 0, reason="needs root, and a vm-run that boots Debian in qemu")
@pytest.mark.parametrize("fs", os.environ.get("LAMINA_CRASH_FS", "ext4").split(","))
def test_nothing_acknowledged_is_lost(tmp_path: Path, fs: str) -> None:
    disk, new, log = tmp_path / "disk.img", tmp_path / "new.img", tmp_path / "writes"
    mount, root, runroot = tmp_path / "disk", tmp_path / "disk/root", tmp_path / "run"
    with open(new, "wb") as file:
        file.truncate(DISK_BYTES)
    subprocess.run([word.format(disk=new) for word in MAKE[fs]], check=True)
    subprocess.run(["cp", "--sparse=always", new, disk], check=True)
    packages = (REPO / "tests/vm/packages").read_text().split()
    writer = subprocess.run(
        [VM, "--mem", "1G", "--timeout", "1500", "--no-net", "--share", f"{REPO}:ro", *(f"--package={name}" for name in packages),
         "--disk", disk, "--disk-fs", "none", "--log-writes", log, "--", "sh", REPO / "tests/vm/inside/copied.sh", REPO,
         "python3", "tests/vm/crash/writer.py", ".", fs, mount, root, runroot, str(OPERATIONS)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True)  # fmt: skip
    assert writer.returncode == 0, writer.stdout[-2000:] + writer.stderr[-4000:]

    replay = VM.parent / "vm-replay"
    flushes = len(subprocess.run([replay, log], capture_output=True, text=True, check=True).stdout.splitlines())
    every = read_marks(str(disk))
    assert every[-1] == {"at": "done"} and flushes > 100, "the writer did not get to its end"
    marks = tmp_path / "marks.json"
    marks.write_text(json.dumps(every))
    mount.mkdir()

    def look(at: int, seed: int, *, late_marks: bool = False) -> list[str]:
        """What is wrong with the disk after a cut between the flushes `at` and `at` + 1."""
        state = tmp_path / "state.img"
        subprocess.run([replay, log, state, "--at", str(at), "--seed", str(seed), "--base", new], check=True)
        if late_marks:
            with open(disk, "rb") as source, open(state, "r+b") as target:
                source.seek(FS_BYTES)
                target.seek(FS_BYTES)
                target.write(source.read())
        seen.add(len(read_marks(str(state))))
        done = subprocess.run(
            ["unshare", "-m", "python3", REPO / "tests/vm/crash/state.py", state, fs, mount, root, runroot, marks],
            stdin=subprocess.DEVNULL, capture_output=True, text=True)  # fmt: skip
        return json.loads(done.stdout) if done.returncode == 0 else [done.stderr[-2000:]]  # type: ignore[no-any-return]

    seen: set[int] = set()
    control = look(flushes // 2, 0, late_marks=True)
    assert any("is not there instead of sha256:" in problem for problem in control), f"told of later images, nothing was missed: {control}"
    wrong = {}
    for seed in range(STATES):
        at = random.Random(f"{fs} {seed}").randrange(flushes)
        if problems := look(at, seed):
            wrong[f"--at {at} --seed {seed}"] = problems
    assert not wrong, f"{len(wrong)} of {STATES} disks: " + json.dumps(wrong, indent=1)[:8000]
    assert len(seen) > min(STATES, 20) / 2, "the power always went at the same moment"
