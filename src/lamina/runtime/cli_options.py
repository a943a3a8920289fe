# SPDX-License-Identifier: Apache-2.0
"""Flags of `lamina-runtime`: the tables, the parser, and the documents that `exec` and `update` make of them.

The parser is runc's: one dash or two, "--flag value" or "--flag=value", the first argument that is no flag ends them.
"""
from __future__ import annotations

from lamina.errors import InvalidArgument
from lamina.runtime import bundle
from lamina.util.fastjson import loads
from lamina.util.sizes import parse_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Options = dict[str, Any]

# flag -> "" (a switch), "v" (takes a value) or "v*" (may be repeated); "=long" is another name.
Flags = dict[str, str]
GLOBAL: Flags = {
    "root": "v", "log": "v", "log-format": "v", "debug": "", "systemd-cgroup": "", "rootless": "v", "criu": "v", "help": "", "h": "=help",
    "version": "", "v": "=version",
}  # fmt: skip
CREATE: Flags = {
    "bundle": "v", "b": "=bundle", "console-socket": "v", "pid-file": "v", "no-pivot": "", "no-new-keyring": "", "preserve-fds": "v",
    "pidfd-socket": "v",
}  # fmt: skip
EXEC: Flags = {
    "console-socket": "v", "cwd": "v", "env": "v*", "e": "=env", "tty": "", "t": "=tty", "user": "v", "u": "=user", "additional-gids": "v*",
    "g": "=additional-gids", "process": "v", "p": "=process", "detach": "", "d": "=detach", "pid-file": "v", "process-label": "v",
    "apparmor": "v", "no-new-privs": "", "cap": "v*", "c": "=cap", "preserve-fds": "v", "cgroup": "v*", "ignore-paused": "",
    "pidfd-socket": "v",
}  # fmt: skip
UPDATE: Flags = {
    "resources": "v", "r": "=resources", "memory": "v", "memory-swap": "v", "memory-reservation": "v", "cpu-period": "v", "cpu-quota": "v",
    "cpu-burst": "v", "cpu-share": "v", "cpu-rt-period": "v", "cpu-rt-runtime": "v", "cpuset-cpus": "v", "cpuset-mems": "v",
    "pids-limit": "v", "blkio-weight": "v", "cpu-idle": "v",
}  # fmt: skip


def parse(argv: Sequence[str], flags: Flags, *, what: str) -> tuple[Options, list[str]]:
    """Flags up to the first argument that is none, or "--"; what follows is the caller's."""
    options: Options = {}
    rest = list(argv)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        name, equals, value = word.lstrip("-").partition("=")
        if flags.get(name, "").startswith("="):
            name = flags[name][1:]
        kind = flags.get(name)
        if name in ("help", "h") and kind is None:
            options["help"] = True
            continue
        if kind is None:
            raise InvalidArgument(f"{what}: flag provided but not defined: {word.partition('=')[0]}")
        if kind == "":
            options[name] = value.lower() not in ("false", "0", "f") if equals else True
            continue
        if not equals:
            if not rest:
                raise InvalidArgument(f"{what}: flag needs an argument: {word}")
            value = rest.pop(0)
        if kind == "v*":
            options.setdefault(name, []).append(value)
        else:
            options[name] = value
    return options, rest


def exec_document(process: dict[str, Any], options: Options, command: list[str]) -> dict[str, Any]:
    """The `process` of an exec: a whole document, or the container's own with the changes of the flags."""
    if options.get("process"):
        return bundle.load_process(options["process"])
    document = {**process, "args": command, "terminal": bool(options.get("tty"))}
    if not command:
        raise InvalidArgument("exec: process args cannot be empty")
    document["env"] = [*(process.get("env") or ()), *options.get("env", ())]
    if options.get("cwd"):
        document["cwd"] = options["cwd"]
    if options.get("apparmor"):
        document["apparmorProfile"] = options["apparmor"]
    if options.get("no-new-privs"):
        document["noNewPrivileges"] = True
    user = dict(process.get("user") or {})
    if options.get("user"):
        uid, colon, gid = options["user"].partition(":")
        if not (uid.isascii() and uid.isdigit()) or (colon and not (gid.isascii() and gid.isdigit())):
            raise InvalidArgument(f"exec: user {options['user']!r} is not UID[:GID] in numbers")
        user["uid"] = int(uid)
        if colon:
            user["gid"] = int(gid)
    if options.get("additional-gids"):
        user["additionalGids"] = [_number(g, "additional-gids") for word in options["additional-gids"] for g in word.split(",")]
    document["user"] = user
    if options.get("cap"):
        sets = {k: list(v or ()) for k, v in (process.get("capabilities") or {}).items()}
        for kind in ("bounding", "effective", "permitted"):
            sets[kind] = list(dict.fromkeys([*sets.get(kind, []), *options["cap"]]))
        document["capabilities"] = sets
    bundle.check_process(document)
    return document


def update_document(options: Options) -> dict[str, Any]:
    """linux.resources from `update`'s flags or from its file ("-": stdin)."""
    if options.get("resources"):
        path = options["resources"]
        with open(0 if path == "-" else path, "rb", closefd=path != "-") as f:
            data = f.read(1 << 20)
        try:
            document = loads(data)
        except ValueError as e:
            raise InvalidArgument(f"update: {path} is not valid JSON: {e}") from None
        if not isinstance(document, dict):
            raise InvalidArgument(f"update: {path} is not an object")
        return document
    out: dict[str, Any] = {}
    for flag, key in (("memory", "limit"), ("memory-swap", "swap"), ("memory-reservation", "reservation")):
        if flag in options:
            text = options[flag]
            out.setdefault("memory", {})[key] = -1 if text == "-1" else parse_bytes(text)
    for flag, key in (("cpu-period", "period"), ("cpu-quota", "quota"), ("cpu-burst", "burst"), ("cpu-share", "shares"),
                      ("cpu-idle", "idle"), ("cpu-rt-period", "realtimePeriod"), ("cpu-rt-runtime", "realtimeRuntime")):  # fmt: skip
        if flag in options:
            out.setdefault("cpu", {})[key] = _number(options[flag], flag)
    for flag, key in (("cpuset-cpus", "cpus"), ("cpuset-mems", "mems")):
        if flag in options:
            out.setdefault("cpu", {})[key] = options[flag]
    if "pids-limit" in options:
        out["pids"] = {"limit": _number(options["pids-limit"], "pids-limit")}
    if "blkio-weight" in options:
        out["blockIO"] = {"weight": _number(options["blkio-weight"], "blkio-weight")}
    return out


def _number(text: str, flag: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidArgument(f"invalid value for {flag}: {text!r}") from None
