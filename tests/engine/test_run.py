# SPDX-License-Identifier: Apache-2.0
"""run, ps, stop, rm, exec and friends on a real busybox image, through the command line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Lamina


def until(check: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


def test_output_and_exit_code(lamina: Lamina, box: str) -> None:
    done = lamina("run", "--rm", "--network", "none", "box", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert lamina("ps", "-a", "-q").out == ""


def test_stdin_reaches_the_container(lamina: Lamina, box: str) -> None:
    assert lamina("run", "--rm", "-i", "--network", "none", "box", "cat", stdin="hello\n").out == "hello"
    assert lamina("run", "--rm", "--network", "none", "box", "cat", stdin="not asked for\n").out == ""


def test_binary_output_is_exact(lamina: Lamina, box: str) -> None:
    data = os.urandom(3_000_000)
    done = subprocess.run(
        [*lamina.prefix, "run", "--rm", "-i", "--network", "none", "box", "cat"], input=data, capture_output=True, timeout=60
    )
    assert done.returncode == 0 and done.stdout == data


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        (["/no/such/command"], 127, 'exec: "/no/such/command": stat /no/such/command: no such file or directory'),
        (["nosuch"], 127, 'exec: "nosuch": executable file not found in $PATH'),
        (["/etc/passwd"], 126, 'exec: "/etc/passwd": permission denied'),
        (["/etc"], 126, 'exec: "/etc": '),
        (["sh", "-c", "kill -TERM $$"], 0, ""),  # PID 1 has no handler for it, so it isn't delivered
        (["sh", "-c", "sleep 0; exit 42"], 42, ""),
    ],
)
def test_exit_codes(lamina: Lamina, box: str, argv: list[str], code: int, text: str) -> None:
    done = lamina("run", "--rm", "--network", "none", "box", *argv)
    assert done.returncode == code and text in done.stderr
    assert lamina("ps", "-aq").out == ""


def test_the_error_of_an_unknown_image(lamina: Lamina, box: str) -> None:
    done = lamina("run", "nosuchimage")
    assert done.returncode == 125
    assert "Unable to find image 'nosuchimage:latest' locally" in done.stderr


def test_a_container_of_its_own(lamina: Lamina, box: str) -> None:
    """Host name, process numbers, namespaces and root are the container's."""
    done = lamina(
        "run", "--network", "none", "box", "sh", "-c", "hostname; echo $$; ls -i /proc/1/ns/ | wc -l; ps | wc -l; cat /etc/os-release"
    )
    cid = lamina("ps", "-aq").out
    lines = done.out.splitlines()
    assert lines[0] == cid and re.fullmatch("[0-9a-f]{12}", cid)
    assert lines[1] == "1"
    assert lines[-1] == "ID=box"


def test_default_isolation_seen_from_inside(lamina: Lamina, box: str) -> None:
    script = """
        grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status
        ls /proc/self/fd | wc -l
        cat /proc/self/cgroup | sort -u -t: -k3 | wc -l
        (echo x > /proc/sys/kernel/hostname) 2>/dev/null || echo sysro
        (echo x > /sys/kernel/uevent_helper) 2>/dev/null || echo sysfsro
        cat /proc/kcore | head -c 1 | wc -c
        ls /sys/firmware | wc -l
        mount -t tmpfs x /mnt 2>/dev/null || echo nomount
        ls -ld /dev/null /dev/console /dev/fd 2>/dev/null | wc -l
    """
    lines = lamina("run", "--rm", "--network", "none", "box", "sh", "-c", script).out.splitlines()
    status = dict(line.split(":\t") for line in lines if ":\t" in line)
    assert int(status["CapInh"], 16) == 0 and int(status["CapAmb"], 16) == 0
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapBnd"], 16) == 0xA80425FB  # docker's fourteen
    assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "0"
    rest = [line for line in lines if ":\t" not in line]
    assert rest[0] == "4"  # 0, 1, 2, and the one that `ls` opens
    assert rest[1] == "1", "the cgroup namespace shows one path, the root"
    assert rest[2:7] == ["sysro", "sysfsro", "0", "0", "nomount"]


def test_privileged_and_capabilities(lamina: Lamina, box: str) -> None:
    def effective(*flags: str) -> int:
        out = lamina("run", "--rm", "--network", "none", *flags, "box", "grep", "CapEff", "/proc/self/status").out
        return int(out.split()[1], 16)

    own = int(re.search(r"CapEff:\t(\w+)", Path("/proc/self/status").read_text())[1], 16)  # type: ignore[index]
    assert effective("--privileged") == own
    assert effective("--cap-drop", "ALL") == 0
    assert effective("--cap-drop", "ALL", "--cap-add", "CHOWN") == 1
    assert effective("--cap-add", "NET_ADMIN") == 0xA80425FB | 1 << 12
    assert effective("--cap-drop", "net_raw") == 0xA80425FB & ~(1 << 13)
    bad = lamina("run", "--cap-add", "NOSUCH", "box", "true")
    assert bad.returncode == 125 and 'unknown capability: "CAP_NOSUCH"' in bad.stderr


def test_a_capability_that_the_engine_lacks_is_an_error(lamina: Lamina, box: str) -> None:
    own = int(re.search(r"CapEff:\t(\w+)", Path("/proc/self/status").read_text())[1], 16)  # type: ignore[index]
    if own >> 24 & 1:
        pytest.skip("this engine has CAP_SYS_RESOURCE, so there is nothing that it lacks")
    done = lamina("run", "--cap-add", "SYS_RESOURCE", "box", "true")
    assert done.returncode == 125 and "--cap-add CAP_SYS_RESOURCE" in done.stderr
    assert lamina("ps", "-aq").out == ""


def test_read_only_root(lamina: Lamina, box: str) -> None:
    done = lamina(
        "run", "--rm", "--network", "none", "--read-only", "box", "sh", "-c", "touch /x || echo refused; touch /dev/shm/y && echo shm"
    )
    assert done.stdout.splitlines() == ["refused", "shm"]


def test_limits_reach_the_cgroup(lamina: Lamina, box: str) -> None:
    cid = lamina("run", "-d", "--network", "none", "-m", "64m", "--cpus", "0.5", "--pids-limit", "20", "box", "sleep", "60").out
    paths = [line.split(":")[2] for line in Path(f"/proc/{pid_of(lamina, cid)}/cgroup").read_text().splitlines() if cid in line]
    assert paths
    found = {p.name: p.read_text().strip() for base in Path("/sys/fs/cgroup").glob("**/" + cid) for p in base.iterdir() if p.is_file()
             if p.name in ("memory.limit_in_bytes", "memory.max", "cpu.cfs_quota_us", "cpu.max", "pids.max")}  # fmt: skip
    assert found.get("memory.limit_in_bytes", found.get("memory.max")) == str(64 << 20)
    assert found.get("cpu.cfs_quota_us", found.get("cpu.max", "").split(" ")[0]) == "50000"
    assert found["pids.max"] == "20"
    fork_bomb = "i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done; wait"
    assert "can't fork" in lamina("exec", cid, "sh", "-c", fork_bomb).stderr
    lamina("rm", "-f", cid).check()


def test_memory_limit_kills(lamina: Lamina, box: str) -> None:
    done = lamina("run", "--name", "hungry", "--network", "none", "-m", "16m", "box", "sh", "-c", "tail /dev/zero")
    assert done.returncode in (137, 1)
    info = json.loads(lamina("inspect", "hungry").out)[0]
    assert info["State"]["OOMKilled"] is True


def pid_of(lamina: Lamina, ref: str) -> int:
    return int(lamina("inspect", "--format", "{{.State.Pid}}", ref).out)


def test_user_env_workdir_entrypoint_hostname_label(lamina: Lamina, box: str) -> None:
    out = lamina("run", "--rm", "--network", "none", "-u", "user", "-e", "A=b", "-e", "PASSED", "-w", "/job/dir",
        "-h", "myhost", "--entrypoint", "sh",
                 "box", "-c", "id; pwd; hostname; env | sort", env={"PASSED": "on"}).out.splitlines()  # fmt: skip
    assert out[0] == "uid=1000(user) gid=1000(user) groups=50(extra),1000(user)"  # the kernel sorts them
    assert out[1:3] == ["/job/dir", "myhost"]
    assert {"A=b", "PASSED=on", "HOME=/home/user", "HOSTNAME=myhost"} <= set(out[3:])
    bad = lamina("run", "--rm", "-u", "nosuch", "box", "true")
    assert bad.returncode in (125, 126) and "unable to find user nosuch: no matching entries in passwd file" in bad.stderr


def test_names(lamina: Lamina, box: str) -> None:
    cid = lamina("create", "--name", "one", "box", "true").out
    again = lamina("create", "--name", "one", "box", "true")
    assert again.returncode != 0
    text = f'Conflict. The container name "/one" is already in use by container "{cid}". You have to remove (or rename) that container'
    assert text in again.stderr
    bad = lamina("create", "--name", "a b", "box", "true")
    assert "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed" in bad.stderr
    none = lamina("rm", "nosuch")
    assert none.returncode == 1 and "No such container: nosuch" in none.stderr


def test_rm_with_the_same_name_back_to_back(lamina: Lamina, box: str) -> None:
    for _ in range(10):
        assert lamina("run", "--rm", "--name", "again", "box", "true").returncode == 0


def test_life_of_a_detached_container(lamina: Lamina, box: str) -> None:
    cid = lamina(
        "run",
        "-d",
        "--name",
        "life",
        "--network",
        "none",
        "-l",
        "k=v",
        "box",
        "sh",
        "-c",
        "trap 'echo bye; exit 7' TERM; echo hi; while :; do sleep 0.1; done",
    ).out
    assert re.fullmatch("[0-9a-f]{64}", cid)
    until(lambda: lamina("logs", "life").out == "hi")
    assert lamina("ps", "-q", "--no-trunc").out == cid
    refused = lamina("rm", "life")
    assert refused.returncode == 1 and "container is running" in refused.stderr
    assert lamina("stop", "-t", "5", "life").out == "life"
    assert lamina("ps", "-q").out == ""
    assert lamina("logs", "life").out == "hi\nbye"
    info = json.loads(lamina("inspect", "life").out)[0]
    assert (info["State"]["Status"], info["State"]["ExitCode"], info["Config"]["Labels"]) == ("exited", 7, {"k": "v"})
    assert lamina("start", "life").out == "life"
    assert lamina("kill", "life").out == "life"
    assert lamina("wait", "life").out == "137"
    assert lamina("rm", "life").out == "life"
    assert lamina("ps", "-aq").out == ""


def test_stop_kills_after_the_grace_time(lamina: Lamina, box: str) -> None:
    lamina("run", "-d", "--name", "deaf", "--network", "none", "box", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done").check()
    lamina("stop", "-t", "1", "deaf").check()
    assert lamina("wait", "deaf").out == "137"


def test_exec(lamina: Lamina, box: str) -> None:
    cid = lamina("run", "-d", "--network", "none", "-e", "A=1", "-w", "/tmp", "box", "sleep", "60").out
    out = lamina(
        "exec", "-e", "B=2", cid, "sh", "-c", "echo $A$B; pwd; hostname; ps | grep -c sleep; grep -E 'Seccomp:|CapEff' /proc/self/status"
    ).out.splitlines()
    assert out[:3] == ["12", "/tmp", cid[:12]]
    assert out[-2:] == ["CapEff:\t00000000a80425fb", "Seccomp:\t2"]
    assert lamina("exec", "-i", cid, "cat", stdin="through\n").out == "through"
    assert lamina("exec", "-u", "1000", "-w", "/etc", cid, "sh", "-c", "id -u; pwd").out.split() == ["1000", "/etc"]
    assert lamina("exec", cid, "sh", "-c", "exit 9").returncode == 9
    assert lamina("exec", cid, "nosuch").returncode == 126
    lamina("exec", "-d", cid, "touch", "/done").check()
    until(lambda: lamina("exec", cid, "test", "-e", "/done").returncode == 0)
    lamina("kill", cid).check()
    assert f"container {cid} is not running" in lamina("exec", cid, "true").stderr


def test_terminal(lamina: Lamina, box: str) -> None:
    done = lamina.pty("run", "--rm", "-it", "--network", "none", "box", "sh", typed=b"stty size; tty; echo $TERM\nexit 5\n")
    assert done.returncode == 5, done.stdout
    assert "24 80" in done.stdout and "/dev/pts/0" in done.stdout and "xterm" in done.stdout
    refused = lamina("run", "--rm", "-it", "box", "sh")
    assert refused.returncode == 1 and "the input device is not a TTY" in refused.stderr


def test_volumes(lamina: Lamina, box: str, tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "host/f").write_text("from the host")
    run = ("run", "--rm", "--network", "none")
    assert (
        lamina(*run, "-v", f"{tmp_path}/host:/mnt/x:ro", "box", "sh", "-c", "cat /mnt/x/f; touch /mnt/x/g || echo ' ro'").out
        == "from the host ro"
    )
    lamina(*run, "-v", "data:/data", "box", "sh", "-c", "echo kept > /data/f").check()
    assert lamina(*run, "-v", "data:/elsewhere", "box", "cat", "/elsewhere/f").out == "kept"
    assert lamina(*run, "-v", "copied:/etc", "box", "cat", "/etc/os-release").out == "ID=box"
    assert lamina(*run, "-v", f"{tmp_path}/made:/d", "box", "true").returncode == 0 and (tmp_path / "made").is_dir()
    for bad in ("/a:/b:/c:/d", f"{tmp_path}:relative", f"{tmp_path}:/x:wrong", f"{tmp_path}:/proc/x"):
        assert lamina("run", "-v", bad, "box", "true").returncode == 125, bad
    assert lamina("ps", "-aq").out == ""


def test_kill_of_the_command_line_leaves_a_container_running(lamina: Lamina, box: str) -> None:
    cli = lamina.start(
        "run", "--name", "stays", "--network", "none", "box", "sh", "-c", "while :; do echo tick; sleep 0.1; done", stdout=subprocess.PIPE
    )
    assert cli.stdout is not None and cli.stdout.readline() == b"tick\n"
    cli.send_signal(signal.SIGKILL)
    cli.wait()
    cli.stdout.close()
    before = len(lamina("logs", "stays").stdout)
    until(lambda: len(lamina("logs", "stays").stdout) > before)
    assert lamina("ps", "--format", "{{.Names}}").out == "stays"


def test_kill_of_the_monitor_ends_the_container(lamina: Lamina, box: str) -> None:
    cid = lamina("run", "-d", "--name", "lost", "--network", "none", "box", "sleep", "600").out
    pid = pid_of(lamina, cid)
    state = json.loads((lamina.root / "containers" / cid / "state.json").read_text())
    os.kill(state["monitor_pid"], signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists())
    info = json.loads(lamina("inspect", "lost").out)[0]
    assert (info["State"]["Status"], info["State"]["ExitCode"], info["State"]["Error"]) == ("exited", 137, "monitor lost")
    assert lamina("start", "lost").out == "lost"
    assert lamina("rm", "-f", "lost").out == "lost"


def test_two_starts_make_one_process_space(lamina: Lamina, box: str) -> None:
    cid = lamina("create", "--network", "none", "box", "sleep", "600").out
    both = [lamina.start("start", cid, stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [p.wait(30) for p in both] == [0] * 4
    groups = list(Path("/sys/fs/cgroup").glob(f"**/{cid}/cgroup.procs"))
    assert groups and all(len(group.read_text().split()) == 1 for group in groups)
    lamina("rm", "-f", cid).check()


def test_parallel_runs(lamina: Lamina, box: str) -> None:
    runs = [lamina.start("run", "--rm", "box", "sh", "-c", "ip addr show eth0 | grep 'inet '", stdout=subprocess.PIPE) for _ in range(8)]
    outs = [run.communicate(timeout=60)[0] for run in runs]
    assert [run.returncode for run in runs] == [0] * 8
    assert len(set(outs)) == 8, "every container has an address of its own"
    assert lamina("ps", "-aq").out == ""


def test_one_file_in_one_place(lamina: Lamina, box: str) -> None:
    """W4: after `touch`, with nothing running, the file is found once, in the container's read-write layer."""
    lamina("run", "--network", "none", "box", "touch", "happiness.txt").check()
    found = [p for p in lamina.root.rglob("happiness.txt")]
    cid = lamina("ps", "-aq", "--no-trunc").out
    assert found == [lamina.root / "containers" / cid / "rw/diff/happiness.txt"]
    assert lamina("diff", cid).out.splitlines() == ["A /happiness.txt"]


def test_bridge_network(lamina: Lamina, box: str) -> None:
    out = lamina("run", "--rm", "box", "sh", "-c", "ip addr show eth0 | grep 'inet '; cat /etc/hosts; ip route | grep default").out
    address = re.search(r"inet (\d+\.\d+\.\d+\.\d+)/16", out)
    assert address and f"{address[1]}\t" in out and "default via" in out
    one = lamina("run", "-d", "--name", "one", "box", "sleep", "60").out
    ip = json.loads(lamina("inspect", one).out)[0]["NetworkSettings"]["IPAddress"]
    assert lamina("run", "--rm", "box", "ping", "-c", "1", "-W", "3", ip).returncode == 0
    assert lamina("run", "--rm", "--network", "none", "box", "sh", "-c", "ip addr | grep -c 'inet '").out == "1"
    host = lamina("run", "--rm", "--network", "host", "box", "cat", "/proc/net/dev").out
    assert len(host.splitlines()) >= len(Path("/proc/net/dev").read_text().splitlines())


def test_unapplied_flags_are_refused(lamina: Lamina, box: str) -> None:
    for flag in (["--kernel-memory", "50m"], ["-p", "80:80/sctp"], ["--gpus", "all"], ["--userns", "private"], ["--no-such-flag"]):
        done = lamina("run", *flag, "box", "true")
        assert done.returncode == 125 and flag[0].lstrip("-") in done.stderr, (flag, done.stderr)
    assert lamina("ps", "-aq").out == ""


def test_export(lamina: Lamina, box: str) -> None:
    cid = lamina("run", "-d", "--network", "none", "box", "sh", "-c", "echo x > /new; sleep 60").out
    until(lambda: "/new" in lamina("diff", cid).out)
    raw = subprocess.run([*lamina.prefix, "export", cid], capture_output=True, check=True).stdout
    names = subprocess.run(["tar", "-tf", "-"], input=raw, capture_output=True, check=True).stdout.decode().split()
    assert "new" in names and "bin/busybox" in names and ".dockerenv" in names
    lamina("rm", "-f", cid).check()


def test_nothing_is_left_after_a_failed_start(lamina: Lamina, box: str) -> None:
    done = lamina("run", "--name", "bad", "--network", "none", "box", "nosuch")
    assert done.returncode == 127
    info = json.loads(lamina("inspect", "bad").out)[0]
    assert info["State"]["Status"] == "created" and info["State"]["ExitCode"] == 127
    assert not any("rootfs" in line for line in Path("/proc/mounts").read_text().splitlines() if str(lamina.runroot) in line)
    assert lamina("rm", "bad").out == "bad"
