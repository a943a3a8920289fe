# SPDX-License-Identifier: Apache-2.0
"""events and stats: what happens, and what it costs. Both read; they wait for nobody and block nobody."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

from lamina.containers.store import Record
from lamina.errors import InvalidArgument
from lamina.runtime.cgroups import Cgroup
from lamina.store import events as journal
from lamina.util import steps
from lamina.util.times import rfc3339nano

from . import planning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lamina.store.events import Event

    from .containers import Containers
    from .engine import Engine

FILTERS = ("container", "daemon", "event", "image", "label", "network", "scope", "type", "volume",
           "plugin", "secret", "config", "node", "service")  # fmt: skip


def events(
    engine: Engine, *, since: int | None = None, until: int | None = None, filters: dict[str, list[str]] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Iterator[dict[str, Any] | None]:  # fmt: skip
    """`GET /events`: EventMessage objects, from `since` (ns; None: from now on) to `until` (ns; None: for ever). None when nothing is new.

    With `until` in the past only what is recorded is given.
    """
    wanted = filters or {}
    for name in wanted:
        if name not in FILTERS:
            raise InvalidArgument(f"invalid filter '{name}'")
    directory = engine.store.paths.events
    if steps.tell is not None:
        steps.tell(f"reads the journal that commands and monitors write: {directory}")
    source: Iterator[Event | None]
    if until is not None and until <= time.time_ns():
        source = journal.read(directory, since or 0, until)
    else:
        source = journal.follow(directory, since, until, stop=stop)
    for event in source:
        if event is None:
            yield None
        elif passes(event, wanted):
            yield message(event)


def message(event: Event) -> dict[str, Any]:
    """The API's EventMessage, with the older fields that clients still read."""
    body = {
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "scope": "local",
        "time": event.time_ns // 1_000_000_000,
        "timeNano": event.time_ns,
    }
    if event.type in ("container", "image"):
        body.update(status=event.action, id=event.id)
        if event.type == "container":
            body["from"] = event.attributes.get("image", "")
    return body


def passes(event: Event, filters: dict[str, list[str]]) -> bool:
    """docker's rules: values of one filter are alternatives, filters add up."""
    for name, values in filters.items():
        if name == "type":
            ok = event.type in values
        elif name == "event":
            ok = any(event.action == value or event.action.startswith(value + ":") for value in values)
        elif name == "label":
            ok = all(has_label(event.attributes, value) for value in values)
        elif name == "scope":
            ok = "local" in values
        elif name in ("container", "image", "network", "volume"):
            mine = event.type == name and any(event.id.startswith(value) or event.attributes.get("name") == value for value in values)
            used = event.type == "container" and name == "image" and event.attributes.get("image") in values
            ok = mine or used
        else:
            ok = False  # kinds of objects that this engine doesn't have
        if not ok:
            return False
    return True


def has_label(attributes: dict[str, str], wanted: str) -> bool:
    key, eq, value = wanted.partition("=")
    return key in attributes and (not eq or attributes[key] == value)


def stats(containers: Containers, record: Record) -> dict[str, Any]:
    """One sample, `GET /containers/{id}/stats?one-shot=true` as far as it is known here; zeros for a container that doesn't run."""
    now = time.time_ns()
    body: dict[str, Any] = {
        "id": record.id, "name": "/" + record.name, "read": rfc3339nano(now), "preread": "0001-01-01T00:00:00Z", "num_procs": 0,
        "pids_stats": {}, "networks": {}, "memory_stats": {}, "blkio_stats": {}, "cpu_stats": {}, "precpu_stats": {}, "storage_stats": {},
    }  # fmt: skip
    state = containers.state(record)
    if not state.live:
        return body
    raw = Cgroup.open(planning.cgroup_path(record, containers.engine.store)).stats()
    if steps.tell is not None:
        steps.tell(f"read the counters of the cgroup {planning.cgroup_path(record, containers.engine.store)}")
    cpu, memory, pids = raw["cpu"], raw["memory"], raw["pids"]
    usage = cpu.get("usage", {})
    body["cpu_stats"] = {
        "cpu_usage": {
            "total_usage": usage.get("total", 0), "percpu_usage": usage.get("percpu") or None,
            "usage_in_kernelmode": usage.get("kernel", 0), "usage_in_usermode": usage.get("user", 0),
        },
        "system_cpu_usage": system_cpu(), "online_cpus": os.cpu_count() or 1, "throttling_data": cpu.get("throttling", {}),
    }  # fmt: skip
    limit = min(memory.get("usage", {}).get("limit", 0) or 1 << 63, host_memory())
    body["memory_stats"] = {"usage": memory.get("usage", {}).get("usage", 0), "limit": limit, "stats": memory.get("raw", {})}
    body["pids_stats"] = {"current": pids.get("current", 0), "limit": pids.get("limit", 0)}
    body["blkio_stats"] = {"io_service_bytes_recursive": raw["blkio"].get("ioServiceBytesRecursive") or []}
    if record.config["HostConfig"]["NetworkMode"] != "host":
        body["networks"] = interfaces(state.pid)
    return body


def system_cpu() -> int:
    """CPU time of the whole host in nanoseconds, idle included."""
    with open("/proc/stat", "rb") as file:
        ticks = [int(n) for n in file.readline().split()[1:8]]
    return sum(ticks) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))


def host_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def interfaces(pid: int) -> dict[str, dict[str, int]]:
    """Counters of a process's network namespace, without lo."""
    found: dict[str, dict[str, int]] = {}
    try:
        with open(f"/proc/{pid}/net/dev", encoding="ascii", errors="replace") as file:
            lines = file.read().splitlines()[2:]
    except (FileNotFoundError, ProcessLookupError, OSError):
        return found
    keys = ("rx_bytes", "rx_packets", "rx_errors", "rx_dropped", "tx_bytes", "tx_packets", "tx_errors", "tx_dropped")
    for line in lines:
        name, _, rest = line.partition(":")
        numbers = rest.split()
        if name.strip() != "lo" and len(numbers) >= 12:
            found[name.strip()] = dict(zip(keys, map(int, numbers[:4] + numbers[8:12]), strict=True))
    return found
