# SPDX-License-Identifier: Apache-2.0
"""Attacks 31, 32, 35 and 38: what is masked and read-only in a container is exactly moby's list; what can't be granted is refused; device
nodes of an image open nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from lamina.runtime import defaults
from tests.conftest import Lamina, busybox_tree

# moby HEAD, daemon/pkg/oci/defaults.go (and its thermal_throttle per CPU)
MASKED = {
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
}  # fmt: skip
READONLY = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}


def test_the_sets_are_mobys() -> None:
    masked = {path for path in defaults.masked_paths() if "thermal_throttle" not in path}
    assert masked == MASKED
    assert set(defaults.readonly_paths()) == READONLY


def flags(lamina: Lamina, *run: str) -> dict[str, str]:
    """Mount point -> options, as the container sees them."""
    lines = lamina("run", "--rm", "--network", "none", *run, "box", "cat", "/proc/self/mountinfo").out.splitlines()
    return {fields[4]: fields[5] for fields in map(str.split, lines)}


def test_each_is_covered(lamina: Lamina, box: str) -> None:
    found = flags(lamina)
    for path in MASKED | READONLY:
        if os.path.exists(path):
            assert "ro" in found[path].split(","), path
    script = "find /proc/acpi /sys/firmware /proc/scsi -mindepth 1 2>/dev/null; cat /proc/keys /proc/timer_list /proc/interrupts"
    assert lamina("run", "--rm", "--network", "none", "box", "sh", "-c", script).stdout == ""
    settings = ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/sys/kernel/mm/ksm/run")
    for path in settings:
        assert lamina("run", "--rm", "--network", "none", "box", "sh", "-c", f"echo x > {path}").returncode != 0


def test_control_privileged_has_none(lamina: Lamina, box: str) -> None:
    assert not [path for path in flags(lamina, "--privileged") if path in MASKED | READONLY]


ABSURD = ["0-9999999999", "0-1,99999999", "1;reboot", "../../x", "0,\n1", "a", "-1", ",".join(map(str, range(20000)))]


@pytest.mark.parametrize("cpus", ABSURD, ids=range(8))
def test_absurd_cpusets_are_refused_at_once(lamina: Lamina, box: str, cpus: str) -> None:
    """CVE-2018-20699: `--cpuset-cpus` of gigabytes. By the library, whatever the command line takes."""
    code = (
        "import sys; sys.path.append(sys.argv[1]); from lamina.engine.engine import Engine; from lamina.errors import LaminaError\n"
        "with Engine(sys.argv[2], sys.argv[3]) as e:\n"
        " try:\n"
        "  host = {'CpusetCpus': sys.argv[4], 'NetworkMode': 'none'}\n"
        "  cid = e.containers.create({'Image': 'box', 'Cmd': ['true'], 'HostConfig': host})['Id']\n"
        "  e.containers.start(cid)\n"
        " except LaminaError as x: print('refused:', x)\n"
        " for c in e.containers.list(all=True): e.containers.remove(c['Id'], force=True)\n"
    )
    command = [lamina.prefix[0].replace("bin/lamina", "src"), str(lamina.root), str(lamina.runroot), cpus]
    done = subprocess.run(["python3", "-I", "-S", "-c", code, *command], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0 and done.stdout.startswith("refused:"), done
    assert not list((lamina.root / "containers").iterdir())


@pytest.mark.parametrize("option", ["apparmor=no-such-profile", "label=type:x", "seccomp=/nonexistent"])
def test_a_restriction_that_cant_be_applied_is_an_error(lamina: Lamina, box: str, option: str) -> None:
    """35: never a container without the confinement that was asked for."""
    done = lamina("run", "--rm", "--network", "none", "--security-opt", option, "box", "echo", "ran")
    assert done.returncode != 0 and "ran" not in done.stdout


# -- 38: devices


@pytest.fixture
def nodes(lamina: Lamina, tmp_path: Path) -> list[str]:
    """An image with device nodes of the host: the kernel's log, its memory, the first disk's kind."""
    tree = busybox_tree(tmp_path / "tree")
    made = {"kmsg": ("c", 1, 11), "mem": ("c", 1, 1), "loop": ("b", 7, 0), "fuse": ("c", 10, 229)}
    for name, (kind, major, minor) in made.items():
        os.mknod(tree / name, (0o020666 if kind == "c" else 0o060666), os.makedev(major, minor))
    subprocess.run(["tar", "-C", str(tree), "-cf", str(tmp_path / "n.tar"), "."], check=True)
    lamina("import", tmp_path / "n.tar", "box").check()
    return list(made)


def test_device_nodes_of_an_image_open_nothing(lamina: Lamina, nodes: list[str]) -> None:
    for name in nodes:
        done = lamina("run", "--rm", "--network", "none", "box", "sh", "-c", f"ls -l /{name}; exec 3</{name}")
        assert "Operation not permitted" in done.stderr, (name, done.stdout, done.stderr)
    done = lamina("run", "--rm", "--network", "none", "-v", "/vol", "box", "sh", "-c", "mknod /vol/k c 1 11 && exec 3</vol/k")
    assert "Operation not permitted" in done.stderr


def test_control_privileged_opens_it(lamina: Lamina, nodes: list[str]) -> None:
    assert lamina("run", "--rm", "--network", "none", "--privileged", "box", "sh", "-c", "exec 3</kmsg").returncode == 0
