# SPDX-License-Identifier: Apache-2.0
"""Flags about disk I/O, real-time CPU, the cgroup's place, IPC between containers, annotations: seen in the kernel, or refused by name."""
from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lamina.runtime.cgroups import detect
from tests.conftest import Lamina


def disk() -> str:
    for name in sorted(os.listdir("/sys/block")):
        if not name.startswith(("loop", "ram", "zram", "fd", "sr", "md")) and os.path.exists(f"/dev/{name}"):
            return f"/dev/{name}"
    pytest.skip("no disk whose I/O could be limited")


def block_file(v1: str, v2: str) -> str:
    return f"/sys/fs/cgroup/blkio/{v1}" if "blkio" in {c for h in detect().hierarchies if h.version == 1 for c in h.controllers} else \
        f"/sys/fs/cgroup/{v2}"  # fmt: skip


def test_disk_limits(lamina: Lamina, box: str) -> None:
    path = disk()
    number = os.stat(path).st_rdev
    name = f"{os.major(number)}:{os.minor(number)}"
    flags = ("--device-read-bps", f"{path}:1mb", "--device-write-bps", f"{path}:2mb", "--device-read-iops", f"{path}:100",
             "--device-write-iops", f"{path}:200")  # fmt: skip
    files = [block_file(f"blkio.throttle.{one}_device", "io.max") for one in ("read_bps", "write_bps", "read_iops", "write_iops")]
    lamina("create", "--name", "disk", *flags, "box", "cat", *dict.fromkeys(files)).check()
    shown = lamina("start", "-a", "disk").out
    if len(set(files)) > 1:
        assert shown.splitlines() == [f"{name} {value}" for value in (1048576, 2097152, 100, 200)]
    else:
        assert shown == f"{name} rbps=1048576 wbps=2097152 riops=100 wiops=200"
    assert lamina("inspect", "-f", "{{json .HostConfig.BlkioDeviceReadBps}}", "disk").out == json.dumps(
        [{"Path": path, "Rate": 1048576}], separators=(",", ":"))
    lamina("run", "-d", "--name", "later", "box", "sleep", "1000").check()
    changed = lamina("update", "--blkio-weight", "200", "later")
    look = ("sh", "-c", f"cat {block_file('blkio.bfq.weight', 'io.bfq.weight')} || cat /sys/fs/cgroup/io.weight")
    weight = lamina("run", "--rm", "--blkio-weight", "300", "box", *look)
    if weight.returncode:
        assert "block I/O weight can't be applied" in weight.stderr and changed.returncode  # a kernel without BFQ's groups
    else:
        assert weight.stdout.split()[-1] in ("300", "2930")  # the latter on io.weight's scale, which ends at 10000
        assert lamina("exec", "later", *look).out.split()[-1] in ("200", "1920")
    for flag, wrong, text in (
        ("--device-read-bps", "/dev/nope:1", "stat /dev/nope: no such file or directory"),
        ("--device-read-bps", "/dev/null:1", "not a block device"),
        ("--device-read-bps", "/dev/x:y", "invalid rate for device: /dev/x:y. The correct"),
        ("--device-write-iops", "x:1", "bad format for device path: x:1"),
        ("--blkio-weight", "5", "Range of blkio weight is from 10 to 1000"),
        ("--blkio-weight-device", "/dev/x:5", "invalid weight for device: /dev/x:5"),
    ):
        done = lamina("create", flag, wrong, "box", "true")
        assert done.returncode and text in done.stderr, done.stderr


def test_a_cgroup_elsewhere(lamina: Lamina, box: str) -> None:
    """Every verb finds it there; what was made for it goes with the container, what was there stays."""
    mine = f"lamina-test-{os.getpid()}"
    lamina("run", "-d", "--name", "one", "--cgroup-parent", f"../{mine}/below", "-m", "64m", "box", "sleep", "1000").check()
    cid, pid = lamina("inspect", "-f", "{{.Id}} {{.State.Pid}}", "one").out.split()
    paths = {line.split(":", 2)[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if not line.startswith("0::")} or \
        {Path(f"/proc/{pid}/cgroup").read_text().strip()[3:]}  # fmt: skip
    assert paths == {f"/{mine}/below/{cid}"}
    assert "/ 64MiB" in lamina("stats", "--no-stream", "one").out and "sleep 1000" in lamina("top", "one").out
    lamina("update", "-m", "96m", "one").check()
    assert "/ 96MiB" in lamina("stats", "--no-stream", "one").out
    assert lamina("exec", "one", "true").returncode == 0
    lamina("rm", "-f", "one").check()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{mine}")) and not os.path.exists(f"/sys/fs/cgroup/{mine}")


def test_ipc_is_shared_only_where_offered(lamina: Lamina, box: str) -> None:
    offer = ("--ipc", "shareable", "--shm-size", "1m", "box", "sh", "-c", "echo hi > /dev/shm/f; sleep 1000")
    lamina("run", "-d", "--name", "donor", *offer).check()
    lamina("run", "-d", "--name", "other", "box", "sleep", "1000").check()
    space = lamina("exec", "donor", "readlink", "/proc/self/ns/ipc").out
    seen = lamina("run", "-d", "--name", "guest", "--ipc", "container:donor", "box", "sh", "-c",
                  "cat /dev/shm/f; echo there > /dev/shm/g; readlink /proc/self/ns/ipc; sleep 1000")  # fmt: skip
    seen.check()
    assert lamina("run", "--rm", "--ipc", "container:guest", "box", "cat", "/dev/shm/g").out == "there"
    assert lamina("logs", "guest").out.splitlines() == ["hi", space] != lamina("exec", "other", "readlink", "/proc/self/ns/ipc").out
    host = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(lamina.runroot) in line]
    assert len(host) == 3 and not any("tmpfs" in line.partition(" - ")[2] for line in host)  # the roots of the three, no more
    for ref, text in (("other", "non-shareable IPC (hint: use IpcMode:"), ("nope", "No such container: nope"), ("", "invalid IPC mode")):
        done = lamina("run", "--rm", "--ipc", f"container:{ref}", "box", "true")
        assert done.returncode == 125 and text in done.stderr, done.stderr
    lamina("stop", "-t", "0", "donor").check()
    assert "is not running" in lamina("run", "--rm", "--ipc", "container:donor", "box", "true").stderr
    assert lamina("exec", "guest", "cat", "/dev/shm/f").out == "hi"
    assert "shm-size and the IPC mode" in lamina("create", "--ipc", "host", "--shm-size", "1m", "box", "true").stderr


def test_real_time_needs_a_budget(lamina: Lamina, box: str) -> None:
    cpu = detect().find("cpu")
    assert cpu is not None
    if not os.path.exists(cpu.mount + "/cpu.rt_runtime_us"):
        done = lamina("create", "--cpu-rt-runtime", "1000", "box", "true")
        assert "Your kernel does not support CPU real-time runtime" in done.stderr and done.returncode == 1
        return
    group = Path(cpu.mount) / f"lamina-rt-{os.getpid()}"
    group.mkdir()
    try:
        (group / "cpu.rt_runtime_us").write_text("100000")
        flags = ("run", "--rm", "--cpu-rt-runtime", "1000", "--cpu-rt-period", "500000")
        files = [f"/sys/fs/cgroup/cpu/cpu.rt_{one}_us" for one in ("runtime", "period")]
        shown = lamina(*flags, "--cgroup-parent", group.name, "box", "cat", *files)
        assert shown.out.split() == ["1000", "500000"]
        assert "is refused by the kernel" in lamina(*flags, "box", "true").stderr  # above it there is none
        assert "cannot be higher than" in lamina(*flags, "--cpu-rt-period", "500", "box", "true").stderr
    finally:
        for hierarchy in detect().hierarchies:
            if (place := Path(hierarchy.mount) / group.name).exists():
                place.rmdir()


def test_annotations_and_words_with_one_value(lamina: Lamina, box: str) -> None:
    flags = ("--annotation", "a=b=c", "--annotation", "x", "--isolation", "default", "--userns", "host", "--volume-driver", "local",
             "--disable-content-trust")  # fmt: skip
    cid = lamina("run", "-d", *flags, "-v", "vol:/x", "box", "true").out
    config = json.loads((lamina.root / "containers" / cid / "config.json").read_text())
    assert config["annotations"] == {"a": "b=c", "x": ""}
    host = json.loads(lamina("inspect", cid).out)[0]["HostConfig"]
    assert (host["Annotations"], host["Isolation"], host["UsernsMode"]) == ({"a": "b=c", "x": ""}, "default", "host")


REFUSED = [
    (("--annotation", "=b"), 1, "invalid Annotations: the empty string is not permitted as an annotation key"),
    (("--isolation", "hyperv"), 1, "Invalid isolation: \"hyperv\" - linux only supports 'default'"),
    (("--userns", "private"), 125, "--userns: invalid USER mode"),
    (("--volume-driver", "nope"), 1, 'error looking up volume plugin nope: plugin "nope" not found'),
    (("--storage-opt", "size=1g"), 125, "unsupported flag: --storage-opt (no layer driver"), (("--gpus", "all"), 125, "--gpus (no drivers"),
    (("--cpu-count", "2"), 125, "--cpu-count (only Windows"), (("--io-maxbandwidth", "2m"), 125, "--io-maxbandwidth (only Windows"),
    (("--kernel-memory", "50m"), 125, "--kernel-memory (kernels have it no longer"),
    (("--disable-content-trust=false",), 125, "--disable-content-trust=false is not supported: "),
    (("--blkio-weight", "70000"), 125, 'strconv.ParseUint: parsing "70000": value out of range'),
    (("--ipc", "foo"), 1, "invalid IPC mode: foo"),
]  # fmt: skip


def test_what_is_refused_is_refused_by_name(lamina: Lamina, box: str) -> None:
    for flags, code, text in REFUSED:
        done = lamina("create", *flags, "box", "true")
        assert text in done.stderr and done.returncode == code, (flags, done.returncode, done.stderr)
    assert lamina("ps", "-aq").out == ""
