# SPDX-License-Identifier: Apache-2.0
"""`top`: the processes of a container, read from the host's /proc. No program of the container or the host is run (attack 21).

Understands the forms of ps(1) that people use: nothing or -ef, aux, and -o with a list of columns.
"""

from __future__ import annotations

import os
import time

from lamina.containers.store import Record
from lamina.errors import Conflict, NotSupported
from lamina.runtime.cgroups import Cgroup
from lamina.util import steps

from . import planning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .containers import Containers

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Process:
    """One process as /proc/<pid> shows it; `parts` are the fields of stat from the third on."""

    def __init__(self, pid: int, boot: float) -> None:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read().decode("utf-8", "replace")
        self.pid = pid
        self.comm = text[text.index("(") + 1 : text.rindex(")")]
        self.parts = text[text.rindex(")") + 2 :].split()
        self.uid, self.gid = 0, 0
        self.vsz = self.rss = 0
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file.read().decode("utf-8", "replace").splitlines():
                key, _, value = line.partition(":")
                if key in ("Uid", "Gid"):
                    setattr(self, key.lower(), int(value.split()[1]))  # effective, as ps
                elif key in ("VmSize", "VmRSS"):
                    setattr(self, {"VmSize": "vsz", "VmRSS": "rss"}[key], int(value.split()[0]))
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().rstrip(b"\0").split(b"\0")
        self.args = " ".join(w.decode("utf-8", "replace") for w in words) if words != [b""] else f"[{self.comm}]"
        self.start = boot + int(self.parts[19]) / TICKS
        self.cpu = (int(self.parts[11]) + int(self.parts[12])) / TICKS

    @property
    def tty(self) -> str:
        number = int(self.parts[4])
        major, minor = number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xFFF00
        return "?" if number == 0 else f"pts/{(major - 136) * 256 + minor}" if 136 <= major <= 143 else f"{major}:{minor}"

    @property
    def share(self) -> float:
        """Percent of one CPU over its life, as ps has it."""
        return 100 * self.cpu / max(0.01, time.time() - self.start)

    def user(self, names: dict[int, str]) -> str:
        return names.get(self.uid, str(self.uid))

    def started(self) -> str:
        moment = time.localtime(self.start)
        return time.strftime("%H:%M" if time.time() - self.start < 86400 else "%b%d", moment)

    def clock(self, form: str = "%d:%02d:%02d") -> str:
        seconds = int(self.cpu)
        if form == "%d:%02d":
            return form % divmod(seconds, 60)
        return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"

    def elapsed(self) -> str:
        seconds = max(0, int(time.time() - self.start))
        days, rest = divmod(seconds, 86400)
        clock = f"{rest // 60 % 60:02d}:{rest % 60:02d}"
        if days or rest >= 3600:
            clock = f"{rest // 3600:02d}:{clock}"
        return f"{days}-{clock}" if days else clock


def columns(names: dict[int, str], total: int) -> dict[str, tuple[str, Callable[[Process], str]]]:
    """ps(1)'s keyword -> (header, value)."""
    table: dict[str, tuple[str, Callable[[Process], str]]] = {
        "user": ("USER", lambda p: p.user(names)),
        "uid": ("UID", lambda p: str(p.uid)),
        "gid": ("GID", lambda p: str(p.gid)),
        "pid": ("PID", lambda p: str(p.pid)),
        "ppid": ("PPID", lambda p: p.parts[1]),
        "pgid": ("PGID", lambda p: p.parts[2]),
        "sid": ("SID", lambda p: p.parts[3]),
        "c": ("C", lambda p: str(int(p.share))),
        "pcpu": ("%CPU", lambda p: f"{p.share:.1f}"),
        "pmem": ("%MEM", lambda p: f"{100 * p.rss / total:.1f}"),
        "vsz": ("VSZ", lambda p: str(p.vsz)),
        "rss": ("RSS", lambda p: str(p.rss)),
        "stime": ("STIME", Process.started),
        "start": ("STARTED", Process.started),
        "etime": ("ELAPSED", Process.elapsed),
        "time": ("TIME", Process.clock),
        "tty": ("TT", lambda p: p.tty),
        "stat": ("STAT", lambda p: p.parts[0]),
        "ni": ("NI", lambda p: p.parts[16]),
        "nlwp": ("NLWP", lambda p: p.parts[17]),
        "comm": ("COMMAND", lambda p: p.comm),
        "args": ("COMMAND", lambda p: p.args),
    }
    aliases = "command=args %cpu=pcpu %mem=pmem tname=tty tt=tty euser=user euid=uid state=stat s=stat cputime=time ucmd=comm"
    for alias in aliases.split():
        name, _, same = alias.partition("=")
        table[name] = table[same]
    table["cmd"] = ("CMD", table["args"][1])
    return table


def chosen(words: list[str], names: dict[int, str]) -> list[tuple[str, Callable[[Process], str]]]:
    """The columns that the arguments of ps ask for. NotSupported for a form that isn't understood."""
    total = os.sysconf("SC_PHYS_PAGES") * PAGE // 1024
    table = columns(names, total)
    text = " ".join(words)
    if text in ("", "-ef", "-fe", "-eaf"):
        middle = [table[key] for key in ("pid", "ppid", "c", "stime")]
        return [("UID", table["user"][1]), *middle, ("TTY", table["tty"][1]), table["time"], table["cmd"]]
    if text in ("aux", "-aux", "faux"):
        return [*(table[k] for k in ("user", "pid", "pcpu", "pmem", "vsz", "rss")), ("TTY", table["tty"][1]), table["stat"],
                ("START", table["start"][1]), ("TIME", lambda p: p.clock("%d:%02d")), table["args"]]  # fmt: skip
    found = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in ("-e", "-A", "-a", "a", "x", "ax"):
            continue
        flag, listed = word.lstrip("-")[-1:], ""
        if word.startswith("-") and flag == "o" and rest and set(word[1:]) <= set("eAao"):
            listed = rest.pop(0)
        elif word.startswith("-o"):
            listed = word[2:]
        else:
            raise NotSupported(f"top: ps option {word} is not supported", hint="-ef, aux, and -o with a list of columns are")
        for key in listed.replace(" ", ",").split(","):
            name, eq, header = key.partition("=")
            if name not in table:
                raise NotSupported(f"top: column {name!r} is not known")
            found.append((header if eq else table[name][0], table[name][1]))
    if not any(header.strip() == "PID" for header, _ in found):
        raise NotSupported("Couldn't find PID field in ps output")  # docker needs it, and scripts expect the refusal
    return found


def host_users() -> dict[int, str]:
    import pwd

    return {entry.pw_uid: entry.pw_name for entry in reversed(pwd.getpwall())}


def top(containers: Containers, record: Record, words: list[str]) -> dict[str, Any]:
    """`GET /containers/{id}/top`: {"Titles","Processes"}."""
    state = containers.state(record)
    if not state.live:
        raise Conflict(f"container {record.id} is not running")
    if state.status == "restarting":
        raise Conflict(f"Container {record.id} is restarting, wait until the container is running")
    wanted = chosen(words, host_users())
    containers.event("top", record)
    with open("/proc/stat", "rb") as file:
        boot = next(float(line.split()[1]) for line in file if line.startswith(b"btime"))
    rows = []
    for pid in sorted(Cgroup.open(planning.cgroup_path(record, containers.engine.store)).procs()):
        try:
            process = Process(pid, boot)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        rows.append([value(process) for _, value in wanted])
    if steps.tell is not None:
        steps.tell(f"read the processes of the cgroup {planning.cgroup_path(record, containers.engine.store)} from the host's /proc")
    return {"Titles": [header for header, _ in wanted], "Processes": rows}
