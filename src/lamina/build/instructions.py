# SPDX-License-Identifier: Apache-2.0
"""What an instruction is: one class each, made and checked from its line. Nothing is expanded yet: `expand` of each says which of its
texts take variables, and is handed what replaces them; it changes the instruction in place, and is called once, when it is met.
"""
from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from lamina.errors import InvalidArgument
from lamina.images.changes import parse_duration
from lamina.images.shellwords import quoted, split_at

from .flags import BOOL, TEXT, TEXTS, Flags
from .lines import BLANKS, TABS, Heredoc, Line, command, heredoc_of
from .mounts import Device, Mount, parse_device, parse_mount
from .source import DockerfileError, Span
from .suggest import mean

Expand = Callable[[str], str]
STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*")
MILLISECOND = 10**6


@dataclass(slots=True)
class Instruction:
    line: Line

    @property
    def name(self) -> str:
        """The word as it was written."""
        return self.line.word

    @property
    def span(self) -> Span:
        return self.line.span

    def expand(self, expand: Expand) -> None:
        """Replaces the variables in what takes them."""

    def expand_contents(self, expand: Expand) -> None:
        """The same in here-documents that are files, where quotes stay as they are."""


@dataclass(slots=True)
class From(Instruction):
    base: str
    stage: str  # its name in lower case; ""
    platform: str
    description: str


@dataclass(slots=True)
class Argument:
    name: str
    value: str | None  # None: it has no default
    description: str


@dataclass(slots=True)
class Arg(Instruction):
    args: list[Argument]


@dataclass(slots=True)
class Pair:
    key: str
    value: str
    legacy: bool  # written KEY VALUE, without a `=`


@dataclass(slots=True)
class Pairs(Instruction):
    pairs: list[Pair]

    def expand(self, expand: Expand) -> None:
        for pair in self.pairs:
            pair.key, pair.value = expand(pair.key), expand(pair.value)


class Env(Pairs):
    __slots__ = ()


class Label(Pairs):
    __slots__ = ()


@dataclass(slots=True)
class Maintainer(Instruction):
    who: str


@dataclass(slots=True)
class Files(Instruction):
    """What COPY and ADD share. `contents`: files that stand in the Dockerfile itself."""

    sources: list[str]
    contents: list[Heredoc]
    target: str
    chown: str
    chmod: str
    link: bool
    excludes: list[str]

    def expand(self, expand: Expand) -> None:
        self.chown, self.chmod = expand(self.chown), expand(self.chmod)
        self.sources = [expand(source) for source in self.sources]
        self.target = expand(self.target)

    def expand_contents(self, expand: Expand) -> None:
        for content in self.contents:
            if content.expand:
                content.content, content.chomp = expand(content.text()), False


@dataclass(slots=True)
class Copy(Files):
    source_stage: str = ""  # --from
    parents: bool = False


@dataclass(slots=True)
class Add(Files):
    checksum: str = ""
    keep_git_dir: bool | None = None
    unpack: bool | None = None

    def expand(self, expand: Expand) -> None:
        self.checksum = expand(self.checksum)
        Files.expand(self, expand)


@dataclass(slots=True)
class Command(Instruction):
    """words: of the exec form; of the shell form one text, or none."""

    words: list[str]
    shell_form: bool


@dataclass(slots=True)
class Run(Command):
    network: str
    security: str
    mount_texts: list[str]
    mounts: list[Mount]
    devices: list[Device]

    def expand(self, expand: Expand) -> None:
        try:
            self.mounts = [parse_mount(text, expand) for text in self.mount_texts]
        except InvalidArgument as e:
            raise DockerfileError(e.message, [self.span]) from None


class Cmd(Command):
    __slots__ = ()


class Entrypoint(Command):
    __slots__ = ()


@dataclass(slots=True)
class Healthcheck(Instruction):
    """times in nanoseconds; 0: not given."""

    test: list[str]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(slots=True)
class OneText(Instruction):
    text: str

    def expand(self, expand: Expand) -> None:
        self.text = expand(self.text)


class Workdir(OneText):
    __slots__ = ()


class User(OneText):
    __slots__ = ()


class StopSignal(OneText):
    __slots__ = ()


@dataclass(slots=True)
class Volume(Instruction):
    paths: list[str]

    def expand(self, expand: Expand) -> None:
        self.paths = [expand(path) for path in self.paths]


@dataclass(slots=True)
class Expose(Instruction):
    """Words that are still to be expanded: one may become several (`variables`)."""

    words: list[str]


@dataclass(slots=True)
class Shell(Instruction):
    words: list[str]


@dataclass(slots=True)
class OnBuild(Instruction):
    """trigger: the instruction as text, for the image's config; inner: what it is."""

    trigger: str
    inner: Line = field(repr=False)


# -- made from lines


def make(line: Line, escape: str) -> Instruction:
    """DockerfileError in BuildKit's words, with the place."""
    maker = MAKERS.get(line.word.lower())
    if maker is None:
        raise line.error(mean(f"unknown instruction: {line.word}", line.word, WORDS, case=False))
    try:
        return maker(line, escape)
    except DockerfileError:
        raise
    except InvalidArgument as e:
        raise line.error(e.message) from None


def _from(line: Line, escape: str) -> From:
    words = _words(line)
    stage = ""
    if len(words) == 3 and words[1].lower() == "as":
        stage = words[2].lower()
        if not STAGE_NAME.fullmatch(stage):
            raise line.error(f"invalid name for build stage: {quoted(words[2])}, name can't start with a number or contain symbols",
                             line.text.rfind(words[2]))
    elif len(words) != 1:
        raise line.error("FROM requires either one or three arguments", line.rest_at if words else None)
    flags = Flags(line, {"platform": TEXT})
    return From(line, words[0], stage, flags.text("platform"), description(line.comments, stage))


def description(comments: list[str], name: str) -> str:
    """From a comment above that begins with the name of the stage or argument."""
    return next((text[len(name) + 1:] for text in comments if text.startswith(name + " ")), "") if name else ""


def _arg(line: Line, escape: str) -> Arg:
    Flags(line, {})
    args = []
    for offset, word in split_at(line.rest, escape):
        name, sign, value = word.partition("=")
        if sign and not name:
            raise line.error("ARG names can not be blank", line.rest_at + offset)
        args.append(Argument(name, value if sign else None, description(line.comments, name)))
    if not args:
        raise line.error("ARG requires at least one argument")
    return Arg(line, args)


def _pairs(line: Line, escape: str) -> list[Pair]:
    word = line.word.upper()
    words = list(split_at(line.rest, escape))
    if words and "=" not in words[0][1]:
        parts = BLANKS.split(line.rest, maxsplit=1)
        if len(parts) < 2:
            raise line.error(f"{word} must have two arguments", line.rest_at, bare=True)
        pairs = [Pair(parts[0], parts[1], legacy=True)]
    else:
        pairs = []
        for offset, text in words:
            key, sign, value = text.partition("=")
            if not sign:
                raise line.error(f"Syntax error - can't find = in {quoted(text)}. Must be of the form: name=value", line.rest_at + offset,
                                 bare=True)
            if not key:
                raise line.error(f"{word} names can not be blank", line.rest_at + offset)
            pairs.append(Pair(key, value, legacy=False))
    Flags(line, {})
    if not pairs:
        raise line.error(f"{word} requires at least one argument")
    return pairs


def _maintainer(line: Line, escape: str) -> Maintainer:
    return Maintainer(line, _one(line))


def _one(line: Line) -> str:
    if not line.rest:
        raise line.error(f"{line.word.upper()} requires exactly one argument")
    Flags(line, {})
    return line.rest


def _words(line: Line) -> list[str]:
    return BLANKS.split(line.rest) if line.rest else []


def json_list(line: Line, text: str) -> list[str] | None:
    """A list in JSON form; None when it isn't JSON and so the shell form."""
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list):
        return None
    if not all(isinstance(item, str) for item in value):
        raise line.error("when using JSON array syntax, arrays must be comprised of strings only", line.rest_at, bare=True)
    return [item.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for item in value]


FILES = {"chown": TEXT, "chmod": TEXT, "link": BOOL, "exclude": TEXTS}


def _files(line: Line) -> tuple[list[str], list[Heredoc], str]:
    """Sources, files in the Dockerfile itself, and the target."""
    word = line.word.upper()
    words = json_list(line, line.rest)
    words = _words(line) if words is None else words
    if len(words) < 2:
        raise line.error(f"{word} requires at least two arguments, but only one was provided. Destination could not be determined")
    if heredoc_of(words[-1]) is not None:
        raise line.error(f"{word} cannot accept a heredoc as a destination", line.text.rfind(words[-1]))
    contents = {heredoc.name: heredoc for heredoc in line.heredocs}
    sources, files = [], []
    for source in words[:-1]:
        heredoc = heredoc_of(source)
        if heredoc is None:
            sources.append(source)
        else:
            files.append(contents.get(heredoc.name, heredoc))
    return sources, files, words[-1]


def _copy(line: Line, escape: str) -> Copy:
    sources, contents, target = _files(line)
    flags = Flags(line, {**FILES, "from": TEXT, "parents": BOOL})
    return Copy(line, sources, contents, target, flags.text("chown"), flags.text("chmod"), flags.on("link"), flags.texts("exclude"),
                flags.text("from"), flags.on("parents"))


def _add(line: Line, escape: str) -> Add:
    sources, contents, target = _files(line)
    flags = Flags(line, {**FILES, "keep-git-dir": BOOL, "checksum": TEXT, "unpack": BOOL})
    return Add(line, sources, contents, target, flags.text("chown"), flags.text("chmod"), flags.on("link"), flags.texts("exclude"),
               flags.text("checksum"), flags.on_or_none("keep-git-dir"), flags.on_or_none("unpack"))


def _command(line: Line, text: str) -> tuple[list[str], bool]:
    words = json_list(line, text)
    return ([text] if text else [], True) if words is None else (words, False)


def _run(line: Line, escape: str) -> Run:
    flags = Flags(line, {"mount": TEXTS, "network": TEXT, "security": TEXT, "device": TEXTS})
    words, shell_form = _command(line, line.rest)
    network, security = flags.text("network", "default"), flags.text("security", "sandbox")
    if network not in ("default", "none", "host"):
        raise line.error(f"invalid network mode {quoted(network)}", flags.offset("network"))
    if security not in ("insecure", "sandbox"):
        raise line.error(f"security {quoted(security)} is not valid", flags.offset("security"))
    mounts, devices = [], []
    for text, offset in zip(flags.texts("mount"), flags.offsets.get("mount", ()), strict=True):
        try:
            mounts.append(parse_mount(text))
        except InvalidArgument as e:
            raise line.error(e.message, offset) from None
    for text, offset in zip(flags.texts("device"), flags.offsets.get("device", ()), strict=True):
        try:
            devices.append(parse_device(text))
        except InvalidArgument as e:
            raise line.error(e.message, offset) from None
    return Run(line, words, shell_form, network, security, flags.texts("mount"), mounts, devices)


def _cmd(line: Line, escape: str) -> Cmd:
    Flags(line, {})
    return Cmd(line, *_command(line, line.rest))


def _entrypoint(line: Line, escape: str) -> Entrypoint:
    Flags(line, {})
    return Entrypoint(line, *_command(line, line.rest))


def _healthcheck(line: Line, escape: str) -> Healthcheck:
    parts = BLANKS.split(line.rest, maxsplit=1) if line.rest else []
    if not parts:
        raise line.error("HEALTHCHECK requires at least one argument")
    kind, text = parts[0].upper(), parts[1] if len(parts) > 1 else ""
    if kind == "NONE":
        if text:
            raise line.error("HEALTHCHECK NONE takes no arguments", line.rest_at)
        return Healthcheck(line, ["NONE"])
    flags = Flags(line, dict.fromkeys(("interval", "timeout", "start-period", "start-interval", "retries"), TEXT))
    if kind != "CMD":
        raise line.error(f"Unknown type {quoted(kind)} in HEALTHCHECK (try CMD)", line.rest_at)
    words, shell_form = _command(line, text)
    if not words:
        raise line.error("Missing command after HEALTHCHECK CMD", line.rest_at)
    check = Healthcheck(line, ["CMD-SHELL" if shell_form else "CMD", *words], _time(line, flags, "interval"), _time(line, flags, "timeout"),
                        _time(line, flags, "start-period"), _time(line, flags, "start-interval"))
    retries = flags.text("retries")
    if retries:
        digits = retries.lstrip("+-") if retries[0] in "+-" else retries
        if not (digits.isascii() and digits.isdigit()):
            raise line.error(f"strconv.ParseInt: parsing {quoted(retries)}: invalid syntax", flags.offset("retries"))
        if len(digits) > 10 or int(digits) >= 1 << 31:
            raise line.error(f"strconv.ParseInt: parsing {quoted(retries)}: value out of range", flags.offset("retries"))
        check.retries = int(retries)
        if check.retries < 0:
            raise line.error(f"--retries cannot be negative ({check.retries})", flags.offset("retries"))
    return check


def _time(line: Line, flags: Flags, name: str) -> int:
    text = flags.text(name)
    try:
        time = parse_duration(text) if text else 0
    except InvalidArgument as e:
        raise line.error(e.message, flags.offset(name)) from None
    if time and time < MILLISECOND:
        raise line.error(f"Interval {quoted(name)} cannot be less than 1ms", flags.offset(name))
    return time


def _workdir(line: Line, escape: str) -> Workdir:
    return Workdir(line, _one(line))


def _user(line: Line, escape: str) -> User:
    return User(line, _one(line))


def _stopsignal(line: Line, escape: str) -> StopSignal:
    return StopSignal(line, _one(line))


def _volume(line: Line, escape: str) -> Volume:
    words = json_list(line, line.rest)
    words = _words(line) if words is None else words
    if not words:
        raise line.error("VOLUME requires at least one argument")
    Flags(line, {})
    if not all(word.strip() for word in words):
        raise line.error("VOLUME specified can not be an empty string", line.rest_at)
    return Volume(line, [word.strip() for word in words])


def _expose(line: Line, escape: str) -> Expose:
    words = _words(line)
    if not words:
        raise line.error("EXPOSE requires at least one argument")
    Flags(line, {})
    return Expose(line, sorted(words))


def _shell(line: Line, escape: str) -> Shell:
    Flags(line, {})
    words = json_list(line, line.rest)
    if not line.rest or words == []:
        raise line.error("SHELL requires at least one argument")
    if words is None:
        raise line.error("SHELL requires the arguments to be in JSON form", line.rest_at)
    return Shell(line, words)


def _onbuild(line: Line, escape: str) -> OnBuild:
    if not line.rest:
        raise line.error("ONBUILD requires at least one argument")
    Flags(line, {})
    inner = command(line.rest, escape)
    inner.span, inner.heredocs, inner.comments = line.span, line.heredocs, line.comments
    inner.starts = [(at - line.rest_at, row, column) for at, row, column in line.starts]
    word = inner.word.upper()
    if word == "ONBUILD":
        raise line.error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", line.rest_at)
    if word in ("MAINTAINER", "FROM"):
        raise line.error(f"{word} isn't allowed as an ONBUILD trigger", line.rest_at)
    contents = "".join(f"\n{TABS.sub('', one.content) if one.chomp else one.content}{one.name}" for one in line.heredocs)
    return OnBuild(line, line.rest + contents, inner)


MAKERS: dict[str, Callable[[Line, str], Instruction]] = {
    "add": _add, "arg": _arg, "cmd": _cmd, "copy": _copy, "entrypoint": _entrypoint,
    "env": lambda line, escape: Env(line, _pairs(line, escape)), "expose": _expose, "from": _from, "healthcheck": _healthcheck,
    "label": lambda line, escape: Label(line, _pairs(line, escape)), "maintainer": _maintainer, "onbuild": _onbuild, "run": _run,
    "shell": _shell, "stopsignal": _stopsignal, "user": _user, "volume": _volume, "workdir": _workdir,
}  # fmt: skip
WORDS = sorted(MAKERS)
