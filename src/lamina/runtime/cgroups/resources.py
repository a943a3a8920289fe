# SPDX-License-Identifier: Apache-2.0
"""OCI `linux.resources` as lists of cgroup files to write: pure, no file is touched here.  [hot]

`v1_writes` and `v2_writes` give `Write`s in the order in which a fresh group must get them. Absent, null and (where OCI and docker mean
"not set") zero values give none. What a version can't express raises NotSupported naming the restriction. Values: bytes, microseconds.
"""

from __future__ import annotations

from lamina.errors import InvalidArgument, NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_CPU = 1 << 16  # far above any machine; keeps a hostile "0-9999999999" from being expanded by anyone
KNOWN = frozenset(("devices", "memory", "cpu", "pids", "blockIO", "hugepageLimits", "network", "rdma", "unified"))


class Write:
    """One value for one file of one controller; `what` names the restriction as its user knows it."""

    __slots__ = ("controller", "file", "value", "what")

    def __init__(self, controller: str, file: str, value: str | int, what: str) -> None:
        self.controller = controller
        self.file = file
        self.value = str(value)
        self.what = what

    def __repr__(self) -> str:
        return f"Write({self.controller!r}, {self.file!r}, {self.value!r})"


def check_cpu_list(text: object, what: str) -> str:
    """A list such as "0-3,7" (the kernel's cpulist); anything else is refused before the kernel sees it."""
    if not isinstance(text, str):
        raise InvalidArgument(f"{what}: not a string")
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        ends = (first, last) if dash else (first, first)
        if not all(e.isascii() and e.isdigit() and len(e) <= 6 and int(e) < _MAX_CPU for e in ends) or int(ends[0]) > int(ends[1]):
            raise InvalidArgument(f"{what} {text[:64]!r}: not a list like 0-3,7")
    return text.strip()


def _int(section: dict[str, Any], key: str, what: str) -> int | None:
    value = section.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not -(1 << 63) <= value < 1 << 64:
        raise InvalidArgument(f"{what}: {value!r} is not a 64 bit number")
    return value


def _section(resources: dict[str, Any], name: str) -> dict[str, Any]:
    value = resources.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidArgument(f"linux.resources.{name}: not an object")
    return value


def _items(resources: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = resources.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise InvalidArgument(f"linux.resources.{name}: not a list of objects")
    return value


def _no_newline(text: str, what: str) -> str:
    if not isinstance(text, str) or "\n" in text or "\0" in text:
        raise InvalidArgument(f"{what}: {text!r} is not one line")
    return text


def check(resources: dict[str, Any]) -> None:
    """Unknown sections are refused: each might be a restriction that we would drop."""
    for name in resources:
        if name not in KNOWN:
            raise NotSupported(f"linux.resources.{name} is not known to this version")


# ---- version 1 ----


def v1_writes(resources: dict[str, Any]) -> list[Write]:
    """All but devices and hugepages (`huge_writes`). Order: cpuset first, memory before memory plus swap, period before quota."""
    check(resources)
    out: list[Write] = []
    cpu = _section(resources, "cpu")
    for key, what in (("cpus", "cpuset cpus"), ("mems", "cpuset mems")):
        if cpu.get(key):
            out.append(Write("cpuset", "cpuset." + key, check_cpu_list(cpu[key], what), what))
    memory = _section(resources, "memory")
    limit, swap = _int(memory, "limit", "memory limit"), _int(memory, "swap", "memory swap limit")
    if limit:
        out.append(Write("memory", "memory.limit_in_bytes", limit, "memory limit"))
    if swap:
        out.append(Write("memory", "memory.memsw.limit_in_bytes", swap, "memory swap limit"))
    for key, file, what in (
        ("reservation", "memory.soft_limit_in_bytes", "memory reservation"),
        ("kernel", "memory.kmem.limit_in_bytes", "kernel memory limit"),
        ("kernelTCP", "memory.kmem.tcp.limit_in_bytes", "kernel TCP memory limit"),
    ):
        if value := _int(memory, key, what):
            out.append(Write("memory", file, value, what))
    swappiness = _swappiness(memory)
    if swappiness is not None:
        out.append(Write("memory", "memory.swappiness", swappiness, "memory swappiness"))
    if memory.get("disableOOMKiller"):
        out.append(Write("memory", "memory.oom_control", 1, "OOM killer off"))
    for key, file, what in (
        ("shares", "cpu.shares", "CPU shares"),
        ("realtimePeriod", "cpu.rt_period_us", "CPU real-time period"),
        ("realtimeRuntime", "cpu.rt_runtime_us", "CPU real-time runtime"),
        ("period", "cpu.cfs_period_us", "CPU period"),
        ("quota", "cpu.cfs_quota_us", "CPU quota"),
        ("burst", "cpu.cfs_burst_us", "CPU burst"),
        ("idle", "cpu.idle", "CPU idle"),
    ):
        if value := _int(cpu, key, what):
            out.append(Write("cpu", file, value, what))
    pids = _int(_section(resources, "pids"), "limit", "pids limit")
    if pids:
        out.append(Write("pids", "pids.max", pids if pids > 0 else "max", "pids limit"))
    out += _v1_block(_section(resources, "blockIO"))
    network = _section(resources, "network")
    if value := _int(network, "classID", "network class"):
        if not 0 < value < 1 << 32:  # the kernel would take the low 32 bits of it
            raise InvalidArgument(f"network class: {value} is not a 32 bit number")
        out.append(Write("net_cls", "net_cls.classid", value, "network class"))
    for item in _items(network, "priorities"):
        out.append(
            Write(
                "net_prio",
                "net_prio.ifpriomap",
                _no_newline(f"{item.get('name')} {item.get('priority')}", "network priority"),
                "network priority",
            )
        )
    return out + _rdma(resources) + _unified(resources)


def _swappiness(memory: dict[str, Any]) -> int | None:
    """-1, signed or not, is "as the host has it"."""
    value = _int(memory, "swappiness", "memory swappiness")
    if value is None or value in (-1, (1 << 64) - 1):
        return None
    if not 0 <= value <= 100:
        raise InvalidArgument(f"invalid value: {value}, valid memory swappiness range is 0-100")
    return value


def _v1_block(block: dict[str, Any]) -> list[Write]:
    out: list[Write] = []
    weight = _int(block, "weight", "block I/O weight")
    if weight:
        if not 10 <= weight <= 1000:
            raise InvalidArgument("Range of blkio weight is from 10 to 1000")
        out.append(Write("blkio", "blkio.weight|blkio.bfq.weight", weight, "block I/O weight"))
    if leaf := _int(block, "leafWeight", "block I/O leaf weight"):
        out.append(Write("blkio", "blkio.leaf_weight", leaf, "block I/O leaf weight"))
    for item in _items(block, "weightDevice"):
        if value := _int(item, "weight", "block I/O device weight"):
            out.append(Write("blkio", "blkio.weight_device|blkio.bfq.weight_device", f"{_device(item)} {value}", "block I/O device weight"))
        if value := _int(item, "leafWeight", "block I/O device leaf weight"):
            out.append(Write("blkio", "blkio.leaf_weight_device", f"{_device(item)} {value}", "block I/O device leaf weight"))
    for key, file, _, what in _THROTTLES:
        for item in _items(block, key):
            out.append(Write("blkio", file, f"{_device(item)} {_rate(item, what)}", what))
    return out


_THROTTLES = (
    ("throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps", "device read rate (bytes)"),
    ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps", "device write rate (bytes)"),
    ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops", "device read rate (I/O)"),
    ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops", "device write rate (I/O)"),
)


def _device(item: dict[str, Any]) -> str:
    major, minor = _int(item, "major", "device major"), _int(item, "minor", "device minor")
    if major is None or minor is None or major < 0 or minor < 0:
        raise InvalidArgument("block I/O device: major and minor are needed")
    return f"{major}:{minor}"


def _rate(item: dict[str, Any], what: str) -> int:
    rate = _int(item, "rate", what)
    if rate is None or rate < 0:
        raise InvalidArgument(f"{what}: a rate is needed")
    return rate


def huge_writes(resources: dict[str, Any], version: int) -> list[Write]:
    """Apart, because on hybrid hosts hugetlb often is the one controller that lives in the v2 tree."""
    out = []
    for item in _items(resources, "hugepageLimits"):
        size, limit = item.get("pageSize"), _int(item, "limit", "huge page limit")
        if not isinstance(size, str) or not size.isalnum() or limit is None:
            raise InvalidArgument(f"huge page limit: page size {size!r} or limit missing")
        out.append(Write("hugetlb", f"hugetlb.{size}." + ("limit_in_bytes" if version == 1 else "max"), limit, f"huge page limit ({size})"))
    return out


def _rdma(resources: dict[str, Any]) -> list[Write]:
    out = []
    for device, limits in _section(resources, "rdma").items():
        words = [device]
        for key, word in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object")):
            if (value := _int(limits, key, "RDMA limit")) is not None:
                words.append(f"{word}={value}")
        out.append(Write("rdma", "rdma.max", _no_newline(" ".join(words), "RDMA limit"), "RDMA limit"))
    return out


def _unified(resources: dict[str, Any]) -> list[Write]:
    out = []
    for file, value in _section(resources, "unified").items():
        controller = file.partition(".")[0]
        if "/" in file or not controller or controller == file or controller == "cgroup":
            raise InvalidArgument(f"unified resource {file!r}: must be a file of a controller")
        for line in _value_lines(file, value):
            out.append(Write("unified:" + controller, file, line, f"unified resource {file}"))
    return out


def _value_lines(file: str, value: object) -> list[str]:
    if not isinstance(value, str) or "\0" in value:
        raise InvalidArgument(f"unified resource {file!r}: {value!r} is not a string")
    return [line for line in value.split("\n") if line] or [""]


# ---- version 2 ----


def v2_writes(resources: dict[str, Any]) -> list[Write]:
    """The same for the v2 tree, all but devices."""
    check(resources)
    out: list[Write] = []
    cpu = _section(resources, "cpu")
    for key, what in (("cpus", "cpuset cpus"), ("mems", "cpuset mems")):
        if cpu.get(key):
            out.append(Write("cpuset", "cpuset." + key, check_cpu_list(cpu[key], what), what))
    for key, what in (("realtimePeriod", "CPU real-time period"), ("realtimeRuntime", "CPU real-time runtime")):
        if _int(cpu, key, what):
            raise NotSupported(f"{what}: cgroup v2 has no such limit")
    if idle := _int(cpu, "idle", "CPU idle"):
        out.append(Write("cpu", "cpu.idle", idle, "CPU idle"))
    if shares := _int(cpu, "shares", "CPU shares"):
        out.append(Write("cpu", "cpu.weight", shares_to_weight(shares), "CPU shares"))
    quota, period = _int(cpu, "quota", "CPU quota"), _int(cpu, "period", "CPU period")
    if quota or period:
        out.append(Write("cpu", "cpu.max", f"{quota if quota and quota > 0 else 'max'} {period or 100000}", "CPU quota"))
    if burst := _int(cpu, "burst", "CPU burst"):
        out.append(Write("cpu", "cpu.max.burst", burst, "CPU burst"))
    out += _v2_memory(_section(resources, "memory"))
    pids = _int(_section(resources, "pids"), "limit", "pids limit")
    if pids:
        out.append(Write("pids", "pids.max", pids if pids > 0 else "max", "pids limit"))
    out += _v2_block(_section(resources, "blockIO"))
    network = _section(resources, "network")
    if network.get("classID") or network.get("priorities"):
        raise NotSupported("network class and priorities: cgroup v2 has no such controller")
    return out + huge_writes(resources, 2) + _rdma(resources) + _unified(resources)


def _v2_memory(memory: dict[str, Any]) -> list[Write]:
    out: list[Write] = []
    limit, swap = _int(memory, "limit", "memory limit"), _int(memory, "swap", "memory swap limit")
    if limit:
        out.append(Write("memory", "memory.max", limit if limit > 0 else "max", "memory limit"))
    if swap:
        if swap < 0:
            value: str | int = "max"
        elif not limit or limit < 0:
            raise InvalidArgument("memory swap limit: needs a memory limit too")
        elif swap < limit:
            raise InvalidArgument("Minimum memoryswap limit should be larger than memory limit, see usage")
        else:
            value = swap - limit  # v2 counts swap alone
        out.append(Write("memory", "memory.swap.max", value, "memory swap limit"))
    if reservation := _int(memory, "reservation", "memory reservation"):
        out.append(Write("memory", "memory.low", reservation if reservation > 0 else "max", "memory reservation"))
    for key, what in (("kernel", "kernel memory limit"), ("kernelTCP", "kernel TCP memory limit")):
        if (_int(memory, key, what) or 0) > 0:
            raise NotSupported(f"{what}: cgroup v2 counts it as memory and has no limit of its own for it")
    if _swappiness(memory) is not None:
        raise NotSupported("memory swappiness: cgroup v2 has no such setting")
    if memory.get("disableOOMKiller"):
        raise NotSupported("OOM killer off: cgroup v2 has no such setting")
    return out


def _v2_block(block: dict[str, Any]) -> list[Write]:
    out: list[Write] = []
    weight = _int(block, "weight", "block I/O weight")
    if weight:
        if not 10 <= weight <= 1000:
            raise InvalidArgument("Range of blkio weight is from 10 to 1000")
        # With the BFQ scheduler the old 1..1000 scale holds, else io.weight's 1..10000.
        out.append(Write("io", "io.bfq.weight|io.weight", f"{weight}|{1 + (weight - 10) * 9999 // 990}", "block I/O weight"))
    if _int(block, "leafWeight", "block I/O leaf weight"):
        raise NotSupported("block I/O leaf weight: cgroup v2 has no such setting")
    for item in _items(block, "weightDevice"):
        if value := _int(item, "weight", "block I/O device weight"):
            out.append(Write("io", "io.bfq.weight", f"{_device(item)} {value}", "block I/O device weight"))
        if _int(item, "leafWeight", "block I/O device leaf weight"):
            raise NotSupported("block I/O device leaf weight: cgroup v2 has no such setting")
    for key, _, word, what in _THROTTLES:
        for item in _items(block, key):
            rate = _rate(item, what)
            out.append(Write("io", "io.max", f"{_device(item)} {word}={rate if rate else 'max'}", what))
    return out


def shares_to_weight(shares: int) -> int:
    """v1's 2..262144 (default 1024) on v2's 1..10000 (default 100), as runtimes do since 2025: a parabola in log2(shares) through the
    three points (2, 1), (1024, 100), (262144, 10000)."""
    shares = min(max(shares, 2), 262144)
    log = float(shares.bit_length() - 1)
    x = shares / (1 << (shares.bit_length() - 1))
    for bit in range(1, 41):  # the fraction of log2, bit by bit: `math` is not on the hot path
        x *= x
        if x >= 2:
            x /= 2
            log += 2.0**-bit
    exponent = (log * log + 125 * log) / 612 - 7 / 34
    weight: float = 10.0**exponent
    return min(10000, max(1, int(weight) + (weight - int(weight) > 1e-6)))
