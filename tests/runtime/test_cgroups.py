# SPDX-License-Identifier: Apache-2.0
"""Control groups: for real on this host's hierarchies, and on made-up trees for what this host doesn't have."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lamina.errors import Conflict, InvalidArgument, NotSupported
from lamina.linux import bpf
from lamina.runtime.cgroups import Cgroup, detect, enter_fds, files
from lamina.runtime.cgroups import cgroup as module
from lamina.runtime.cgroups.devices import DEFAULT_ALLOW, DeviceRules
from lamina.runtime.cgroups.resources import check_cpu_list, shares_to_weight, v1_writes, v2_writes

PARENT = f"/lm-test-{os.getpid()}"
DENY_ALL = {"allow": False, "access": "rwm"}


def rule(allow: bool, text: str) -> dict[str, Any]:
    kind, numbers, access = text.split()
    major, minor = (-1 if n == "*" else int(n) for n in numbers.split(":"))
    return {"allow": allow, "type": kind, "major": major, "minor": minor, "access": access}


@pytest.fixture
def make() -> Iterator[Callable[..., Cgroup]]:
    """Real groups below a parent of this test run's own; removed with all their processes."""
    made: list[Cgroup] = []

    def create(resources: dict[str, Any] | None = None, name: str = "c1", **more: Any) -> Cgroup:
        made.append(Cgroup.create(f"{PARENT}/{name}", resources, **more))
        return made[-1]

    if os.geteuid() != 0 or detect().kind == "none":
        pytest.skip("needs root and a cgroup hierarchy")
    yield create
    for c in made:
        c.kill()
        c.remove(parents=1)
    assert not [h.mount for h in detect().hierarchies if os.path.exists(h.mount + PARENT)]


def inside(group: Cgroup, payload: Callable[[], int], **more: Any) -> int:
    """Exit status of `payload` in a child that entered the group."""
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            group.enter_self(**more)
            status = payload()
        except OSError as e:
            status = e.errno or 98
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def sleeper(group: Cgroup, children: int = 0) -> int:
    ready, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            group.enter_self()
            for _ in range(children):
                if os.fork() == 0:
                    time.sleep(60)
                    os._exit(0)
            os.write(into, b"x")
            time.sleep(60)
        finally:
            os._exit(1)
    os.close(into)
    assert os.read(ready, 1) == b"x"
    os.close(ready)
    return pid


# ---- for real ----


def test_enter_is_in_every_hierarchy(make: Callable[..., Cgroup]) -> None:
    group = make()
    pid = sleeper(group)
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    assert lines and all(line.split(":", 2)[2] == group.path for line in lines if line.split(":")[1] or "" in group.paths), lines
    assert group.procs() == [pid] and Cgroup.open(group.path).procs() == [pid]
    group.kill()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert group.procs() == []


def test_enter_after_the_mounts_have_gone(make: Callable[..., Cgroup]) -> None:
    group = make()
    fds = group.prepare_enter()
    pid = os.fork()
    if pid == 0:
        try:
            os.chroot("/proc/self/fdinfo")
            enter_fds(fds)
            os._exit(0)
        finally:
            os._exit(1)
    for fd in fds:
        os.close(fd)
    assert os.waitpid(pid, 0)[1] == 0


def test_enter_fds_closes_and_reports() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError, match="cgroup") as e:
        enter_fds([fd])
    assert e.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match="Bad file"):
        os.close(fd)


def test_limits_hold(make: Callable[..., Cgroup]) -> None:
    group = make(
        {
            "memory": {"limit": 32 << 20, "swap": 32 << 20},
            "pids": {"limit": 3},
            "cpu": {"cpus": "0", "shares": 512, "quota": 50000, "period": 100000},
        }
    )

    def forks() -> int:
        for n in range(8):
            try:
                if os.fork() == 0:
                    time.sleep(5)
                    os._exit(0)
            except BlockingIOError:
                return n
        return 50

    assert inside(group, forks) == 2
    group.kill()
    assert inside(group, lambda: len(os.sched_getaffinity(0))) == 1
    assert not group.oom_killed()
    assert inside(group, lambda: len(bytearray(os.urandom(1) * (64 << 20))) and 0) == -signal.SIGKILL
    assert group.oom_killed()
    stats = group.stats()
    assert stats["memory"]["usage"]["limit"] == 32 << 20 and stats["pids"]["limit"] == 3 and stats["cpu"]["usage"]["total"] > 0


def test_update(make: Callable[..., Cgroup]) -> None:
    group = make({"memory": {"limit": 64 << 20, "swap": 96 << 20}, "cpu": {"period": 100000, "quota": 50000}})
    for limit, swap in ((256 << 20, 300 << 20), (16 << 20, 20 << 20), (128 << 20, -1)):  # up and down: the order of writes must fit
        group.update({"memory": {"limit": limit, "swap": swap}})
        assert group.stats()["memory"]["usage"]["limit"] == limit
    group.update({"cpu": {"period": 50000, "quota": 200000}})
    with pytest.raises(Conflict, match="current usage"):
        sleeper(group)
        group.update({"memory": {"limit": 1, "checkBeforeUpdate": True}})


def test_devices(make: Callable[..., Cgroup]) -> None:
    group = make({"devices": [DENY_ALL, rule(True, "c 1:3 rwm"), rule(True, "c 1:5 r")]})

    def can(path: str, flags: int) -> bool:
        return inside(group, lambda: os.close(os.open(path, flags)) or 0) == 0

    assert can("/dev/null", os.O_RDWR) and can("/dev/zero", os.O_RDONLY)
    assert not can("/dev/zero", os.O_RDWR) and not can("/dev/urandom", os.O_RDONLY)
    group.update({"devices": [DENY_ALL, rule(True, "c 1:9 rwm")]})
    assert can("/dev/urandom", os.O_RDONLY) and not can("/dev/null", os.O_RDWR)


def test_freeze(make: Callable[..., Cgroup]) -> None:
    group = make()
    pid = sleeper(group, children=3)
    group.freeze()
    assert group.frozen() and Cgroup.open(group.path).frozen()
    group.thaw()
    assert not group.frozen()
    group.freeze()
    group.kill()  # also kills what is frozen
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_kill_beats_a_fork_bomb(make: Callable[..., Cgroup]) -> None:
    group = make({"pids": {"limit": 60}})
    pid = os.fork()
    if pid == 0:
        try:
            group.enter_self()
            while True:
                try:
                    os.fork()
                except OSError:
                    pass
        finally:
            os._exit(1)
    while len(group.procs()) < 40:
        time.sleep(0.01)
    group.kill()
    assert group.procs() == []
    os.waitpid(pid, 0)


def test_nested_groups_are_seen_and_removed(make: Callable[..., Cgroup]) -> None:
    group = make()
    for directory in set(group.paths.values()):
        os.makedirs(directory + "/inner/most")
    if (cpuset := group.paths.get("cpuset")) is not None:
        for d in ("/inner", "/inner/most"):
            for f in ("cpus", "mems"):
                files.write(f"{cpuset}{d}/cpuset.{f}", "0")
    inner = Cgroup(group.path, {k: v + "/inner/most" for k, v in group.paths.items()})
    pid = sleeper(inner)
    assert group.procs() == [pid]
    group.kill()
    os.waitpid(pid, 0)


def test_names_in_use(make: Callable[..., Cgroup]) -> None:
    first = make({"pids": {"limit": 7}})
    again = make()  # empty: replaced, its limits forgotten
    assert again.stats()["pids"]["limit"] == 0
    pid = sleeper(first)
    with pytest.raises(Conflict, match="has processes"):
        make()
    assert make(exist_ok=True).procs() == [pid]
    with pytest.raises(Conflict, match="processes"):
        first.remove(timeout=0.05)
    first.kill()
    os.waitpid(pid, 0)


@pytest.mark.parametrize(
    ("resources", "error", "word"),
    [
        ({"cpu": {"cpus": "0-9999999999"}}, InvalidArgument, "cpuset cpus"),
        ({"cpu": {"cpus": "4000"}}, InvalidArgument, "cpuset cpus"),
        ({"cpu": {"cpus": "0\n1"}}, InvalidArgument, "cpuset cpus"),
        ({"memory": {"swappiness": 101}}, InvalidArgument, "0-100"),
        ({"memory": {"limit": "1g"}}, InvalidArgument, "memory limit"),
        ({"blockIO": {"weight": 5000}}, InvalidArgument, "10 to 1000"),
        ({"network": {"classID": 5}}, NotSupported, "network class"),
        ({"unified": {"no.such": "1"}}, NotSupported, "no.such"),
        ({"unified": {"../x.y": "1"}}, InvalidArgument, "unified"),
        ({"intelThing": {}}, NotSupported, "intelThing"),
        ({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}, NotSupported, "huge page"),
        ({"devices": [DENY_ALL, rule(True, "c *:* m"), rule(False, "c 1:1 m")]}, NotSupported, "c 1:1 m"),
    ],
)
def test_what_cant_be_applied_is_an_error_that_leaves_nothing(
    make: Callable[..., Cgroup], resources: dict[str, Any], error: type[Exception], word: str
) -> None:
    if "network" in resources and detect().find("net_cls") is not None:
        resources = {"network": {"classID": 1 << 40}}  # the kernel has the controller: then it is the value that it refuses
        error = InvalidArgument
    make(name="keeper")
    with pytest.raises(error, match=word.replace("*", r"\*")):
        make(resources, name="bad")
    assert not Cgroup.open(f"{PARENT}/bad").paths


@pytest.mark.parametrize("path", ["lamina/x", "/", "/a/../b", "/a//b", "/a/./b", "/a\n", "/" + "x" * 256])
def test_bad_paths(path: str) -> None:
    with pytest.raises(InvalidArgument):
        Cgroup.create(path)


def test_device_program_of_v2(tmp_path: Path) -> None:
    """The eBPF program itself, attached to a group of the v2 tree, which needs no controller for it."""
    unified = detect().unified
    if unified is None or os.geteuid() != 0:
        pytest.skip("no v2 tree is mounted here")
    directory = f"{unified.mount}{PARENT}-bpf"
    os.mkdir(directory)
    try:
        group = Cgroup(f"{PARENT}-bpf", {"": directory})

        def can(path: str, flags: int) -> bool:
            return inside(group, lambda: os.close(os.open(path, flags)) or 0) == 0

        try:
            group._set_devices(DeviceRules.parse([DENY_ALL, rule(True, "c 1:3 rwm"), rule(True, "c 1:* r")]))
        except NotSupported as e:
            pytest.skip(f"no device programs here: {e}")
        assert (
            can("/dev/null", os.O_RDWR)
            and can("/dev/zero", os.O_RDONLY)
            and not can("/dev/zero", os.O_RDWR)
            and not can("/dev/tty", os.O_RDONLY)
        )
        # mknod is asked about too, and block devices aren't characters.
        assert inside(group, lambda: os.mknod(tmp_path / "n", 0o20600, os.makedev(1, 3)) or 0) == 0
        assert inside(group, lambda: os.mknod(tmp_path / "z", 0o20600, os.makedev(1, 5)) or 0) == errno.EPERM
        assert inside(group, lambda: os.mknod(tmp_path / "b", 0o60600, os.makedev(1, 3)) or 0) == errno.EPERM
        everything_but = DeviceRules.parse([{"allow": True, "access": "rwm"}, rule(False, "c 1:5 w"), rule(False, "b *:* m")])
        group._set_devices(everything_but)
        assert can("/dev/zero", os.O_RDONLY) and not can("/dev/zero", os.O_RDWR) and can("/dev/urandom", os.O_RDONLY)
        fd = os.open(directory, os.O_RDONLY)
        assert len(bpf.attached(fd)) == 1, "the old program was replaced"
        os.close(fd)
    finally:
        assert files.remove_tree(directory, 2)


# ---- device rules, pure ----


def test_device_rules_normal_form() -> None:
    rules = DeviceRules.parse(
        [
            DENY_ALL,
            rule(True, "c 1:3 rw"),
            rule(True, "c 1:3 m"),
            rule(True, "c 1:5 rwm"),
            rule(False, "c 1:5 w"),
            rule(False, "c 10:229 rwm"),
        ]
    )
    assert rules.v1_writes() == [("devices.deny", "a"), ("devices.allow", "c 1:3 rwm"), ("devices.allow", "c 1:5 rm")]
    wide = DeviceRules.parse([DENY_ALL, rule(True, "c 1:3 rwm"), rule(False, "c 1:* rw")])
    assert wide.v1_writes() == [("devices.deny", "a"), ("devices.allow", "c 1:3 m")]
    assert DeviceRules.parse([{"allow": True, "access": "rwm"}]).v1_writes() == [("devices.allow", "a")]
    defaults = DeviceRules.parse([DENY_ALL, *DEFAULT_ALLOW])
    assert (
        defaults.allows("c", 1, 3, "rw")
        and defaults.allows("b", 8, 0, "m")
        and not defaults.allows("b", 8, 0, "r")
        and defaults.allows("c", 136, 7, "rw")
    )


@pytest.mark.parametrize(
    "bad",
    [
        {"access": "rwm"},
        {"allow": True, "access": "x"},
        {"allow": True, "type": "q"},
        {"allow": True, "type": "c", "major": 1 << 33},
        {"allow": True, "type": "a", "major": 1},
        {"allow": True, "type": "c", "major": True},
    ],
)
def test_bad_device_rules(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        DeviceRules.parse([bad])


# ---- resources, pure ----


def written(writes: list[Any]) -> dict[str, str]:
    return {w.file: w.value for w in writes}


def test_v2_values() -> None:
    got = written(
        v2_writes(
            {
                "memory": {"limit": 100, "swap": 300, "reservation": 50},
                "cpu": {"shares": 1024, "quota": -1, "period": 50000, "cpus": "0-1", "burst": 5},
                "pids": {"limit": -1},
                "blockIO": {"weight": 500, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}]},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 4096}],
                "unified": {"memory.high": "90"},
            }
        )
    )
    assert got == {
        "memory.max": "100",
        "memory.swap.max": "200",
        "memory.low": "50",
        "cpu.weight": "100",
        "cpu.max": "max 50000",
        "cpuset.cpus": "0-1",
        "cpu.max.burst": "5",
        "pids.max": "max",
        "io.bfq.weight|io.weight": "500|4950",
        "io.max": "8:0 rbps=1000",
        "hugetlb.2MB.max": "4096",
        "memory.high": "90",
    }
    assert written(v2_writes({"memory": {"limit": 100, "swap": -1}}))["memory.swap.max"] == "max"
    for bad in (
        {"memory": {"swap": 5}},
        {"memory": {"limit": 10, "swap": 5}},
        {"memory": {"swappiness": 10}},
        {"memory": {"disableOOMKiller": True}},
        {"cpu": {"realtimeRuntime": 5}},
        {"memory": {"kernelTCP": 9}},
        {"blockIO": {"leafWeight": 10}},
    ):
        with pytest.raises(InvalidArgument):
            v2_writes(bad)


def test_v1_values() -> None:
    got = written(
        v1_writes(
            {
                "memory": {"limit": 100, "swap": 300, "reservation": 50, "swappiness": 0, "disableOOMKiller": True},
                "cpu": {"shares": 512, "quota": -1, "period": 50000},
                "pids": {"limit": 5},
                "network": {"classID": 7},
            }
        )
    )
    assert got == {
        "memory.limit_in_bytes": "100",
        "memory.memsw.limit_in_bytes": "300",
        "memory.soft_limit_in_bytes": "50",
        "memory.swappiness": "0",
        "memory.oom_control": "1",
        "cpu.shares": "512",
        "cpu.cfs_quota_us": "-1",
        "cpu.cfs_period_us": "50000",
        "pids.max": "5",
        "net_cls.classid": "7",
    }
    assert v1_writes({"memory": {"limit": None, "swappiness": -1}, "cpu": {"shares": 0}, "pids": None, "blockIO": {"weight": 0}}) == []


def test_shares_to_weight() -> None:
    assert [shares_to_weight(n) for n in (0, 2, 1024, 262144, 1 << 40)] == [1, 1, 100, 10000, 10000]
    weights = [shares_to_weight(n) for n in range(2, 262144, 997)]
    assert weights == sorted(weights)


def test_cpu_lists() -> None:
    assert check_cpu_list(" 0-3,7 ", "x") == "0-3,7"
    for bad in ("", ",", "3-1", "a", "0-", "-1", "0-9999999999", "0,,1", "٣", "1 2"):
        with pytest.raises(InvalidArgument):
            check_cpu_list(bad, "x")


# ---- made-up hosts ----


def host(tmp_path: Path, mounts: list[tuple[str, str, str, str]], own: str) -> Path:
    """A tree with (filesystem, shown part, mount point, super options) and a /proc/self/cgroup."""
    lines = []
    for i, (fstype, shown, point, options) in enumerate(mounts):
        lines.append(f"{30 + i} 20 0:{30 + i} {shown} {point} rw,nosuid shared:{i} - {fstype} {fstype} {options}")
        directory = tmp_path / point.lstrip("/")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cgroup.procs").touch()
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("20 1 8:1 / / rw - ext4 /dev/vda rw\n" + "\n".join(lines) + "\n")
    (tmp_path / "proc/self/cgroup").write_text(own)
    return tmp_path


def test_detect_v1_with_differing_parents(tmp_path: Path) -> None:
    root = host(
        tmp_path,
        [
            ("cgroup", "/", "/sys/fs/cgroup/cpu,cpuacct", "rw,cpu,cpuacct"),
            ("cgroup", "/docker/abc", "/sys/fs/cgroup/memory", "rw,memory"),
            ("cgroup", "/", "/sys/fs/cgroup/systemd", "rw,xattr,name=systemd"),
        ],
        "4:name=systemd:/user.slice\n3:memory:/docker/abc/job1\n2:cpu,cpuacct:/\n",
    )
    layout = detect(str(root))
    assert layout.kind == "v1" and layout.unified is None
    assert layout.find("cpuacct") is layout.find("cpu") and layout.find("pids") is None
    memory = layout.find("memory")
    assert memory is not None and memory.own == f"{root}/sys/fs/cgroup/memory/job1"
    systemd = layout.find("name=systemd")
    assert systemd is not None and systemd.own.endswith("/systemd/user.slice")


def test_detect_hybrid_without_its_unified_mount(tmp_path: Path) -> None:
    root = host(
        tmp_path, [("cgroup", "/", "/sys/fs/cgroup/pids", "rw,pids"), ("cgroup2", "/", "/sys/fs/cgroup/unified", "rw")], "1:pids:/\n0::/\n"
    )
    assert detect(str(root)).kind == "hybrid"
    (root / "sys/fs/cgroup/unified/cgroup.procs").unlink()  # unmounted in this mount namespace
    assert detect(str(root)).kind == "v1"


def test_detect_escapes_and_whole_tree_first(tmp_path: Path) -> None:
    root = host(
        tmp_path, [("cgroup2", "/part", "/mnt/some\\040place", "rw"), ("cgroup2", "/", "/sys/fs/cgroup", "rw,nsdelegate")], "0::/me\n"
    )
    (root / "mnt/some place").mkdir(parents=True)
    (root / "mnt/some place/cgroup.procs").touch()
    layout = detect(str(root))
    assert layout.kind == "v2" and layout.unified is not None and layout.unified.mount == f"{root}/sys/fs/cgroup"
    assert detect(str(tmp_path / "nothing")).kind == "none"


V2_FILES = (
    "cgroup.procs",
    "memory.max",
    "memory.swap.max",
    "memory.low",
    "pids.max",
    "cpu.max",
    "cpu.weight",
    "cgroup.freeze",
    "cgroup.events",
    "cgroup.kill",
    "memory.events",
    "cgroup.controllers",
    "cgroup.subtree_control",
)


def v2_host(tmp_path: Path) -> tuple[Path, Path]:
    root = host(tmp_path, [("cgroup2", "/", "/sys/fs/cgroup", "rw")], "0::/\n")
    base = root / "sys/fs/cgroup"
    leaf = base / "lamina/c1"
    leaf.mkdir(parents=True)
    for directory in (base, base / "lamina", leaf):
        for name in V2_FILES:
            (directory / name).touch()
        (directory / "cgroup.controllers").write_text("cpu memory pids")
    return root, leaf


def test_v2_files_and_delegation(tmp_path: Path) -> None:
    root, leaf = v2_host(tmp_path)
    group = Cgroup.create(
        "/lamina/c1",
        {"memory": {"limit": 1000, "swap": 1500}, "pids": {"limit": 9}, "cpu": {"quota": 5000}},
        layout=detect(str(root)),
        exist_ok=True,
    )
    assert {n: (leaf / n).read_text() for n in ("memory.max", "memory.swap.max", "pids.max", "cpu.max")} == {
        "memory.max": "1000",
        "memory.swap.max": "500",
        "pids.max": "9",
        "cpu.max": "5000 100000",
    }
    for above in (leaf.parents[1], leaf.parent):
        assert (above / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert (leaf / "cgroup.subtree_control").read_text() == "", "a group with processes hands nothing down"
    (leaf / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    group.freeze()
    assert (leaf / "cgroup.freeze").read_text() == "1" and group.frozen()
    (leaf / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    assert group.oom_killed()
    group.kill()
    assert (leaf / "cgroup.kill").read_text() == "1"


def test_v2_without_swap_accounting(tmp_path: Path) -> None:
    root, leaf = v2_host(tmp_path)
    (leaf / "memory.swap.max").unlink()
    with pytest.raises(NotSupported, match="memory swap limit can't be applied: swap accounting"):
        Cgroup.create("/lamina/c1", {"memory": {"limit": 1000, "swap": 1500}}, layout=detect(str(root)), exist_ok=True)
    Cgroup.create("/lamina/c1", {"memory": {"limit": 1000}}, layout=detect(str(root)), exist_ok=True)


def test_missing_controller_is_named(tmp_path: Path) -> None:
    root = host(tmp_path, [("cgroup", "/", "/sys/fs/cgroup/pids", "rw,pids")], "1:pids:/\n")
    with pytest.raises(NotSupported, match=r"memory limit can't be applied: no cgroup controller memory"):
        Cgroup.create("/lamina/c1", {"memory": {"limit": 1000}}, layout=detect(str(root)))
    assert not (root / "sys/fs/cgroup/pids/lamina/c1").exists()


def test_falls_back_to_our_own_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the hierarchy's root is not ours to write, the group is made below the one we stand in, per hierarchy."""
    root = host(
        tmp_path,
        [("cgroup", "/", "/sys/fs/cgroup/pids", "rw,pids"), ("cgroup", "/", "/sys/fs/cgroup/memory", "rw,memory")],
        "2:memory:/job\n1:pids:/\n",
    )
    (root / "sys/fs/cgroup/memory/job").mkdir()
    real = os.mkdir

    def refuse(path: str, mode: int = 0o777) -> None:
        if path.startswith(f"{root}/sys/fs/cgroup/memory/lamina"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        real(path, mode)

    monkeypatch.setattr(module.os, "mkdir", refuse)
    group = Cgroup.create("/lamina/c1", layout=detect(str(root)))
    assert group.paths == {"pids": f"{root}/sys/fs/cgroup/pids/lamina/c1", "memory": f"{root}/sys/fs/cgroup/memory/job/lamina/c1"}
    assert Cgroup.open("/lamina/c1", layout=detect(str(root))).paths == group.paths
