# SPDX-License-Identifier: Apache-2.0
"""`events` and `stats`."""

from __future__ import annotations

import time

from lamina.cli.context import Cli, CliError
from lamina.cli.flags import Opts, Verb
from lamina.cli.table import render, short_id
from lamina.util.sizes import human_size

from .logs import moment
from .ps import filters_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEADERS = {
    "Container": "CONTAINER", "Name": "NAME", "ID": "CONTAINER ID", "CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT", "MemPerc": "MEM %",
    "NetIO": "NET I/O", "BlockIO": "BLOCK I/O", "PIDs": "PIDS",
}  # fmt: skip
COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
INTERVAL = 1.0


def line(event: dict[str, Any]) -> str:
    """docker's line: local time with nanoseconds, type, action, id, and the attributes by name."""
    seconds, nanos = divmod(event["timeNano"], 1_000_000_000)
    moment_ = time.localtime(seconds)
    zone = time.strftime("%z", moment_)
    stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment_)}.{nanos:09d}{zone[:3]}:{zone[3:]}"
    attributes = ", ".join(f"{key}={value}" for key, value in sorted(event["Actor"]["Attributes"].items()))
    return f"{stamp} {event['Type']} {event['Action']} {event['Actor']['ID']}" + (f" ({attributes})" if attributes else "")


def events(cli: Cli, opts: Opts, args: list[str]) -> int:
    since, until = (moment(opts[name]) if opts[name] else None for name in ("since", "until"))
    template = opts["format"]
    for event in cli.engine.system.events(since=since, until=until, filters=filters_of(opts["filter"])):
        if event is None:
            cli.flush()
        elif template:
            from lamina.cli.formats import show_objects
            from lamina.cli.template_funcs import to_json, typed

            if template == "json":
                cli.out(to_json(typed(event)))
            else:
                show_objects(cli, template, [event])
            cli.flush()
        else:
            cli.out(cli.clean(line(event)))
            cli.flush()
    return 0


class StatsRow:
    """One container's line, from two samples."""

    def __init__(self, ref: str, before: dict[str, Any] | None, now: dict[str, Any], *, trunc: bool) -> None:
        self.ref = ref
        self.before = before
        self.now = now
        self.trunc = trunc

    def names(self) -> tuple[str, ...]:
        return ("BlockIO", "CPUPerc", "Container", "ID", "MemPerc", "MemUsage", "Name", "NetIO", "PIDs")

    def cpu(self) -> float:
        if not self.before or not self.before["cpu_stats"] or not self.now["cpu_stats"]:
            return 0.0
        old, new = self.before["cpu_stats"], self.now["cpu_stats"]
        used = new["cpu_usage"]["total_usage"] - old["cpu_usage"]["total_usage"]
        system = new["system_cpu_usage"] - old["system_cpu_usage"]
        return float(used / system * new["online_cpus"] * 100) if used > 0 and system > 0 else 0.0

    def memory(self) -> tuple[int, int]:
        """(used without page cache that can be given back, limit), as docker's client reckons."""
        stats = self.now["memory_stats"]
        if not stats:
            return 0, 0
        detail = stats["stats"]
        cache = detail.get("total_inactive_file", detail.get("inactive_file", 0))
        used = stats["usage"]
        return (used - cache if cache < used else used), stats["limit"]

    def blocks(self) -> tuple[int, int]:
        found = {"read": 0, "write": 0}
        for entry in self.now["blkio_stats"].get("io_service_bytes_recursive") or []:
            kind = str(entry.get("op", "")).lower()
            if kind in found:
                found[kind] += entry.get("value", 0)
        return found["read"], found["write"]

    def field(self, name: str) -> str:
        now = self.now
        if name == "Container":
            return self.ref
        if name == "ID":
            return short_id(now["id"]) if self.trunc else str(now["id"])
        if name == "Name":
            return str(now["name"])[1:]
        running = bool(now["cpu_stats"])
        if name == "CPUPerc":
            return f"{self.cpu():.2f}%"
        if name in ("MemUsage", "MemPerc"):
            used, limit = self.memory()
            if name == "MemPerc":
                return f"{100 * used / limit:.2f}%" if limit else "0.00%"
            return f"{binary_size(used)} / {binary_size(limit)}"
        if name == "NetIO":
            networks = now["networks"].values()
            received, sent = (sum(n[key] for n in networks) for key in ("rx_bytes", "tx_bytes"))
            return f"{human_size(received, 3)} / {human_size(sent, 3)}"
        if name == "BlockIO":
            read, written = self.blocks()
            return f"{human_size(read, 3)} / {human_size(written, 3)}"
        if name == "PIDs":
            return str(now["pids_stats"].get("current", 0)) if running else "0"
        raise KeyError(name)


def binary_size(count: int) -> str:
    """docker's units.BytesSize: "7.6MiB", four significant digits."""
    size, units = float(count), ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    at = 0
    while size >= 1024 and at < len(units) - 1:
        size /= 1024
        at += 1
    return f"{size:.4g}{units[at]}"


def stats(cli: Cli, opts: Opts, refs: list[str]) -> int:
    containers = cli.engine.containers
    template, trunc = opts["format"] or cli.setting("statsFormat"), not opts["no-trunc"]
    screen = not opts["no-stream"] and cli.is_tty(1)
    before: dict[str, dict[str, Any]] = {}
    for ref in refs:
        containers.inspect(ref)  # a name that isn't there is an error at once
    first = True
    while True:
        now = {ref: containers.stats(ref) for ref in refs or [row["Id"] for row in containers.list(all=opts["all"])]}
        if first:
            first, before = False, now
            time.sleep(INTERVAL)
            continue
        rows = [StatsRow(ref if refs else short_id(ref), before.get(ref), sample, trunc=trunc) for ref, sample in now.items()]
        if screen:
            cli.out("\x1b[H\x1b[2J", end="")
        if template and template != "table":
            from lamina.cli.formats import show

            show(cli, template, rows, HEADERS, kind="container.statsContext")
        else:
            cells = [[HEADERS[c] for c in COLUMNS], *([cli.clean(row.field(c)) for c in COLUMNS] for row in rows)]
            cli.out(render(cells), end="")
        cli.flush()
        if opts["no-stream"]:
            return 0
        if refs and not any(containers.list(filters={"id": [sample["id"]]}) for sample in now.values()):
            raise CliError("", 0)  # all that were named have ended
        before = now
        time.sleep(INTERVAL)


VERBS = {
    "events": Verb(
        events, "[OPTIONS]", 0, 0,
        (("filter", "f", "filter", None), ("format", "", "string", ""), ("since", "", "string", ""), ("until", "", "string", "")),
    ),
    "stats": Verb(
        stats, "[OPTIONS] [CONTAINER...]", 0, None,
        (("all", "a", "bool", False), ("format", "", "string", ""), ("no-stream", "", "bool", False), ("no-trunc", "", "bool", False)),
    ),
}  # fmt: skip
