# SPDX-License-Identifier: Apache-2.0
"""--runtime: crun, runc and lamina-runtime as a program show a container the same as our built-in runtime does, field by field.

crun before 1.9 refuses a host with cgroup v1 and v2 at once. So all commands here run in mount namespaces of their own, without the v2
tree of such a host; a pure v2 host stays as it is. (A tmpfs is put there, since crun makes directories at that place all the same.)
"""
from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.conftest import REPO, Lamina

V2 = "/sys/fs/cgroup/unified"
APART = [str(REPO / "scripts/private-mounts"), "sh", "-c",
         f'if [ -d {V2} ]; then umount {V2}; mount -t tmpfs none {V2}; fi; exec "$@"', "sh"]  # fmt: skip
OTHERS = ["crun", "runc", str(REPO / "bin/lamina-runtime")]

HIDDEN = """/proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/sched_debug /proc/scsi
    /proc/timer_list /proc/timer_stats /sys/firmware /sys/devices/virtual/powercap /sys/devices/system/cpu/cpu0/thermal_throttle""".split()
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
FILES = """memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes memory/memory.soft_limit_in_bytes memory/memory.swappiness
    memory/memory.oom_control cpu/cpu.shares cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us pids/pids.max cpuset/cpuset.cpus
    memory.max memory.low memory.swap.max cpu.max cpu.weight pids.max cpuset.cpus""".split()

# What a container can see of itself. `show NAME COMMAND`: one section.
PROBE = f"""
show() {{ echo "== $1"; shift; "$@" 2>&1; }}
show status grep -E '^(Umask|Uid|Gid|Groups|SigBlk|SigIgn|SigCgt|Cap|NoNewPrivs|Seccomp)' /proc/self/status
show limits cat /proc/self/limits
show mounts sed 's/^[0-9]* [0-9]* [0-9]*:[0-9]* //' /proc/self/mountinfo
show dev sh -c 'cd /dev; for f in * pts/*; do stat -c "%n %F %a %t:%T %u" "$f"; done'
show hidden sh -c 'for p in {" ".join(HIDDEN)}; do stat -c "%n %F" $p; ls $p; [ -f $p ] && head -c 9 $p; : > $p; : > $p/x; done'
show fixed sh -c 'for p in {" ".join(READ_ONLY)}; do touch $p; touch $p/x; done'
show env sh -c 'tr "\\0" "\\n" < /proc/$PPID/environ'
show cwd pwd
show names sh -c 'hostname; cat /proc/sys/kernel/domainname /etc/hostname'
show own sh -c 'cat /proc/self/oom_score_adj; cut -d: -f2- /proc/self/cgroup; cut -d" " -f5-7,18-20 /proc/self/stat; cat /proc/1/comm'
show more cat /proc/self/attr/current /proc/self/timerslack_ns /proc/self/coredump_filter /proc/self/personality
show fds sh -c 'ls -l /proc/$PPID/fd | sed "s/.*[0-9] //;s/:.*//"; stat -c "%u %a" -L /proc/$PPID/fd/1 /proc/$PPID/fd/2'
show sysctls cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range /proc/sys/kernel/shm_rmid_forced \
    /proc/sys/net/ipv4/ip_forward
show limits2 sh -c 'for f in {" ".join(FILES)}; do echo $f; cat /sys/fs/cgroup/$f; done'
show devices cat /sys/fs/cgroup/devices/devices.list
show nodes sh -c 'mknod /tmp/m c 1 3 && : > /tmp/m; mknod /tmp/k c 1 2 && : < /tmp/k'
show net sh -c 'ip -o link | sed "s/@if[0-9]*//;s/^[0-9]*//;s/ether [^ ]*//"; ip route | sed "s/[0-9.]* $//"'
show ns sh -c 'cd /proc/self/ns; for n in cgroup ipc mnt net pid user uts; do readlink $n; done'
"""


class Apart(Lamina):
    """The command line of one engine, away from the host's v2 tree."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.prefix = [*APART, *self.prefix]


@pytest.fixture
def apart(lamina: Lamina, box: str, tmp_path: Path) -> Apart:
    return Apart(tmp_path)


def sections(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("== "):
            found[line[3:]] = []
        else:
            found[next(reversed(found))].append(line.strip())
    return found


def mounts(lines: list[str]) -> dict[str, tuple[str, ...]]:
    """Mount point -> type, and which of the flags hold; of what is bound over it last. How paths are hidden is each runtime's own way:
    what comes of it is compared instead. On v1 the directory of the controllers is left writable by others."""
    found = {}
    for line in lines:
        left, _, right = line.partition(" - ")
        _, point, options = left.split()[:3]
        if point in HIDDEN:
            continue
        flags = {"ro", "nosuid", "nodev", "noexec"} & set(options.split(","))
        if point in READ_ONLY:
            flags &= {"ro"}
        if point == "/sys/fs/cgroup" and right.startswith("tmpfs"):
            flags.discard("ro")
        assert not left.split()[3:], "a mount that the host's come into, or ours go out of"
        found[point] = (right.split()[0], *sorted(flags))
    return found


def normal(text: str, cid: str, host: dict[str, str]) -> dict[str, object]:
    """The sections, without what must differ (ids, addresses) and the runtimes' own habits, each named here."""
    found: dict[str, object] = dict(sections(re.sub(cid[:12], "ID", text)))
    found["mounts"] = mounts(sections(text)["mounts"])
    # crun links /dev/core, and gives the user a /dev/null of the container's that is its stdin
    found["dev"] = [re.sub(r"^(null .*) \d+$", r"\1", line) for line in found["dev"] if not line.startswith("core ")]  # type: ignore[attr-defined]
    found["devices"] = sorted(set(found["devices"]) - {"c 10:200 rwm"})  # type: ignore[call-overload]  # runc before 1.2 allows /dev/net/tun
    found["ns"] = ["host's" if host[line.partition(":")[0]] == line else "own" for line in found["ns"]]  # type: ignore[attr-defined]
    return found


def host_namespaces() -> dict[str, str]:
    links = [os.readlink(f"/proc/self/ns/{name}") for name in ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")]
    return {link.partition(":")[0]: link for link in links}


RICH = ("--user 1000:50 --group-add 7 --cap-drop CHOWN --cap-add SYS_PTRACE --security-opt no-new-privileges --read-only "
        "--tmpfs /tmp:size=1m --ulimit nofile=100:200 --ulimit core=0 --sysctl net.ipv4.ip_forward=1 -m 64m "
        "--memory-reservation 32m --cpus 0.5 --pids-limit 50 "
        "--hostname hh --domainname dd --oom-score-adj 100 --device /dev/full:/dev/zz:r --shm-size 1m -w /var/x -e A=b -v /etc:/mm:ro "
        "--cpuset-cpus 0 --cpu-shares 300 --blkio-weight 200").split()  # fmt: skip
CASES = {"plain": [], "rich": RICH, "privileged": ["--privileged", "--network", "none"],
         "shared": ["--ipc", "host", "--uts", "host", "--network", "host", "--cgroupns", "host", "--security-opt", "seccomp=unconfined"]}


@pytest.mark.parametrize("case", ["plain", "rich", *(pytest.param(case, marks=pytest.mark.all) for case in ("privileged", "shared"))])
def test_the_same_is_seen(apart: Apart, case: str, tmp_path: Path) -> None:
    probe = tmp_path / "probe"
    probe.write_text(PROBE)
    host = host_namespaces()
    seen = {}
    for name in ["lamina", *filter(shutil.which, OTHERS)]:
        cid = apart("create", "--runtime", name, *CASES[case], "-v", f"{probe}:/probe", "box", "sh", "/probe").out
        seen[name] = normal(apart("start", "-a", cid).out.replace(cid, "ID"), cid, host)
    wanted = seen.pop("lamina")
    assert wanted["cwd"] == ["/var/x" if case == "rich" else "/"] and len(wanted["mounts"]) > 12  # type: ignore[arg-type]
    assert set(wanted["ns"]) == ({"own", "host's"})  # type: ignore[call-overload]
    if not seen:
        pytest.skip("no crun, no runc (packages of these names)")
    for name, fields in seen.items():
        for field, value in fields.items():
            if field == "net" and case == "shared":
                continue  # the host's, with whatever happens there meanwhile
            assert value == wanted[field], f"{name}: {field}"


@pytest.mark.parametrize("runtime", ["crun", "runc", pytest.param(str(REPO / "bin/lamina-runtime"), marks=pytest.mark.all)],
                         ids=["crun", "runc", "lamina-runtime"])  # fmt: skip
def test_its_life(apart: Apart, runtime: str) -> None:
    """Streams, codes, exec, pause, stats, logs, stop, and that --init holds."""
    if not shutil.which(runtime):
        pytest.skip(f"no {runtime} (package of that name)")
    script = "echo out; echo err >&2; trap 'echo bye; exit 3' TERM; while :; do sleep 0.1; done"
    apart("run", "-d", "--name", "one", "--runtime", runtime, "--init", "-m", "64m", "box", "sh", "-c", script).check()
    words = "cat >&2; tr '\\0' ' ' < /proc/1/cmdline; echo $A; pwd; id -u; exit 4"
    done = apart("exec", "-i", "-e", "A=b", "-w", "/tmp", "-u", "1000", "one", "sh", "-c", words, stdin=b"\0\xff\n" * 10000)
    assert done.returncode == 4 and done.stderr == "\0\ufffd\n" * 10000
    assert done.stdout.startswith("/sbin/docker-init -- sh -c ") and done.stdout.endswith("b\n/tmp\n1000\n")
    assert apart("exec", "one", "nosuch").returncode in (126, 127)
    apart("pause", "one").check()
    assert "/ 64MiB" in apart("stats", "--no-stream", "one").out and "(Paused)" in apart("ps").out
    apart("unpause", "one").check()
    apart("stop", "one").check()
    assert apart("inspect", "-f", "{{.State.ExitCode}} {{.HostConfig.Runtime}}", "one").out == f"3 {runtime}"
    done = apart("logs", "one")
    assert (done.stdout, done.stderr) == ("out\nbye\n", "err\n")
    size = apart.pty("run", "--rm", "-t", "--runtime", runtime, "box", "sh", "-c", "tty; stty size < /dev/tty; exit 7")
    assert size.stdout.split() == ["/dev/pts/0", "24", "80"] and size.returncode == 7, size.stdout
    for words, code, text in (("nosuch", 127, "nosuch"), ("/etc/passwd", 126, "ermission denied")):
        done = apart("run", "--rm", "--runtime", runtime, "box", words)
        assert done.returncode == code and text in done.stderr and "OCI runtime create failed" in done.stderr, done.stderr
    apart("start", "one").check()
    killed_monitor(apart)


def killed_monitor(apart: Apart) -> None:
    """The container ends with its monitor, and can be started again."""
    cid = apart("inspect", "-f", "{{.Id}}", "one").out
    state = json.loads((apart.root / "containers" / cid / "state.json").read_text())
    os.kill(state["monitor_pid"], signal.SIGKILL)
    end = time.monotonic() + 10
    while os.path.exists(f"/proc/{state['pid']}/exe") and time.monotonic() < end:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{state['pid']}/exe")
    assert apart("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}", cid).out == "exited 137 monitor lost"
    apart("start", cid).check()
    apart("rm", "-f", cid).check()


def test_names(apart: Apart, tmp_path: Path) -> None:
    """A name is looked up on the host alone, a path must be absolute; both at create, before anything is made."""
    for name in ("nosuch", "../bin/crun", "/etc/passwd"):
        done = apart("create", "--runtime", name, "box", "true")
        assert done.returncode == 1 and "unknown or invalid runtime name: " in done.stderr, name
    liar = tmp_path / "liar"
    liar.write_text("#!/bin/sh\nexit 0\n")
    liar.chmod(0o755)
    done = apart("run", "--rm", "--runtime", liar, "box", "true")
    assert done.returncode == 125 and "its create has left no process of ours behind" in done.stderr
    assert apart("ps", "-aq").out == ""
