# SPDX-License-Identifier: Apache-2.0
"""What a container gets when nobody asked for anything else, as OCI config.json pieces: docker's defaults, newest security set.  [hot]

Pure data and pure functions; every call returns fresh lists that the caller may change. The only look at the host is
`available_caps`, because --privileged means "all that the engine itself has".
"""
from __future__ import annotations

import os
from stat import S_ISBLK, S_ISCHR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHM_SIZE = 64 << 20

CAPABILITIES = tuple("CAP_" + name for name in (
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE").split())

MASKED_PATHS = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
    "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

# path, major, minor: the nodes that every container has, made by the runtime even if config.json doesn't list them (OCI runtime-spec).
DEVICES = (
    ("/dev/null", 1, 3), ("/dev/zero", 1, 5), ("/dev/full", 1, 7), ("/dev/random", 1, 8), ("/dev/urandom", 1, 9), ("/dev/tty", 5, 0),
)

SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}


def mounts(*, privileged: bool = False, shm_size: int = SHM_SIZE, private_ipc: bool = True) -> list[dict[str, Any]]:
    """The file systems of every container, in order. Without `private_ipc` (host's or another's) /dev/shm and mqueue are the caller's."""
    ro = [] if privileged else ["ro"]

    def entry(destination: str, kind: str, *options: str, source: str = "") -> dict[str, Any]:
        return {"destination": destination, "type": kind, "source": source or kind, "options": list(options)}

    out = [
        entry("/proc", "proc", "nosuid", "noexec", "nodev"),
        entry("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        entry("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        entry("/sys", "sysfs", "nosuid", "noexec", "nodev", *ro),
        entry("/sys/fs/cgroup", "cgroup", "nosuid", "noexec", "nodev", *ro),
    ]
    if private_ipc:
        out += [
            entry("/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev"),
            entry("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", f"size={shm_size}", source="shm"),
        ]
    return out


def masked_paths(cpus: int | None = None) -> list[str]:
    """The paths hidden from a container, with the thermal_throttle directory of each of the host's CPUs."""
    count = cpus if cpus is not None else os.cpu_count() or 1
    return [*MASKED_PATHS, *(f"/sys/devices/system/cpu/cpu{n}/thermal_throttle" for n in range(count))]


def readonly_paths() -> list[str]:
    return list(READONLY_PATHS)


def namespaces(*, network: bool = True, ipc: bool = True, pid: bool = True, uts: bool = True, cgroup: bool = True) -> list[dict[str, str]]:
    """linux.namespaces: mount always, the others as asked."""
    wanted = {"mount": True, "network": network, "uts": uts, "pid": pid, "ipc": ipc, "cgroup": cgroup}
    return [{"type": name} for name, on in wanted.items() if on]


def available_caps() -> list[str]:
    """All capabilities that this process could hand on: permitted and in its bounding set."""
    from lamina.linux import caps

    return caps.names(caps.get()[1] & caps.bounding())


def capabilities(names: Sequence[str]) -> dict[str, list[str]]:
    """process.capabilities: bounding, effective and permitted are `names`; inheritable and ambient stay empty (CVE-2022-24769)."""
    return {"bounding": list(names), "effective": list(names), "permitted": list(names), "inheritable": [], "ambient": []}


def device_rules(*, privileged: bool = False) -> list[dict[str, Any]]:
    """linux.resources.devices: everything for privileged; else nothing but making nodes, the default devices, ptys and the console."""
    if privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[dict[str, Any]] = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "access": "m"},
        {"allow": True, "type": "b", "access": "m"},
    ]
    nodes = [(major, minor) for _, major, minor in DEVICES]
    for major, minor in [*nodes, (5, 1), (5, 2)]:
        rules.append({"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"})
    rules.append({"allow": True, "type": "c", "major": 136, "access": "rwm"})
    return rules


def host_devices(directory: str = "/dev") -> list[dict[str, Any]]:
    """linux.devices of a privileged container: every node below the host's /dev but those with a mount or maker of their own."""
    own = {"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console", "ptmx"} | {path[5:] for path, _, _ in DEVICES}
    found: list[dict[str, Any]] = []

    def walk(path: str, top: bool) -> None:
        try:
            entries = sorted(os.scandir(path), key=lambda e: e.name)
        except OSError:
            return  # it went away, or isn't ours to read
        for e in entries:
            if top and e.name in own:
                continue
            try:
                if e.is_dir(follow_symlinks=False):
                    walk(e.path, False)
                    continue
                st = e.stat(follow_symlinks=False)
            except OSError:
                continue
            if S_ISCHR(st.st_mode) or S_ISBLK(st.st_mode):
                found.append(device(e.path, st, "/dev" + e.path[len(directory):]))

    walk(directory, True)
    return found


def device(path: str, st: os.stat_result | None = None, inside: str | None = None) -> dict[str, Any]:
    """One entry of linux.devices from a host's node; OSError if there is none, ValueError if it isn't a device."""
    st = os.stat(path) if st is None else st
    kind = "c" if S_ISCHR(st.st_mode) else "b" if S_ISBLK(st.st_mode) else ""
    if not kind:
        raise ValueError(f"{path} is not a device node")
    return {"path": inside or path, "type": kind, "major": os.major(st.st_rdev), "minor": os.minor(st.st_rdev),
            "fileMode": st.st_mode & 0o7777, "uid": st.st_uid, "gid": st.st_gid}  # fmt: skip
