# SPDX-License-Identifier: Apache-2.0
"""`mount` and `umount`: a container's union on the host. Podman's words; docker has neither."""
from __future__ import annotations

from lamina.cli.context import Cli
from lamina.cli.flags import Opts, Verb
from lamina.cli.table import render

from .lifecycle import each


def mount(cli: Cli, opts: Opts, args: list[str]) -> int:
    """Prints where each container's union is mounted now; without an argument, what is mounted."""
    if not args:
        rows = [[entry["Id"] if opts["no-trunc"] else entry["Id"][:12], entry["Path"]] for entry in cli.engine.containers.mounted()]
        cli.out(render([["CONTAINER ID", "PATH"], *rows]), end="")
        return 0
    return 1 if each(cli, args, lambda ref: str(cli.engine.containers.mount(ref))) else 0


def umount(cli: Cli, opts: Opts, args: list[str]) -> int:
    def one(ref: str) -> str:
        cli.engine.containers.umount(ref)
        return ref

    return 1 if each(cli, args, one) else 0


VERBS = {
    "mount": Verb(mount, "[OPTIONS] [CONTAINER...]", 0, None, (("no-trunc", "", "bool", False),)),
    "umount": Verb(umount, "CONTAINER [CONTAINER...]", 1, None),
}
