# SPDX-License-Identifier: Apache-2.0
"""The verbs of `lamina-runtime` as functions: create, start, kill, delete, exec, each maybe in a process of its own.

`create` leaves an init that has built its world and reads one byte from the fifo in the state directory; `start` writes it. Both ends
of that fifo are opened read-write or non-blocking, so that neither can hang on a dead partner. Nothing is printed here.
"""
from __future__ import annotations

import errno
import os
import select

from lamina.errors import Conflict, InvalidArgument, LaminaError, NotFound, NotSupported, StartError
from lamina.linux import fds, ns
from lamina.runtime import bundle, hooks, seccomp
from lamina.runtime import create as maker
from lamina.runtime import exec as joiner
from lamina.runtime.cgroups import Cgroup
from lamina.runtime.cgroups.devices import DEFAULT_ALLOW
from lamina.runtime.statedir import StateDir
from lamina.util.atomic import write_file
from lamina.util.fastjson import dump_bytes
from lamina.util.times import now_ns, rfc3339nano

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lamina.runtime.handshake import Init

_SIGKILL = 9
_GO = b"G"


def resources_of(spec: dict[str, Any]) -> dict[str, Any]:
    """linux.resources with the device rules that hold for every container: deny all, the bundle's, then the default devices."""
    resources = dict((spec.get("linux") or {}).get("resources") or {})
    given = list(resources.get("devices") or ())
    rules = [r for r in given if isinstance(r, dict)]
    everything = any(r.get("allow") and (r.get("type") or "a") == "a" and r.get("major") in (None, -1) for r in rules)
    if not everything:
        resources["devices"] = [{"allow": False, "access": "rwm"}, *given, *DEFAULT_ALLOW]
    return resources


def filter_of(spec: dict[str, Any]) -> bytes | None:
    profile = (spec.get("linux") or {}).get("seccomp")
    if not profile:
        return None
    seccomp.flags_of(profile)
    return seccomp.compile(profile, os.uname().machine)


def create(
    root: str, container_id: str, bundle_dir: str, *, console_socket: str = "", pid_file: str = "", owner: str = ""
) -> tuple[StateDir, Init]:
    """A container in state "created". On any error nothing of it is left. The Init's fds are the caller's; it doesn't die with us."""
    bundle_dir = os.path.realpath(bundle_dir)
    spec = bundle.load(bundle_dir)
    terminal = bool(spec["process"].get("terminal"))
    if terminal and not console_socket:
        raise InvalidArgument("cannot allocate tty if lamina-runtime will detach without setting console socket")
    if console_socket and not terminal:
        raise InvalidArgument("a console socket is given, but process.terminal is not set")
    path = bundle.cgroup_path(spec, container_id)
    program = filter_of(spec)
    state = StateDir.make(root, container_id)
    group: Cgroup | None = None
    init: Init | None = None
    try:
        group = Cgroup.create(path, resources_of(spec))
        state.data = {
            "id": container_id, "bundle": bundle_dir, "rootfs": spec["root"]["path"], "created": rfc3339nano(now_ns()), "owner": owner,
            "annotations": spec.get("annotations") or {}, "cgroupPath": path, "cgroups": group.paths, "bootId": ns.boot_id(), "spec": spec,
        }  # fmt: skip
        init = _make(state, spec, group, program, terminal)
        if terminal:
            send_console(console_socket, init.master_fd)
            os.close(init.master_fd)
            init.master_fd = -1
        state.save()
        if pid_file:
            write_file(os.path.abspath(pid_file), str(init.pid).encode(), 0o644, durable=False)
        assert init.sock is not None
        init.sock.send(b"S")  # from here on it waits at the fifo, for whoever comes
    except BaseException:
        if init is not None and init.pidfd >= 0:
            init.abort()
        if group is not None:
            group.kill()
            group.remove()
        state.remove()
        raise
    return state, init


def _make(state: StateDir, spec: dict[str, Any], group: Cgroup, program: bytes | None, terminal: bool) -> Init:
    gate = os.open(state.fifo, os.O_RDWR | os.O_CLOEXEC)  # read-write: never without a partner, so opening and reading can't fail
    early = spec.get("hooks") or {}
    wanted = any(early.get(name) for name in ("prestart", "createRuntime", "createContainer"))
    at_pivot, tell = os.pipe() if wanted else (-1, -1)
    go, release = os.pipe() if wanted else (-1, -1)
    inner = state.state("creating")

    def before_pivot() -> None:
        """In the child: let the parent run its hooks, then run those of the container's namespaces."""
        os.write(tell, b"x")
        if os.read(go, 1) != _GO:
            os._exit(1)
        hooks.run(spec, "createContainer", {**inner, "pid": os.getpid()})

    init: Init | None = None
    try:
        init = maker.create(
            spec, rootfs=spec["root"]["path"], container_id=state.id, stdio=(0, 1, 2), terminal=terminal, cgroup=group, seccomp=program,
            die_with_parent=False, gate_fd=gate, before_pivot=before_pivot if wanted else None, hook_fds=(tell, go) if wanted else (),
        )  # fmt: skip
        state.data.update(pid=init.pid, startTime=init.start_time)
        if wanted:
            os.close(tell)
            tell = -1
            if os.read(at_pivot, 1):  # else it has failed before: wait_ready says how
                for name in ("prestart", "createRuntime"):
                    hooks.run(spec, name, state.state("creating"))
                os.write(release, _GO)
        init.wait_ready()
    except BaseException:
        if init is not None and init.pidfd >= 0:
            init.abort()
        raise
    finally:
        for fd in (gate, at_pivot, tell, go, release):
            if fd >= 0:
                os.close(fd)
    return init


def send_console(path: str, master: int) -> None:
    """The pty's master to the console socket, with the terminal's name as data, as runc does."""
    import _socket

    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        sock.connect(path)
        fds.send_fds(sock, b"/dev/ptmx", [master])
    except OSError as e:
        raise StartError(f"console socket {path}: {e.strerror}") from None
    finally:
        sock.close()


def start(state: StateDir) -> list[str]:
    """Let a created container's init run its program; returns when it has (or has ended). The texts of failed poststart hooks."""
    status = state.status()
    if status == "stopped":
        raise Conflict("cannot start a container that has stopped")
    if status != "created":
        raise Conflict(f"cannot start an already {status} container")
    spec = state.data["spec"]
    _start_hooks(state, spec)
    gate = os.open(state.fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.write(gate, _GO)
        os.unlink(state.fifo)
        # The init's end is close-on-exec: when no reader is left it has exec'd, or is dead.
        poll = select.poll()
        poll.register(gate, 0)
        poll.poll(30_000)
        failure = _left_in(gate)
    except OSError as e:
        raise StartError(f"cannot start container {state.id}: {e.strerror}") from None
    finally:
        os.close(gate)
    if failure:
        raise StartError(f"unable to start container process: {failure}")
    return hooks.run_all(spec, "poststart", state.state("running"))


def _left_in(gate: int) -> str:
    """What the init wrote back instead of running its program; asked when its end is closed, so our own reading end disturbs nothing."""
    fd = os.open(f"/proc/self/fd/{gate}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096).decode("utf-8", "replace")
    except BlockingIOError:
        return ""
    finally:
        os.close(fd)


def _start_hooks(state: StateDir, spec: dict[str, Any]) -> None:
    """startContainer hooks run inside, with the identity and limits of the container's process: its image provides them."""
    for i, hook in enumerate((spec.get("hooks") or {}).get("startContainer") or ()):
        document = {**spec["process"], "args": hook.get("args") or [hook["path"]], "env": hook.get("env") or [], "terminal": False}
        document["args"] = [hook["path"], *document["args"][1:]]
        stdin = os.memfd_create("state", os.MFD_CLOEXEC)
        try:
            os.write(stdin, dump_bytes(state.state("created")))
            os.lseek(stdin, 0, os.SEEK_SET)
            done = joiner.exec_process(state.data["pid"], document, spec=spec, cgroup_paths=state.data["cgroups"], stdio=(stdin, 2, 2),
                                       seccomp=filter_of(spec), init_start_time=state.data["startTime"])  # fmt: skip
            done.wait_ready()
            done.start()
            code = wait(done.pidfd, hook.get("timeout"))
        finally:
            os.close(stdin)
        if code != 0:
            kill_init(state)
            raise StartError(f"error running startContainer hook #{i}: exit status {code}")


def wait(pidfd: int, timeout: float | None = None) -> int:
    """Exit status of a child of ours, 128 + signal when one killed it; killed itself when `timeout` seconds are over."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(None if timeout is None else timeout * 1000):
        ns.pidfd_send_signal(pidfd, _SIGKILL)
    done = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    if done is None:
        return 255
    return done.si_status if done.si_code == os.CLD_EXITED else 128 + done.si_status


def kill(state: StateDir, number: int, *, everyone: bool = False) -> None:
    if everyone:
        group = state.cgroup()
        if number == _SIGKILL:
            group.kill()
        else:
            group.signal(number)
        return
    status = state.status()
    if status == "stopped":
        raise Conflict("container not running")
    try:
        pidfd = state.open_init()
    except NotFound:
        raise Conflict("container not running") from None
    try:
        ns.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        raise Conflict("container not running") from None
    finally:
        os.close(pidfd)
    if status == "paused" and number == _SIGKILL:
        state.cgroup().thaw()  # frozen processes don't die


def kill_init(state: StateDir, timeout: float = 10.0) -> None:
    """SIGKILL the init and wait until it is gone, whoever's child it is."""
    try:
        pidfd = state.open_init()
    except NotFound:
        return
    try:
        ns.pidfd_send_signal(pidfd, _SIGKILL)
        if state.cgroup().frozen():
            state.cgroup().thaw()
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(timeout * 1000):
            raise Conflict(f"container {state.id} doesn't die")
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


def delete(state: StateDir, *, force: bool = False) -> list[str]:
    """Remove a stopped (or never started) container, its group and its state; the texts of failed poststop hooks."""
    status = state.status()
    if status == "creating" and not force:
        raise Conflict(f"cannot delete container {state.id} that is not stopped: creating")
    if status in ("running", "paused") and not force:
        raise Conflict(f"cannot delete container {state.id} that is not stopped: {status}")
    kill_init(state)
    if state.data:
        group = state.cgroup()
        group.kill()  # without a pid namespace of its own, others may be left
        group.remove(parents=1 if group.path.startswith("/lamina-runtime/") else 0)
    failures = hooks.run_all(state.data["spec"], "poststop", state.state("stopped")) if state.data else []
    state.remove()
    return failures


def execute(state: StateDir, process: dict[str, Any], *, console_socket: str = "", pid_file: str = "", detach: bool = False,
            ignore_paused: bool = False) -> Init:
    """One more process, running. Its fds are the caller's; with a console socket the terminal is the receiver's."""  # fmt: skip
    status = state.status()
    if status == "paused" and not ignore_paused:
        raise Conflict("cannot exec in a paused container (use --ignore-paused to override)")
    if status not in ("running", "created", "paused"):
        raise Conflict("cannot exec in a stopped container")
    spec, terminal = state.data["spec"], bool(process.get("terminal"))
    if terminal and detach and not console_socket:
        raise InvalidArgument("cannot allocate tty if lamina-runtime will detach without setting console socket")
    done = joiner.exec_process(state.data["pid"], process, spec=spec, cgroup_paths=state.data["cgroups"], stdio=(0, 1, 2),
                               terminal=terminal, seccomp=filter_of(spec), init_start_time=state.data["startTime"],
                               die_with_parent=not detach)  # fmt: skip
    done.wait_ready()
    if terminal and console_socket:
        send_console(console_socket, done.master_fd)
        os.close(done.master_fd)
        done.master_fd = -1
    if pid_file:
        write_file(os.path.abspath(pid_file), str(done.pid).encode(), 0o644, durable=False)
    done.start()
    return done


def processes(state: StateDir) -> list[int]:
    return sorted(state.cgroup().procs()) if state.status() != "stopped" else []


def set_paused(state: StateDir, paused: bool) -> None:
    status = state.status()
    if paused and status not in ("running", "created"):
        raise Conflict(f"container not running or created: {status}")
    if not paused and status != "paused":
        raise Conflict("container not paused")
    group = state.cgroup()
    if paused:
        group.freeze()
    else:
        group.thaw()


def update(state: StateDir, resources: dict[str, Any]) -> None:
    if state.status() == "stopped":
        raise Conflict("container not running")
    if resources.get("devices"):
        raise NotSupported("update of device rules")
    state.cgroup().update(resources)
    merged = state.data["spec"].setdefault("linux", {}).setdefault("resources", {})
    for section, values in resources.items():
        if isinstance(values, dict):
            merged.setdefault(section, {}).update(values)
        else:
            merged[section] = values
    state.save()


def explain(error: BaseException) -> str:
    """One line for stderr and the log."""
    if isinstance(error, LaminaError):
        return error.message
    if isinstance(error, OSError):
        name = os.fsdecode(error.filename) + ": " if isinstance(error.filename, str | bytes) else ""
        return f"{name}{error.strerror or errno.errorcode.get(error.errno or 0, 'unknown error')}"
    return f"{error.__class__.__name__}: {error}"
