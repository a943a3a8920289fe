# SPDX-License-Identifier: Apache-2.0
"""config.json's mounts as a list of operations, parsed and checked before anything is made; pure.

`parse(spec)` refuses what can't be done (unknown option combinations, mounts over /proc that could fake it); `describe()` of each
operation is the line that `--explain` and tests show. Flags follow mount(8) and the OCI runtime-spec's table; an option that is
none of them is the file system's own.
"""
from __future__ import annotations

import posixpath

from lamina.errors import InvalidArgument
from lamina.linux import mount as m

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# option -> (attributes set, attributes cleared)
_ATTRIBUTES = {
    "ro": (m.MOUNT_ATTR_RDONLY, 0), "rw": (0, m.MOUNT_ATTR_RDONLY),
    "nosuid": (m.MOUNT_ATTR_NOSUID, 0), "suid": (0, m.MOUNT_ATTR_NOSUID),
    "nodev": (m.MOUNT_ATTR_NODEV, 0), "dev": (0, m.MOUNT_ATTR_NODEV),
    "noexec": (m.MOUNT_ATTR_NOEXEC, 0), "exec": (0, m.MOUNT_ATTR_NOEXEC),
    "noatime": (m.MOUNT_ATTR_NOATIME, m.MOUNT_ATTR__ATIME), "atime": (m.MOUNT_ATTR_RELATIME, m.MOUNT_ATTR__ATIME),
    "relatime": (m.MOUNT_ATTR_RELATIME, m.MOUNT_ATTR__ATIME), "norelatime": (m.MOUNT_ATTR_RELATIME, m.MOUNT_ATTR__ATIME),
    "strictatime": (m.MOUNT_ATTR_STRICTATIME, m.MOUNT_ATTR__ATIME), "nostrictatime": (m.MOUNT_ATTR_RELATIME, m.MOUNT_ATTR__ATIME),
    "nodiratime": (m.MOUNT_ATTR_NODIRATIME, 0), "diratime": (0, m.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (m.MOUNT_ATTR_NOSYMFOLLOW, 0), "symfollow": (0, m.MOUNT_ATTR_NOSYMFOLLOW),
}
PROPAGATION = {
    "private": m.MS_PRIVATE, "slave": m.MS_SLAVE, "shared": m.MS_SHARED, "unbindable": m.MS_UNBINDABLE,
}
_IGNORED = {"defaults", "async", "nomand", "loud", "silent", "remount"}
_SUPERBLOCK = {"sync", "dirsync", "mand", "lazytime"}

# What may be mounted inside /proc by name: single files that lxcfs and the like provide, nothing that decides on security.
_PROC_FILES = {"/proc/" + name for name in (
    "cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo", "net/dev", "sys/kernel/ns_last_pid",
    "sys/crypto/fips_enabled")}


class MountOp:
    """One mount: `kind` is "bind", "cgroup" or "new" (a file system of `fstype`); `destination` is absolute and clean.

    set/clear are MOUNT_ATTR_*, rset/rclear the same for the whole tree below; `tree` is the fd of a bind's source once opened.
    """

    __slots__ = ("clear", "data", "destination", "fstype", "kind", "propagation", "rclear", "recursive", "rset", "set", "source",
                 "spread", "tree")

    def __init__(self, destination: str, kind: str, fstype: str, source: str) -> None:
        self.destination = destination
        self.kind = kind
        self.fstype = fstype
        self.source = source
        self.data: list[str] = []
        self.set = self.clear = self.rset = self.rclear = 0
        self.recursive = False
        self.propagation = m.MS_PRIVATE
        self.spread = True  # propagation is for the whole tree
        self.tree = -1

    def option(self, word: str) -> None:
        name = word[1:] if word.startswith("r") else ""
        if word in ("bind", "rbind"):
            self.kind, self.recursive = "bind", word == "rbind" or self.recursive
        elif word in _ATTRIBUTES:
            on, off = _ATTRIBUTES[word]
            self.set, self.clear = self.set & ~(off | on) | on, self.clear & ~on | off
        elif name in _ATTRIBUTES:
            on, off = _ATTRIBUTES[name]
            self.rset, self.rclear = self.rset & ~(off | on) | on, self.rclear & ~on | off
        elif word in PROPAGATION or name in PROPAGATION:
            self.propagation, self.spread = PROPAGATION.get(word) or PROPAGATION[name], word not in PROPAGATION
        elif word in ("idmap", "ridmap"):
            raise InvalidArgument(f'mount of "{self.destination}": id-mapped mounts are not supported yet')
        elif word in _SUPERBLOCK or word not in _IGNORED:
            self.data.append(word)

    def describe(self) -> str:
        """`bind /src -> /dst (ro,rec)`: one line, for --explain."""
        words = [name for name, (on, _) in _ATTRIBUTES.items() if on and self.set & on]
        words += ["r" + name for name, (on, _) in _ATTRIBUTES.items() if on and self.rset & on]
        words += ["rec"] if self.recursive else []
        words += [("r" if self.spread else "") + name for name, flag in PROPAGATION.items() if flag == self.propagation != m.MS_PRIVATE]
        words += self.data
        what = f"bind {self.source}" if self.kind == "bind" else self.fstype
        return f"{what} -> {self.destination}" + (f" ({','.join(words)})" if words else "")


def parse(spec: dict[str, Any]) -> list[MountOp]:
    """The operations of spec.mounts, in order; InvalidArgument names the destination that can't be right."""
    return [_operation(entry) for entry in spec.get("mounts") or ()]


def _operation(entry: dict[str, Any]) -> MountOp:
    raw = entry.get("destination")
    if not isinstance(raw, str) or not raw or "\0" in raw:
        raise InvalidArgument(f"invalid mount destination {raw!r}")
    destination = posixpath.normpath("/" + raw.lstrip("/"))
    fstype = entry.get("type") or "none"
    op = MountOp(destination, "cgroup" if fstype in ("cgroup", "cgroup2") else "new", fstype, entry.get("source") or fstype)
    if fstype == "bind":
        op.option("rbind" if "rbind" in (entry.get("options") or ()) else "bind")
    for word in entry.get("options") or ():
        if not isinstance(word, str) or "\0" in word:
            raise InvalidArgument(f'mount of "{destination}": invalid option {word!r}')
        op.option(word)
    if op.kind == "bind":
        if op.data:
            raise InvalidArgument(f'mount of "{destination}": a bind has no options of a file system ({",".join(op.data)})')
        if not op.source.startswith("/"):
            raise InvalidArgument(f'mount of "{destination}": the source "{op.source}" must be an absolute path')
    if destination == "/":
        raise InvalidArgument("invalid mount destination: the container's root can't be mounted over")
    if op.kind == "new" and fstype == "none":
        raise InvalidArgument(f'mount of "{destination}": neither a type nor a bind')
    return op


def over_proc_allowed(op: MountOp) -> bool:
    """Whether an operation may be mounted on something that turned out to be on procfs (runtime `rootfs` asks by the target's fd)."""
    return op.destination in _PROC_FILES or op.fstype == "proc"


def is_api_path(destination: str) -> bool:
    """Destinations whose way there must hold no symbolic link: the kernel's own file systems, on which masks and devices rely."""
    return destination in ("/proc", "/sys", "/dev") or destination.startswith(("/proc/", "/sys/", "/dev/"))
