# SPDX-License-Identifier: Apache-2.0
"""Which cgroup hierarchies this process can see, and where in each it stands.  [hot]

Read from mountinfo (what is mounted where, and which part of the hierarchy the mount shows) and /proc/self/cgroup (our own place).
Per hierarchy both may differ: inside another engine's container, in a private mount namespace without the unified tree, under a CI
job that moved us in the memory hierarchy only. `detect(root=DIR)` reads DIR/proc and DIR/sys instead: for tests on a made-up tree.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

V1_CONTROLLERS = frozenset(
    (
        "cpu",
        "cpuacct",
        "cpuset",
        "memory",
        "devices",
        "freezer",
        "blkio",
        "pids",
        "hugetlb",
        "net_cls",
        "net_prio",
        "perf_event",
        "rdma",
        "misc",
    )
)
UNIFIED = ""  # the key of the v2 tree in `Cgroup.paths`, as in /proc/self/cgroup


class Hierarchy:
    """One mounted hierarchy: `mount` is where absolute cgroup paths begin, `own` the directory of this process below it."""

    __slots__ = ("controllers", "mount", "own", "version")

    def __init__(self, version: int, controllers: tuple[str, ...], mount: str, own: str) -> None:
        self.version = version
        self.controllers = controllers
        self.mount = mount
        self.own = own

    def bases(self) -> tuple[str, ...]:
        """Where an absolute path may be made, best first: the hierarchy's root, else (no right there) below our own group."""
        return (self.mount,) if self.own == self.mount else (self.mount, self.own)


class Layout:
    """`kind` is "v1", "v2", "hybrid" or "none"; `hierarchies` has the v2 tree (if any) last."""

    __slots__ = ("hierarchies", "kind", "root")

    def __init__(self, hierarchies: list[Hierarchy], root: str = "") -> None:
        real = any(h.version == 1 and any(c in V1_CONTROLLERS for c in h.controllers) for h in hierarchies)
        unified = any(h.version == 2 for h in hierarchies)
        self.kind = ("hybrid" if unified else "v1") if real else ("v2" if unified else "none")
        self.hierarchies = hierarchies
        self.root = root

    @property
    def unified(self) -> Hierarchy | None:
        last = self.hierarchies[-1] if self.hierarchies else None
        return last if last is not None and last.version == 2 else None

    def find(self, controller: str) -> Hierarchy | None:
        """The hierarchy that holds `controller`: its v1 mount, else the v2 tree when that offers it."""
        for h in self.hierarchies:
            if controller in h.controllers:
                return h
        return None

    def swap_accounting(self) -> bool:
        """Whether a limit on memory plus swap can be set; where it can't, the engine omits its own defaults for it."""
        h = self.find("memory")
        if h is None:
            return False
        if h.version == 1:
            return os.path.exists(h.mount + "/memory.memsw.limit_in_bytes")
        # The root of the v2 tree has no limit files; any child with the controller does. Our own group is the usual one.
        return os.path.exists(h.own + "/memory.swap.max") if h.own != h.mount else os.path.exists(self.root + "/proc/swaps")


def _unescape(path: str) -> str:
    """mountinfo writes space, tab, newline and backslash as three octal digits."""
    if "\\" not in path:
        return path
    out, i = [], 0
    while i < len(path):
        if path[i] == "\\" and path[i + 1 : i + 4].isdigit():
            out.append(chr(int(path[i + 1 : i + 4], 8)))
            i += 4
        else:
            out.append(path[i])
            i += 1
    return "".join(out)


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts).decode("utf-8", "surrogateescape")


def parse_proc_cgroup(text: str) -> dict[str, str]:
    """`/proc/PID/cgroup` as {controller or "name=x" or "" (v2): path}."""
    own: dict[str, str] = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        names, sep, path = rest.partition(":")
        if sep:
            for name in names.split(","):
                own[name] = path
    return own


def _mounts(text: str) -> Iterator[tuple[str, str, str, list[str]]]:
    """(filesystem type, shown part of the hierarchy, mount point, super options) of each cgroup mount."""
    for line in text.splitlines():
        if " - cgroup" not in line:
            continue
        left, _, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if len(fields) >= 5 and len(tail) >= 3 and tail[0] in ("cgroup", "cgroup2"):
            yield tail[0], _unescape(fields[3]), _unescape(fields[4]), tail[2].split(",")


def _own_dir(mount: str, shown: str, own: str | None) -> str:
    """Our group's directory below `mount`, which shows the part `shown` of the hierarchy; the mount itself when we stand outside of it."""
    if own is None or "/.." in own:
        return mount
    if shown == "/":
        return mount + own.rstrip("/")
    if own == shown or own.startswith(shown + "/"):
        return mount + own[len(shown) :]
    return mount


def detect(root: str = "") -> Layout:
    """What this process can see now; three small files are read, nothing is cached."""
    own = parse_proc_cgroup(_read(root + "/proc/self/cgroup"))
    v1: dict[tuple[str, ...], Hierarchy] = {}
    v2: Hierarchy | None = None
    v2_whole = False
    for fstype, shown, point, options in _mounts(_read(root + "/proc/self/mountinfo")):
        mount = root + point
        if not os.path.exists(mount + "/cgroup.procs"):
            continue  # mounted over, or beyond our root
        if fstype == "cgroup2":
            place = own.get(UNIFIED)
            # The first wins unless a later one shows more: a bind mount of some group may come before the tree itself.
            if v2 is None or (shown == "/" and not v2_whole):
                controllers = tuple(_read(mount + "/cgroup.controllers").split())
                v2, v2_whole = Hierarchy(2, controllers, mount, _own_dir(mount, shown, place)), shown == "/"
            continue
        names = tuple(o for o in options if o in V1_CONTROLLERS or o.startswith("name="))
        if names and names not in v1:
            v1[names] = Hierarchy(1, names, mount, _own_dir(mount, shown, own.get(names[0])))
    found = list(v1.values())
    if v2 is not None:
        found.append(v2)
    return Layout(found, root)
