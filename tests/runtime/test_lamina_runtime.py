# SPDX-License-Identifier: Apache-2.0
"""lamina-runtime as its callers use it: each command a process of its own, on a busybox bundle."""

from __future__ import annotations

import array
import json
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oci
import pytest

from lamina.errors import InvalidArgument, NotSupported
from lamina.runtime import bundle, cli, cli_features, seccomp_profiles
from lamina.runtime.cli_options import EXEC, UPDATE, exec_document, parse, update_document

SCHEMA = oci.REPO.parent / "shared/specs/runtime-spec/schema"
needs_root = pytest.mark.skipif(os.geteuid() != 0 or oci.BUSYBOX is None, reason="needs root and busybox")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[oci.Bundle]:
    b = oci.Bundle(tmp_path)
    yield b
    b.close()


def validate(document: Any, name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    if not (SCHEMA / name).exists():
        pytest.skip("the runtime-spec's schemas are not beside this repository")
    schema = json.loads((SCHEMA / name).read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its successor, `referencing`, isn't in the oldest version that we support
        resolver = jsonschema.RefResolver((SCHEMA / name).as_uri(), schema)
    jsonschema.validate(document, schema, resolver=resolver)


@needs_root
def test_lifecycle(box: oci.Bundle, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    box.create("c1", "--pid-file", str(pid_file))
    state = box.state()
    assert state["status"] == "created" and state["pid"] == int(pid_file.read_text()) and state["bundle"] == str(box.path)
    assert (Path("/proc") / str(state["pid"]) / "comm").read_text().strip() != "sleep", "the program isn't run before start"
    box.call("start", "c1")
    assert box.state()["status"] == "running"
    assert (Path("/proc") / str(state["pid"]) / "comm").read_text().strip() in ("sleep", "busybox")
    assert "cannot start an already running container" in box.call("start", "c1", ok=False).stderr
    assert "not stopped: running" in box.call("delete", "c1", ok=False).stderr
    assert "container with id exists: c1" in box.create("c1", ok=False).stderr
    box.call("kill", "c1", "KILL")
    box.wait_for("stopped")
    assert box.state()["pid"] == 0
    assert "container not running" in box.call("kill", "c1", "KILL", ok=False).stderr
    box.call("delete", "c1")
    assert "container does not exist" in box.call("state", "c1", ok=False).stderr
    box.call("delete", "--force", "c1")


@needs_root
def test_documents_fit_the_schemas(box: oci.Bundle) -> None:
    box.create()
    validate(box.state(), "state-schema.json")
    validate(json.loads(box.call("features").stdout), "features-schema.json")
    assert cli_features.features() == json.loads(box.call("features").stdout)
    (box.path / "config.json").unlink()
    box.call("spec", "--bundle", str(box.path))
    validate(json.loads((box.path / "config.json").read_text()), "config-schema.json")
    assert "Remove it first" in box.call("spec", "--bundle", str(box.path), ok=False).stderr


@needs_root
def test_run_gives_output_and_status(box: oci.Bundle) -> None:
    done = box.run("echo out; echo err >&2; exit 7", ok=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert box.call("list", "-q").stdout == ""


@needs_root
def test_run_detached_list_ps_exec(box: oci.Bundle) -> None:
    box.write("c1")
    box.call("run", "-d", "-b", str(box.path), "c1")
    assert box.call("list", "--quiet").stdout == "c1\n"
    assert [c["id"] for c in json.loads(box.call("list", "-f", "json").stdout)] == ["c1"]
    assert box.call("list").stdout.split()[:6] == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert json.loads(box.call("ps", "-f", "json", "c1").stdout) == [box.state()["pid"]]
    assert "sleep 60" in box.call("ps", "c1").stdout
    done = box.call("exec", "-e", "A=b", "--cwd", "/tmp", "-u", "5:6", "c1", "sh", "-c", "echo $A $PWD; id; exit 9", ok=False)
    assert done.returncode == 9 and done.stdout.splitlines() == ["b /tmp", "uid=5 gid=6 groups=6"] or "uid=5 gid=6" in done.stdout
    process = box.path / "p.json"
    process.write_text(json.dumps({**box.spec["process"], "args": ["echo", "document"]}))
    assert box.call("exec", "--process", str(process), "c1").stdout == "document\n"
    assert box.call("exec", "c1", "sh", "-c", "kill -9 $$", ok=False).returncode == 137
    assert "no-such-program" in box.call("exec", "c1", "no-such-program", ok=False).stderr


@needs_root
def test_pause_update_events(box: oci.Bundle) -> None:
    box.create()
    box.call("start", "c1")
    box.call("pause", "c1")
    assert box.state()["status"] == "paused"
    assert "paused" in box.call("exec", "c1", "true", ok=False).stderr
    box.call("resume", "c1")
    assert "not paused" in box.call("resume", "c1", ok=False).stderr
    box.call("update", "--memory", "64m", "--memory-swap", "64m", "--pids-limit", "9", "c1")
    stats = json.loads(box.call("events", "--stats", "c1").stdout)
    assert stats["type"] == "stats" and stats["data"]["memory"]["usage"]["limit"] == 64 << 20 and stats["data"]["pids"]["limit"] == 9
    (box.path / "r.json").write_text('{"pids": {"limit": 11}}')
    box.call("update", "-r", str(box.path / "r.json"), "c1")
    assert json.loads(box.call("events", "--stats", "c1").stdout)["data"]["pids"]["limit"] == 11
    box.call("pause", "c1")
    box.call("kill", "c1", "9")
    box.wait_for("stopped")


@needs_root
def test_console_socket(box: oci.Bundle) -> None:
    box.spec["process"].update(terminal=True, args=["sh", "-c", "test -t 0 && echo terminal"])
    assert "console socket" in box.create(ok=False).stderr
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(box.path / "tty"))
        listener.listen()
        box.create("c1", "--console-socket", str(box.path / "tty"))
        peer, _ = listener.accept()
        with peer:
            data, ancillary, _, _ = peer.recvmsg(100, 100)
    fds = array.array("i", ancillary[0][2])
    assert data and len(fds) == 1 and os.isatty(fds[0])
    box.call("start", "c1")
    assert os.read(fds[0], 100) == b"terminal\r\n"
    os.close(fds[0])


@needs_root
def test_hooks_run_in_order_with_the_state(box: oci.Bundle) -> None:
    trace = box.path / "trace"
    script = box.path / "hook"
    script.write_text(
        f'#!/bin/sh\ns=$(cat); case $s in *\'"id":"c1"\'*) id=yes;; esac\n'
        f'echo "$1 $id $(echo "$s" | grep -o \'"status":"[a-z]*"\') $(hostname) $X" >> {trace}\n'
    )
    script.chmod(0o755)
    (box.rootfs / "inner").write_text('#!/bin/sh\ngrep -q \'"id":"c1"\' && echo inner > /tmp/ran\n')
    (box.rootfs / "inner").chmod(0o755)
    box.spec["root"]["readonly"] = False
    box.spec["hostname"] = "inside"
    box.spec["hooks"] = {
        kind: [{"path": str(script), "args": ["hook", kind], "env": ["X=1", "PATH=/bin:/usr/bin"], "timeout": 20}]
        for kind in bundle.HOOKS
        if kind != "startContainer"
    }
    box.spec["hooks"]["startContainer"] = [{"path": "/inner"}]
    box.create()
    assert [line.split()[0] for line in trace.read_text().splitlines()] == ["prestart", "createRuntime", "createContainer"]
    assert not (box.rootfs / "tmp/ran").exists()
    box.call("start", "c1")
    assert (box.rootfs / "tmp/ran").read_text() == "inner\n"
    box.call("delete", "-f", "c1")
    lines = trace.read_text().splitlines()
    host = socket.gethostname()
    assert [tuple(line.split()) for line in lines] == [
        ("prestart", "yes", '"status":"creating"', host, "1"), ("createRuntime", "yes", '"status":"creating"', host, "1"),
        ("createContainer", "yes", '"status":"creating"', lines[2].split()[3], "1"),
        ("poststart", "yes", '"status":"running"', host, "1"), ("poststop", "yes", '"status":"stopped"', host, "1")]  # fmt: skip


@needs_root
@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_failing_hook_leaves_nothing(box: oci.Bundle, kind: str) -> None:
    box.spec["hooks"] = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", "echo broken; exit 5"]}]}
    err = box.create(ok=False).stderr
    assert f"{kind} hook #0" in err and "exit status 5" in err and "broken" in err
    assert "does not exist" in box.call("state", "c1", ok=False).stderr
    box.spec["hooks"] = {"prestart": [{"path": "/bin/sleep", "args": ["sleep", "30"], "timeout": 1}]}
    assert "timeout" in box.create(ok=False).stderr


@needs_root
def test_failures_leave_nothing(box: oci.Bundle) -> None:
    box.spec["process"]["args"] = ["/no/such"]
    log = box.path / "log"
    box.write("c1")
    done = box.call("--log", str(log), "--log-format", "json", "create", "--bundle", str(box.path), "c1", ok=False)
    entry = json.loads(log.read_text())
    assert done.returncode == 1 and entry["level"] == "error" and "no such file or directory" in entry["msg"]
    box.spec["process"]["args"] = ["true"]
    box.spec["linux"]["resources"]["unified"] = {"nothing.max": "1"}
    assert "unified resource nothing.max" in box.create(ok=False).stderr
    assert not box.state_root.exists() or not list(box.state_root.iterdir())


@needs_root
def test_start_tells_why_the_program_cant_be_run(box: oci.Bundle) -> None:
    """Found and executable, so `create` succeeds; only execve itself sees that it is no program, in a process nobody waits for."""
    (box.rootfs / "bin/odd").write_bytes(b"\x7fNOT AN ELF")
    (box.rootfs / "bin/odd").chmod(0o755)
    box.spec["process"]["args"] = ["odd"]
    box.create()
    assert "exec format error" in box.call("start", "c1", ok=False).stderr
    box.wait_for("stopped")


@needs_root
def test_seccomp_of_the_bundle(box: oci.Bundle) -> None:
    box.spec["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
    }
    assert "No space left" in box.run("mkdir /tmp/x", ok=False).stderr
    box.spec["linux"]["seccomp"] = seccomp_profiles.default_profile((), os.uname().machine, (6, 1))
    assert "Seccomp:\t2" in box.run("grep Seccomp: /proc/self/status").stdout
    box.spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_NOTIFY"}
    assert "SCMP_ACT_NOTIFY" in box.create(ok=False).stderr


@needs_root
def test_devices_of_the_bundle(box: oci.Bundle) -> None:
    box.spec["linux"]["resources"] = {}
    box.spec["linux"]["devices"] = [{"path": "/dev/kmsg2", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666}]
    done = box.run("echo x > /dev/null && echo null; cat /dev/kmsg2 || echo denied")
    assert done.stdout == "null\ndenied\n" and "not permitted" in done.stderr


@needs_root
def test_what_is_refused(box: oci.Bundle) -> None:
    for args, word in (
        (["--systemd-cgroup", "list"], "cgroupfs"),
        (["create", "--no-pivot", "x"], "pivot_root"),
        (["frobnicate"], "no such command"),
        (["create", "--preserve-fds", "3", "x"], "preserve-fds"),
        (["state"], "exactly 1"),
        (["state", "--nope", "x"], "not defined"),
        (["state", "../x"], "invalid container ID"),
        (["create", ".."], "invalid container ID"),
        (["kill", "x", "NOSIG"], "does not exist"),
        (["--log-format", "xml", "list"], "log-format"),
    ):
        box.write("x")
        done = box.call(*args, ok=False, cwd=box.path)
        assert done.returncode == 1 and word in done.stderr, (args, done)
    box.spec["linux"]["cgroupsPath"] = "system.slice:lamina:x"
    with pytest.raises(NotSupported, match="systemd"):
        bundle.cgroup_path(box.spec, "x")


GOOD: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "root": {"path": "r"},
    "process": {"args": ["x"], "cwd": "/"},
    "linux": {"namespaces": [{"type": "mount"}]},
}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"ociVersion": "2.0"}, "ociVersion"),
        ({"ociVersion": None}, "ociVersion"),
        ({"root": None}, "root.path"),
        ({"process": None}, "process is missing"),
        ({"process": {"args": [], "cwd": "/"}}, "process.args"),
        ({"process": {"args": ["x"], "cwd": "rel"}}, "absolute"),
        ({"process": {"args": "x", "cwd": "/"}}, "a list"),
        ({"process": {"args": ["x", 1], "cwd": "/"}}, r"args\[1\]"),
        ({"process": {"args": ["x"], "cwd": "/", "user": {"uid": -1}}}, "uid"),
        ({"process": {"args": ["x"], "cwd": "/", "rlimits": [{"type": "A", "soft": 1, "hard": 1}] * 2}}, "twice"),
        ({"hostname": "h"}, "UTS"),
        ({"linux": {"namespaces": []}}, "mount namespace"),
        ({"linux": {"namespaces": [{"type": "mount"}, {"type": "moon"}]}}, "moon"),
        ({"linux": {"namespaces": [{"type": "mount"}] * 2}}, "twice"),
        ({"linux": {**GOOD["linux"], "intelRdt": {"closID": "x"}}}, "intelRdt"),
        ({"hooks": {"prestart": [{"path": "rel"}]}}, "absolute"),
        ({"hooks": {"never": []}}, "hooks.never"),
        ({"hooks": {"prestart": [{"path": "/x", "timeout": 0}]}}, "timeout"),
        ({"mounts": [{"source": "x"}]}, "destination"),
        ({"windows": {"x": 1}}, "windows"),
        ({"annotations": {"a": 1}}, "annotations"),
        ({"mounts": {"x": 1}}, "a list"),
        ({"root": {"path": "r", "readonly": "yes"}}, "true or false"),
    ],
)
def test_config_errors_name_the_field(change: dict[str, Any], word: str) -> None:
    bundle.check(GOOD)
    with pytest.raises(InvalidArgument, match=word):
        bundle.check({**GOOD, **change})


PROCESS_KEYS = ("scheduler", "ioPriority", "execCPUAffinity")


def test_published_samples() -> None:
    """The runtime-spec's own examples: what can be done passes, what can't is refused by name, never passed over."""
    if not SCHEMA.exists():
        pytest.skip("the runtime-spec's schemas are not beside this repository")
    samples = SCHEMA / "test/config/good"
    example = {**json.loads((samples / "spec-example.json").read_text()), "ociVersion": "1.0.2"}
    refused = []
    for _ in range(10):
        try:
            bundle.check(example)
            break
        except NotSupported as e:
            section, _, key = e.message.removeprefix("config.json: ").split()[0].partition(".")
            refused.append(key)
            del example[section][key]
    assert {"timeOffsets"} <= set(refused) <= {"timeOffsets", "intelRdt", "netDevices", "memoryPolicy", *PROCESS_KEYS}
    with pytest.raises(InvalidArgument, match=r"process is missing"):
        bundle.check({**json.loads((samples / "minimal.json").read_text()), "linux": GOOD["linux"]})


def test_flags() -> None:
    options, rest = parse(["-e", "A=1", "--env=B=2", "-t=false", "--cwd", "/x", "id", "-e", "no"], EXEC, what="exec")
    assert options == {"env": ["A=1", "B=2"], "tty": False, "cwd": "/x"} and rest == ["id", "-e", "no"]
    assert parse(["--", "-x"], EXEC, what="exec") == ({}, ["-x"])
    for bad in (["--nope"], ["--cwd"]):
        with pytest.raises(InvalidArgument):
            parse(bad, EXEC, what="exec")
    base = {"args": ["old"], "cwd": "/", "env": ["P=1"], "terminal": True, "capabilities": {"bounding": ["CAP_KILL"]}}
    document = exec_document(base, {"env": ["A=1"], "user": "3:4", "cap": ["CAP_CHOWN"], "additional-gids": ["7,8"]}, ["new"])
    assert (
        document["args"] == ["new"]
        and document["env"] == ["P=1", "A=1"]
        and document["user"] == {"uid": 3, "gid": 4, "additionalGids": [7, 8]}
    )
    assert document["terminal"] is False and document["capabilities"]["bounding"] == ["CAP_KILL", "CAP_CHOWN"] and base["env"] == ["P=1"]
    for user in ("root", "-1", "1:", "+1", "٣", "1:x", ""):
        if user:
            with pytest.raises(InvalidArgument):
                exec_document(base, {"user": user}, ["new"])
    options, _ = parse(["--memory", "1g", "--memory-swap", "-1", "--cpu-share", "5", "--cpuset-cpus", "0"], UPDATE, what="update")
    assert update_document(options) == {"memory": {"limit": 1 << 30, "swap": -1}, "cpu": {"shares": 5, "cpus": "0"}}


def test_every_verb_of_runc_is_there() -> None:
    assert set(cli.VERBS) == set("create start run state kill delete exec list ps features spec update pause resume events".split())
