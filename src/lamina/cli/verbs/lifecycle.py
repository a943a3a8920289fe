# SPDX-License-Identifier: Apache-2.0
"""`start`, `stop`, `kill`, `wait` and `rm`: each takes containers, prints them as typed, and goes on after an error. [hot]"""
from __future__ import annotations

from lamina.cli.context import Cli, CliError
from lamina.cli.flags import Verb
from lamina.errors import LaminaError, NotFound, StartError

from .run import attach, check_keys, check_tty, wanted, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from lamina.cli.flags import Opts


def each(cli: Cli, refs: list[str], act: Callable[[str], str], *, at_once: bool = False) -> list[str]:
    """Runs `act` on each and prints what it returns, unless empty; then the errors. Returns the refs that failed."""
    failed, errors = [], []
    for ref in refs:
        try:
            line = act(ref)
        except LaminaError as e:
            failed.append(ref)
            errors.append(f"Error response from daemon: {e.message}" + (f"\nHint: {e.hint}" if e.hint else ""))
            if at_once:
                cli.err(errors.pop())
        else:
            if line:
                cli.out(line)
    if errors:
        cli.err("\n".join(errors))
    return failed


def start(cli: Cli, opts: Opts, refs: list[str]) -> int:
    attached = opts["attach"] or opts["interactive"]
    if attached and len(refs) > 1:
        raise CliError("you cannot start and attach multiple containers at once")
    cli.prepare()
    containers = cli.engine.containers
    if not attached:

        def one(ref: str) -> str:
            warn(cli, containers.start(ref, attach=None))
            return ref

        failed = each(cli, refs, one, at_once=True)
        if failed:
            raise CliError(f"Error: failed to start containers: {', '.join(failed)}")
        return 0
    keys = check_keys(cli, opts)
    tty = bool(containers.inspect(refs[0])["Config"]["Tty"])
    stdin = opts["interactive"]
    check_tty(cli, stdin=stdin, tty=tty)
    try:
        client = containers.start(refs[0], attach=wanted(stdin=stdin)) or containers.attach(refs[0], wanted(stdin=stdin))
    except StartError as e:
        raise CliError(f"Error response from daemon: {e.message}" + (f"\nHint: {e.hint}" if e.hint else ""))  # 1, unlike run's 127
    warn(cli, client)
    return attach(cli, client, refs[0], stdin=stdin, tty=tty, detach_keys=keys)


def stop(cli: Cli, opts: Opts, refs: list[str]) -> int:
    timeout = opts["timeout"] if "timeout" in opts.changed else opts["time"] if "time" in opts.changed else None

    def one(ref: str) -> str:
        cli.engine.containers.stop(ref, timeout=timeout, signal=opts["signal"] or None)
        return ref

    return 1 if each(cli, refs, one) else 0


def kill(cli: Cli, opts: Opts, refs: list[str]) -> int:
    def one(ref: str) -> str:
        cli.engine.containers.kill(ref, opts["signal"] or "KILL")
        return ref

    return 1 if each(cli, refs, one) else 0


def wait(cli: Cli, opts: Opts, refs: list[str]) -> int:
    def one(ref: str) -> str:
        cli.flush()  # the codes before this one are out while we wait
        return str(cli.engine.containers.wait(ref))

    return 1 if each(cli, refs, one) else 0


def rm(cli: Cli, opts: Opts, refs: list[str]) -> int:
    def one(ref: str) -> str:
        bare = ref.strip("/")
        if not bare:
            raise CliError("Container name cannot be empty")
        try:
            if opts["link"]:
                cli.engine.containers.remove_link(bare)
            cli.engine.containers.remove(bare, force=opts["force"], volumes=opts["volumes"])
        except NotFound as e:
            if not opts["force"]:
                raise
            cli.err(f"Error response from daemon: {e.message}")  # docker prints it and still succeeds
            return ""
        return ref

    return 1 if each(cli, refs, one) else 0


MANY = "[OPTIONS] CONTAINER [CONTAINER...]"
VERBS = {
    "start": Verb(
        start, MANY, 1, None, (("attach", "a", "bool", False), ("interactive", "i", "bool", False), ("detach-keys", "", "string", "")),
        refused={"checkpoint": "", "checkpoint-dir": ""},
    ),
    "stop": Verb(stop, MANY, 1, None, (("signal", "s", "string", ""), ("time", "t", "int", 10), ("timeout", "", "int", 10))),
    "kill": Verb(kill, MANY, 1, None, (("signal", "s", "string", ""),)),
    "wait": Verb(wait, "CONTAINER [CONTAINER...]", 1, None),
    "rm": Verb(rm, MANY, 1, None, (("force", "f", "bool", False), ("link", "l", "bool", False), ("volumes", "v", "bool", False))),
}  # fmt: skip
