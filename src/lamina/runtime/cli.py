# SPDX-License-Identifier: Apache-2.0
"""The face `lamina-runtime`: runc's command line, so that containerd, podman, dockerd and Kubernetes can call it.

A thin layer: flags in, `lifecycle` called, errors out to stderr and, as callers expect, to the file named by --log (text or JSON
lines). Exit 0, or 1 on an error; `run` and `exec` in the foreground exit as the process did. Flags may have one dash or two.
"""
from __future__ import annotations

import os
import sys

from lamina.errors import InvalidArgument, LaminaError, NotFound, NotSupported
from lamina.linux import ns, signals
from lamina.runtime import bundle, lifecycle
from lamina.runtime.cli_options import CREATE, EXEC, GLOBAL, UPDATE, Flags, exec_document, parse, update_document
from lamina.runtime.statedir import StateDir, every
from lamina.util.fastjson import dumps
from lamina.util.times import now_ns, rfc3339nano

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Options = dict[str, Any]

NAME = "lamina-runtime"


class Face:
    """One call: the global options, and the verbs."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.root = options.get("root") or os.environ.get("LAMINA_RUNTIME_ROOT") or "/run/lamina-runtime"

    # ---- reporting ----

    def out(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def log(self, level: str, message: str) -> None:
        """To --log, else to stderr; callers read errors from the file."""
        stamp = rfc3339nano(now_ns())[:19] + "Z"
        if self.options.get("log-format") == "json":
            line = dumps({"level": level, "msg": message, "time": stamp})
        else:
            quoted = message.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            line = f'time="{stamp}" level={level} msg="{quoted}"'
        path = self.options.get("log")
        if path:
            try:
                fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
                os.write(fd, line.encode("utf-8", "surrogateescape") + b"\n")
                os.close(fd)
            except OSError as e:
                sys.stderr.write(f"{NAME}: {path}: {e.strerror}\n")
        sys.stderr.write((f"{NAME}: {message}" if path else line) + "\n")

    def find(self, container_id: str, *, locked: bool = True) -> StateDir:
        state = StateDir.find(self.root, container_id)
        if locked:
            state.lock()
            state.reload()
        return state

    # ---- verbs ----

    def _created(self, options: Options, container_id: str) -> tuple[StateDir, Any]:
        _refuse(options, "no-pivot", "the root is always changed by pivot_root")
        _refuse(options, "pidfd-socket", "not supported")
        if options.get("preserve-fds", "0") != "0":
            raise NotSupported("--preserve-fds: not supported")
        return lifecycle.create(self.root, container_id, options.get("bundle") or ".", console_socket=options.get("console-socket", ""),
                                pid_file=options.get("pid-file", ""), owner=_owner())  # fmt: skip

    def create(self, options: Options, args: list[str]) -> int:
        self._created(options, _one(args, "create"))
        return 0

    def run(self, options: Options, args: list[str]) -> int:
        container_id = _one(args, "run")
        if not options.get("detach") and not options.get("console-socket"):
            spec = bundle.load(os.path.realpath(options.get("bundle") or "."))
            if spec["process"].get("terminal"):
                raise NotSupported("run in the foreground with process.terminal: give --console-socket")
        state, init = self._created(options, container_id)
        try:
            self._warn(lifecycle.start(state))
        except BaseException:
            lifecycle.delete(state, force=True)
            raise
        if options.get("detach"):
            return 0
        state.unlock()
        code = _forward_and_wait(init.pidfd)
        if not options.get("keep"):
            state.lock()
            self._warn(lifecycle.delete(state, force=True))
        return code

    def start(self, options: Options, args: list[str]) -> int:
        self._warn(lifecycle.start(self.find(_one(args, "start"))))
        return 0

    def state(self, options: Options, args: list[str]) -> int:
        self.out(_pretty(self.find(_one(args, "state"), locked=False).state()))
        return 0

    def kill(self, options: Options, args: list[str]) -> int:
        if not 1 <= len(args) <= 2:
            raise InvalidArgument("kill: needs a container ID and at most a signal")
        lifecycle.kill(self.find(args[0]), signals.parse(args[1] if len(args) > 1 else "TERM"), everyone=bool(options.get("all")))
        return 0

    def delete(self, options: Options, args: list[str]) -> int:
        force = bool(options.get("force"))
        try:
            state = self.find(_one(args, "delete"))
        except NotFound:
            if force:
                return 0
            raise
        self._warn(lifecycle.delete(state, force=force))
        return 0

    def _warn(self, failures: list[str]) -> None:
        for text in failures:
            self.log("warning", text)

    def exec(self, options: Options, args: list[str]) -> int:
        if not args:
            raise InvalidArgument("exec: needs a container ID")
        state = self.find(args[0], locked=False)
        _refuse(options, "process-label", "SELinux labels are not supported")
        _refuse(options, "cgroup", "not supported")
        _refuse(options, "pidfd-socket", "not supported")
        if options.get("preserve-fds", "0") != "0":
            raise NotSupported("--preserve-fds: not supported")
        if not state.data:
            raise NotFound("container does not exist")
        process = exec_document(state.data["spec"]["process"], options, args[1:])
        if process.get("terminal") and not options.get("console-socket"):
            raise NotSupported("exec with a terminal: give --console-socket")
        detach = bool(options.get("detach"))
        done = lifecycle.execute(state, process, console_socket=options.get("console-socket", ""), pid_file=options.get("pid-file", ""),
                                 detach=detach, ignore_paused=bool(options.get("ignore-paused")))  # fmt: skip
        return 0 if detach else _forward_and_wait(done.pidfd)

    def list_(self, options: Options, args: list[str]) -> int:
        states = [s.state() for s in every(self.root)]
        if options.get("quiet"):
            for s in states:
                self.out(s["id"])
        elif options.get("format") == "json":
            self.out(dumps(states))
        elif options.get("format", "table") != "table":
            raise InvalidArgument("list: invalid format option")
        else:
            rows = [["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]]
            rows += [[s["id"], str(s["pid"]), s["status"], s["bundle"], s["created"], s["owner"]] for s in states]
            widths = [max(12, *(len(r[i]) + 3 for r in rows)) for i in range(6)]
            for row in rows:
                self.out("".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return 0

    def ps(self, options: Options, args: list[str]) -> int:
        if not args:
            raise InvalidArgument("ps: needs a container ID")
        if args[1:] not in ([], ["-ef"]):
            raise NotSupported("ps: options of ps(1) other than -ef are not supported")
        pids = lifecycle.processes(self.find(args[0], locked=False))
        if options.get("format") == "json":
            self.out(dumps(pids))
            return 0
        self.out(f"{'UID':<9}{'PID':>8}{'PPID':>8}  CMD")
        for pid in pids:  # the host's /proc alone: nothing of the container is run for this
            try:
                with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as f:
                    fields = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    words = f.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
            except FileNotFoundError:
                continue
            command = "".join(ch if ch.isprintable() else "?" for ch in words or f"[{fields.get('Name', '')}]")
            self.out(f"{fields.get('Uid', '?').split()[0]:<9}{pid:>8}{fields.get('PPid', '?').strip():>8}  {command}")
        return 0

    def pause(self, options: Options, args: list[str]) -> int:
        lifecycle.set_paused(self.find(_one(args, "pause")), True)
        return 0

    def resume(self, options: Options, args: list[str]) -> int:
        lifecycle.set_paused(self.find(_one(args, "resume")), False)
        return 0

    def update(self, options: Options, args: list[str]) -> int:
        state = self.find(_one(args, "update"))
        lifecycle.update(state, update_document(options))
        return 0

    def events(self, options: Options, args: list[str]) -> int:
        import time

        state = self.find(_one(args, "events"), locked=False)
        while True:
            status = state.status()
            if status == "stopped":
                if options.get("stats"):
                    raise InvalidArgument(f"container {state.id} is not running")
                return 0
            self.out(dumps({"type": "stats", "id": state.id, "data": state.cgroup().stats()}))
            if options.get("stats"):
                return 0
            time.sleep(_seconds(options.get("interval", "5s")))

    def features(self, options: Options, args: list[str]) -> int:
        from lamina.runtime.cli_features import features

        self.out(_pretty(features()))
        return 0

    def spec(self, options: Options, args: list[str]) -> int:
        _refuse(options, "rootless", "user namespaces are not supported")
        path = (options.get("bundle") or ".") + "/config.json"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            raise InvalidArgument(f"file {path} exists. Remove it first") from None
        with os.fdopen(fd, "w") as f:
            f.write(_pretty(bundle.template()) + "\n")
        return 0


VERBS: dict[str, tuple[Callable[[Face, Options, list[str]], int], Flags, str]] = {
    "create": (Face.create, CREATE, "ID: make a container from a bundle"),
    "start": (Face.start, {}, "ID: run the program of a created container"),
    "run": (Face.run, {**CREATE, "detach": "", "d": "=detach", "keep": "", "no-subreaper": ""}, "ID: create, start, wait, delete"),
    "state": (Face.state, {}, "ID: print the state"),
    "kill": (Face.kill, {"all": "", "a": "=all"}, "ID [SIGNAL]: send a signal (TERM) to the init"),
    "delete": (Face.delete, {"force": "", "f": "=force"}, "ID: remove a stopped container"),
    "exec": (Face.exec, EXEC, "ID COMMAND [ARG...]: run a process in a container"),
    "list": (Face.list_, {"format": "v", "f": "=format", "quiet": "", "q": "=quiet"}, "print all containers"),
    "ps": (Face.ps, {"format": "v", "f": "=format"}, "ID: print the processes of a container"),
    "pause": (Face.pause, {}, "ID: freeze all processes"),
    "resume": (Face.resume, {}, "ID: thaw them"),
    "update": (Face.update, UPDATE, "ID: change limits"),
    "events": (Face.events, {"stats": "", "interval": "v"}, "ID: print usage"),
    "features": (Face.features, {}, "print what this runtime can do"),
    "spec": (Face.spec, {"bundle": "v", "b": "=bundle", "rootless": ""}, "write a config.json to start from"),
}


def main(argv: Sequence[str]) -> int:
    """Exit status of one call."""
    face = Face({})
    try:
        options, rest = parse(argv, GLOBAL, what=NAME)
        face = Face(options)
        if options.get("version"):
            face.out(f"{NAME} version {_version()}\nspec: {bundle.VERSION}")
            return 0
        if options.get("help") or not rest or rest[0] in ("help", "-h"):
            face.out(_usage())
            return 0 if rest or options.get("help") else 1
        _refuse(options, "systemd-cgroup", "cgroups are managed as files (cgroupfs); tell the caller to use cgroupfs")
        if options.get("log-format", "text") not in ("text", "json"):
            raise InvalidArgument(f"invalid log-format: {options['log-format']}")
        if rest[0] not in VERBS:
            raise InvalidArgument(f"no such command: {rest[0]}")
        verb, flags, text = VERBS[rest[0]]
        given, args = _interspersed(rest[1:], flags, rest[0])
        if given.get("help"):
            face.out(f"{NAME} {rest[0]} {text}\nflags: {' '.join('--' + f for f, kind in flags.items() if not kind.startswith('='))}")
            return 0
        return verb(face, given, args)
    except (LaminaError, OSError) as e:
        face.log("error", lifecycle.explain(e) if isinstance(e, OSError) else _core(lifecycle.explain(e)))
        return 1


def _interspersed(argv: list[str], flags: Flags, verb: str) -> tuple[Options, list[str]]:
    """runc's parser stops at the first argument; callers also put flags behind the ID, except for exec, whose rest is a command."""
    options, rest = parse(argv, flags, what=verb)
    if verb != "exec" and len(rest) > 1 and not argv[: argv.index(rest[0])].count("--"):
        head, tail = rest[:1], rest[1:]
        while tail:
            more, tail = parse(tail, flags, what=verb)
            options.update(more)
            head += tail[:1]
            tail = tail[1:]
        rest = head
    return options, rest


def _core(message: str) -> str:
    from lamina.runtime.texts import core

    return core(message)


def _forward_and_wait(pidfd: int) -> int:
    """Wait for our child as the foreground: signals that reach us are passed on to it."""
    import _signal

    def forward(number: int, frame: object) -> None:
        try:
            ns.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            pass

    for number in (1, 2, 3, 10, 12, 15, 28):
        _signal.signal(number, forward)
    return lifecycle.wait(pidfd)


def _refuse(options: Options, flag: str, why: str) -> None:
    if options.get(flag):
        raise NotSupported(f"--{flag}: {why}")


def _one(args: list[str], verb: str) -> str:
    if len(args) != 1:
        raise InvalidArgument(f'"{verb}" requires exactly 1 argument: the container ID' + (f", not {args[1:]!r} too" if args else ""))
    return args[0]


def _seconds(text: str) -> float:
    for unit, factor in (("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600)):
        number = text.removesuffix(unit)
        if number != text and number.replace(".", "", 1).isdigit():
            return max(0.01, float(number) * factor)
    raise InvalidArgument(f"invalid interval {text!r}: give it like 5s")


def _owner() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _version() -> str:
    from lamina import __version__

    return __version__


def _usage() -> str:
    lines = [f"Usage: {NAME} [--root DIR] [--log FILE] [--log-format text|json] COMMAND [FLAGS] ARGS", "", "Commands:"]
    return "\n".join([*lines, *(f"  {name:<10}{text}" for name, (_, _, text) in VERBS.items())])


def _pretty(value: Any, indent: str = "") -> str:
    """JSON for people: two spaces, as runc prints."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        return "{\n" + ",\n".join(f"{inner}{dumps(k)}: {_pretty(v, inner)}" for k, v in value.items()) + f"\n{indent}}}"
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(inner + _pretty(v, inner) for v in value) + f"\n{indent}]"
    return dumps(value)
