# SPDX-License-Identifier: Apache-2.0
"""What only the mounted root, or a file of the runroot, can tell about a process that is to be started: for both kinds of monitor. [hot]"""
from __future__ import annotations

import errno

from lamina.runtime import profile, users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def fill_process(root: int, process: dict[str, Any], plan: Mapping[str, Any]) -> None:
    """Completes the OCI process by the plan's "user", "group_add" and "console_size": ids by the root's own files, HOME as docker does."""
    uid, gid, groups, home = users.resolve(root, plan.get("user") or "", plan.get("group_add") or ())
    process["user"] = {**(process.get("user") or {}), "uid": uid, "gid": gid, "additionalGids": list(groups)}
    env = list(process.get("env") or ())
    if home and not any(entry.startswith("HOME=") for entry in env):
        env.append("HOME=" + home)
    process["env"] = env
    size = plan.get("console_size")
    if size:
        process["consoleSize"] = {"height": size[0], "width": size[1]}


def read_seccomp(plan: Mapping[str, Any]) -> bytes | None:
    """The filter's bytes; an error when the file that the plan names doesn't hold one that can be believed."""
    path = plan.get("seccomp_path")
    if not path:
        return None
    program = profile.load(path)
    if program is None:
        raise OSError(errno.EINVAL, "not a seccomp filter of ours", path)
    return program
