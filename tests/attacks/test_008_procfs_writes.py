# SPDX-License-Identifier: Apache-2.0
"""Attacks 8 and 24 (CVE-2025-52881, CVE-2022-0811): a write that is meant for procfs is led elsewhere, or a sysctl's name is."""
from __future__ import annotations

import os
from pathlib import Path

import pytest

from lamina.errors import InvalidArgument
from lamina.runtime import process, rootfs, sysctl
from tests.box import make_root, make_spec, run


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A directory that an attacker has mounted where procfs is expected."""
    (tmp_path / "proc/self/attr/apparmor").mkdir(parents=True)
    (tmp_path / "trigger").write_text("untouched")
    (tmp_path / "proc/self/oom_score_adj").symlink_to(tmp_path / "trigger")
    (tmp_path / "proc/self/plain").write_text("untouched")
    return tmp_path


@pytest.mark.parametrize("name", ["self/oom_score_adj", "self/plain"])
def test_only_procfs_is_written_to(fake: Path, name: str) -> None:
    fd = os.open(fake / "proc", os.O_PATH | os.O_DIRECTORY)
    with pytest.raises(OSError):
        process.write_proc(fd, name, "payload")
    os.close(fd)
    assert (fake / "trigger").read_text() == (fake / "proc/self/plain").read_text() == "untouched"


def test_control_a_plain_write_is_led_away(fake: Path) -> None:
    (fake / "proc/self/oom_score_adj").write_text("payload")
    assert (fake / "trigger").read_text() == "payload"


def test_the_private_procfs_is_the_real_thing() -> None:
    fd = rootfs.private_proc()
    process.write_proc(fd, "self/oom_score_adj", Path("/proc/self/oom_score_adj").read_text().strip())
    os.close(fd)
    assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"/{fd} " in line]


BAD_NAMES = [
    "kernel.core_pattern", "kernel/core_pattern", "kernel.modprobe", "vm.overcommit_memory", "fs.suid_dumpable", "net", "net.", "net..ipv4",
    "net.ipv4/../../kernel/core_pattern", "net/../kernel/core_pattern", "net.ipv4.ip_forward+x", "net.ipv4.ip_forward=1",
    "net.x\n", "net.x\0",
    "kernel.shm_rmid_forced/../core_pattern", "/kernel.core_pattern", "kernel.hostname/../core_pattern", " net.x", "NET.x",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_of_sysctls_are_strict(name: str) -> None:
    with pytest.raises(InvalidArgument):
        sysctl.check({name: "1"}, {"ipc", "network", "uts"})


def test_what_belongs_to_the_host_is_refused_without_a_namespace_of_its_own() -> None:
    for name in ("kernel.shmmax", "net.ipv4.ip_forward", "kernel.hostname", "fs.mqueue.msg_max"):
        sysctl.check({name: "1"}, {"ipc", "network", "uts"})
        with pytest.raises(InvalidArgument):
            sysctl.check({name: "1"}, set())


def test_values_reach_only_the_container(tmp_path: Path) -> None:
    here = Path("/proc/sys/kernel/shmmni").read_text()
    spec = make_spec("cat", "/proc/sys/kernel/shmmni")
    spec["linux"]["sysctl"] = {"kernel.shmmni": "123"}
    assert run(make_root(tmp_path / "root"), spec) == (0, "123\n")
    assert Path("/proc/sys/kernel/shmmni").read_text() == here
