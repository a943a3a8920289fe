# SPDX-License-Identifier: Apache-2.0
"""Runs one more process in a running container.  [hot]

Two steps: a helper process joins cgroup and namespaces and takes on the container's identity; only then it clones the process
proper, as our own child (CLONE_PARENT). What appears in the container's pid namespace has therefore, from its first instant, no
right and no descriptor that the container doesn't have, and isn't dumpable: ptrace by its root gains nothing (CVE-2016-9962).
"""
from __future__ import annotations

import os
import select
from _struct import pack

from lamina.errors import StartError
from lamina.linux import caps, fds, ns, tty
from lamina.util import steps

from . import create, devices, handshake, process, rootfs, texts
from .cgroups.cgroup import Cgroup, enter_fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Mapping, Sequence
    from typing import Any

_JOIN = ns.CLONE_NEWNS | ns.CLONE_NEWPID | ns.CLONE_NEWNET | ns.CLONE_NEWIPC | ns.CLONE_NEWUTS | ns.CLONE_NEWCGROUP


class ExecProcess(handshake.Init):
    """As Init; pid, pidfd and start_time are the helper's until wait_ready has returned, then the process's own."""

    __slots__ = ("is_helper",)

    def __init__(self, pid: int, pidfd: int, sock: _socket.socket, prefix: str) -> None:
        super().__init__(pid, pidfd, sock, prefix)
        self.is_helper = True

    def _next(self) -> tuple[bytes, list[int]]:
        # The clone holds the socket as well: the end of the stream alone wouldn't tell that the helper was killed.
        if self.is_helper:
            assert self.sock is not None
            poll = select.poll()
            poll.register(self.sock.fileno(), select.POLLIN)
            poll.register(self.pidfd, select.POLLIN)
            ready = dict(poll.poll())
            if self.sock.fileno() not in ready and not self._said():
                return b"", []
        return super()._next()

    def _said(self) -> bool:
        """Whether a message came between poll's look at the socket and the helper's end."""
        assert self.sock is not None
        return bool(select.select([self.sock], [], [], 0)[0])

    def _took(self, message: bytes, received: Sequence[int]) -> None:
        os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        os.close(self.pidfd)
        self.is_helper = False
        self.pidfd = received[0]
        self.pid = ns.pid_of(self.pidfd)
        self.master_fd = received[1] if len(received) > 1 else -1
        try:
            self.start_time = ns.start_time(self.pid)
        except ProcessLookupError:
            self._fail(b"")


def exec_process(init_pid: int, process_spec: dict[str, Any], *, spec: dict[str, Any], cgroup_paths: Mapping[str, str] | None = None,
                 stdio: tuple[int, int, int] | None = None, terminal: bool = False, seccomp: bytes | None = None,
                 init_start_time: int | None = None, init_pidfd: int = -1, die_with_parent: bool = True) -> ExecProcess:
    """Starts to make a process in the container whose init is (init_pid, init_start_time), or the process of init_pidfd (which stays
    the caller's); see `ExecProcess` and `handshake.Init`.

    process_spec: OCI's `process`. spec: the container's config.json (its `linux` part counts). cgroup_paths: `Cgroup.paths` of the
    container. stdio, terminal, seccomp, die_with_parent: as for `create`. StartError if the container isn't running any more.
    The caller must reap the process: the container's init can't finish dying while a process of its pid namespace is a zombie.
    """
    wanted = process.Process(process_spec, spec.get("linux") or {}, terminal=terminal, program=seccomp)
    into, entering, pidfd = -1, [], -1
    try:
        try:
            if init_pidfd >= 0:
                pidfd = os.dup(init_pidfd)
            else:
                pidfd = ns.open_process(init_pid, ns.start_time(init_pid) if init_start_time is None else init_start_time)
        except ProcessLookupError:
            raise StartError("cannot exec in a stopped container")
        if cgroup_paths:
            group = Cgroup("/", cgroup_paths)
            into = group.clone_fd()
            entering = group.prepare_enter(cloned_into=into >= 0)
        keep = [*entering, *(stdio or ()), pidfd]
        made = create.fork_child(lambda sock: _helper(wanted, sock, pidfd, entering, stdio, die_with_parent), 0, keep, texts.EXEC,
                                 into=into, kind=ExecProcess)
        assert isinstance(made, ExecProcess)
        return made
    finally:
        for fd in (into, pidfd, *entering):
            if fd >= 0:
                os.close(fd)


def _helper(wanted: process.Process, sock: _socket.socket, pidfd: int, entering: Sequence[int], stdio: Sequence[int] | None,
            die_with_parent: bool) -> None:
    phase = create.PHASE
    os.umask(0)
    phase.now = "error entering the container's cgroup"
    enter_fds(entering)
    phase.now = "error preparing the process"
    process.new_keyring()
    process.adjust(wanted, rootfs.private_proc())
    phase.now = "error joining the container's namespaces"
    ns.setns(pidfd, _JOIN)
    os.chdir("/")
    if steps.tell is not None:
        steps.tell("entered the container's cgroup, then its namespaces: cgroup, ipc, mount, network, pid, uts")
    phase.now = "error preparing stdio"
    master = slave = null = -1
    if wanted.terminal:
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        master, slave = devices.open_pty(root, wanted.console_size)
    elif stdio is None:
        null = create.open_null()
    process.take_stdio(stdio, slave, null)
    create.close_but([fd for fd in (sock.fileno(), master) if fd >= 0])
    phase.now = "error setting credentials"
    process.become(wanted, caps.last_cap())
    path = process.find_program(wanted)
    if steps.tell is not None:
        steps.tell(process.became(wanted))
    phase.now = "error forking"
    pid, child_pidfd = ns.clone_sibling()
    if pid:
        fds.send_fds(sock, handshake.READY + pack("=i", pid), [child_pidfd, master] if master >= 0 else [child_pidfd])
        os._exit(0)
    phase.now = "error starting the process"
    if master >= 0:
        os.close(master)
    os.setsid()
    if wanted.terminal:
        tty.set_controlling(0)
    if die_with_parent:
        create.die_with_parent(sock)
    handshake.await_start(sock)
    if steps.tell is not None:
        steps.tell(f"executes {path}")
    process.execute(wanted, path)
