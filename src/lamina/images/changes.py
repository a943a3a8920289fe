# SPDX-License-Identifier: Apache-2.0
"""`--change`: instructions in the Dockerfile dialect, applied to a config. For import and commit.

CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR; shell and JSON forms, comments, continued
lines, $variables from the config's own Env. What docker refuses is refused with docker's words (compared with a dockerd; it refuses
STOPSIGNAL, we don't).
"""
from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Sequence

from lamina.errors import InvalidArgument
from lamina.linux import signals
from lamina.spec.imageconfig import run_config

from . import shellwords

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_SHELL = ["/bin/sh", "-c"]
DURATION = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
PART = re.compile(r"([0-9]*)(\.[0-9]*)?(ns|us|µs|μs|ms|s|m|h)?")
FLAG = re.compile(r"--(\S*)\s*")
MAX_CHANGES = 1 << 20


def apply_changes(config: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """A new config with all changes applied in order; `config` stays as it is. InvalidArgument names the instruction or its fault."""
    result = run_config(config)
    if not changes:
        return result
    lines = list(_instructions("\n".join(changes)))
    if not lines:
        raise InvalidArgument("file with no instructions")
    state = _State(result)
    for line in lines:
        parts = line.split(None, 1)
        word, rest = parts[0].lower(), parts[1] if len(parts) > 1 else ""
        handler = HANDLERS.get(word)
        if handler is None:
            raise InvalidArgument(f"{parts[0]} is not a valid change command")
        flags: dict[str, str] = {}
        while word != "onbuild" and (match := FLAG.match(rest)):
            rest = rest[match.end():]
            if not match[1]:
                break  # a bare "--" ends the flags
            name, _, value = match[1].partition("=")
            if word != "healthcheck" or name not in HEALTH_FLAGS:
                raise InvalidArgument(f"Unknown flag: {name}")
            if name in flags:
                raise InvalidArgument(f"Duplicate flag specified: {name}")
            flags[name] = value
        handler(state, rest, flags)
    return run_config(state.config)


class _State:
    """The config in the making; `cmd_set`: a later ENTRYPOINT must not forget a CMD of the same set of changes."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config: dict[str, Any] = {key: v.copy() if isinstance(v, (list, dict)) else v for key, v in config.items()}
        self.cmd_set = False

    def env(self) -> dict[str, str]:
        pairs = (entry.partition("=") for entry in self.config.get("Env") or [])
        return {name: value for name, _, value in pairs}

    def expand(self, word: str) -> str:
        return shellwords.expand(word, self.env())


def _instructions(text: str) -> list[str]:
    """Logical lines: comments and empty lines dropped, continued lines joined."""
    if len(text) > MAX_CHANGES:
        raise InvalidArgument("the changes are too long")
    lines, pending, open_line = [], "", False
    for line in text.replace("\r\n", "\n").split("\n"):
        if not line.strip() and not open_line or line.lstrip().startswith("#"):
            continue
        if not open_line:
            line = line.lstrip()
        body = line.rstrip()
        if body.endswith("\\"):
            pending, open_line = pending + body[:-1], True
            continue
        pending, open_line = pending + line, False
        lines.append(pending.strip())
        pending = ""
    if pending.strip():
        lines.append(pending.strip())
    return lines


def _json_list(text: str) -> list[str] | None:
    """A list in JSON form; None when it isn't JSON and so the shell form."""
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
        text.encode("utf-8")
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list):
        return None
    for item in value:
        if not isinstance(item, str):
            raise InvalidArgument("when using JSON array syntax, arrays must be comprised of strings only")
        if not item.isascii():
            try:
                item.encode("utf-8")
            except UnicodeEncodeError:
                raise InvalidArgument("when using JSON array syntax, strings must be Unicode text")
    return value


def _pairs(word: str, rest: str) -> list[tuple[str, str]]:
    """`NAME=value ...`, or the old form `NAME the rest of the line`."""
    words = shellwords.split(rest)
    if not words:
        raise InvalidArgument(f"{word} requires at least one argument")
    if "=" not in words[0]:
        parts = rest.split(None, 1)
        if len(parts) < 2:
            raise InvalidArgument(f"{word} must have two arguments")
        return [(parts[0], parts[1])]
    result = []
    for item in words:
        name, equals, value = item.partition("=")
        if not equals:
            raise InvalidArgument(f'Syntax error - can\'t find = in "{item}". Must be of the form: name=value')
        if not name:
            raise InvalidArgument(f"{word} names can not be blank")
        result.append((name, value))
    return result


def _one(word: str, rest: str) -> str:
    if not rest:
        raise InvalidArgument(f"{word} requires exactly one argument")
    return rest


def _shell(state: _State) -> list[str]:
    return list(state.config.get("Shell") or DEFAULT_SHELL)


def _cmd(state: _State, rest: str, flags: dict[str, str]) -> None:
    command = _json_list(rest)
    if command is None:
        command = [*_shell(state), *([rest] if rest else [])]
    state.config["Cmd"] = command
    state.cmd_set = state.cmd_set or bool(command)


def _entrypoint(state: _State, rest: str, flags: dict[str, str]) -> None:
    command = _json_list(rest)
    if command is None:
        command = [*_shell(state), rest] if rest else []
    state.config["Entrypoint"] = command or None
    if not state.cmd_set:
        state.config["Cmd"] = None


def _env(state: _State, rest: str, flags: dict[str, str]) -> None:
    pairs = [(state.expand(name), state.expand(value)) for name, value in _pairs("ENV", rest)]  # all with the Env from before
    env = list(state.config.get("Env") or [])
    for name, value in pairs:
        if not name:
            raise InvalidArgument("ENV names can not be blank")
        entry = f"{name}={value}"
        for at, old in enumerate(env):
            if old.partition("=")[0] == name:
                env[at] = entry
                break
        else:
            env.append(entry)
    state.config["Env"] = env


def _label(state: _State, rest: str, flags: dict[str, str]) -> None:
    labels = dict(state.config.get("Labels") or {})
    for name, value in _pairs("LABEL", rest):
        name = state.expand(name)
        if not name:
            raise InvalidArgument("LABEL names can not be blank")
        labels[name] = state.expand(value)
    state.config["Labels"] = labels


def _expose(state: _State, rest: str, flags: dict[str, str]) -> None:
    words = rest.split()
    if not words:
        raise InvalidArgument("EXPOSE requires at least one argument")
    ports = dict(state.config.get("ExposedPorts") or {})
    for word in words:
        for spec in state.expand(word).split():
            ports.update((port, {}) for port in parse_ports(spec))
    state.config["ExposedPorts"] = ports


def parse_ports(spec: str) -> list[str]:
    """Container ports of `[[ip:]host:]port[-port][/proto]` as "80/tcp"; the host's part is checked by others and dropped here."""
    numbers, slash, proto = spec.partition("/")
    proto = proto.lower() if slash and proto else "tcp"
    container = numbers.rpartition(":")[2]
    if not container:
        raise InvalidArgument(f"No port specified: {spec}<empty>")
    first, dash, last = container.partition("-")
    start, end = _port(first), _port(last if dash else first)
    if start is None or end is None or end < start:
        raise InvalidArgument(f"Invalid containerPort: {container}")
    if proto not in ("tcp", "udp", "sctp"):
        raise InvalidArgument(f"Invalid proto: {proto}")
    return [f"{port}/{proto}" for port in range(start, end + 1)]


def _port(text: str) -> int | None:
    if not text.isascii() or not text.isdigit() or len(text) > 5 or int(text) > 65535:
        return None
    return int(text)


def _user(state: _State, rest: str, flags: dict[str, str]) -> None:
    state.config["User"] = state.expand(_one("USER", rest))


def _workdir(state: _State, rest: str, flags: dict[str, str]) -> None:
    path = state.expand(_one("WORKDIR", rest))
    base = str(state.config.get("WorkingDir") or "/")
    # normpath keeps two leading slashes, which POSIX leaves open; here they mean one.
    state.config["WorkingDir"] = "/" + posixpath.normpath(posixpath.join("/", base, path)).lstrip("/")


def _volume(state: _State, rest: str, flags: dict[str, str]) -> None:
    words = _json_list(rest)
    if words is None:
        words = rest.split()
    if not words:
        raise InvalidArgument("VOLUME requires at least one argument")
    volumes = dict(state.config.get("Volumes") or {})
    for word in words:
        path = state.expand(word).strip()
        if not path:
            raise InvalidArgument("VOLUME specified can not be an empty string")
        volumes[path] = {}
    state.config["Volumes"] = volumes


def _onbuild(state: _State, rest: str, flags: dict[str, str]) -> None:
    if not rest:
        raise InvalidArgument("ONBUILD requires at least one argument")
    trigger = rest.split(None, 1)[0].upper()
    if trigger == "ONBUILD":
        raise InvalidArgument("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise InvalidArgument(f"{trigger} isn't allowed as an ONBUILD trigger")
    state.config["OnBuild"] = [*(state.config.get("OnBuild") or []), rest]


def _stopsignal(state: _State, rest: str, flags: dict[str, str]) -> None:
    name = state.expand(_one("STOPSIGNAL", rest))
    signals.parse(name)
    state.config["StopSignal"] = name


HEALTH_FLAGS = {"interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod", "start-interval": "StartInterval",
                "retries": "Retries"}


def _healthcheck(state: _State, rest: str, flags: dict[str, str]) -> None:
    parts = rest.split(None, 1)
    if not parts:
        raise InvalidArgument("HEALTHCHECK requires at least one argument")
    kind, command = parts[0].upper(), parts[1] if len(parts) > 1 else ""
    if kind == "NONE":
        if command:
            raise InvalidArgument("HEALTHCHECK NONE takes no arguments")
        state.config["Healthcheck"] = {"Test": ["NONE"]}
        return
    if kind != "CMD":
        raise InvalidArgument(f'Unknown type "{kind}" in HEALTHCHECK (try CMD)')
    words = _json_list(command)
    if not command or words == []:
        raise InvalidArgument("Missing command after HEALTHCHECK CMD")
    health: dict[str, Any] = {"Test": ["CMD-SHELL", command] if words is None else ["CMD", *words]}
    for flag, value in flags.items():
        if not value:
            continue
        if flag == "retries":
            try:
                number = int(value) if value.isascii() and len(value) < 10 else None
            except ValueError:
                number = None
            if number is None:
                raise InvalidArgument(f'strconv.ParseInt: parsing "{value}": invalid syntax')
            if number < 1:
                raise InvalidArgument(f"--retries must be at least 1 (not {number})")
            health["Retries"] = number
            continue
        duration = parse_duration(value)
        if duration and duration < 10**6:
            raise InvalidArgument(f'Interval "{flag}" cannot be less than 1ms')
        health[HEALTH_FLAGS[flag]] = duration
    state.config["Healthcheck"] = health


def parse_duration(text: str) -> int:
    """Go's time.ParseDuration in nanoseconds: "1h2m3.5s"."""
    rest, sign, total = text, 1, 0
    if rest[:1] in ("+", "-"):
        sign, rest = (-1 if rest[0] == "-" else 1), rest[1:]
    if rest == "0":
        return 0
    if not rest:
        raise InvalidArgument(f'time: invalid duration "{text}"')
    while rest:
        match = PART.match(rest)
        if match is None or not (match[1] or (match[2] or "") > "."):
            raise InvalidArgument(f'time: invalid duration "{text}"')
        if match[3] is None:
            if rest[match.end():]:
                unit = re.match(r"[^0-9.]*", rest[match.end():])
                raise InvalidArgument(f'time: unknown unit "{unit[0] if unit else ""}" in duration "{text}"')
            raise InvalidArgument(f'time: missing unit in duration "{text}"')
        unit_ns = DURATION[match[3]]
        total += int(match[1] or 0) * unit_ns if len(match[1]) < 20 else 1 << 63
        fraction = (match[2] or ".")[1:]
        if fraction:
            total += int(fraction[:18]) * unit_ns // 10 ** len(fraction[:18])
        rest = rest[match.end():]
    if total >= 1 << 63:
        raise InvalidArgument(f'time: invalid duration "{text}"')
    return sign * total


HANDLERS: dict[str, Callable[[_State, str, dict[str, str]], None]] = {
    "cmd": _cmd, "entrypoint": _entrypoint, "env": _env, "expose": _expose, "healthcheck": _healthcheck, "label": _label,
    "onbuild": _onbuild, "stopsignal": _stopsignal, "user": _user, "volume": _volume, "workdir": _workdir,
}  # fmt: skip
