# SPDX-License-Identifier: Apache-2.0
"""pause, unpause, restart, rename, update, top, attach and container prune."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from tests.conftest import Lamina

TICK = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done"


def running(lamina: Lamina, name: str, *script: str) -> str:
    return lamina("run", "-d", "--name", name, "--network", "none", "box", *(script or ("sleep", "600"))).out


def test_pause_stops_time_for_the_processes(lamina: Lamina, box: str) -> None:
    cid = running(lamina, "ticker", "sh", "-c", TICK)
    assert lamina("pause", "ticker").out == "ticker"
    time.sleep(0.2)
    before = lamina("logs", "ticker").stdout
    time.sleep(0.3)
    assert lamina("logs", "ticker").stdout == before
    assert "(Paused)" in lamina("ps").out
    assert f"Container {cid} is already paused" in lamina("pause", "ticker").stderr
    assert "is paused, unpause the container before exec" in lamina("exec", "ticker", "true").stderr
    assert lamina("unpause", "ticker").out == "ticker"
    assert f"Container {cid} is not paused" in lamina("unpause", "ticker").stderr
    time.sleep(0.3)
    assert len(lamina("logs", "ticker").stdout) > len(before)
    lamina("pause", "ticker").check()
    assert lamina("rm", "-f", "ticker").out == "ticker", "a paused container can be removed by force"
    assert "No such container: ticker" in lamina("pause", "ticker").stderr


def test_restart_is_stop_and_start(lamina: Lamina, box: str) -> None:
    running(lamina, "again", "sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done")
    first = json.loads(lamina("inspect", "again").out)[0]["State"]
    assert lamina("restart", "-t", "5", "again").out == "again"
    second = json.loads(lamina("inspect", "again").out)[0]["State"]
    assert second["Running"] and second["Pid"] != first["Pid"] and second["StartedAt"] > first["StartedAt"]
    lamina("kill", "again").check()
    lamina("restart", "again").check()
    assert lamina("ps", "--format", "{{.Names}}").out == "again"


def test_rename_frees_the_old_name(lamina: Lamina, box: str) -> None:
    cid = running(lamina, "old")
    lamina("rename", "old", "new").check()
    assert lamina("inspect", "--format", "{{.Id}} {{.Name}}", "new").out == f"{cid} /new"
    assert "No such container: old" in lamina("rename", "old", "other").stderr
    other = running(lamina, "old")
    conflict = lamina("rename", other, "new")
    assert conflict.returncode == 1 and f'The container name "/new" is already in use by container "{cid}"' in conflict.stderr
    assert lamina("rename", "old", " ").returncode == 1


def test_update_reaches_the_cgroup_and_the_record(lamina: Lamina, box: str) -> None:
    cid = lamina("run", "-d", "--name", "limits", "--network", "none", "-m", "64m", "box", "sleep", "600").out
    lamina("update", "--memory", "48m", "--memory-swap", "96m", "--pids-limit", "30", "--cpus", "0.5", "limits").check()
    files = {p.name: p.read_text().strip() for base in Path("/sys/fs/cgroup").glob("**/" + cid) for p in base.iterdir()
             if p.name in ("memory.limit_in_bytes", "memory.max", "pids.max", "cpu.cfs_quota_us", "cpu.max")}  # fmt: skip
    assert files.get("memory.limit_in_bytes", files.get("memory.max")) == str(48 << 20)
    assert files["pids.max"] == "30" and files.get("cpu.cfs_quota_us", files.get("cpu.max", "").split(" ")[0]) == "50000"
    assert lamina("inspect", "--format", "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}", "limits").out == f"{48 << 20} 30"
    assert "Minimum memory limit allowed is 6MB" in lamina("update", "-m", "1m", "limits").stderr
    assert lamina("update", "limits").returncode == 1
    assert "Range of blkio weight is from 10 to 1000" in lamina("update", "--blkio-weight", "5", "limits").stderr


def test_top_shows_the_processes_of_the_container_alone(lamina: Lamina, box: str) -> None:
    running(lamina, "procs", "sh", "-c", "sleep 601 & sleep 602; wait")
    lines = lamina("top", "procs").out.splitlines()
    assert lines[0].split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert {line.split(None, 7)[7] for line in lines[1:]} == {"sh -c sleep 601 & sleep 602; wait", "sleep 601", "sleep 602"}
    assert all(line.split()[0] == "root" and Path(f"/proc/{line.split()[1]}").exists() for line in lines[1:])
    assert lamina("top", "procs", "-o", "pid,comm").out.splitlines()[0].split() == ["PID", "COMMAND"]
    assert lamina("top", "procs", "aux").out.splitlines()[0].split()[:4] == ["USER", "PID", "%CPU", "%MEM"]
    assert "--nonsense" in lamina("top", "procs", "--nonsense").stderr
    assert "Couldn't find PID field" in lamina("top", "procs", "-o", "comm").stderr
    cid = lamina("kill", "procs").out
    assert "is not running" in lamina("top", cid).stderr


def test_attach_sees_what_comes_and_can_write(lamina: Lamina, box: str) -> None:
    lamina("run", "-d", "-i", "--name", "echo", "--network", "none", "box", "cat").check()
    attached = lamina.start("attach", "echo", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert attached.stdin and attached.stdout
    attached.stdin.write(b"hello\n")
    attached.stdin.flush()
    assert attached.stdout.readline() == b"hello\n"
    lamina("kill", "echo").check()
    assert attached.wait(20) == 137
    attached.stdin.close()
    attached.stdout.close()
    assert "You cannot attach to a stopped container, start it first" in lamina("attach", "echo").stderr


def test_attach_detaches_by_keys(lamina: Lamina, box: str) -> None:
    lamina("run", "-d", "-it", "--name", "tty", "--network", "none", "box", "sh").check()
    done = lamina.pty("attach", "--detach-keys", "ctrl-x", "tty", typed=b"echo seen\n\x18")
    assert done.returncode == 0 and lamina("ps", "-q", "--filter", "name=tty").out


def test_prune_removes_what_does_not_run(lamina: Lamina, box: str) -> None:
    keep = running(lamina, "keep")
    gone = lamina("run", "-d", "-l", "kind=x", "--name", "gone", "--network", "none", "box", "true").out
    stay = lamina("create", "-l", "kind=y", "box", "true").out
    lamina("wait", "gone").check()
    out = lamina("container", "prune", "-f", "--filter", "label=kind=x").out
    assert out.splitlines()[:2] == ["Deleted Containers:", gone] and "Total reclaimed space: " in out
    assert set(lamina("ps", "-aq", "--no-trunc").out.split()) == {keep, stay}
    assert lamina("container", "prune", stdin="n\n").returncode == 0
    lamina("container", "prune", "-f").check()
    assert lamina("ps", "-aq", "--no-trunc").out == keep
