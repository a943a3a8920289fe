# SPDX-License-Identifier: Apache-2.0
"""`build`: reads a Dockerfile as a build would; checks it, lists its targets and arguments, draws its stages. Makes no image yet."""
from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from lamina.build import ignore as ignores
from lamina.build import report as reports
from lamina.build.check import check
from lamina.build.graph import Graph
from lamina.build.lines import MAX_TEXT
from lamina.build.parse import Dockerfile, check_syntax, parse
from lamina.build.source import DockerfileError, Source
from lamina.build.variables import Request, global_args
from lamina.cli.context import Cli, CliError
from lamina.cli.flags import Opts, Verb
from lamina.cli.term import sanitise
from lamina.errors import InvalidArgument, LaminaError, NotFound, NotSupported
from lamina.images.shellwords import Expander
from lamina.linux.fs import open_beneath
from lamina.spec.platform import host
from lamina.spec.platform import parse as parse_platform
from lamina.util import steps

if TYPE_CHECKING:
    from typing import Any

METHODS = ("build", "check", "lint", "outline", "targets")


class Call:
    """--call METHOD[,format=text|json][,ignorestatus=true], with --check and --print beside it."""

    def __init__(self, opts: Opts) -> None:
        method, *more = opts["call"].split(",")
        self.method = "check" if method == "lint" else method
        self.json = self.ignore_status = False
        if method not in METHODS:
            raise CliError(f'invalid value "{method}" for --call: it is one of {", ".join(METHODS)}', 125)
        for field in more:
            key, _, value = field.partition("=")
            if key == "format" and value in ("text", "json"):
                self.json = value == "json"
            elif key == "ignorestatus" and value in ("true", "1", "false", "0"):
                self.ignore_status = value in ("true", "1")
            else:
                raise CliError(f'invalid value "{field}" for --call', 125)
        if opts["print"] not in ("", "graph"):
            raise CliError(f'invalid value "{opts["print"]}" for --print: it is graph', 125)
        asked = (("check", opts["check"]), ("graph", opts["print"]), (self.method, self.method != "build"))
        wanted = [name for name, given in asked if given]
        if len(set(wanted)) > 1:
            raise CliError("--call, --check and --print can't be combined", 125)
        if wanted:
            self.method = wanted[0]


def build(cli: Cli, opts: Opts, args: list[str]) -> int:
    call = Call(opts)
    try:
        request = requested(opts)
        context = args[0]
        source, beside = dockerfile_of(cli, context, opts["file"])
        if steps.tell is not None:
            steps.tell(f"read {source.name}: {steps.count(len(source.lines), 'line')}")
        warning = check_syntax(source)
        if warning:
            cli.warn(warning)
        if call.method == "check":
            return checked(cli, call, source, request, ignore_of(context, beside))
        dockerfile = parse(source)
        if call.method == "targets":
            show(cli, reports.targets_json(dockerfile) if call.json else reports.targets_text(dockerfile))
        elif call.method == "outline":
            outline = reports.Outline(dockerfile, request)
            show(cli, outline.json() if call.json else outline.text())
        elif call.method == "graph":
            graph = graph_of(dockerfile, request)
            show(cli, reports.draw(graph, graph.target(request.target)))
        else:
            graph_of(dockerfile, request).target(request.target)
            raise NotSupported(
                "lamina build makes no images yet: the Dockerfile was read, and nothing was built",
                hint="--check, --call and --print look at it; `run` and `commit` make an image step by step",
            )
    except DockerfileError as e:
        shown = e.source.show(e.spans, column=True) if e.source is not None else ""
        raise CliError(f"{shown}ERROR: failed to solve: {e.message}" + (f"\nHint: {e.hint}" if e.hint else "")) from None
    except LaminaError as e:
        raise CliError(f"ERROR: {e.message}" + (f"\nHint: {e.hint}" if e.hint else "")) from None
    return 0


def requested(opts: Opts) -> Request:
    native = host()
    args = {}
    for text in opts["build-arg"]:
        name, sign, value = text.partition("=")
        if sign:
            args[name] = value
        elif name in os.environ:  # as docker does; one that isn't set there is left out
            args[name] = os.environ[name]
    platform = parse_platform(opts["platform"]) if opts["platform"] else native
    return Request(native, platform, args, opts["target"])


def graph_of(dockerfile: Dockerfile, request: Request) -> Graph:
    env = global_args(dockerfile, request).env
    try:
        bases = []
        for stage in dockerfile.stages:
            bases.append(Expander(env, escape=dockerfile.escape).word(stage.origin.base))
            if not bases[-1]:
                raise stage.origin.line.error(f"base name ({stage.origin.base}) should not be blank", stage.origin.line.rest_at)
        return Graph(dockerfile, bases)
    except DockerfileError as e:
        e.source = dockerfile.source
        raise


def checked(cli: Cli, call: Call, source: Source, request: Request, ignore: ignores.Ignore | None) -> int:
    def base(name: str, platform: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = cli.engine.images.inspect(name)
        except NotFound:
            return None
        return found

    report = check(source, request, ignore=ignore, base=base)
    if steps.tell is not None:
        steps.tell(f"looked at it by the rules: {steps.count(len(report.warnings), 'warning')}")
    if report.unknown:
        names = ", ".join(report.unknown)
        cli.warn(f"not in the store, so their variables aren't known, and UndefinedVar isn't asked of stages on them: {names}")
    show(cli, reports.check_json(report) if call.json else reports.check_text(report))
    if report.error is not None:
        raise CliError(f"ERROR: {reports.error_text(report.error)}".rstrip("\n"))
    return 1 if report.warnings and not call.ignore_status else 0


def show(cli: Cli, text: str) -> None:
    """On stdout; on a terminal, what a stranger's Dockerfile has of control characters does nothing."""
    cli.out(sanitise(text, keep="\n\t") if cli.is_tty(1) else text, end="")


# -- where the files are


def dockerfile_of(cli: Cli, context: str, file: str) -> tuple[Source, str]:
    """The Dockerfile, and the path beside which NAME.dockerignore may be; "" where it has none."""
    if "://" in context or context.startswith(("git@", "github.com/")):
        raise NotSupported(f"contexts that are fetched ({context}) come with the rest of the builder",
                           hint="fetch it, and give its directory")
    if context == "-" and file == "-":
        raise InvalidArgument("can't use stdin for both build context and dockerfile")
    if context == "-" or file == "-":
        if context == "-" and file:
            raise NotSupported("a context from stdin comes with the rest of the builder; what comes from there is read as a Dockerfile")
        return Source("-", from_stdin()), ""
    if not os.path.isdir(context):
        reason = "not a directory" if os.path.exists(context) else f"path \"{context}\" not found"
        raise InvalidArgument(f"unable to prepare context: {reason}")
    if file:
        return Source(file, text_of(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), file)), file
    for name in ("Dockerfile", "dockerfile"):
        text = in_context(context, name)
        if text is not None:
            path = os.path.normpath(os.path.join(context, name))
            return Source(path, text), os.path.join(context, name)
    raise InvalidArgument("failed to read dockerfile: open Dockerfile: no such file or directory")


def in_context(context: str, name: str) -> str | None:
    """A file of the context, or None. A link is followed inside of it alone: a context is a stranger's."""
    root = os.open(context, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = open_beneath(root, name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    finally:
        os.close(root)
    return text_of(fd, name)


def text_of(fd: int, name: str) -> str:
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InvalidArgument(f"{name} is not a regular file")
        return decoded(file.read(MAX_TEXT + 1), name)


def from_stdin() -> str:
    with open(0, "rb", closefd=False) as file:
        return decoded(file.read(MAX_TEXT + 1), "the Dockerfile")


def decoded(data: bytes, name: str) -> str:
    if len(data) > MAX_TEXT:
        raise InvalidArgument(f"{name} is larger than {MAX_TEXT >> 20} MiB")
    return data.decode("utf-8", "surrogateescape")


def ignore_of(context: str, beside: str) -> ignores.Ignore | None:
    """NAME.dockerignore beside the Dockerfile, or the context's .dockerignore; None without one."""
    if context == "-":
        return None
    if beside:
        directory, name = os.path.split(beside)
        text = in_context(directory or ".", name + ".dockerignore")
        if text is not None:
            return ignores.parse(text, name + ".dockerignore")
    text = in_context(context, ".dockerignore")
    return ignores.parse(text, ".dockerignore") if text is not None else None


VERBS = {
    "build": Verb(
        build, "[OPTIONS] PATH | -", 1, 1,
        (("build-arg", "", "list", None), ("call", "", "string", "build"), ("check", "", "bool", False), ("file", "f", "string", ""),
         ("platform", "", "string", ""), ("print", "", "string", ""), ("target", "", "string", "")),
        refused={"add-host": "", "cache-from": "", "cgroup-parent": "", "compress": "", "cpu-period": "", "cpu-quota": "",
                 "cpu-shares": "c", "cpuset-cpus": "", "cpuset-mems": "", "disable-content-trust": "", "force-rm": "", "iidfile": "",
                 "isolation": "", "label": "", "memory": "m", "memory-swap": "", "network": "", "no-cache": "",
                 "pull": "", "quiet": "q", "rm": "",
                 "security-opt": "", "shm-size": "", "tag": "t", "ulimit": ""},
    ),
}  # fmt: skip
