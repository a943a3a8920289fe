# SPDX-License-Identifier: Apache-2.0
"""Flags of run and create that shape the process: what they promise, seen from inside a container, after a restart, and by exec."""
from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Lamina

NONE = ("--network", "none")
SYSTEM = Path("/sys/fs/cgroup")


def status(lamina: Lamina, *flags: str, field: str) -> str:
    return lamina("run", "--rm", *NONE, *flags, "box", "grep", f"^{field}:", "/proc/self/status").out.split()[1]


def test_what_restart_and_exec_keep(lamina: Lamina, box: str) -> None:
    """Limits, kernel settings, groups and no_new_privs: the same at the second start, and for a process that comes later."""
    script = "id -G; ulimit -n; ulimit -Hn; cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_default_ttl; grep NoNew /proc/self/status"
    flags = ("--group-add", "50", "--ulimit", "nofile=40:50", "--sysctl", "kernel.msgmax=9000",
             "--sysctl", "net.ipv4.ip_default_ttl=77", "--security-opt", "no-new-privileges")  # fmt: skip
    wanted = ["0 50", "40", "50", "9000", "77", "NoNewPrivs:\t1"]
    lamina("run", "-d", "--name", "cc", *NONE, *flags, "box", "sh", "-c", f"{script}; sleep 1000").check()
    for _ in range(2):
        assert lamina("exec", "cc", "sh", "-c", script).out.splitlines() == wanted
        lamina("restart", "-t", "0", "cc").check()
    end = time.monotonic() + 10
    while len(lines := lamina("logs", "cc").out.splitlines()) < 3 * len(wanted) and time.monotonic() < end:
        time.sleep(0.05)
    assert lines == wanted * 3
    plain = lamina("run", "--rm", *NONE, "box", "sh", "-c", script).out.splitlines()
    assert all(a != b for a, b in zip(plain, wanted, strict=True)), plain


def test_few_descriptors_are_enough_to_start(lamina: Lamina, box: str) -> None:
    assert lamina("run", "--rm", *NONE, "--ulimit", "nofile=8", "box", "sh", "-c", "ulimit -n").out == "8"


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--network", "host", "--sysctl", "net.ipv4.ip_forward=1"], 'sysctl "net.ipv4.ip_forward" is not allowed'),
        (["--ipc", "host", "--sysctl", "kernel.msgmax=5"], 'sysctl "kernel.msgmax" is not allowed'),
        (["--sysctl", "net/../kernel.panic=1"], "sysctl"),
        (["--sysctl", "net.x/../../kernel/core_pattern=|/x"], "is not a valid name"),
        (["--device", "/nope"], 'error gathering device information while adding custom device "/nope": no such file or directory'),
        (["--device", "/etc/passwd:/dev/p"], "not a device node"),
        (["--security-opt", "foo=1"], 'invalid --security-opt 2: "foo=1"'),
        (["--security-opt", "no-new-privileges=x"], 'invalid --security-opt 2: "no-new-privileges=x"'),
        (["--ipc", "foo"], "invalid IPC mode: foo"),
        (["--ipc", "container:nope"], "No such container: nope"),
        (["--ipc", "host", "--shm-size", "1m"], "conflicting options: shm-size and the IPC mode"),
        (["--uts", "host", "-h", "x"], "conflicting options: hostname and the UTS mode"),
        (["--pid", "container:nope"], "No such container: nope"),
        (["--oom-score-adj", "5000"], "Invalid value 5000, range for oom score adj is [-1000, 1000]"),
        (["--cpu-period", "10"], "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"),
        (["--cpuset-cpus", "999"], "Requested CPUs are not available - requested 999, available: 0"),
        (["--cpuset-cpus", "x"], "Invalid value x for cpuset cpus: invalid format: x"),
        (["--cpuset-mems", "99"], "Requested memory nodes are not available - requested 99, available: 0"),
        (["--cpu-quota", "10"], "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        (["--memory-reservation", "1m"], "Minimum memory reservation allowed is 6MB"),
        (["--stop-signal", "foo"], "nvalid signal: foo"),
        (["--ip", "1.2.3.4"], "user specified IP address is supported on user defined networks only"),
        (["--network", "host", "--mac-address", "02:42:00:00:00:05"], "conflicting options: mac-address and the network mode"),
        (["--log-opt", "foo=1"], "unknown log opt 'foo' for json-file log driver"),
        (["--log-opt", "max-size=x"], "failed to initialize logging driver: invalid size: 'x'"),
        (["--log-opt", "max-file=0"], "failed to initialize logging driver: max-file cannot be less than 1"),
    ],
)  # fmt: skip
def test_refused_before_anything_is_made(lamina: Lamina, box: str, flags: list[str], text: str) -> None:
    done = lamina("run", *flags, "box", "true")
    assert done.returncode == 125 and text in done.stderr, done.stderr
    assert lamina("ps", "-aq").out == ""


def test_seccomp(lamina: Lamina, box: str, tmp_path: Path) -> None:
    assert status(lamina, field="Seccomp") == "2"
    assert status(lamina, "--security-opt", "seccomp=unconfined", field="Seccomp") == "0"
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_ADMIN"]}}]}))  # fmt: skip
    lamina("run", "-d", "--name", "cc", *NONE, "--security-opt", f"seccomp={profile}", "box", "sleep", "1000").check()
    assert "Operation not permitted" in lamina("exec", "cc", "mkdir", "/x").stderr
    lamina("run", "--rm", *NONE, "--security-opt", f"seccomp={profile}", "--cap-add", "SYS_ADMIN", "box", "mkdir", "/x").check()
    profile.write_text('{"defaultAction": "SCMP_ACT_WHATEVER"}')
    assert lamina("run", "--rm", *NONE, "--security-opt", f"seccomp={profile}", "box", "true").returncode == 125


def test_systempaths(lamina: Lamina, box: str) -> None:
    script = "mount | grep -c ' /proc/'"
    assert int(lamina("run", "--rm", *NONE, "box", "sh", "-c", script).out) > 5
    assert lamina("run", "--rm", *NONE, "--security-opt", "systempaths=unconfined", "box", "sh", "-c", script).stdout == "0\n"


def test_devices(lamina: Lamina, box: str) -> None:
    script = "mknod /n c 10 237; head -c 0 /n && echo opened"
    assert lamina("run", "--rm", *NONE, "box", "sh", "-c", script).stdout == ""
    assert lamina("run", "--rm", *NONE, "--device-cgroup-rule", "c 10:237 rwm", "box", "sh", "-c", script).out == "opened"
    script = "ls -l /dev/lc; head -c 0 /dev/lc && echo read; (echo > /dev/lc) 2>&1"
    out = lamina("run", "--rm", *NONE, "--device", "/dev/loop-control:/dev/lc:r", "box", "sh", "-c", script).stdout
    assert " 10, 237 " in out and "\nread\n" in out and "Operation not permitted" in out


def own_namespaces() -> dict[str, str]:
    return {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "ipc", "uts", "cgroup")}


def test_namespaces_of_the_host(lamina: Lamina, box: str) -> None:
    script = "for n in pid ipc uts cgroup; do readlink -f /proc/self/ns/$n || true; ls -l /proc/self/ns/$n; done"
    ours = own_namespaces()
    plain = lamina("run", "--rm", *NONE, "box", "sh", "-c", script).out
    assert not [kind for kind, name in ours.items() if name in plain]
    flags = ("--pid", "host", "--ipc", "host", "--uts", "host", "--cgroupns", "host")
    out = lamina("run", "--rm", *NONE, *flags, "box", "sh", "-c", script).out
    assert [kind for kind, name in ours.items() if name in out] == list(ours)
    assert lamina("run", "--rm", *NONE, "--uts", "host", "box", "hostname").out == os.uname().nodename
    lamina("run", "-d", "--name", "cc", *NONE, *flags, "box", "sleep", "1000").check()
    out = lamina("exec", "cc", "sh", "-c", script).out
    assert [kind for kind, name in ours.items() if name in out] == list(ours)


def test_ipc(lamina: Lamina, box: str) -> None:
    name = f"lamina-test-{os.getpid()}"
    path = Path("/dev/shm") / name
    path.write_text("shared")
    try:
        assert lamina("run", "--rm", *NONE, "--ipc", "host", "box", "cat", str(path)).out == "shared"
        assert lamina("run", "--rm", *NONE, "--ipc", "private", "box", "ls", "/dev/shm").stdout == ""
    finally:
        path.unlink()
    assert lamina("run", "--rm", *NONE, "--ipc", "none", "box", "ls", "/dev/shm").returncode == 1


def test_the_end_in_the_host_pid_namespace_is_everybodys(lamina: Lamina, box: str) -> None:
    marker = str(70_000 + os.getpid() % 10_000)
    assert lamina("run", "--rm", *NONE, "--pid", "host", "box", "sh", "-c", f"sleep {marker} & echo hi").out == "hi"
    end = time.monotonic() + 5
    while (left := sleepers(marker)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not left


def sleepers(marker: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == f"sleep\0{marker}\0".encode():
                found.append(path.parent.name)
        except OSError:
            pass  # it has gone
    return found


def test_the_pid_namespace_of_another(lamina: Lamina, box: str) -> None:
    lamina("run", "-d", "--name", "one", *NONE, "box", "sleep", "1000").check()
    out = lamina("run", "--rm", *NONE, "--pid", "container:one", "box", "ps").out
    assert "sleep 1000" in out and "ps" in out
    lamina("create", "--name", "two", *NONE, "--pid", "container:one", "box", "true").check()
    lamina("rm", "-f", "one").check()
    done = lamina("start", "two")
    assert done.returncode == 1 and "No such container: one" in done.stderr


def limits(lamina: Lamina, *files: str) -> list[str]:
    return lamina("exec", "cc", "sh", "-c", "cd /sys/fs/cgroup; cat " + " ".join(files)).out.splitlines()


@pytest.mark.skipif(not (SYSTEM / "memory/memory.soft_limit_in_bytes").exists(), reason="names of files of cgroup v1")
def test_limits(lamina: Lamina, box: str) -> None:
    flags = ("--memory", "100m", "--memory-reservation", "50m", "--memory-swappiness", "10", "-c", "512", "--cpu-period", "50000",
             "--cpu-quota", "20000", "--cpuset-cpus", "0", "--cpuset-mems", "0", "--oom-score-adj", "500",
             "--oom-kill-disable")  # fmt: skip
    lamina("run", "-d", "--name", "cc", *NONE, *flags, "box", "sleep", "1000").check()
    for _ in range(2):
        names = ("memory/memory.limit_in_bytes", "memory/memory.soft_limit_in_bytes", "memory/memory.swappiness", "cpu/cpu.shares",
                 "cpu/cpu.cfs_period_us", "cpu/cpu.cfs_quota_us", "cpuset/cpuset.cpus", "cpuset/cpuset.mems",
                 "/proc/self/oom_score_adj")  # fmt: skip
        assert limits(lamina, *names) == ["104857600", "52428800", "10", "512", "50000", "20000", "0", "0", "500"]
        assert "oom_kill_disable 1" in limits(lamina, "memory/memory.oom_control")
        lamina("restart", "-t", "0", "cc").check()
    done = lamina("run", "--rm", *NONE, "--oom-kill-disable", "box", "true")
    assert done.stderr.startswith("WARNING: OOM killer is disabled for the container, but no memory limit is set")


def test_stop_signal_and_timeout(lamina: Lamina, box: str) -> None:
    script = "trap 'echo usr; exit 5' USR1; while true; do sleep 0.1; done"
    lamina("run", "-d", "--name", "cc", *NONE, "--stop-signal", "SIGUSR1", "--stop-timeout", "20", "box", "sh", "-c", script).check()
    time.sleep(0.3)
    lamina("stop", "cc").check()
    assert (lamina("logs", "cc").out, lamina("wait", "cc").out) == ("usr", "5")
    lamina("run", "-d", "--name", "dd", *NONE, "--stop-timeout", "0", "box", "sleep", "1000").check()
    lamina("stop", "dd").check()
    assert lamina("wait", "dd").out == "137"


def test_exec_privileged(lamina: Lamina, box: str) -> None:
    lamina("run", "-d", "--name", "cc", *NONE, "box", "sleep", "1000").check()
    plain = lamina("exec", "cc", "grep", "CapEff", "/proc/self/status").out.split()[1]
    full = lamina("exec", "--privileged", "cc", "grep", "CapEff", "/proc/self/status").out.split()[1]
    assert int(plain, 16) < int(full, 16) and int(full, 16) & int(plain, 16) == int(plain, 16)


def test_inspect_shows_what_was_asked(lamina: Lamina, box: str) -> None:
    lamina("create", "--name", "cc", "--sysctl", "net.ipv4.ip_forward=1", "--tmpfs", "/t:size=1m", "--ulimit", "nofile=5:6",
           "--pid", "host", "--stop-timeout", "3", "--dns", "1.1.1.1", "--log-opt", "max-size=1m", "box", "true").check()  # fmt: skip
    seen: dict[str, Any] = json.loads(lamina("inspect", "cc").out)[0]
    host = seen["HostConfig"]
    assert host["Sysctls"] == {"net.ipv4.ip_forward": "1"} and host["Tmpfs"] == {"/t": "size=1m"} and host["PidMode"] == "host"
    assert host["Ulimits"] == [{"Name": "nofile", "Hard": 6, "Soft": 5}] and host["Dns"] == ["1.1.1.1"]
    assert seen["Config"]["StopTimeout"] == 3 and host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "1m"}}
