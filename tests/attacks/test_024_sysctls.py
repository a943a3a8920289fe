# SPDX-License-Identifier: Apache-2.0
"""Attack 24: kernel settings that aren't the container's own, by name, by a detour in the name, or in a namespace of the host's."""
from __future__ import annotations

import os
from pathlib import Path

import pytest

from lamina.engine.engine import Engine
from lamina.errors import InvalidArgument
from tests.conftest import Lamina

HOSTS_OWN = (
    "kernel.core_pattern", "kernel.panic", "kernel.hostname", "kernel.domainname", "vm.overcommit_memory", "fs.file-max",
    "user.max_user_namespaces", "net", "net.", ".net.ipv4", "net..ipv4", "fs.mqueuex.y",
    "net.x/../../kernel/core_pattern", "net/../kernel/core_pattern", "net.ipv4.conf.eth0/../../../../kernel.core_pattern",
    "kernel/core_pattern", "fs.mqueue./../../kernel/core_pattern", "net.ipv4\n.x", "net.ipv4.x\0", "net.ipv4.../x",
)  # fmt: skip


def refused(lamina: Lamina, name: str, value: str = "1", **host: str) -> None:
    engine = Engine(str(lamina.root), str(lamina.runroot))
    try:
        with pytest.raises(InvalidArgument, match="sysctl"):
            engine.containers.create({"Image": "box", "Cmd": ["true"], "HostConfig": {"Sysctls": {name: value}, **host}})
    finally:
        engine.close()


def test_settings_of_the_host(lamina: Lamina, box: str) -> None:
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    for name in HOSTS_OWN:
        refused(lamina, name, "|/tmp/x")
    for name in ("net.ipv4.ip_forward", "net.core.somaxconn"):
        refused(lamina, name, NetworkMode="host")
    for name in ("kernel.msgmax", "kernel.shm_rmid_forced", "fs.mqueue.msg_max"):
        refused(lamina, name, IpcMode="host")
    refused(lamina, "net.ipv4.ip_default_ttl", "1\n2")
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before and lamina("ps", "-aq").out == ""


def test_settings_of_its_own_stay_there(lamina: Lamina, box: str) -> None:
    """The control: allowed ones do arrive, in the container and not on the host; and a detour in a name would lead to the host's file."""
    read = "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax /proc/sys/fs/mqueue/msg_max"
    before = [Path(path).read_text() for path in read.split()[1:]]
    flags = ("--sysctl", "net.ipv4.ip_default_ttl=77", "--sysctl", "kernel.msgmax=9001", "--sysctl", "fs.mqueue.msg_max=11")
    assert lamina("run", "--rm", "--network", "none", *flags, "box", *read.split()).out.split() == ["77", "9001", "11"]
    assert [Path(path).read_text() for path in read.split()[1:]] == before
    assert os.path.samefile("/proc/sys/net/../kernel/core_pattern", "/proc/sys/kernel/core_pattern")
