# SPDX-License-Identifier: Apache-2.0
"""`run` and `create`. [hot]

Errors before the container runs are reported as docker does: `lamina: TEXT.` and, unless the container was already made,
`See 'lamina run --help'.`; exit code 125, or 126 and 127 where its command can't be executed or found.
"""
from __future__ import annotations

from lamina.cli.context import Cli, CliError
from lamina.cli.create import CREATE_FLAGS, REFUSED, attached, build_body
from lamina.cli.flags import Verb
from lamina.errors import CommandNotExecutable, CommandNotFound, LaminaError, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lamina.cli.flags import Opts
    from lamina.monitor.client import Client


def run(cli: Cli, opts: Opts, args: list[str]) -> int:
    detach, tty, stdin = opts["detach"], opts["tty"], opts["interactive"]
    keys = check_keys(cli, opts)
    container = _create(cli, opts, args, detach=detach, verb="run")
    streams = None if detach else attached(opts, detach=False)
    try:
        if not detach:
            cli.engine.meanwhile = load_attach
        client = cli.engine.containers.start(container, attach=streams)
        warn(cli, client)
        if detach:
            cli.out(container)
            return 0
        if streams and not streams["stdout"] and not streams["stderr"]:
            cli.out(container)  # docker: nothing else would be seen
            cli.flush()
        return attach(cli, client, container, stdin=bool(streams and streams["stdin"]) and stdin, tty=tty, detach_keys=keys,
                      sig_proxy=opts["sig-proxy"])
    except LaminaError as e:
        raise failed(e, "run", with_help=False)


def create(cli: Cli, opts: Opts, args: list[str]) -> int:
    cli.out(_create(cli, opts, args, detach=False, verb="create"))
    return 0


def wanted(*, stdin: bool) -> dict[str, bool]:
    """Which streams an attached client asks the monitor for."""
    return {"stdin": stdin, "stdout": True, "stderr": True}


def warn(cli: Cli, client: Client | None) -> None:
    for text in getattr(client, "warnings", ()):
        cli.warn(text)


def load_attach() -> None:
    """For Engine.meanwhile: what will be needed once the container runs."""
    import lamina.cli.attach  # noqa: F401


def attach(cli: Cli, client: Client, container: str, *, stdin: bool, tty: bool, detach_keys: str = "", sig_proxy: bool = True,
           redraw: bool = False) -> int:
    """Stays with a container that was just started until it ends or the user detaches; the exit code for the shell."""
    from lamina.cli.attach import DEFAULT_KEYS, DETACHED, attach_terminal

    code = attach_terminal(client, stdin=stdin, tty=tty, detach_keys=detach_keys or DEFAULT_KEYS, sig_proxy=sig_proxy, redraw=redraw)
    if code == DETACHED:
        return 0
    cli.engine.containers.finish(container)
    return code


def check_tty(cli: Cli, *, stdin: bool, tty: bool) -> None:
    """docker's rule: a pseudo-terminal with an attached stdin needs a terminal on this side."""
    if stdin and tty and not cli.is_tty(0):
        raise CliError("the input device is not a TTY")


def console_size(cli: Cli) -> tuple[int, int] | None:
    if not cli.is_tty(1):
        return None
    import os

    try:
        size = os.get_terminal_size(1)
    except OSError:
        return None
    return size.lines, size.columns


def _create(cli: Cli, opts: Opts, args: list[str], *, detach: bool, verb: str) -> str:
    """The new container's id; warnings are on stderr."""
    note = None
    if cli.settings.get("proxies"):
        from lamina.cli.settings import proxy_environment

        opts["env"] = proxy_environment(cli.settings, opts["env"])
    try:
        body = build_body(opts, args, detach=detach, console=console_size(cli) if opts["tty"] else None)
        if not detach and verb == "run":
            check_tty(cli, stdin=body["AttachStdin"], tty=opts["tty"])
        if opts["pull"] != "missing":
            check_pull(opts["pull"])
        if opts["cidfile"]:
            from lamina.cli.cidfile import CidFile

            note = CidFile(opts["cidfile"])
    except CliError as e:
        if e.code != 125:
            raise
        raise CliError(f"lamina: {e.message.rstrip('.')}.\nSee 'lamina {verb} --help'.", e.code)
    if verb == "run":
        cli.prepare()
    try:
        made = _make(cli, opts, body, starting=verb == "run")
    except BaseException as e:
        if note is not None:
            note.drop()
        if verb == "create" or not isinstance(e, LaminaError):
            raise
        raise failed(e, verb, with_help=True)
    for warning in made.get("Warnings") or ():
        cli.warn(warning)
    container = made["Id"]
    assert isinstance(container, str)
    if note is not None:
        note.write(container)
    return container


def _make(cli: Cli, opts: Opts, body: dict[str, Any], *, starting: bool) -> dict[str, Any]:
    """Has the container made; the image is pulled first where --pull says so."""
    where = {"name": opts["name"] or None, "platform": opts["platform"] or None, "starting": starting}
    if opts["pull"] == "always":
        from lamina.cli.verbs.registry import obtain

        body["Image"] = obtain(cli, body["Image"], platform=opts["platform"], quiet=opts["quiet"])
    try:
        made: dict[str, Any] = cli.engine.containers.create(body, **where)
    except NotFound as e:
        if opts["pull"] != "missing" or not e.message.startswith(("No such image", "image with reference")):
            raise
        from lamina.cli.verbs.registry import missing

        body["Image"] = missing(cli, body["Image"], platform=opts["platform"], quiet=opts["quiet"], error=e)
        made = cli.engine.containers.create(body, **where)
    return made


def check_pull(policy: str) -> None:
    if policy not in ("always", "never", "missing"):
        raise CliError(f"invalid pull option: '{policy}': must be one of \"always\", \"missing\" or \"never\"", 125)


def check_keys(cli: Cli, opts: Opts) -> str:
    """The keys that detach, by --detach-keys or config.json; "" for the usual ones. Checked before anything is done."""
    text = opts["detach-keys"] or cli.setting("detachKeys")
    if text:
        from lamina.cli.attach import parse_detach_keys

        try:
            parse_detach_keys(text)
        except LaminaError:
            raise CliError(f"Error response from daemon: Invalid escape keys ({text}) provided")
    return text


def failed(e: LaminaError, verb: str, *, with_help: bool) -> CliError:
    """What ends `run` before the container's own exit code exists."""
    text = f"lamina: Error response from daemon: {e.message.rstrip('.')}."
    if with_help:
        text += f"\nSee 'lamina {verb} --help'."
    if e.hint:
        text += f"\nHint: {e.hint}"
    return CliError(text, e.exit_code if isinstance(e, (CommandNotFound, CommandNotExecutable)) else 125)


VERBS = {
    "run": Verb(
        run,
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        1,
        None,
        (*CREATE_FLAGS, ("detach", "d", "bool", False), ("detach-keys", "", "string", ""), ("sig-proxy", "", "bool", True)),
        refused=REFUSED,
        interspersed=False,
    ),
    "create": Verb(create, "[OPTIONS] IMAGE [COMMAND] [ARG...]", 1, None, CREATE_FLAGS, refused=REFUSED, interspersed=False),
}
