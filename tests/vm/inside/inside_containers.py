# SPDX-License-Identifier: Apache-2.0
"""Containers on a kernel that isn't the developer's: cgroup files, device access, AppArmor, leftovers.

Run inside the virtual machine by `scripts/test-vm`, as root, on cgroup v2 and again on v1 (the file's name keeps other runs from it).
"""
from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.runtime.cgroups import detect
from tests.conftest import Lamina

V2 = detect().kind == "v2"
APPARMOR = Path("/sys/kernel/security/apparmor/profiles").exists()


@pytest.fixture(autouse=True)
def the_machine_is_what_we_asked_for() -> None:
    """Else all of this would pass by testing the same thing twice."""
    wanted = os.environ.get("LAMINA_VM_CGROUP")
    assert wanted in ("v1", "v2"), "this is for scripts/test-vm, which says what machine it asked for"
    assert V2 == (wanted == "v2")


def field(lamina: Lamina, ref: str, template: str) -> str:
    return lamina("inspect", "--format", template, ref).out


def group_of(lamina: Lamina, ref: str) -> dict[str, Path]:
    """{controller: directory} of the container's cgroup; one "" on v2."""
    pid, cid = field(lamina, ref, "{{.State.Pid}}"), field(lamina, ref, "{{.Id}}")
    found = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        assert path.endswith("/" + cid), f"not in a cgroup of its own: {line}"
        for name in names.split(","):
            found[name] = Path("/sys/fs/cgroup") / name.removeprefix("name=") / path[1:]
    return found


@pytest.fixture
def running(lamina: Lamina, box: str) -> Iterator[str]:
    yield lamina("run", "-d", "--network", "none", "-m", "64m", "--cpus", "0.5", "--pids-limit", "30", "box", "sleep", "1000").out


def test_limits_are_in_the_kernel(lamina: Lamina, running: str) -> None:
    groups = group_of(lamina, running)
    if V2:
        assert list(groups) == [""]
        expected = {"memory.max": "67108864", "cpu.max": "50000 100000", "pids.max": "30"}
        for file, value in expected.items():
            assert (groups[""] / file).read_text().strip() == value, file
        assert (groups[""] / "memory.swap.max").read_text().strip() == "67108864"
    else:
        assert (groups["memory"] / "memory.limit_in_bytes").read_text().strip() == "67108864"
        assert (groups["cpu"] / "cpu.cfs_quota_us").read_text().strip() == "50000"
        assert (groups["pids"] / "pids.max").read_text().strip() == "30"
        assert {"memory", "cpu", "pids", "devices", "freezer", "cpuset", "blkio"} <= set(groups)


def test_the_view_from_inside_begins_at_the_containers_own_group(lamina: Lamina, running: str) -> None:
    lines = lamina("exec", running, "cat", "/proc/self/cgroup").out.splitlines()
    assert lines and all(line.endswith(":/") for line in lines), lines
    if V2:
        assert lamina("exec", running, "cat", "/sys/fs/cgroup/pids.max").out == "30"
        assert lamina("exec", running, "sh", "-c", "echo max > /sys/fs/cgroup/pids.max").returncode != 0, "it could lift its own limit"
    else:
        assert lamina("exec", running, "cat", "/sys/fs/cgroup/pids/pids.max").out == "30"


def test_out_of_memory_is_told(lamina: Lamina, box: str) -> None:
    done = lamina("run", "--name", "hungry", "--network", "none", "-m", "32m", "box", "tail", "/dev/zero")
    assert done.returncode == 137
    assert field(lamina, "hungry", "{{.State.OOMKilled}}") == "true"
    lamina("run", "--name", "modest", "--network", "none", "-m", "32m", "box", "true").check()
    assert field(lamina, "modest", "{{.State.OOMKilled}}") == "false"


def test_a_fork_bomb_is_stopped_and_killed(lamina: Lamina, box: str) -> None:
    bomb = "(while :; do sleep 1000 & done) 2>/dev/null & exec tail -f /dev/null"
    cid = lamina("run", "-d", "--network", "none", "--pids-limit", "60", "box", "sh", "-c", bomb).out
    file = next(iter(d / "pids.current" for d in group_of(lamina, cid).values() if (d / "pids.current").exists()))
    end = time.monotonic() + 30
    while int(file.read_text()) < 50:
        assert time.monotonic() < end, "the bomb never went off"
        time.sleep(0.05)
    assert int(file.read_text()) <= 60
    lamina("rm", "-f", cid, timeout=60).check()
    assert not list(Path("/sys/fs/cgroup").rglob(cid))


def test_devices(lamina: Lamina, box: str) -> None:
    """mknod is allowed, as in docker; using what it made is not, unless it is on the list."""
    script = """
        mknod /tmp/disk b $1 $2 && mknod /tmp/mem c 1 1 && mknod /tmp/null c 1 3 && mknod /tmp/kmsg c 1 11 || exit 9
        for f in /tmp/disk /tmp/mem /tmp/kmsg; do if true <$f; then echo "$f opens"; fi; done
        true </tmp/null && echo x >/tmp/null && true </dev/zero && echo fine
    """
    disk = os.stat("/dev/vda").st_rdev
    numbers = (str(os.major(disk)), str(os.minor(disk)))
    done = lamina("run", "--rm", "--network", "none", "box", "sh", "-c", script, "sh", *numbers)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr
    assert done.stderr.count("peration not permitted") == 3, done.stderr
    control = lamina("run", "--rm", "--network", "none", "--privileged", "box", "sh", "-c", script, "sh", *numbers)
    assert control.returncode == 0 and "/tmp/disk opens" in control.stdout and "/tmp/kmsg opens" in control.stdout, control.stderr


def test_an_exec_is_under_the_same_device_rules(lamina: Lamina, running: str) -> None:
    done = lamina("exec", running, "sh", "-c", "mknod /tmp/kmsg c 1 11 && true </tmp/kmsg")
    assert done.returncode != 0 and "not permitted" in done.stderr


def test_life(lamina: Lamina, box: str) -> None:
    script = "trap 'exit 5' TERM; echo up; echo data >/file; while :; do sleep 0.1; done"
    cid = lamina("run", "-d", "--name", "life", "box", "sh", "-c", script).out
    end = time.monotonic() + 20
    while lamina("logs", "life").out != "up":
        assert time.monotonic() < end
        time.sleep(0.1)
    assert lamina("ps", "-q", "--no-trunc").out == cid
    assert lamina("exec", "life", "cat", "/file").out == "data"
    assert "A /file" in lamina("diff", "life").out
    image = lamina("commit", "life", "changed").out
    assert image.startswith("sha256:")
    assert field(lamina, "life", "{{.State.Status}}") == "running", "thawed again after the commit's pause"
    lamina("stop", "life").check()
    assert field(lamina, "life", "{{.State.ExitCode}}") == "5"
    lamina("start", "life").check()
    lamina("kill", "life").check()
    lamina("rm", "life").check()
    assert lamina("run", "--rm", "--network", "none", "changed", "cat", "/file").out == "data"
    assert not list(Path("/sys/fs/cgroup").rglob(cid)), "its cgroup is still there"


def test_commit_freezes_the_writer(lamina: Lamina, box: str) -> None:
    """Two files that grow in turn never differ by more than one line in what a pausing commit takes."""
    script = "while :; do echo 1 >>/a; echo 2 >>/b; done"
    lamina("run", "-d", "--name", "writer", "--network", "none", "box", "sh", "-c", script).check()
    for n in range(4):
        lamina("commit", "writer", f"snap{n}").check()
        a, b = (int(x) for x in lamina("run", "--rm", "--network", "none", f"snap{n}", "sh", "-c", "wc -c </a; wc -c </b").out.split())
        assert a > 0 and a - b in (0, 2)
    lamina("rm", "-f", "writer").check()


def test_seccomp_is_in_force(lamina: Lamina, box: str) -> None:
    script = "grep -E '^(Seccomp|CapEff)' /proc/self/status; unshare -U true 2>&1; mount -t tmpfs t /tmp 2>&1; true"
    out = lamina("run", "--rm", "--network", "none", "box", "sh", "-c", script).out
    assert "Seccomp:\t2" in out and "00000000a80425fb" in out
    assert "ermission denied" in out or "not permitted" in out


def test_network_with_a_bridge(lamina: Lamina, box: str) -> None:
    out = lamina("run", "--rm", "box", "sh", "-c", "ip -o -4 addr show; ip route").out
    assert "eth0" in out and "default via" in out
    if ip := subprocess.run(["ip", "-4", "route", "show", "default"], capture_output=True, text=True).stdout.split():
        gateway = ip[2]
        lamina("run", "--rm", "box", "ping", "-c", "1", "-W", "5", gateway).check()


# ---- AppArmor ----

needs_apparmor = pytest.mark.skipif(not APPARMOR, reason="this kernel has no AppArmor switched on")


def test_debians_kernel_has_apparmor() -> None:
    assert APPARMOR, "the tests below would all be skipped"


@needs_apparmor
def test_the_default_profile(lamina: Lamina, box: str) -> None:
    cid = lamina("run", "-d", "--network", "none", "box", "sleep", "1000").out
    pid = field(lamina, cid, "{{.State.Pid}}")
    assert Path(f"/proc/{pid}/attr/apparmor/current").read_text().strip("\0\n") == "lamina-default (enforce)"
    assert field(lamina, cid, "{{.AppArmorProfile}}") == "lamina-default"
    assert lamina("exec", cid, "cat", "/proc/self/attr/apparmor/current").out.strip("\0") == "lamina-default (enforce)"
    privileged = lamina("run", "--rm", "--network", "none", "--privileged", "box", "cat", "/proc/self/attr/apparmor/current").out
    assert privileged.strip("\0") == "unconfined"
    assert "name=apparmor" in json.loads(lamina("system", "info", "--format", "{{json .SecurityOptions}}").out)
    lamina("stop", "-t", "1", cid).check()  # a signal of ours gets in


@needs_apparmor
def test_what_the_profile_denies_with_every_capability(lamina: Lamina, box: str) -> None:
    """Control: the same with --privileged, which has no profile. What capabilities allow, the profile still refuses."""
    script = """
        mkdir -p /tmp/m /tmp/p
        mount -t tmpfs t /tmp/m 2>/dev/null && echo mounted
        mount -t proc p /tmp/p 2>/dev/null && echo x 2>/dev/null >/tmp/p/sys/kernel/domainname && echo written
        cat /sys/kernel/security/apparmor/profiles >/dev/null 2>&1 && echo seen
        cat /proc/kcore 2>/dev/null | head -c 1 | grep -q . && echo core
        echo a >/proc/self/comm && echo b >/tmp/f && cat /proc/1/status >/dev/null && kill -0 1 && echo usable
    """
    every = ["--cap-add", "ALL"]
    confined = lamina("run", "--rm", "--network", "none", *every, "box", "sh", "-c", script)
    assert (confined.returncode, confined.stdout) == (0, "usable\n"), confined.stderr
    control = lamina("run", "--rm", "--network", "none", "--privileged", "box", "sh", "-c", script)
    assert control.stdout.split()[:2] == ["mounted", "written"] and "usable" in control.stdout, control.stderr


@needs_apparmor
def test_the_profile_is_loaded_again_when_somebody_unloads_it(lamina: Lamina, box: str) -> None:
    lamina("run", "--rm", "--network", "none", "box", "true").check()
    subprocess.run(["apparmor_parser", "--remove"], input="profile lamina-default {}\n", text=True, check=True)
    out = lamina("run", "--rm", "--network", "none", "box", "cat", "/proc/self/attr/apparmor/current").out
    assert out.strip("\0") == "lamina-default (enforce)"


def test_nothing_is_left_of_any_engine() -> None:
    """Runs last: what earlier tests of this machine left at the top of the hierarchies."""
    left = [p for p in Path("/sys/fs/cgroup").glob("lm-*")] + [p for p in Path("/sys/fs/cgroup").glob("*/lm-*")]
    assert not left
