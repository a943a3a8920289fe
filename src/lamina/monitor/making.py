# SPDX-License-Identifier: Apache-2.0
"""Making one run of a container, step by step, and how each step is undone: for its monitor (main). [hot]

`undo` has what this run did, `undo_last` what every run of this monitor uses. See main for the order, and for the plan.
"""
from __future__ import annotations

import os
import time

import lamina.errors as errors
from lamina.linux import fs, mount, ns
from lamina.linux._libc import AT_FDCWD
from lamina.monitor import cleanup, launch, loop, place
from lamina.monitor.filling import fill_process, read_seccomp
from lamina.monitor.stdio import Stdio
from lamina.runtime import create
from lamina.runtime.cgroups import Cgroup
from lamina.util import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from lamina.monitor.publishing import Published
    from lamina.runtime.handshake import Init


# What `rewind` tells (--explain); what isn't here goes by itself.
UNDONE = {"root": "unmounted the union: {rootfs}", "cgroup": "removed the cgroup {cgroup}", "network": "saw the network interface go",
          "ports": "let go of the published ports"}


class Making(loop.Session):
    """The session of a container, as far as it is about making and unmaking what it runs in."""

    def __init__(self, plan: dict[str, Any]) -> None:
        about = {"id": plan["id"], "tty": bool(plan.get("tty")), "open_stdin": bool(plan.get("open_stdin"))}
        super().__init__(about, own_pidns=launch.owns_pidns(plan))
        self.plan = plan
        self.undo: list[tuple[str, Callable[[], None]]] = []
        self.undo_last: list[tuple[str, Callable[[], None]]] = []
        self.cgroup: Cgroup | None = None
        self.init: Init | None = None
        self.published: Published | None = None

    def make(self) -> None:
        """One run, from the root that is mounted to the running process."""
        plan = self.plan
        spec = dict(plan["spec"])
        process = spec["process"] = dict(spec.get("process") or {})
        root = os.open(plan["rootfs"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.prepare_process(root, process)
        finally:
            os.close(root)
        resources = (spec.get("linux") or {}).get("resources") or {}
        if plan.get("cgroup"):
            self.create_cgroup(resources)
            if steps.tell is not None:
                steps.tell(f"made the cgroup {plan['cgroup']}" + (", with limits" if resources.keys() - {"devices"} else ""))
        if plan.get("ipc_from"):
            self.borrow_shm()
        self.open_stdio()
        self.launch_init(spec)

    def create_cgroup(self, resources: dict[str, Any]) -> None:
        plan, parents = self.plan, 0
        if os.path.dirname(plan["cgroup"]) != os.path.dirname(plan.get("monitor_cgroup") or "/"):
            from lamina.runtime.cgroups.cgroup import missing_parents

            parents = missing_parents(plan["cgroup"], place.layout())  # of --cgroup-parent; the engine's own stays
        group = self.cgroup = Cgroup.create(plan["cgroup"], resources, layout=place.layout())
        self.undo.append(("cgroup", lambda: group.remove(parents=parents)))

    def borrow_shm(self) -> None:
        """/dev/shm of the container whose IPC namespace is joined, where the spec expects it: on the host for the start only."""
        from lamina.runtime import borrow

        donor = self.plan["ipc_from"]
        target = donor["shm"]
        cleanup.unmount_all(target)
        fd = borrow.shm_of(donor["pid"], donor["start_time"])
        try:
            os.makedirs(target, 0o700, exist_ok=True)
            self.undo.append(("shm", lambda: cleanup.remove_mount(target)))
            mount.attach(fd, target)
        finally:
            os.close(fd)

    def mount_root(self) -> None:
        plan, target = self.plan, self.plan["rootfs"]
        how = plan["mount"]
        os.makedirs(target, 0o700, exist_ok=True)
        cleanup.unmount_all(target)  # what a killed monitor left; nobody else can be using it, we hold the lock
        self.undo_last.append(("root", lambda: cleanup.remove_mount(target)))
        if how["type"] == "overlay":
            fd = mount.overlay(how["lowers"], how.get("upper"), how.get("work"), volatile=bool(how.get("volatile")))
        elif how["type"] == "bind":
            fd = mount.open_tree(AT_FDCWD, how["source"], mount.OPEN_TREE_CLONE)
        else:
            raise errors.StartError(f"plan with an unknown kind of root: {how['type']!r}")
        try:
            mount.mount_setattr(fd, "", propagation=mount.MS_PRIVATE)
            mount.attach(fd, target)
        finally:
            os.close(fd)
        if steps.tell is not None:
            upper = how.get("upper")
            steps.tell(f"mounted the union at {target}: " + (f"{upper} over {' over '.join(how['lowers'])}" if upper else how["source"]))

    def prepare_process(self, root: int, process: dict[str, Any]) -> None:
        """Fills in what only the root can tell: user, groups, HOME; and makes the working directory."""
        plan = self.plan
        fill_process(root, process, plan)
        workdir = plan.get("workdir") or process.get("cwd") or "/"
        if workdir != "/":
            try:
                os.close(fs.mkdirs_beneath(root, workdir, 0o755))
            except NotADirectoryError:
                raise errors.StartError(f"Cannot mkdir: {workdir} is not a directory")
            except OSError as e:
                raise errors.StartError(f"can't make the working directory {workdir}: {e.strerror}")
        process["cwd"] = workdir

    def open_stdio(self) -> None:
        plan = self.plan
        self.stdin_once = bool(plan.get("stdin_once"))
        self.stdio = Stdio(tty=bool(plan.get("tty")), stdin=bool(plan.get("open_stdin")))
        self.undo.append(("stdio", self.close_stdio))

    def launch_init(self, spec: dict[str, Any]) -> None:
        plan, stdio = self.plan, self.stdio
        assert stdio is not None
        init = self.init = self.create_elsewhere(spec) if plan.get("runtime") else self.create_init(spec)
        self.undo.append(("init", self.kill_init))
        if steps.tell is not None:
            steps.tell(f"made process {init.pid} of the host, which will be process 1 of the container")
        stdio.release_child_fds()
        self.settle()
        network = plan.get("network") or {}
        if network.get("mode") in ("bridge", "none"):
            from lamina.network import plug

            try:
                name = plug.plug(network, init.pid)
            except (OSError, errors.LaminaError):
                heed(init)
                raise
            if steps.tell is not None:
                steps.tell(f"put {plug.INTERFACE} with {network['ipv4']} into its network namespace; the other end, {name}, is on the "
                           f"bridge {network['bridge']}" if name else "turned on lo, the only interface of its network namespace")
            self.undo.insert(0, ("network", lambda: plug.unplug(network, name)))  # last of all: by then the namespace's death has done it
            if network.get("ports"):
                from lamina.monitor import publishing

                try:
                    self.published = publishing.Published(network, name)
                except (OSError, errors.LaminaError):
                    heed(init)
                    raise
                self.undo.append(("ports", self.close_ports))
                if steps.tell is not None:
                    steps.tell("published its ports: the firewall's table sends them in, and sockets hold them")
                self.parts.append(self.published.relay)
        init.wait_ready()
        if plan.get("ipc_from"):
            cleanup.remove_mount(plan["ipc_from"]["shm"])  # the container has its own of it
        if stdio.tty:
            master, init.master_fd = init.master_fd, -1
            stdio.use_master(master)
        init.start()
        self.pid, self.pidfd = init.pid, init.pidfd

    def create_init(self, spec: dict[str, Any]) -> Init:
        plan, stdio, inner = self.plan, self.stdio, None
        assert stdio is not None
        if plan.get("init"):
            from lamina.runtime import initprogram

            inner = initprogram.open_program()
        try:
            return create.create(spec, rootfs=plan["rootfs"], container_id=plan["id"], stdio=stdio.child_fds(), terminal=stdio.tty,
                                 cgroup=self.cgroup, seccomp=read_seccomp(plan), init=inner)
        finally:
            for fd in inner or ():
                os.close(fd)

    def create_elsewhere(self, spec: dict[str, Any]) -> Init:
        """The same by the runtime that the plan names."""
        from lamina.monitor import guard
        from lamina.runtime import external

        plan, stdio = self.plan, self.stdio
        assert stdio is not None and self.cgroup is not None
        place.settle()
        pid = guard.watch(self.cgroup)
        self.undo.append(("guard", lambda: guard.dismiss(pid)))
        directory = plan["run_dir"] + "/oci"
        cleanup.remove_tree(directory)  # what a killed monitor left
        runtime = external.Runtime(plan["runtime"], directory, plan["id"])
        self.undo.append(("runtime's directory", lambda: cleanup.remove_tree(directory)))
        made = runtime.create(spec, rootfs=plan["rootfs"], stdio=stdio.child_fds(), init=bool(plan.get("init")))
        self.undo.append(("runtime", runtime.delete))
        block = ((spec.get("linux") or {}).get("resources") or {}).get("blockIO")
        if block:
            Cgroup.open(plan["cgroup"], layout=place.layout()).update({"blockIO": block})
        return made

    def settle(self) -> None:
        """What can be done while the init builds its world: this process's own cgroups, the log, and the last imports."""
        from lamina.monitor import logs

        get_ready()
        place.settle()
        log = self.plan.get("log")
        if self.plan.get("health"):
            from lamina.monitor import health  # noqa: F401
        if log:
            self.log = logs.LogWriter(log["path"], log.get("max_size", logs.MAX_SIZE), log.get("max_file", logs.MAX_FILE))

    # -- how steps are undone

    def rewind(self, done: list[tuple[str, Callable[[], None]]]) -> bool:
        """Undoes the steps, last first; False if one failed. That doesn't keep the others from being undone."""
        clean = True
        while done:
            what, undo = done.pop()
            try:
                undo()
            except (OSError, errors.LaminaError):
                clean = False
                continue
            if steps.tell is not None and what in UNDONE:
                steps.tell(UNDONE[what].format_map(self.plan))
        return clean

    def close_stdio(self) -> None:
        if self.stdio is not None:
            self.stdio.close()
            self.stdio = None
        if self.log is not None:
            self.log.close()
            self.log = None

    def withdraw_ports(self) -> None:
        """The host's ports are free after this; what takes long about it is left to `close_ports`, after the exit was told."""
        if self.published is not None:
            self.parts = [part for part in self.parts if part is not self.published.relay]
            self.published.withdraw()

    def close_ports(self) -> None:
        self.withdraw_ports()
        if self.published is not None:
            self.published.close()
            self.published = None

    def kill_rest(self) -> None:
        """In the host's or another container's pid namespace the first process's end isn't everybody's; as in docker it is made so."""
        if self.cgroup is not None:
            try:
                self.cgroup.kill()
            except (OSError, errors.LaminaError):
                pass  # stuck in the kernel: then the cgroup stays, for the next command

    def kill_init(self) -> None:
        if self.init is not None and self.init.pidfd >= 0:
            self.init.abort()
        self.init, self.pid, self.pidfd = None, 0, -1


def donors(spec: dict[str, Any]) -> dict[int, int]:
    """Start times of the processes whose namespaces are joined (/proc/<pid>/ns/...): a pid alone may mean another one by the next run.
    ProcessLookupError if one has gone."""
    found = {}
    for entry in (spec.get("linux") or {}).get("namespaces") or ():
        words = str(entry.get("path") or "").split("/")
        if words[:2] == ["", "proc"] and words[2].isdigit():
            found[int(words[2])] = ns.start_time(int(words[2]))
    return found


def heed(init: Init) -> None:
    """If it died meanwhile, its own words are the reason why something with it has failed: raises them. Its namespaces go a moment before
    it does."""
    for _ in range(50):
        if loop.has_ended(init.pidfd):
            init.wait_ready()
        time.sleep(0.002)


def get_ready() -> None:
    """The last imports, also for what comes at the end: after its start a monitor must not need its own files any more."""
    from lamina.monitor import logs  # noqa: F401
    from lamina.network import plug  # noqa: F401
    from lamina.store import events, trash  # noqa: F401
