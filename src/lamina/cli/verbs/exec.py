# SPDX-License-Identifier: Apache-2.0
"""`exec`. [hot]

A command that can't be started in the container is told on stdout, when attached, and with docker's exit codes 126 and 127: its
daemon writes that text into the attached stream.
"""
from __future__ import annotations

from lamina.cli.context import Cli
from lamina.cli.create import environment
from lamina.cli.flags import Verb
from lamina.errors import StartError

from .run import check_keys, check_tty, console_size, load_attach, wanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lamina.cli.flags import Opts


def exec_(cli: Cli, opts: Opts, args: list[str]) -> int:
    detach, stdin, tty = opts["detach"], opts["interactive"], opts["tty"]
    if not detach:
        check_tty(cli, stdin=stdin, tty=tty)
    keys = check_keys(cli, opts)
    size = console_size(cli) if tty else None
    body: dict[str, Any] = {
        "User": opts["user"],
        "Privileged": opts["privileged"],
        "Tty": tty,
        "AttachStdin": stdin and not detach,
        "AttachStdout": not detach,
        "AttachStderr": not detach,
        "Detach": detach,
        "Env": environment([*env_files(opts["env-file"]), *opts["env"]]) or None,
        "WorkingDir": opts["workdir"],
        "Cmd": args[1:],
        "ConsoleSize": list(size or (0, 0)),
    }
    cli.prepare(for_exec=True)
    containers = cli.engine.containers
    if detach:
        try:
            containers.exec_run(args[0], body).close()
        except StartError as e:
            cli.err(f"Error response from daemon: {e.message}")
            return 1
        return 0
    try:
        cli.engine.meanwhile = load_attach
        client = containers.exec_run(args[0], body, attach=wanted(stdin=stdin), size=size)
        from lamina.cli.attach import DEFAULT_KEYS, DETACHED, attach_terminal

        code = attach_terminal(client, stdin=stdin, tty=tty, detach_keys=keys or DEFAULT_KEYS)
        return 0 if code == DETACHED else code
    except StartError as e:
        cli.out(cli.clean(e.message), end="\r\n")
        return 126  # as docker's, also for a command that isn't there


def env_files(paths: list[str]) -> list[str]:
    if not paths:
        return []
    from lamina.cli.create_more import read_pairs

    return [line for path in paths for line in read_pairs(path, look_up=True)]


VERBS = {
    "exec": Verb(
        exec_,
        "[OPTIONS] CONTAINER COMMAND [ARG...]",
        2,
        None,
        (
            ("detach", "d", "bool", False),
            ("detach-keys", "", "string", ""),
            ("env", "e", "env", None),
            ("env-file", "", "list", None),
            ("interactive", "i", "bool", False),
            ("privileged", "", "bool", False),
            ("tty", "t", "bool", False),
            ("user", "u", "string", ""),
            ("workdir", "w", "string", ""),
        ),
        interspersed=False,
    )
}
