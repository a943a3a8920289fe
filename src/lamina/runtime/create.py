# SPDX-License-Identifier: Apache-2.0
"""Makes a container from an OCI config.json: one clone3, the child builds its own world and waits for the word to exec.  [hot]

`create` returns right after the clone, so that its caller can plug the network while the child mounts. The caller must be single-
threaded; the child never returns from here, imports nothing, prints nothing, and tells every failure over the socket.
"""
from __future__ import annotations

import _signal
import _socket
import gc
import os
import sys
from _struct import pack
from fcntl import ioctl

from lamina.errors import InvalidArgument, NotSupported, StartError
from lamina.linux import caps, fds, fs, ns, prctl, tty, uts
from lamina.linux import mount as m
from lamina.util import steps

from . import devices, handshake, plan, process, rootfs, sysctl, texts
from .cgroups.cgroup import enter_fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from .cgroups.cgroup import Cgroup

_SIGKILL = 9
_SIOCSIFFLAGS, _IFF_UP_RUNNING = 0x8914, 0x41
_ALL_SIGNALS = _signal.valid_signals()


class Plan:
    """Everything the child needs, parsed and opened before the clone; `fds` are those it inherits, closed by both in the end."""

    __slots__ = ("before_pivot", "cgroup_fds", "clone_flags", "die_with_parent", "domainname", "groups", "hostname", "init", "joins",
                 "keep", "masked", "mounts", "new_cgroup_ns", "new_network", "nodes", "own", "pid_ns", "populate_dev", "process",
                 "propagation", "readonly", "readonly_root", "rootfs", "stdio", "sysctls")

    def __init__(self, spec: dict[str, Any], target: str | int, stdio: Sequence[int] | None, terminal: bool, program: bytes | None) -> None:
        linux = spec.get("linux") or {}
        self.process = process.Process(spec.get("process") or {}, linux, terminal=terminal, program=program)
        self.mounts = plan.parse(spec)
        self.rootfs = target
        self.readonly_root = bool((spec.get("root") or {}).get("readonly"))
        self.stdio = stdio
        self.hostname = spec.get("hostname") or ""
        self.domainname = spec.get("domainname") or ""
        self.masked = list(linux.get("maskedPaths") or ())
        self.readonly = list(linux.get("readonlyPaths") or ())
        self.nodes = list(linux.get("devices") or ())
        # A /dev that is bound from elsewhere is not ours to fill.
        self.populate_dev = not any(op.destination == "/dev" and op.kind == "bind" for op in self.mounts)
        self.propagation = linux.get("rootfsPropagation") or ""
        self.cgroup_fds: list[int] = []
        self.groups: dict[str, str] | None = None
        self.joins: list[tuple[int, int]] = []
        self.pid_ns = -1
        self.die_with_parent = True
        self.init: tuple[int, int, int] | None = None
        self.before_pivot: Callable[[], None] | None = None
        self.clone_flags = 0
        self.own: set[str] = set()
        try:
            self._namespaces(linux.get("namespaces") or ())
            self.sysctls = sysctl.check(linux.get("sysctl") or {}, self.own)
            if (self.hostname or self.domainname) and "uts" not in self.own:
                raise InvalidArgument("a hostname needs a UTS namespace of its own")
        except BaseException:
            self.close()
            raise

    def _namespaces(self, entries: Sequence[dict[str, Any]]) -> None:
        self.new_cgroup_ns = self.new_network = False
        for entry in entries:
            kind, path = str(entry.get("type")), entry.get("path")
            if kind not in ns.NAMESPACES or kind in ("user", "time"):
                raise NotSupported(f'namespace of type "{kind}" is not supported')
            if kind in self.own:
                raise InvalidArgument(f'namespace of type "{kind}" is listed twice')
            flag = ns.NAMESPACES[kind][0]
            self.own.add(kind)
            if path:
                if kind == "mount":
                    raise NotSupported("a mount namespace can't be joined: the container's tree is built in a new one")
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                if kind == "pid":
                    self.pid_ns = fd
                else:
                    self.joins.append((fd, flag))
            elif kind == "cgroup":
                self.new_cgroup_ns = True  # unshared after the cgroup was entered, or its root would be ours
            else:
                self.clone_flags |= flag
                self.new_network |= kind == "network"
        if "mount" not in self.own:
            raise InvalidArgument("a container needs a mount namespace")

    def close(self) -> None:
        for fd in (*self.cgroup_fds, *(fd for fd, _ in self.joins)):
            os.close(fd)
        if self.pid_ns >= 0:
            os.close(self.pid_ns)
        self.cgroup_fds, self.joins, self.pid_ns = [], [], -1


def create(spec: dict[str, Any], *, rootfs: str | int, container_id: str = "", stdio: tuple[int, int, int] | None = None,
           terminal: bool = False, cgroup: Cgroup | None = None, seccomp: bytes | None = None, die_with_parent: bool = True,
           gate_fd: int = -1, before_pivot: Callable[[], None] | None = None, hook_fds: Sequence[int] = (),
           init: tuple[int, int, int] | None = None) -> handshake.Init:
    """Starts to make a container; see `handshake.Init` for what follows: plug the network, wait_ready(), start().

    spec: OCI config.json. rootfs: its root directory on the host, or a detached mount's fd (stays the caller's). stdio: three fds for
    0, 1, 2 (stay the caller's); None is the null device; with `terminal` a pty is made in the container and its master handed over.
    cgroup: made and limited before; the child enters it by itself. seccomp: compiled filter. die_with_parent: SIGKILL when the
    calling thread ends. gate_fd: after START, wait for one byte from this fd (`lamina-runtime start` in another process); why exec failed
    is written to it.
    before_pivot: called in the child when the tree is built and the host's root is still there (OCI hooks); hook_fds stay open for it.
    init: fds of `initprogram.open_program` (stay the caller's): that program becomes the container's first process, its command the second.
    Raises InvalidArgument or NotSupported for what config.json asks wrongly, OSError if the clone fails.
    """
    todo = Plan(spec, rootfs, stdio, terminal, seccomp)
    todo.die_with_parent = die_with_parent
    todo.before_pivot = before_pivot
    todo.init = init
    into = -1
    try:
        if cgroup is not None:
            into = cgroup.clone_fd()
            todo.cgroup_fds = cgroup.prepare_enter(cloned_into=into >= 0)
            todo.groups = None if todo.new_cgroup_ns else dict(cgroup.paths)
        keep = [*todo.cgroup_fds, *(fd for fd, _ in todo.joins), *(stdio or ()), gate_fd, *hook_fds, *(init or ())]
        if isinstance(rootfs, int):
            keep.append(rootfs)
        return fork_child(lambda sock: _child(todo, sock, gate_fd), todo.clone_flags, keep, texts.CREATE, into=into, pid_ns=todo.pid_ns)
    finally:
        if into >= 0:
            os.close(into)
        todo.close()


def fork_child(body: Callable[[_socket.socket], None], flags: int, keep: Sequence[int], prefix: str, *, into: int = -1, pid_ns: int = -1,
               kind: type[handshake.Init] = handshake.Init) -> handshake.Init:
    """Clones; the child runs `body` with its end of the socket, its exceptions are reported, and it ends. Only `keep` stays open there.

    The child is born with all signals blocked (a handler of ours must not run in it) and not dumpable (nobody in a shared pid
    namespace may look at it, even in its first instant).
    """
    parent, child = fds.socketpair()
    own_pid_ns = -1
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _ALL_SIGNALS)
    dumpable = prctl.get_dumpable()
    try:
        prctl.set_dumpable(False)
        if pid_ns >= 0:
            own_pid_ns = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            ns.setns(pid_ns, ns.CLONE_NEWPID)
        pid, pidfd = ns.clone3(flags, cgroup_fd=into)
        if pid == 0:
            _run(body, child, [fd for fd in keep if fd >= 0])
    except BaseException:
        parent.close()
        raise
    finally:
        if own_pid_ns >= 0:
            ns.setns(own_pid_ns, ns.CLONE_NEWPID)
            os.close(own_pid_ns)
        if dumpable == 1:
            prctl.set_dumpable(True)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
        child.close()
    return kind(ns.pid_of(pidfd), pidfd, parent, prefix)


class Phase:
    """What the child is doing, in the words of an error message."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = "error during container init"


PHASE = Phase()


def _run(body: Callable[[_socket.socket], None], sock: _socket.socket, keep: Sequence[int]) -> None:
    """The child's whole life. From its first line on nothing can be imported any more: after the pivot, the paths of our modules
    would lead to files of the container."""
    try:
        gc.disable()
        sys.meta_path.clear()
        close_but([sock.fileno(), *keep])
        process.reset_signals()
        if steps.tell is not None:  # our maker's, whose sockets are not ours
            steps.tell = lambda text, **_: handshake.step(sock, text)
        body(sock)
    except BaseException as e:
        handshake.report(sock, e, PHASE.now)
    finally:
        os._exit(1)


def close_but(keep: Sequence[int]) -> None:
    """Closes every fd above 2 that isn't in `keep`: no descriptor of the engine goes along, not even until exec."""
    first = 3
    for fd in sorted(set(keep)):
        if fd > first:
            fds.close_range(first, fd - 1)
        first = max(first, fd + 1)
    fds.close_range(first)


def _child(todo: Plan, sock: _socket.socket, gate_fd: int) -> None:
    wanted = todo.process
    os.setsid()
    os.umask(0)
    PHASE.now = "error during container init: cgroup"
    enter_fds(todo.cgroup_fds)
    PHASE.now = "error during container init: namespaces"
    for fd, flag in todo.joins:
        ns.setns(fd, flag)
    if todo.new_cgroup_ns:
        ns.unshare(ns.CLONE_NEWCGROUP)
    if todo.new_network:
        loopback_up()
    if steps.tell is not None:
        steps.tell(f"was born in the cgroup, in namespaces of its own: {', '.join(sorted(todo.own))}")
    master, slave = _build(todo)
    PHASE.now = "error during container init: session keyring"
    process.new_keyring()
    PHASE.now = "error during container init: stdio"
    null = open_null() if todo.stdio is None and slave < 0 else -1
    process.take_stdio(todo.stdio, slave, null)
    if slave >= 0:
        tty.set_controlling(0)
    close_but([fd for fd in (sock.fileno(), master, gate_fd, *(todo.init or ())) if fd >= 0])
    PHASE.now = "error during container init: credentials"
    process.become(wanted, caps.last_cap())
    if todo.die_with_parent:
        die_with_parent(sock)
    path = process.find_program(wanted)
    if steps.tell is not None:
        steps.tell(process.became(wanted))
    fds.send_fds(sock, handshake.READY, [master] if master >= 0 else [])
    if master >= 0:
        os.close(master)
    handshake.await_start(sock)
    if steps.tell is not None:
        steps.tell(f"executes {path}")
    if todo.init is not None:
        PHASE.now = "error during container init: the init of --init"
        process.execute_under_init(wanted, path, *todo.init)
    if gate_fd < 0:
        process.execute(wanted, path)
    if not os.read(gate_fd, 1):
        os._exit(1)
    try:
        process.execute(wanted, path)
    except StartError as e:
        os.write(gate_fd, e.message.encode("utf-8", "replace")[:2048])  # who made us has gone; who opened the gate still looks there
        raise


def _build(todo: Plan) -> tuple[int, int]:
    """The tree, the kernel settings, and the change into it. Returns the pty's (master, slave), -1 without."""
    PHASE.now = "error during container init: error mounting"
    try:
        rootfs.clone_sources(todo.mounts)
    except OSError as e:
        name = os.fsdecode(e.filename) if e.filename else ""
        raise StartError(f'error during container init: error mounting "{name}" to rootfs: {(e.strerror or "").lower()}')
    PHASE.now = "error during container init: error preparing rootfs"
    proc = rootfs.private_proc()
    rootfs.make_private(proc)
    root = rootfs.attach_root(todo.rootfs)
    if steps.tell is not None:
        steps.tell("cut its table of mounts off from the host's, and put the union into it")
    PHASE.now = "error during container init: mounts"
    rootfs.mount_all(root, todo.mounts, todo.groups, proc)
    if steps.tell is not None:
        steps.tell("mounted " + ", ".join(op.destination for op in todo.mounts))
    PHASE.now = "error during container init: error creating device nodes"
    if todo.populate_dev:
        devices.populate(root, todo.nodes, proc)
    master = slave = -1
    if todo.process.terminal:
        PHASE.now = "error during container init: terminal"
        master, slave = devices.open_pty(root, todo.process.console_size)
        if todo.populate_dev:
            devices.bind_console(root, slave)
    if steps.tell is not None and todo.populate_dev:
        steps.tell("made the devices of /dev" + (" and a terminal (pty)" if slave >= 0 else ""))
    PHASE.now = "error during container init: working directory"
    make_cwd(root, todo.process.cwd)
    PHASE.now = "error during container init: sysctl"
    sysctl.write(proc, todo.sysctls)
    PHASE.now = "error during container init"
    process.adjust(todo.process, proc)
    PHASE.now = "error during container init: masked and read-only paths"
    for op in todo.mounts:
        if op.destination == "/dev" and op.kind != "bind" and op.set & m.MOUNT_ATTR_RDONLY:
            dev = rootfs.mount_point(root, "/dev", directory=True)
            m.mount_setattr(dev, "", 0, m.MOUNT_ATTR_RDONLY)
            os.close(dev)
    hidden, changed = rootfs.hide(root, todo.masked, todo.readonly)
    if todo.readonly_root:
        m.mount_setattr(root, "", 0, m.MOUNT_ATTR_RDONLY)
    if steps.tell is not None:
        steps.tell(f"hid {steps.count(hidden, 'path')} of /proc and /sys, made {changed} read-only"
                   + (", and the root" if todo.readonly_root else ""))
    PHASE.now = "error during container init: hostname"
    if todo.hostname:
        _socket.sethostname(todo.hostname)
    if todo.domainname:
        uts.set_domainname(todo.domainname)
    if todo.before_pivot is not None:
        PHASE.now = "error during container init: hooks"
        todo.before_pivot()
    PHASE.now = "error during container init: pivot_root"
    rootfs.pivot(root, proc)
    if steps.tell is not None:
        steps.tell((f"took the host name {todo.hostname}, " if todo.hostname else "")
                   + "made the union its root (pivot_root) and let go of the host's tree")
    if todo.propagation:
        flag = plan.PROPAGATION[todo.propagation.removeprefix("r")]
        m.mount(None, "/", None, flag | (m.MS_REC if todo.propagation.startswith("r") else 0))
    return master, slave


def make_cwd(root: int, cwd: str) -> None:
    """Makes a missing working directory, as docker does; beneath the root only. What is wrong with it is told when it is entered."""
    if cwd == "/":
        return
    try:
        os.close(fs.mkdirs_beneath(root, cwd))
    except OSError as e:
        raise StartError(f'error during container init: mkdir {cwd}: {texts.reason(e)}')


def die_with_parent(sock: _socket.socket) -> None:
    prctl.set_parent_death_signal(_SIGKILL)
    if not handshake.parent_is_there(sock):
        os._exit(1)


def open_null() -> int:
    """The container's /dev/null, if it is one."""
    fd = os.open("/dev/null", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not rootfs.is_null(os.fstat(fd)):
        raise StartError("error during container init: /dev/null of the container is not a null device")
    return fd


def loopback_up() -> None:
    """Turns `lo` on in a fresh network namespace."""
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC, 0)
    ioctl(sock.fileno(), _SIOCSIFFLAGS, pack("=16sH22x", b"lo", _IFF_UP_RUNNING))
    sock.close()
