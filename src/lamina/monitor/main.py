# SPDX-License-Identifier: Apache-2.0
"""The monitor of a container: carries out its plan, stays until it ends, and leaves nothing behind.

In order: lock, socket, root mount, user, working directory, cgroup, stdio, init, network, exec; then state.json says running and the
clients hear STARTED. Each step that changed the world registers how it is undone; an error at any of them undoes all. At the end:
output, state.json, socket gone, EXIT to the clients, and only then unmount, cgroup, network, files. Whoever wants to start or remove
the container takes the lock (lock.py) first, and so waits for the end of all that.

The plan, pure data: {"version":1, "id", "name", "run_dir" (of the socket), "state_path", "rootfs" (mount point of the root; made and
removed), "mount": {"type":"overlay","lowers" (top first),"upper","work","volatile"} or {"type":"bind","source"}, "spec" (OCI config.json),
"user" ("name:group", resolved in the root), "group_add", "workdir" (made if missing), "network" (network.plug's plan), "cgroup",
"monitor_cgroup", "tty", "open_stdin", "stdin_once", "console_size"?: [rows, columns], "log": {"path","max_size","max_file"} or null,
"seccomp_path" or null, "restart"? (restarts.py), "finished_at"? (of the run before), "events"?: {"path","attributes"} (start, die, oom, pause, unpause go to that journal), "auto_remove",
"remove": [paths deleted after the exit was told]}. All paths are absolute; unknown keys are ignored.
Also "init"?: true if an init of ours (runtime/initprogram.py) is to be process 1.
"""
from __future__ import annotations

import errno
import os

import lamina.errors as errors
from lamina.containers import state as states
from lamina.linux import fs, mount, ns, signals
from lamina.linux._libc import AT_FDCWD
from lamina.monitor import cleanup, launch, loop, place, protocol
from lamina.monitor.client import SOCK
from lamina.monitor.lock import lock as lock
from lamina.monitor.stdio import Stdio
from lamina.runtime import create, profile, users
from lamina.runtime.cgroups import Cgroup
from lamina.store import presence
from lamina.util import steps, times

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Mapping
    from typing import Any

    from lamina.monitor.publishing import Published
    from lamina.runtime.handshake import Init


# What `rewind` tells (--explain); what isn't here goes by itself.
UNDONE = {"root": "unmounted the union: {rootfs}", "cgroup": "removed the cgroup {cgroup}", "network": "saw the network interface go",
          "ports": "let go of the published ports"}


def run(plan: dict[str, Any], sock: _socket.socket, attach: Mapping[str, bool] | None) -> int:
    """Runs the plan to its end; 0 if the container was started, whatever became of it. All errors go to the clients and state.json."""
    container = Container(plan)
    container.server.add(sock, dict(attach) if attach else None)
    try:
        container.start()
    except BaseException as e:
        container.fail(e)
        container.leave()
        container.linger()
        return 1
    try:
        code = container.serve()
    except BaseException as e:
        code = container.abandon(e)
    container.end(code)
    container.leave()
    container.linger()
    return 0


class Container(loop.Session):
    def __init__(self, plan: dict[str, Any]) -> None:
        about = {"id": plan["id"], "tty": bool(plan.get("tty")), "open_stdin": bool(plan.get("open_stdin"))}
        super().__init__(about, own_pidns=launch.owns_pidns(plan))
        self.plan = plan
        self.undo: list[tuple[str, Callable[[], None]]] = []
        self.cgroup: Cgroup | None = None
        self.init: Init | None = None
        self.published: Published | None = None
        self.state = states.State(boot_id=ns.boot_id(), monitor_pid=ns.own_pid(), monitor_start_time=ns.start_time())
        self.lock_fd = -1
        self.marker = ""
        self.clean = True  # False: something could not be undone, and the next command shall come for it

    # -- start

    def start(self) -> None:
        """Everything up to the running process. Raises LaminaError or OSError; `fail` undoes what was done."""
        plan = self.plan
        run_dir = plan["run_dir"]
        self.take_over()
        os.makedirs(run_dir, 0o700, exist_ok=True)
        self.lock_fd = lock(run_dir)
        self.server.listen(run_dir, SOCK)
        if steps.tell is not None:
            steps.tell(f"took the plan, as process {self.state.monitor_pid} of the host; clients find it at {run_dir}/{SOCK}")
        self.undo.append(("socket", self.close_socket))
        spec = dict(plan["spec"])
        process = spec["process"] = dict(spec.get("process") or {})
        self.mount_root()
        root = os.open(plan["rootfs"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.prepare_process(root, process)
        finally:
            os.close(root)
        resources = (spec.get("linux") or {}).get("resources") or {}
        if plan.get("cgroup"):
            self.cgroup = Cgroup.create(plan["cgroup"], resources, layout=place.layout())
            if steps.tell is not None:
                steps.tell(f"made the cgroup {plan['cgroup']}" + (", with limits" if resources.keys() - {"devices"} else ""))
            self.undo.append(("cgroup", self.cgroup.remove))
        self.open_stdio()
        self.launch_init(spec)
        self.tell_started()

    def take_over(self) -> None:
        """From here on it is our absence that others notice (store.presence)."""
        marker = self.plan.get("marker")
        if marker:
            name = presence.name_of(self.state.monitor_pid, self.state.monitor_start_time, self.plan["id"])
            try:
                self.marker = presence.take(marker, name)
            except FileNotFoundError:
                raise errors.StartError("the command that wanted it was killed, and another one has tidied up")

    def mount_root(self) -> None:
        plan, target = self.plan, self.plan["rootfs"]
        how = plan["mount"]
        os.makedirs(target, 0o700, exist_ok=True)
        cleanup.unmount_all(target)  # what a killed monitor left; nobody else can be using it, we hold the lock
        self.undo.append(("root", lambda: cleanup.remove_mount(target)))
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
        inner = None
        if plan.get("init"):
            from lamina.runtime import initprogram

            inner = initprogram.open_program()
        try:
            init = self.init = create.create(spec, rootfs=plan["rootfs"], container_id=plan["id"], stdio=stdio.child_fds(),
                                             terminal=stdio.tty, cgroup=self.cgroup, seccomp=read_seccomp(plan), init=inner)
        finally:
            for fd in inner or ():
                os.close(fd)
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
                if loop.has_ended(init.pidfd):
                    init.wait_ready()  # it died meanwhile: its own words are the reason
                raise
            if steps.tell is not None:
                steps.tell(f"put {plug.INTERFACE} with {network['ipv4']} into its network namespace; the other end, {name}, is on the bridge "
                           f"{network['bridge']}" if name else "turned on lo, the only interface of its network namespace")
            self.undo.insert(0, ("network", lambda: plug.unplug(network, name)))  # last of all: by then the namespace's death has done it
            if network.get("ports"):
                from lamina.monitor import publishing

                self.published = publishing.Published(network, name)
                self.undo.append(("ports", self.close_ports))
                if steps.tell is not None:
                    steps.tell("published its ports: the firewall's table sends them in, and sockets hold them")
                self.relay = self.published.relay
        init.wait_ready()
        if stdio.tty:
            master, init.master_fd = init.master_fd, -1
            stdio.use_master(master)
        init.start()
        self.pid, self.pidfd = init.pid, init.pidfd

    def settle(self) -> None:
        """What can be done while the init builds its world: this process's own cgroups, the log, and the last imports."""
        from lamina.monitor import logs

        get_ready()
        place.settle()
        log = self.plan.get("log")
        if log:
            self.log = logs.LogWriter(log["path"], log.get("max_size", logs.MAX_SIZE), log.get("max_file", logs.MAX_FILE))

    def tell_started(self) -> None:
        state = self.state
        assert self.init is not None
        state.status, state.pid, state.start_time, state.started_at = states.RUNNING, self.pid, self.init.start_time, times.now_ns()
        self.save()
        self.event("start")
        if steps.tell is not None:
            steps.tell(f"let process {self.pid} execute its command, and wrote so into {self.plan['state_path']}")
        started = protocol.json_frame(protocol.M_STARTED, {"pid": self.pid, "started_at": state.started_at})
        self.server.started = started
        self.server.broadcast(started)

    # -- requests

    def signal(self, number: int) -> None:
        super().signal(number)
        if self.state.status == states.PAUSED and number in (signals.SIGKILL, signals.parse(self.plan.get("stop_signal") or "SIGTERM")):
            self.unpause()  # as docker: who is to end must be let go on to do so

    def pause(self) -> None:
        if self.cgroup is None:
            raise errors.NotSupported("the container has no cgroup, so it can't be paused")
        if self.state.status == states.PAUSED:
            raise errors.Conflict(f"Container {self.plan['id']} is already paused")
        self.cgroup.freeze()
        if steps.tell is not None:
            steps.tell(f"froze the cgroup {self.cgroup.path}")
        self.state.status = states.PAUSED
        self.save()
        self.event("pause")

    def unpause(self) -> None:
        if self.state.status != states.PAUSED or self.cgroup is None:
            raise errors.Conflict(f"Container {self.plan['id']} is not paused")
        self.cgroup.thaw()
        if steps.tell is not None:
            steps.tell(f"let the cgroup {self.cgroup.path} go on")
        self.state.status = states.RUNNING
        self.save()
        self.event("unpause")

    # -- the end

    def end(self, code: int) -> None:
        """The process has ended: the last word to disk and clients, then everything is undone."""
        state = self.state
        state.status, state.pid, state.exit_code, state.finished_at = states.EXITED, 0, code, times.now_ns()
        if self.cgroup is not None:
            try:
                state.oom_killed = self.cgroup.oom_killed()
            except OSError:
                pass
        self.pid, self.init = 0, None
        self.withdraw_ports()
        if not self.own_pidns:
            self.kill_rest()
        self.save()
        if state.oom_killed:
            self.event("oom")
        if steps.tell is not None:
            steps.tell(f"saw the end of process 1, exit code {code}, and wrote so into {self.plan['state_path']}")
        self.event("die", exitCode=str(code), execDuration=str(max(0, state.finished_at - state.started_at) // times.BILLION))
        self.undo = [(what, undo) for what, undo in self.undo if what != "socket"]
        self.close_socket()
        self.server.finish(loop.exit_frame(code))
        clean = self.rewind()
        if not self.plan.get("auto_remove"):
            self.make_durable()
        self.clean = clean
        for path in self.plan.get("remove") or () if clean else ():  # else the next command, which finds them, finishes it
            cleanup.remove_tree(path)
            if steps.tell is not None:
                steps.tell(f"removed {path}, as it was run with --rm")
        self.unlock()

    def abandon(self, error: BaseException) -> int:
        """We can serve it no more (an error of our own, such as no memory): it ends as if we had been killed, but cleanly."""
        self.state.error = f"monitor failed: {protocol.describe(error)['message']}"
        self.kill_init()
        self.close_stdio()
        return 137

    def fail(self, error: BaseException) -> None:
        """It could not be started: undoes what was done, and says why. A container that never ran stays "created", as docker has it."""
        mine = self.lock_fd >= 0
        self.rewind()
        told = protocol.describe(error)
        if mine:
            self.state.status, self.state.pid = states.CREATED, 0
            self.state.exit_code, self.state.error = told["exit_code"], told["message"]
            self.save()
        self.server.finish(protocol.json_frame(protocol.M_ERROR, told))
        if mine:
            if self.plan.get("auto_remove"):
                for path in self.plan.get("remove") or ():
                    cleanup.remove_tree(path)
            self.unlock()

    def rewind(self) -> bool:
        """Undoes the steps, last first; False if one failed. That doesn't keep the others from being undone."""
        clean = True
        while self.undo:
            _, undo = self.undo.pop()
            try:
                undo()
            except (OSError, errors.LaminaError):
                clean = False
        return clean

    def save(self) -> None:
        try:
            states.save(self.plan["state_path"], self.state)
        except OSError:
            pass  # a full disk must not end a container; readers see the last state, and that the monitor lives or not

    def event(self, action: str, **more: str) -> None:
        """One line for the journal, in docker's words; before the clients are told, so that theirs come later."""
        where = self.plan.get("events")
        if where:
            from lamina.store import events

            try:
                events.append(where["path"], "container", action, self.plan["id"], {**where["attributes"], **more})
            except (OSError, errors.LaminaError):
                pass  # news, not worth a container

    def make_durable(self) -> None:
        """The exit code of a kept container survives a power cut; after it was told, since this waits for the disk."""
        path = self.plan["state_path"]
        for name in (path, os.path.dirname(path)):
            try:
                fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                os.fsync(fd)
            except OSError:
                pass
            finally:
                os.close(fd)

    # -- how steps are undone

    def close_socket(self) -> None:
        self.server.close_listener()
        cleanup.unlink(os.path.join(self.plan["run_dir"], SOCK))

    def close_stdio(self) -> None:
        if self.stdio is not None:
            self.stdio.close()
            self.stdio = None
        if self.log is not None:
            self.log.close()
            self.log = None

    def withdraw_ports(self) -> None:
        """The host's ports are free after this; what takes long about it is left to `close_ports`, after the exit was told."""
        self.relay = None
        if self.published is not None:
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

    def leave(self) -> None:
        if self.marker and self.clean:
            presence.leave(self.marker)

    def unlock(self) -> None:
        os.close(self.lock_fd)
        self.lock_fd = -1


def get_ready() -> None:
    """The last imports, also for what comes at the end: after its start a monitor must not need its own files any more."""
    from lamina.monitor import logs  # noqa: F401
    from lamina.network import plug  # noqa: F401
    from lamina.store import events, trash  # noqa: F401


def fill_process(root: int, process: dict[str, Any], plan: Mapping[str, Any]) -> None:
    """Completes the OCI process by the plan's "user", "group_add" and "console_size": ids by the root's own files, HOME as docker does."""
    uid, gid, groups, home = users.resolve(root, plan.get("user") or "", plan.get("group_add") or ())
    process["user"] = {**(process.get("user") or {}), "uid": uid, "gid": gid, "additionalGids": list(groups)}
    env = list(process.get("env") or ())
    if home and not any(entry.startswith("HOME=") for entry in env):
        env.append("HOME=" + home)
    process["env"] = env
    size = plan.get("console_size")
    if size:
        process["consoleSize"] = {"height": size[0], "width": size[1]}


def read_seccomp(plan: Mapping[str, Any]) -> bytes | None:
    """The filter's bytes; an error when the file that the plan names doesn't hold one that can be believed."""
    path = plan.get("seccomp_path")
    if not path:
        return None
    program = profile.load(path)
    if program is None:
        raise OSError(errno.EINVAL, "not a seccomp filter of ours", path)
    return program
