# SPDX-License-Identifier: Apache-2.0
"""`info`: what it says of this host and this engine, against the kernel and the store."""
from __future__ import annotations

import json
import os
from pathlib import Path

from tests.conftest import Lamina


def test_info(lamina: Lamina, box: str) -> None:
    lamina("create", "--name", "idle", "box", "true").check()
    facts = json.loads(lamina("info", "--format", "json").out)
    memory = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert abs(facts["MemTotal"] - memory) < memory / 50 and facts["NCPU"] == os.cpu_count()
    assert (facts["Containers"], facts["ContainersStopped"], facts["ContainersRunning"], facts["Images"]) == (1, 1, 0, 1)
    assert facts["KernelVersion"] == os.uname().release and facts["DockerRootDir"] == str(lamina.root)
    assert facts["CgroupVersion"] == ("2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "1")
    assert facts["IPv4Forwarding"] == (Path("/proc/sys/net/ipv4/ip_forward").read_text() == "1\n")
    assert facts["Swarm"] == {"LocalNodeState": "inactive"} and facts["ClientInfo"]["Context"] == "default"
    text = lamina("info").out.splitlines()
    assert text[0] == "Client:" and "Server:" in text and " Containers: 1" in text and "  Stopped: 1" in text
    assert f" Storage Driver: {facts['Driver']}" in text and "  seccomp" in text and "   Profile: builtin" in text
    if Path("/etc/os-release").exists():
        assert f'="{facts["OperatingSystem"]}"' in Path("/etc/os-release").read_text()
    assert lamina("info", "-f", "{{.Foo}}").returncode != 0


def test_disk_use(lamina: Lamina, box: str) -> None:
    """`system df`: what is counted, and what of it could go."""
    lamina("run", "--name", "one", "--network", "none", "-v", "data:/d", "box", "sh", "-c", "head -c 1000 /dev/zero | tee /x >/d/y").check()
    lamina("commit", "one", "child").check()
    rows = {row["Type"]: row for row in map(json.loads, lamina("system", "df", "--format", "json").out.splitlines())}
    assert (rows["Images"]["TotalCount"], rows["Images"]["Active"]) == ("2", "1")
    assert rows["Containers"] == {"Type": "Containers", "TotalCount": "1", "Active": "0", "Size": "1kB", "Reclaimable": "1kB (100%)"}
    assert (rows["Local Volumes"]["Size"], rows["Local Volumes"]["Reclaimable"]) == ("1kB", "0B (0%)")
    details = json.loads(lamina("system", "df", "-v", "--format", "json").out)
    child, base = ({i["Repository"]: i for i in details["Images"]}[name] for name in ("child", "box"))
    assert child["UniqueSize"] == "1kB" and child["SharedSize"] == base["SharedSize"] and base["UniqueSize"] == "0B"
    assert [(v["Name"], v["Links"], v["Size"]) for v in details["Volumes"]] == [("data", "1", "1kB")]
    done = lamina("system", "prune", "-af", "--volumes").out
    assert done.startswith("Deleted Containers:\n") and "untagged: child:latest" in done and done.endswith("MB")
    assert lamina("images", "-q").out == "" and lamina("volume", "ls", "-q").out == "data"  # it has a name
