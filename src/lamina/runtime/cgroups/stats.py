# SPDX-License-Identifier: Apache-2.0
"""Usage counters of a group, in runc's `events` shape: cpu in nanoseconds, memory in bytes; absent controllers leave their part empty."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from lamina.runtime.cgroups import files
from lamina.runtime.cgroups.layout import UNIFIED

if TYPE_CHECKING:
    from lamina.runtime.cgroups.cgroup import Cgroup

_TICK_NS = 10_000_000  # cpuacct.stat counts in USER_HZ, which is 100 for user space on every architecture
_NO_LIMIT = (1 << 64) - 1


def read_stats(group: Cgroup) -> dict[str, Any]:
    """{"cpu", "memory", "pids", "blkio", "hugetlb"}."""
    paths = group.paths
    unified = paths.get(UNIFIED)
    out: dict[str, Any] = {"cpu": {}, "memory": {}, "pids": {}, "blkio": {}, "hugetlb": {}}
    if "cpuacct" in paths:
        out["cpu"] = _cpu_v1(paths["cpuacct"], paths.get("cpu", ""))
    elif unified:
        out["cpu"] = _cpu_v2(unified)
    if "memory" in paths:
        out["memory"] = _memory_v1(paths["memory"])
    elif unified:
        out["memory"] = _memory_v2(unified)
    pids = paths.get("pids") or unified
    if pids and (current := files.read_int(pids + "/pids.current")) is not None:
        out["pids"] = {"current": current, "limit": files.read_int(pids + "/pids.max") or 0}
    if "blkio" in paths:
        out["blkio"] = _blkio_v1(paths["blkio"])
    elif unified:
        out["blkio"] = _io_v2(unified)
    huge = paths.get("hugetlb") or unified
    if huge:
        out["hugetlb"] = _huge(huge)
    return out


def _cpu_v1(acct: str, cpu: str) -> dict[str, Any]:
    ticks, throttle = files.read_keyed(acct + "/cpuacct.stat"), files.read_keyed(cpu + "/cpu.stat") if cpu else {}
    return {
        "usage": {
            "total": files.read_int(acct + "/cpuacct.usage") or 0,
            "percpu": [int(n) for n in files.read_or(acct + "/cpuacct.usage_percpu").split()],
            "kernel": ticks.get("system", 0) * _TICK_NS,
            "user": ticks.get("user", 0) * _TICK_NS,
        },
        "throttling": {
            "periods": throttle.get("nr_periods", 0),
            "throttledPeriods": throttle.get("nr_throttled", 0),
            "throttledTime": throttle.get("throttled_time", 0),
        },
    }


def _cpu_v2(directory: str) -> dict[str, Any]:
    stat = files.read_keyed(directory + "/cpu.stat")
    return {
        "usage": {
            "total": stat.get("usage_usec", 0) * 1000,
            "percpu": [],
            "kernel": stat.get("system_usec", 0) * 1000,
            "user": stat.get("user_usec", 0) * 1000,
        },
        "throttling": {
            "periods": stat.get("nr_periods", 0),
            "throttledPeriods": stat.get("nr_throttled", 0),
            "throttledTime": stat.get("throttled_usec", 0) * 1000,
        },
    }


def _entry_v1(directory: str, prefix: str) -> dict[str, int]:
    return {
        "usage": files.read_int(f"{directory}/{prefix}.usage_in_bytes") or 0,
        "max": files.read_int(f"{directory}/{prefix}.max_usage_in_bytes") or 0,
        "failcnt": files.read_int(f"{directory}/{prefix}.failcnt") or 0,
        "limit": files.read_int(f"{directory}/{prefix}.limit_in_bytes") or 0,
    }


def _memory_v1(directory: str) -> dict[str, Any]:
    raw = files.read_keyed(directory + "/memory.stat")
    return {
        "cache": raw.get("cache", 0),
        "usage": _entry_v1(directory, "memory"),
        "swap": _entry_v1(directory, "memory.memsw"),
        "kernel": _entry_v1(directory, "memory.kmem"),
        "kernelTCP": _entry_v1(directory, "memory.kmem.tcp"),
        "raw": raw,
    }


def _memory_v2(directory: str) -> dict[str, Any]:
    raw = files.read_keyed(directory + "/memory.stat")
    usage, limit = files.read_int(directory + "/memory.current"), files.read_int(directory + "/memory.max")
    if usage is None:
        return {}
    swap, swap_limit = files.read_int(directory + "/memory.swap.current") or 0, files.read_int(directory + "/memory.swap.max")
    return {
        "cache": raw.get("file", 0),
        "usage": {
            "usage": usage,
            "max": files.read_int(directory + "/memory.peak") or 0,
            "failcnt": files.read_keyed(directory + "/memory.events").get("max", 0),
            "limit": _NO_LIMIT if limit is None else limit,
        },
        # As v1 counts it: memory plus swap.
        "swap": {
            "usage": usage + swap,
            "max": 0,
            "failcnt": 0,
            "limit": _NO_LIMIT if limit is None or swap_limit is None else limit + swap_limit,
        },
        "raw": raw,
    }


def _blkio_v1(directory: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, name in (("ioServiceBytesRecursive", "io_service_bytes_recursive"), ("ioServicedRecursive", "io_serviced_recursive")):
        text = files.read_or(f"{directory}/blkio.throttle.{name}")
        entries = []
        for line in text.splitlines():
            words = line.split()
            if len(words) == 3 and ":" in words[0]:
                major, _, minor = words[0].partition(":")
                entries.append({"major": int(major), "minor": int(minor), "op": words[1], "value": int(words[2])})
        out[key] = entries
    return out


def _io_v2(directory: str) -> dict[str, Any]:
    out: dict[str, Any] = {"ioServiceBytesRecursive": [], "ioServicedRecursive": []}
    names = {
        "rbytes": ("ioServiceBytesRecursive", "Read"),
        "wbytes": ("ioServiceBytesRecursive", "Write"),
        "rios": ("ioServicedRecursive", "Read"),
        "wios": ("ioServicedRecursive", "Write"),
    }
    for line in files.read_or(directory + "/io.stat").splitlines():
        device, _, rest = line.partition(" ")
        major, _, minor = device.partition(":")
        for word in rest.split():
            key, _, value = word.partition("=")
            if key in names and major.isdigit() and minor.isdigit():
                out[names[key][0]].append({"major": int(major), "minor": int(minor), "op": names[key][1], "value": int(value)})
    return out


def _huge(directory: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return out
    for name in names:
        parts = name.split(".")
        if len(parts) == 3 and parts[0] == "hugetlb" and parts[2] in ("usage_in_bytes", "current"):
            size = parts[1]
            out[size] = {
                "usage": files.read_int(f"{directory}/{name}") or 0,
                "max": files.read_int(f"{directory}/hugetlb.{size}.max_usage_in_bytes") or 0,
                "failcnt": files.read_int(f"{directory}/hugetlb.{size}.failcnt") or 0,
            }
    return out
