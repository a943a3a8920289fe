# SPDX-License-Identifier: Apache-2.0
"""Another OCI runtime (crun, runc, lamina-runtime as a program) in the place of our own: `--runtime NAME|PATH`.

It is driven as containerd's shim does: create with --pid-file, start, exec --detach, delete; the process's stdio is handed down, a
terminal comes through --console-socket. The program is the host's, found in fixed directories or by an absolute path; nothing of the
image decides about it. Everything it needs lies in one directory of the container's, which `Runtime` owns: bundle, state, log.
The container's process becomes our child (PR_SET_CHILD_SUBREAPER while the runtime runs), so that its end and its exit code are waited
for by pidfd, as with our own.
"""
from __future__ import annotations

import _socket
import os

from lamina.errors import CommandNotExecutable, CommandNotFound, InvalidArgument, LaminaError, StartError
from lamina.linux import fds, ns, prctl, tty
from lamina.util import fastjson, proc
from lamina.util.atomic import read_file

from . import handshake

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
OURS = ("lamina", "")
VERSION = "1.0.2"  # of the bundle: what every runtime of today takes
TIMEOUT = 120.0
_MAX_LOG = 1 << 20
_CREATE = "failed to create task for container: failed to create shim task: OCI runtime create failed: "
_EXEC = "OCI runtime exec failed: "


def find(name: str) -> str:
    """The program for a runtime's name or absolute path. InvalidArgument with docker's text when there is none."""
    wrong = InvalidArgument(f"unknown or invalid runtime name: {name}")
    if "\0" in name or not name.strip() or not name.isprintable():
        raise wrong
    if "/" in name:
        candidates = [name] if name.startswith("/") else []
    else:
        candidates = [f"{directory}/{name}" for directory in PATH]
    for path in candidates:
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise wrong


class Started(handshake.Init):
    """A process that the runtime has made, with the same steps as one of our own: `wait_ready` is over by then, `start` lets it go."""

    __slots__ = ("_start",)

    def __init__(self, pid: int, pidfd: int, master: int, start: Runtime | None) -> None:
        self.pid, self.pidfd, self.master_fd, self.sock, self.prefix = pid, pidfd, master, None, ""
        self.start_time = ns.start_time(pid)
        self._start = start

    def wait_ready(self) -> None:
        pass

    def let_go(self) -> None:
        if self._start is not None:
            try:
                self._start.call("start", self._start.id)
            except BaseException:
                self.abort()
                raise

    def confirm(self) -> None:
        pass  # the runtime has waited for it


class Runtime:
    """One container of the runtime `program`, in `directory` (made here, ours alone)."""

    __slots__ = ("directory", "id", "program")

    def __init__(self, program: str, directory: str, container_id: str) -> None:
        self.program = program
        self.directory = directory
        self.id = container_id

    def create(self, spec: dict[str, Any], *, rootfs: str, stdio: Sequence[int] | None, init: bool = False) -> Started:
        """Makes the container up to `start`. spec: the bundle's config.json as our own runtime would get it, with `linux.seccomp`.
        stdio: fds for 0, 1, 2, or None for a terminal. init: ours is its process 1. Raises the StartError family, OSError."""
        os.makedirs(self.directory, 0o700, exist_ok=True)
        process = _process(spec["process"])
        linux = dict(spec["linux"])
        # Limits of disk I/O are the caller's to set, once this returns: runtimes know the files of one I/O scheduler only.
        linux["resources"] = {name: value for name, value in (linux.get("resources") or {}).items() if name != "blockIO"}
        made = {**spec, "ociVersion": VERSION, "process": process, "root": {**spec["root"], "path": rootfs}, "linux": linux}
        if init:
            made["mounts"] = [*spec["mounts"], self._init_mount(process)]
        if made.pop("domainname", ""):  # an older runtime would pass over it
            linux["sysctl"] = {**(linux.get("sysctl") or {}), "kernel.domainname": spec["domainname"]}
        _write(f"{self.directory}/config.json", made)
        words = ["create", "--bundle", self.directory]
        try:
            return self._make(words, stdio, process, self)
        except BaseException:
            self.delete()
            raise

    def exec(self, process: dict[str, Any], exec_id: str, stdio: Sequence[int] | None) -> Started:
        """One more process in the running container: OCI's `process`."""
        file = f"{self.directory}/{exec_id}.json"
        process = _process(process)
        _write(file, process)
        try:
            return self._make(["exec", "--detach", "--process", file], stdio, process, None)
        finally:
            os.unlink(file)

    def delete(self) -> None:
        """Ends what is left of it, and forgets it. Never raises: what the runtime leaves is ours to remove (cgroup, directory)."""
        try:
            self.call("delete", "--force", self.id)
        except (LaminaError, OSError):
            pass

    def _init_mount(self, process: dict[str, Any]) -> dict[str, Any]:
        """--init: a copy of our init, of this container's alone, where docker has its own; it executes the command."""
        from . import initprogram
        from .process import INIT_NAME

        name = INIT_NAME.decode()
        first = process["args"][0]
        path = next((entry[5:] for entry in reversed(process.get("env") or []) if entry.startswith("PATH=")), ":".join(PATH))
        paths = [first] if "/" in first else [f"{directory or '.'}/{first}" for directory in path.split(":")]
        file = f"{self.directory}/init"
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o555), "wb") as out:
            out.write(initprogram.image(paths=[os.fsencode(one) for one in paths]))
        process["args"] = [name, "--", *process["args"]]
        return {"destination": name, "type": "bind", "source": file, "options": ["bind", "ro", "nosuid", "nodev"]}

    def _make(self, words: list[str], stdio: Sequence[int] | None, process: dict[str, Any], start: Runtime | None) -> Started:
        """Calls create or exec, and finds the process it has left to us."""
        pid_file = f"{self.directory}/pid.{os.getpid()}"
        console = Console(self.directory) if stdio is None else None
        words = [*words, "--pid-file", pid_file, *(["--console-socket", console.path] if console else [])]
        master = pidfd = -1
        prctl.set_child_subreaper(True)
        try:
            self.call(*words, self.id, stdio=stdio)
            if console is not None:
                master = console.master()
                size = process.get("consoleSize") or {}
                if size.get("height") and size.get("width"):
                    tty.set_winsize(master, size["height"], size["width"])
            pid = int(read_file(pid_file, 64))
            pidfd = ns.pidfd_open(pid)
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            return Started(pid, pidfd, master, start)
        except BaseException as e:
            for fd in (master, pidfd):
                if fd >= 0:
                    os.close(fd)
            if isinstance(e, ChildProcessError | ProcessLookupError | ValueError | FileNotFoundError):
                raise StartError(f"{self.program}: its {words[0]} has left no process of ours behind") from None
            raise
        finally:
            prctl.set_child_subreaper(False)  # only for the runtime's own end: what the container loses is not ours
            if console is not None:
                console.close()
            if os.path.exists(pid_file):
                os.unlink(pid_file)

    def call(self, *words: str, stdio: Sequence[int] | None = None) -> None:
        """Runs one command of the runtime to its end. What it says in its log on a failure becomes the error."""
        log = f"{self.directory}/log.{os.getpid()}"
        argv = [self.program, "--root", self.directory + "/state", "--log", log, "--log-format", "json", *words]
        try:
            done = proc.run(argv, stdio=stdio, timeout=TIMEOUT)
            if done.code:
                raise _error(words[0], self.program, done, _last_error(log))
        finally:
            if os.path.exists(log):
                os.unlink(log)


class Console:
    """The socket by which a runtime hands over a terminal's master. The directory's own path may be too long for a socket's."""

    __slots__ = ("directory", "fd", "path", "sock")

    def __init__(self, directory: str) -> None:
        self.directory = f"{directory}/console.{os.getpid()}"
        self.fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.path = f"/proc/{ns.own_pid()}/fd/{self.fd}/console.{os.getpid()}"
        self.sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        mask = os.umask(0o177)
        try:
            self.sock.bind(self.path)
        finally:
            os.umask(mask)
        self.sock.listen(1)

    def master(self) -> int:
        """What the runtime has sent; it has ended, so it is there or never comes."""
        self.sock.setblocking(False)
        try:
            fd = self.sock._accept()[0]  # type: ignore[attr-defined]
        except BlockingIOError:
            raise StartError("the runtime has handed over no terminal") from None
        peer = _socket.socket(fileno=fd)
        try:
            found = fds.recv_fds(peer, 4096, 1)[1]
        finally:
            peer.close()
        if not found:
            raise StartError("the runtime has handed over no terminal")
        return found[0]

    def close(self) -> None:
        self.sock.close()
        os.close(self.fd)
        os.unlink(self.directory)


def _process(process: dict[str, Any]) -> dict[str, Any]:
    """A copy without what is empty: to crun an empty AppArmor profile is one that it can't find."""
    return {key: value for key, value in process.items() if value != ""}


def _write(path: str, document: dict[str, Any]) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as out:
        out.write(fastjson.dump_bytes(document))


def _last_error(log: str) -> str:
    """The last message of level error in a log of JSON lines; "" without one."""
    try:
        lines = read_file(log, _MAX_LOG).splitlines()
    except (OSError, ValueError):
        return ""
    found = ""
    for line in lines:
        try:
            entry = fastjson.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in ("error", "fatal", "panic"):
            found = str(entry.get("msg") or found)
    return found


def _error(verb: str, program: str, done: proc.Done, text: str) -> StartError:
    """As docker's daemon sorts them: by what the text says."""
    text = text or done.err.decode("utf-8", "replace").strip().rpartition("\n")[2] or f"exit status {done.code}"
    name = os.path.basename(program)
    if not text.startswith((name, "runc ", "exec failed")):
        text = f"{name} {verb} failed: {text}"
    low = text.lower()
    kind = StartError
    if "executable file" in low and "not found" in low or "exec" in low and "no such file or directory" in low:
        kind = CommandNotFound
    elif "permission denied" in low or "exec format error" in low:
        kind = CommandNotExecutable
    return kind(f"{_EXEC if verb == 'exec' else _CREATE}{text}: unknown")
