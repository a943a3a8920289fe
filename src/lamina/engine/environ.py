# SPDX-License-Identifier: Apache-2.0
"""The environment of a container's processes. [hot]"""
from __future__ import annotations

from lamina.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment(config: dict[str, Any], hostname: str) -> list[str]:
    """docker's order: PATH, HOSTNAME, TERM, then the container's; an entry of the container replaces ours."""
    base = [PATH, f"HOSTNAME={hostname}"]
    if config["Tty"]:
        base.append("TERM=xterm")
    return merge_env(base, config["Env"])


def merge_env(base: list[str] | None, over: list[str] | None) -> list[str]:
    """`over` replaces entries of `base` by name and keeps their place. Entries of an image without '=' are dropped.

    Such an entry must never be looked up in our own environment (attack 27).
    """
    merged: dict[str, str] = {}
    for entry in base or []:
        if isinstance(entry, str) and entry.find("=") > 0:
            merged[entry.split("=", 1)[0]] = entry
    for entry in over or []:
        name = entry.split("=", 1)[0]
        if not name:
            raise InvalidArgument(f"invalid environment variable: {entry}")
        if "\0" in entry:
            raise InvalidArgument(f"invalid environment variable: {name}: holds a NUL byte")
        if "=" not in entry:
            merged.pop(name, None)  # docker: `-e NAME` without a value in the client's environment takes it away
        else:
            merged[name] = entry
    return list(merged.values())
