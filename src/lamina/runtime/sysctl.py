# SPDX-License-Identifier: Apache-2.0
"""linux.sysctl: only what belongs to one of the container's own namespaces, checked by name, written to a procfs held by fd."""
from __future__ import annotations

from lamina.errors import InvalidArgument

from . import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Set

_IPC = {"kernel." + name for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")}
_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@")


def check(settings: Mapping[str, str], own: Set[str]) -> list[tuple[str, str]]:
    """(path below /proc, value) per setting; `own` has the OCI names of the namespaces that are the container's own.

    InvalidArgument for a name that isn't confined to one of them, or that could lead anywhere but to one file (attacks 24).
    """
    out = []
    for key, value in settings.items():
        name = key.replace("/", ".") if "/" in key and key.find("/") < (key + ".").find(".") else key
        parts = name.split(".")
        if not set(key) <= _ALLOWED or len(parts) < 2 or not all(parts) or ".." in key:
            raise InvalidArgument(f'sysctl "{key}" is not a valid name')
        if name in _IPC or name.startswith("fs.mqueue."):
            needs = "ipc"
        elif name.startswith("net."):
            needs = "network"
        elif name in ("kernel.hostname", "kernel.domainname"):
            needs = "uts"
        else:
            raise InvalidArgument(f'sysctl "{key}" is not in a separate kernel namespace')
        if needs not in own:
            raise InvalidArgument(f'sysctl "{key}" is not allowed in the hosts {needs} namespace')
        if not isinstance(value, str) or "\0" in value:
            raise InvalidArgument(f'sysctl "{key}" has an invalid value')
        out.append(("sys/" + "/".join(part.replace("/", ".") for part in parts), value))
    return out


def write(proc: int, settings: list[tuple[str, str]]) -> None:
    for path, value in settings:
        process.write_proc(proc, path, value)
