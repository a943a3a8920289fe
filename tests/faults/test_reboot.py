# SPDX-License-Identifier: Apache-2.0
"""The power went, and everything that was running is gone: with the runroot (a tmpfs), or without it. Then pids mean other processes, and
what was written down about the old ones must harm nobody."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lamina.linux import mount, ns
from lamina.runtime.cgroups import Cgroup
from lamina.store import presence
from lamina.util.identity import boot_id

from . import world

if TYPE_CHECKING:
    from tests.conftest import Lamina

OTHER_BOOT = "00000000-1111-2222-3333-444444444444"


def state_file(lamina: Lamina, cid: str) -> Path:
    return lamina.root / "containers" / cid / "state.json"


def crash(lamina: Lamina, *cids: str) -> None:
    """What a power cut does to the processes, mounts and cgroups of containers, and to the host's network."""
    names = world.names_of(lamina)
    for cid in cids:
        state = json.loads(state_file(lamina, cid).read_text())
        os.kill(state["monitor_pid"], signal.SIGKILL)
        group = Cgroup.open(f"{names.cgroup}/{cid}")
        group.kill()
        group.remove()
        mount.umount(os.path.realpath(lamina.runroot) + f"/rootfs/{cid}", mount.MNT_DETACH)
    subprocess.run(["nft", "delete", "table", "inet", names.table], check=True)
    subprocess.run(["ip", "link", "delete", names.bridge], check=True)


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process of somebody else's, which has got the pids of the old ones."""
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("gone", [True, False], ids=["runroot gone", "runroot kept"])
def test_after_a_reboot(lamina: Lamina, box: str, gone: bool, stranger: subprocess.Popen[bytes]) -> None:
    kept = lamina("run", "-d", "--name", "kept", "-v", "data:/data", "-p", "127.0.0.1::80", "box", "sh", "-c", "echo said; sleep 1000").out
    removed = lamina("run", "-d", "--rm", "--name", "removed", "-v", "/anonymous", "box", "sleep", "1000").out
    with sqlite3.connect(lamina.root / "lamina.db") as db:
        db.execute("INSERT INTO leases (id, pid, start_time, boot_id, what, created_ns) VALUES ('l1', ?, ?, ?, 'import', 0)",
                   (stranger.pid, ns.start_time(stranger.pid), OTHER_BOOT))
        db.execute("INSERT INTO lease_items VALUES ('l1', 'tmp', 'layer-x')")
    db.close()
    (lamina.root / "tmp/layer-x").mkdir()
    crash(lamina, kept, removed)
    for cid in (kept, removed):
        rewrite(state_file(lamina, cid), boot_id=OTHER_BOOT, pid=stranger.pid, start_time=ns.start_time(stranger.pid),
                monitor_pid=stranger.pid, monitor_start_time=ns.start_time(stranger.pid))  # fmt: skip
    if gone:
        shutil.rmtree(lamina.runroot)
    else:
        rewrite(lamina.runroot / "boot.json", boot_id=OTHER_BOOT)
        (lamina.runroot / "active" / presence.name_of(stranger.pid, ns.start_time(stranger.pid), kept)).touch()
    listed = lamina("ps", "-a", "--format", "{{.Names}} {{.State}}").out
    assert listed == "kept exited"
    assert lamina("inspect", "-f", "{{.State.ExitCode}} {{.State.Error}}", "kept").out == "137 monitor lost"
    assert not world.wrong(lamina)
    assert lamina("logs", "kept").out == "said"
    assert lamina("volume", "ls", "-q").out == "data"
    assert lamina("start", "kept").out == "kept"
    assert lamina("exec", "kept", "echo", "runs").out == "runs"
    assert lamina("rm", "-f", "kept").out == "kept"
    assert stranger.poll() is None


VERBS = {
    "ps": ["ps"], "stop": ["stop", "-t", "0", "kept"], "kill": ["kill", "kept"], "rm": ["rm", "-f", "kept"], "start": ["start", "kept"],
    "restart": ["restart", "-t", "0", "kept"], "pause": ["pause", "kept"], "wait": ["wait", "kept"], "exec": ["exec", "kept", "id"],
    "attach": ["attach", "kept"], "top": ["top", "kept"], "stats": ["stats", "--no-stream", "kept"], "export": ["export", "kept"],
    "commit": ["commit", "kept"], "cp": ["cp", "kept:/etc/passwd", "-"], "update": ["update", "-m", "64m", "kept"],
    "check": ["system", "check"],
}  # fmt: skip


SOME = ["ps", "stop", "rm", "start", "export"]


@pytest.mark.parametrize("verbs", [SOME, pytest.param(list(VERBS), marks=pytest.mark.all)], ids=["some verbs", "every verb"])
@pytest.mark.parametrize("boot", ["this boot", "another boot"])
def test_whoever_has_its_pids_now_is_left_alone(
    lamina: Lamina, box: str, stranger: subprocess.Popen[bytes], boot: str, verbs: list[str]
) -> None:
    """Under the same boot id a recycled pid has another start time; under another boot id even that may be the same."""
    cid = lamina("create", "--name", "kept", "--network", "none", "box", "sleep", "1000").out
    began = ns.start_time(stranger.pid)
    record = {
        "status": "running", "pid": stranger.pid, "start_time": began - 1, "monitor_pid": stranger.pid, "monitor_start_time": began - 1,
        "boot_id": boot_id(), "started_at": 1, "finished_at": 0, "exit_code": 0, "oom_killed": False, "error": "",
    }  # fmt: skip
    if boot == "another boot":
        record |= {"boot_id": OTHER_BOOT, "start_time": began, "monitor_start_time": began}
    for verb in verbs:
        words = VERBS[verb]
        if not state_file(lamina, cid).parent.exists():
            cid = lamina("create", "--name", "kept", "--network", "none", "box", "sleep", "1000").out
        state_file(lamina, cid).write_text(json.dumps(record))
        (lamina.runroot / "containers" / cid).mkdir(exist_ok=True)
        done = lamina(*words)
        assert "internal error" not in done.stderr and "Traceback" not in done.stderr, f"{verb}: {done.stderr}"
        assert stranger.poll() is None, f"{verb} has killed a stranger"
        lamina("rm", "-f", "kept")
        assert not world.wrong(lamina), verb
    assert stranger.poll() is None
