# SPDX-License-Identifier: Apache-2.0
"""Entry of the command `lamina`: global options, dispatch, and the one place where errors become text and exit codes. [hot]

Exit codes are docker's: 125 for a command line that can't be parsed (and for `run` that fails before the container starts), 126
and 127 for a command that can't be executed or found, 1 for other errors, 130 after an interrupt.
"""
from __future__ import annotations

import errno
import os
import sys

from lamina import modules
from lamina.errors import LaminaError
from lamina.util import steps

from .context import Cli, CliError, write_all
from .flags import HelpWanted, Parser, UsageError, Verb
from .registry import GROUPS, TOP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .flags import FlagSpec, Opts

GLOBAL_FLAGS: tuple[FlagSpec, ...] = (
    ("config", "", "string", ""),
    ("context", "c", "string", ""),
    ("debug", "D", "bool", False),
    ("explain", "", "bool", False),
    ("host", "H", "list", None),
    ("log-level", "l", "string", "info"),
    ("root", "", "string", ""),
    ("runroot", "", "string", ""),
    ("version", "v", "bool", False),
)
GLOBAL_REFUSED = {"tls": "", "tlscacert": "", "tlscert": "", "tlskey": "", "tlsverify": ""}
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")


def entry() -> None:
    """The process `lamina`: runs main() on our arguments and leaves at once, without the interpreter's tear-down."""
    code = main([os.fsencode(word).decode("utf-8", "surrogateescape") for word in sys.argv[1:]], exiting=True)
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:  # it is None where the descriptor was closed
                stream.flush()
        except OSError:
            pass
    modules.renew()
    os._exit(code)


def main(argv: list[str], cli: Cli | None = None, *, exiting: bool = False) -> int:
    """Runs one command line and returns its exit code; never raises. `cli` is given by tests. exiting: the process ends with it."""
    code = _main(argv, cli, exiting)
    if steps.tell is not None:
        from .explain import end

        end(code)
    return code


def _main(argv: list[str], cli: Cli | None, exiting: bool) -> int:
    debug = False
    try:
        opts, words = _globals(argv)
        if opts["explain"]:
            _explain()
        debug = opts["debug"] = opts["debug"] or opts["log-level"] == "debug"
        if cli is None:
            cli = _cli(opts)
        cli.exiting = exiting
        try:
            code = _dispatch(cli, opts, words)
        except BaseException as e:
            cli.error = e
            raise
        finally:
            cli.close()
        return code
    except BrokenPipeError:
        return 141  # as if SIGPIPE had ended us, which is what it does to docker
    except KeyboardInterrupt:
        return 130
    except Exception as e:
        try:
            return _report(e, cli, debug=debug)
        except OSError:
            return 1  # stderr is gone, too


def _report(e: Exception, cli: Cli | None, *, debug: bool) -> int:
    path = cli.path if cli is not None else "lamina"
    hint = ""
    if isinstance(e, CliError):
        text, code = e.message, e.code
    elif isinstance(e, UsageError):
        text, code = f"{e}\nSee '{path} --help'.", 125
        if " " not in path or path.split(" ", 1)[1] in GROUPS:
            from .help import group_usage, top_usage

            text += "\n\n" + (top_usage() if path == "lamina" else group_usage(path.split(" ", 1)[1])).rstrip("\n") + "\n"
    elif isinstance(e, LaminaError):
        text, code, hint = f"Error response from daemon: {e.message}", e.exit_code, e.hint
    elif isinstance(e, OSError) and e.errno is not None:
        text, code = f"Error: {os_error(e)}", 1
    else:
        name = type(e).__name__
        more = "" if debug else f" (lamina --debug {path.partition(' ')[2]} ... shows where)"
        text, code = f"{path}: internal error: {name}: {e}{more}", 125 if path.endswith(" run") else 1
    if debug and not isinstance(e, (CliError, UsageError)):
        import traceback

        write_all(2, "".join(traceback.format_exception(e)).encode("utf-8", "surrogateescape"))
    if hint:
        text += f"\nHint: {hint}"
    if text:
        if cli is not None:
            cli.err(text)
        else:
            write_all(2, (text + "\n").encode("utf-8", "surrogateescape"))
    return code


def os_error(e: OSError) -> str:
    """"PATH: no such file or directory" in Go's lower case; a full disk is named first, whatever the path."""
    reason = (e.strerror or os.strerror(e.errno or 0)) or str(e)
    reason = reason[:1].lower() + reason[1:]
    name = e.filename.decode("utf-8", "surrogateescape") if isinstance(e.filename, bytes) else e.filename
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{reason}, writing {name}" if name else reason
    return f"{name}: {reason}" if isinstance(name, str) and name else reason


def _globals(argv: list[str]) -> tuple[Opts, list[str]]:
    parser = Parser(GLOBAL_FLAGS, GLOBAL_REFUSED, interspersed=False)
    try:
        parser.parse(argv)
    except HelpWanted as e:
        parser.rest = ["--help" if not e.deprecated else "-h"]
    opts = parser.opts
    if opts["log-level"] not in LOG_LEVELS:
        raise CliError(f"Unable to parse logging level: {opts['log-level']}")
    return opts, parser.rest


def _cli(opts: Opts) -> Cli:
    env = os.environ
    root = opts["root"] or env.get("LAMINA_ROOT") or _default("/var/lib/lamina", "XDG_DATA_HOME", ".local/share")
    runroot = opts["runroot"] or env.get("LAMINA_RUNROOT")
    if not runroot:
        runroot = "/run/lamina" if os.geteuid() == 0 else os.path.join(env.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}", "lamina")
    quiet = opts["log-level"] in ("error", "fatal")
    config = opts["config"] or env.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    cli = Cli(os.path.abspath(root), os.path.abspath(runroot), debug=opts["debug"], quiet=quiet, config=config)
    remotes = (("-H/--host", ",".join(opts["host"])), ("DOCKER_HOST", env.get("DOCKER_HOST", "")))
    contexts = (("-c/--context", opts["context"]), ("DOCKER_CONTEXT", env.get("DOCKER_CONTEXT", "")))
    context = next((one for one in contexts if one[1]), None) or ("currentContext of config.json", cli.setting("currentContext"))
    for source, value in (*remotes, context):
        if value and (source, value) != (context[0], "default"):
            raise CliError(
                f"{source} ({value}) names a daemon, and this version of lamina can't talk to one yet: nothing was done\n"
                "Hint: without it, lamina works on its own store (--root)"
            )
    return cli


def _explain() -> None:
    from .explain import begin

    begin()


def _default(for_root: str, variable: str, below_home: str) -> str:
    if os.geteuid() == 0:
        return for_root
    return os.path.join(os.environ.get(variable) or os.path.join(os.path.expanduser("~"), below_home), "lamina")


def _dispatch(cli: Cli, opts: Opts, words: list[str]) -> int:
    if opts["version"]:
        words = ["--version"]
    if not words or words[0] in ("--help", "-h"):
        from .help import top_usage

        if words == ["-h"]:
            cli.err("Flag shorthand -h has been deprecated, please use --help")
        cli.out(top_usage(), end="")
        return 0
    word, rest = words[0], words[1:]
    if word == "--version":
        from lamina import __version__

        cli.out(f"lamina version {__version__}")
        return 0
    if word == "help":
        return _help(cli, rest)
    if word in TOP:
        return _run(cli, word, TOP[word], rest)
    if word in GROUPS:
        return _group(cli, word, rest)
    if word == "__complete":  # asked by the scripts of `completion`; in no help
        from .completion import main as complete

        return complete(cli, rest)
    from .absent import verb

    reason = verb(word)
    if reason:
        raise CliError(f"lamina has no '{word}': {reason}\nSee 'lamina --help'")
    raise CliError(f"lamina: '{word}' is not a lamina command.\nSee 'lamina --help'")


def _group(cli: Cli, group: str, words: list[str]) -> int:
    cli.path = f"lamina {group}"
    parser = Parser((), {}, interspersed=False)
    try:
        parser.parse(words)
        words = parser.rest
        if parser.opts.get("explain"):
            _explain()
    except HelpWanted as e:
        if e.deprecated:
            cli.err("Flag shorthand -h has been deprecated, please use --help")
        words = []
    if words and words[0] in GROUPS[group]:
        primary, target = GROUPS[group][words[0]]
        return _run(cli, f"{group} {primary}", target, words[1:])
    from .absent import verb
    from .help import group_usage

    text = "\n" + group_usage(group)
    if words and verb(group, words[0]):
        raise CliError(f"lamina has no '{group} {words[0]}': {verb(group, words[0])}\nSee 'lamina {group} --help'")
    if words:
        raise CliError(text.rstrip("\n"))
    cli.err(text, end="")
    return 0


def load(target: str) -> Verb:
    """The Verb that "module:key" of the registry names."""
    module, _, key = target.partition(":")
    name = f"lamina.cli.verbs.{module}"
    __import__(name)
    found = sys.modules[name].VERBS[key]
    assert isinstance(found, Verb)
    return found


def _run(cli: Cli, command: str, target: str, argv: list[str]) -> int:
    cli.path = f"lamina {command}"
    verb = load(target)
    parser = Parser(verb.flags, verb.refused, interspersed=verb.interspersed)
    try:
        parser.parse(argv)
    except HelpWanted as e:
        from .help import verb_help

        if e.deprecated:
            cli.err("Flag shorthand -h has been deprecated, please use --help")
        cli.out(verb_help(command, target, verb), end="")
        return 0
    args = parser.rest
    if len(args) < verb.minimum or (verb.maximum is not None and len(args) > verb.maximum):
        raise CliError(_arity(cli.path, command, target, verb))
    if parser.opts.get("explain"):
        _explain()
    return verb.handler(cli, parser.opts, args)


def _arity(path: str, command: str, target: str, verb: Verb) -> str:
    from .help import short_of, usage_line

    low, high = verb.minimum, verb.maximum
    if high == 0:
        what = "accepts no arguments"
    elif high is None:
        what = f"requires at least {low} argument{'s'[: low != 1]}"
    elif low == high:
        what = f"requires exactly {low} argument{'s'[: low != 1]}"
    elif low == 0:
        what = f"requires at most {high} argument{'s'[: high != 1]}"
    else:
        what = f"requires at least {low} and at most {high} arguments"
    return f"\"{path}\" {what}.\nSee '{path} --help'.\n\n{usage_line(command, verb)}\n\n{short_of(target)}"


def _help(cli: Cli, words: list[str]) -> int:
    """`lamina help VERB`: the same text as `lamina VERB --help`."""
    if not words:
        return _dispatch(cli, Parser(GLOBAL_FLAGS, {}, interspersed=False).opts, [])
    if words[0] in TOP:
        return _run(cli, words[0], TOP[words[0]], ["--help"])
    if words[0] in GROUPS and (len(words) == 1 or words[1] in GROUPS[words[0]]):
        return _group(cli, words[0], [*words[1:2], "--help"])
    from .absent import verb

    reason = verb(*words)
    raise CliError(f"lamina has no '{' '.join(words)}': {reason}" if reason else f"unknown help topic: {' '.join(words)}")
