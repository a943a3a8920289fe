# SPDX-License-Identifier: Apache-2.0
"""Monitors of real containers: start, streams, end, failure, loss of the monitor, exec; and that nothing is left."""
from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lamina import errors
from lamina.containers import state as states
from lamina.linux import mount
from lamina.monitor import execmon, launch
from lamina.monitor.client import Client, connect
from lamina.monitor.lock import lock
from lamina.runtime.cgroups import Cgroup
from lamina.store import events
from lamina.util import fastjson

from .bundle import Engine
from .conftest import SRC

ATTACH = {"stdout": True, "stderr": True}
BOTH = {"stdin": True, **ATTACH}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    made = Engine(tmp_path_factory.mktemp("monitor"), f"lmtest-{os.getpid()}")
    yield made
    made.close()
    until(lambda: not Cgroup.open(f"/{made.name}/monitor").procs())
    Cgroup.open(f"/{made.name}/monitor").remove(parents=1)


def until(what: Callable[[], object], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


def state(plan: dict[str, Any]) -> states.State:
    return states.load_file(plan["state_path"])


def gone(plan: dict[str, Any]) -> bool:
    """Whether nothing of the container is left on the host, its monitor's lock included."""
    os.close(lock(plan["run_dir"], 10))
    mounts = [m.target for m in mount.mountinfo()]
    return plan["rootfs"] not in mounts and not os.path.exists(plan["rootfs"]) and not Cgroup.open(plan["cgroup"]).paths \
        and not os.path.exists(plan["run_dir"] + "/sock")


def output(client: Client, seconds: float = 30) -> dict[str, bytes]:
    out = {"stdout": b"", "stderr": b""}
    for stream, data in client.frames(seconds):
        out[stream] += data
    return out


def kill_container(plan: dict[str, Any]) -> None:
    try:
        with connect(plan["run_dir"]) as client:
            client.signal(9)
            client.wait(15)
    except (errors.Conflict, FileNotFoundError, ConnectionRefusedError):
        pass  # it is just ending by itself
    assert gone(plan)


def test_foreground(engine: Engine) -> None:
    plan = engine.plan("sh", "-c", "echo hello; id -u; echo err >&2; exit 5", user="bob")
    with launch.spawn_monitor(plan, ATTACH) as client:
        assert client.wait_started(20)["pid"] > 0
        assert output(client) == {"stdout": b"hello\n1000\n", "stderr": b"err\n"}
        assert client.result() == 5
    now = state(plan)
    assert (now.status, now.exit_code, now.pid, now.oom_killed) == ("exited", 5, 0, False)
    assert now.finished_at > now.started_at > 0
    assert b'"log":"hello\\n","stream":"stdout"' in Path(plan["log"]["path"]).read_bytes()
    assert gone(plan)


def test_fork_from_a_single_threaded_process(engine: Engine) -> None:
    """As the hot command line does it: also there the first client gets everything, and the monitor outlives its maker's session."""
    plan = engine.plan("sh", "-c", "read x; echo got $x; exit 3", open_stdin=True, stdin_once=True)
    code = ("import sys; sys.path.insert(0, sys.argv[1]); from lamina.util import fastjson; from lamina.monitor import launch;"
            "c = launch.fork_monitor(fastjson.loads(sys.argv[2]), {'stdin':True,'stdout':True}); c.write(b'word\\n'); c.wait_started();"
            "print(b''.join(d for _, d in c.frames()), c.result())")
    argv = [sys.executable, "-I", "-S", "-c", code, str(SRC), fastjson.dumps(plan)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("b'got word\\n' 3\n", "")
    assert gone(plan)


def test_prepared_before_there_is_a_plan(engine: Engine) -> None:
    plan = engine.plan("sh", "-c", "echo hi; exit 2")
    code = ("import sys, os; sys.path.insert(0, sys.argv[1]); from lamina.util import fastjson; from lamina.monitor import launch;"
            "plan = fastjson.loads(sys.argv[2]);"
            "a = launch.Prepared().aim(plan['monitor_cgroup'], False); b = launch.Prepared(); b.cancel();"
            "c = a.start(plan, {'stdout': True}); print(b''.join(d for _, d in c.frames()), c.result());"
            "os.waitpid(a.pid, 0); print('done')")
    argv = [sys.executable, "-I", "-S", "-c", code, str(SRC), fastjson.dumps(plan)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("b'hi\\n' 2\ndone\n", "")
    assert gone(plan)


@pytest.mark.parametrize("moment", ["before the aim", "after the aim", "when it waits"])
def test_prepared_goes_with_a_killed_maker(engine: Engine, moment: str) -> None:
    """A command that is killed leaves no helper and no monitor: they see the end of the socket, wherever they are."""
    plan = engine.plan("true")
    code = ("import sys, os, time; sys.path.insert(0, sys.argv[1]); from lamina.util import fastjson; from lamina.monitor import launch;"
            "plan, moment = fastjson.loads(sys.argv[2]), sys.argv[3];"
            "a = launch.Prepared(); moment == 'before the aim' or a.aim(plan['monitor_cgroup'], True);"
            "moment == 'when it waits' and os.waitpid(a.pid, 0); os.kill(os.getpid(), 9)")
    argv = [sys.executable, "-I", "-S", "-c", code, str(SRC), fastjson.dumps(plan), moment]
    maker = subprocess.Popen(argv, start_new_session=True)
    assert maker.wait(30) == -9

    def ours() -> list[str]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if plan["id"].encode() in (entry / "cmdline").read_bytes():
                        found.append(entry.name)
                except OSError:
                    pass
        return found

    for _ in range(300):
        if not ours():
            break
        time.sleep(0.05)
    assert not ours()  # a fork has its maker's command line, in which the plan is


def test_fork_with_threads_is_refused(engine: Engine) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        with pytest.raises(OSError, match="threads"):
            launch.fork_monitor(engine.plan("true"))
    finally:
        stop.set()
        thread.join()


def test_detached_life(engine: Engine) -> None:
    plan = engine.plan("sh", "-c", "trap 'echo bye; exit 4' TERM; echo up; while :; do sleep 0.05; done")
    client = launch.spawn_monitor(plan)
    client.wait_started(20)
    until(lambda: os.path.getsize(plan["log"]["path"]))  # before that, a PID 1 doesn't see the signal
    pid = state(plan).monitor_pid
    client.close()
    assert state(plan).status == "running"
    assert os.readlink(f"/proc/{pid}/cwd") == "/" and os.getsid(pid) == pid or os.getsid(pid) != os.getsid(0)
    links = sorted(os.readlink(f"/proc/{pid}/fd/{fd}").split(":")[0] for fd in os.listdir(f"/proc/{pid}/fd"))
    assert set(links) <= {"/dev/null", "socket", "pipe", "anon_inode", plan["log"]["path"], plan["run_dir"] + "/monitor.lock"}
    cgroup = Path(f"/proc/{pid}/cgroup").read_text()
    assert all(line.endswith(plan["monitor_cgroup"]) for line in cgroup.splitlines())
    os.kill(pid, 15)  # ignored: a container ends by its own signals
    os.kill(pid, 1)
    with connect(plan["run_dir"]) as other:
        assert other.wait_started(10)["pid"] == state(plan).pid
        other.signal(15)
        assert other.wait(10) == 4
    assert b"bye" in Path(plan["log"]["path"]).read_bytes()
    assert gone(plan)


@pytest.mark.parametrize("change,kind,text", [
    ({"argv": ["nothing-there"]}, errors.CommandNotFound, "nothing-there"),
    ({"argv": ["/etc"]}, errors.CommandNotExecutable, "permission denied"),
    ({"user": "nobody-there"}, errors.StartError, "unable to find user nobody-there"),
    ({"workdir": "/etc/passwd/x"}, errors.StartError, "not a directory"),
    ({"seccomp_path": "/nonexistent"}, errors.StartError, "/nonexistent"),
    ({"mount": {"type": "overlay", "lowers": ["/none"], "upper": "/none", "work": "/none"}}, errors.StartError, "none"),
    ({"network": {"mode": "bridge", "bridge": "lm-none", "ipv4": "10.9.8.7/24", "mac": "02:00:00:00:00:01", "mtu": 1500}},
     errors.StartError, "bridge lm-none is gone"),
    ({"resources": {"memory": {"limit": 4096}}}, errors.LaminaError, None),
])
def test_a_failure_at_any_step_leaves_nothing(engine: Engine, change: dict[str, Any], kind: type[errors.LaminaError],
                                              text: str | None) -> None:
    argv = change.pop("argv", ["true"])
    plan = engine.plan(*argv, **change)
    with launch.spawn_monitor(plan, ATTACH) as client:
        with pytest.raises(kind, match=text) as caught:
            client.wait_started(20)
    code = {errors.CommandNotFound: 127, errors.CommandNotExecutable: 126}.get(kind, caught.value.exit_code)
    assert caught.value.exit_code == code
    now = state(plan)
    assert (now.status, now.exit_code, now.error) == ("created", code, caught.value.message)
    assert gone(plan)


def test_loss_of_the_monitor_ends_the_container_and_the_next_start_works(engine: Engine) -> None:
    plan = engine.plan("sh", "-c", "sleep 1000 & sleep 1000")
    with launch.spawn_monitor(plan) as client:
        client.wait_started(20)
        before = state(plan)
        os.kill(before.monitor_pid, 9)
        with pytest.raises(errors.StartError, match="monitor is gone"):
            client.wait(10)
    until(lambda: not os.path.exists(f"/proc/{before.pid}") and not state(plan).live)  # it dies after all that it held
    now = state(plan)
    assert (now.status, now.exit_code, now.error) == ("exited", 137, "monitor lost")
    until(lambda: not Cgroup.open(plan["cgroup"]).procs())
    plan["spec"]["process"]["args"] = ["true"]
    with launch.spawn_monitor(plan) as client:
        assert client.wait(20) == 0
    assert gone(plan)


def test_starting_again_right_after_the_end(engine: Engine) -> None:
    """The exit is told before the clean-up; the next start waits for that instead of running into it."""
    plan = engine.plan("sh", "-c", "read x </count || x=0; echo $((x+1)) >/count; echo $x")
    for n in range(15):
        with launch.spawn_monitor(plan, ATTACH) as client:
            assert output(client)["stdout"] == b"%d\n" % n
    assert gone(plan)


def test_a_second_start_while_it_runs_is_a_conflict_and_harms_nobody(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = engine.plan("sleep", "1000")
    with launch.spawn_monitor(plan) as client:
        client.wait_started(20)
        with pytest.raises(errors.Conflict):
            lock(plan["run_dir"], 0.1)
        assert state(plan).status == "running"
    kill_container(plan)


def test_terminal(engine: Engine) -> None:
    plan = engine.plan("sh", "-c", "stty size; tty; read x; stty size; exit 8", tty=True, open_stdin=True, console_size=[30, 100])
    with launch.spawn_monitor(plan, BOTH) as client:
        client.wait_started(20)
        got = b""
        for _, data in client.frames(10):
            got += data
            if got.count(b"\n") == 2:
                break
        assert got.splitlines()[0] == b"30 100"
        client.resize(40, 120)
        client.write(b"x\r")
        assert output(client)["stdout"].endswith(b"40 120\r\n") and client.result() == 8
    assert gone(plan)


def test_lossless_under_a_reader_that_pauses(engine: Engine) -> None:
    plan = engine.plan("sh", "-c", "seq 1 6000000")
    with launch.spawn_monitor(plan, ATTACH) as client:
        client.wait_started(20)
        time.sleep(1)
        pid = state(plan).monitor_pid
        rss = next(int(line.split()[1]) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
        assert state(plan).status == "running" and rss < 24 << 10
        digest = hashlib.sha256()
        for _, data in client.frames(60):
            digest.update(data)
        assert client.result() == 0
    expected = hashlib.sha256()
    for first in range(1, 6_000_001, 100_000):
        expected.update(b"".join(b"%d\n" % n for n in range(first, first + 100_000)))
    assert digest.digest() == expected.digest()
    assert gone(plan)


def test_a_daemon_left_behind_does_not_hold_up_the_end(engine: Engine) -> None:
    plan = engine.plan("sh", "-c", "sleep 1000 & echo started; exit 6")
    with launch.spawn_monitor(plan, ATTACH) as client:
        assert output(client)["stdout"] == b"started\n" and client.result() == 6
    assert gone(plan)


def test_pause(engine: Engine) -> None:
    plan = engine.plan("sh", "-c", "while :; do echo x; sleep 0.01; done")
    with launch.spawn_monitor(plan) as client:
        client.wait_started(20)
        client.pause()
        assert state(plan).status == "paused"
        with pytest.raises(errors.Conflict, match="already paused"):
            client.pause()
        size = os.path.getsize(plan["log"]["path"])
        time.sleep(0.1)
        assert os.path.getsize(plan["log"]["path"]) == size
        client.unpause()
        assert state(plan).status == "running"
        until(lambda: os.path.getsize(plan["log"]["path"]) > size)
    kill_container(plan)


def test_restart_requests(engine: Engine, running: dict[str, Any]) -> None:
    """What a client says of restarts: nonsense is refused and changes nothing, a policy counts from the next exit."""
    with connect(running["run_dir"]) as client:
        for wrong in ({"policy": {"name": 7}}, {"policy": {"name": "always", "maximum": "x"}}):
            with pytest.raises(errors.InvalidArgument):
                client.set_restart(wrong)
        client.set_restart({"policy": {"name": "on-failure", "maximum": 1}})
    before = state(running)
    os.kill(before.pid, 9)
    until(lambda: (state(running).restart_count, state(running).status) == (1, states.RUNNING))
    now = state(running)
    assert now.monitor_pid == before.monitor_pid and now.started_at > now.finished_at > before.started_at
    with connect(running["run_dir"]) as client:
        client.set_restart({"policy": {"name": "always", "maximum": 0}})
        client.no_restart()
        os.kill(now.pid, 9)
        assert client.wait(15) == 137
    until(lambda: state(running).status == states.EXITED)


def test_events_are_written(engine: Engine, tmp_path: Path) -> None:
    plan = engine.plan("sh", "-c", "exit 7", events={"path": str(tmp_path), "attributes": {"name": "x"}})
    with launch.spawn_monitor(plan) as client:
        assert client.wait(20) == 7
        seen = [(e.type, e.action, e.id, e.attributes) for e in events.read(str(tmp_path))]  # all before the exit was told
    assert seen == [("container", "start", plan["id"], {"name": "x"}),
                    ("container", "die", plan["id"], {"name": "x", "exitCode": "7", "execDuration": "0"})]


def test_out_of_memory_is_noted(engine: Engine) -> None:
    plan = engine.plan("sh", "-c", "head -c 100000000 /dev/zero | tail", resources={"memory": {"limit": 16 << 20}})
    plan["spec"]["process"]["args"] = ["sh", "-c", "x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo ${#x}"]
    with launch.spawn_monitor(plan) as client:
        assert client.wait(30) == 137
    assert state(plan).oom_killed
    assert gone(plan)


def test_auto_remove_deletes_what_it_was_told_and_crosses_no_mount(engine: Engine, tmp_path: Path) -> None:
    precious, linked = tmp_path / "precious", tmp_path / "linked"
    for directory in (precious, linked):
        directory.mkdir()
        (directory / "file").write_text("keep me")
    mounted, plain = tmp_path / "mounted", tmp_path / "plain"
    (mounted / "in").mkdir(parents=True)
    (plain / "deep/er").mkdir(parents=True)
    (plain / "link").symlink_to(linked)
    mount.mount(str(precious), str(mounted / "in"), None, mount.MS_BIND)
    try:
        plan = engine.plan("true", auto_remove=True, remove=[str(mounted), str(plain), str(tmp_path / "absent")])
        with launch.spawn_monitor(plan) as client:
            assert client.wait(20) == 0
        assert gone(plan)
        assert (precious / "file").read_text() == (linked / "file").read_text() == "keep me"
        assert not plain.exists() and mounted.exists()
    finally:
        mount.umount(str(mounted / "in"))


def test_a_tree_without_overlay(engine: Engine) -> None:
    plan = engine.plan("sh", "-c", "cat /etc/group | head -1", mount={"type": "bind", "source": str(engine.layer)}, workdir="/made/here")
    with launch.spawn_monitor(plan, ATTACH) as client:
        assert output(client)["stdout"] == b"root:x:0:\n"
    assert (engine.layer / "made/here").is_dir()
    assert gone(plan)


# -- exec

@pytest.fixture
def running(engine: Engine) -> Iterator[dict[str, Any]]:
    plan = engine.plan("sleep", "1000")
    with launch.spawn_monitor(plan) as client:
        client.wait_started(20)
    yield plan
    if state(plan).live:
        kill_container(plan)


def exec_in(engine: Engine, plan: dict[str, Any], *argv: str, **more: Any) -> dict[str, Any]:
    now = state(plan)
    return engine.exec_plan(plan, now.pid, now.start_time, *argv, **more)


def test_exec_attached(engine: Engine, running: dict[str, Any]) -> None:
    plan = exec_in(engine, running, "sh", "-c", "cat; id -u; echo err >&2; exit 9", user="bob", open_stdin=True)
    with launch.spawn_monitor(plan, BOTH) as client:
        client.wait_started(20)
        client.write(b"input\n")
        client.close_stdin()
        assert output(client) == {"stdout": b"input\n1000\n", "stderr": b"err\n"}
        assert client.result() == 9
    now = execmon.read_record(running["run_dir"], plan["exec_id"])[1]
    assert (now.status, now.exit_code) == ("exited", 9)
    until(lambda: os.listdir(running["run_dir"] + "/execs") == [plan["exec_id"] + ".json"])


def test_exec_created_started_and_attached_by_different_hands(engine: Engine, running: dict[str, Any]) -> None:
    plan = exec_in(engine, running, "sh", "-c", "read x; echo got $x", tty=True, open_stdin=True, console_size=[11, 22])
    execmon.write_record(plan)
    stored, now = execmon.read_record(running["run_dir"], plan["exec_id"])
    assert stored == plan and now.status == "created"
    launch.spawn_monitor(stored).close()
    until(lambda: execmon.read_record(running["run_dir"], plan["exec_id"])[1].status == "running")
    with connect(running["run_dir"], execmon.socket_name(plan["exec_id"])) as client:
        client.attach(stdin=True)
        client.resize(5, 6)
        client.write(b"it\n")
        assert output(client)["stdout"].endswith(b"got it\r\n") and client.result() == 0


@pytest.mark.parametrize("change,kind", [
    ({"argv": ["nothing-there"]}, errors.CommandNotFound), ({"user": "nobody-there"}, errors.StartError),
    ({"workdir": "/not/there"}, errors.StartError), ({"init_start_time": 1}, errors.Conflict)])
def test_exec_that_fails(engine: Engine, running: dict[str, Any], change: dict[str, Any], kind: type[errors.LaminaError]) -> None:
    plan = exec_in(engine, running, *change.pop("argv", ["true"]), **change)
    with launch.spawn_monitor(plan, ATTACH) as client, pytest.raises(kind) as caught:
        client.wait_started(20)
    now = execmon.read_record(running["run_dir"], plan["exec_id"])[1]
    assert (now.status, now.error) == ("exited", caught.value.message)
    assert not os.path.exists(running["run_dir"] + "/" + execmon.socket_name(plan["exec_id"]))


def test_exec_ends_with_its_container_and_with_its_monitor(engine: Engine, running: dict[str, Any]) -> None:
    first, second = exec_in(engine, running, "sleep", "1000"), exec_in(engine, running, "sleep", "1000")
    with launch.spawn_monitor(first) as a, launch.spawn_monitor(second) as b:
        a.wait_started(20)
        b.wait_started(20)
        now = execmon.read_record(running["run_dir"], first["exec_id"])[1]
        os.kill(now.monitor_pid, 9)
        until(lambda: not os.path.exists(f"/proc/{now.pid}"))
        assert execmon.read_record(running["run_dir"], first["exec_id"])[1].error == "monitor lost"
        assert state(running).status == "running"
        with connect(running["run_dir"]) as client:
            client.signal(9)
        assert b.wait(15) == 137


def test_an_exec_that_is_not_there(running: dict[str, Any]) -> None:
    for name in ("0" * 64, "../../x"):
        with pytest.raises(errors.NotFound, match="No such exec instance"):
            execmon.read_record(running["run_dir"], name)


# -- what it costs

HEAVY = {"typing", "dataclasses", "enum", "re", "json", "socket", "signal", "subprocess", "pathlib", "contextlib", "collections",
         "functools", "logging", "argparse", "threading", "tempfile", "shutil", "hashlib", "ctypes", "datetime", "inspect", "ast"}


def test_the_monitor_imports_nothing_heavy() -> None:
    code = ("import sys; sys.path.insert(0, sys.argv[1]); from lamina.monitor import client, execmon, launch, main;"
            "import lamina.cli.attach; print(*sorted(sys.modules))")
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, str(SRC)], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_an_idle_monitor_is_small(engine: Engine) -> None:
    plan = engine.plan("sleep", "1000")
    with launch.spawn_monitor(plan) as client:
        client.wait_started(20)
    pid = state(plan).monitor_pid
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    private = sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))
    kill_container(plan)
    assert private <= 5 << 10, f"{private} kB"
