# SPDX-License-Identifier: Apache-2.0
"""The monitor of a container: carries out its plan, stays until it ends, and leaves nothing behind.

In order: lock, socket, root mount, user, working directory, cgroup, stdio, init, network, exec; then state.json says running and the
clients hear STARTED. Each step that changed the world registers how it is undone; an error at any of them undoes all. At the end:
output, state.json, socket gone, EXIT to the clients, and only then unmount, cgroup, network, files. Whoever wants to start or remove
the container takes the lock (lock.py) first, and so waits for the end of all that. A restart policy repeats what comes after the root
mount; lock, socket and root stay meanwhile.

The plan, pure data: {"version":1, "id", "name", "run_dir" (of the socket), "state_path", "rootfs" (mount point of the root; made and
removed), "mount": {"type":"overlay","lowers" (top first),"upper","work","volatile"} or {"type":"bind","source"}, "spec" (OCI config.json),
"user" ("name:group", resolved in the root), "group_add", "workdir" (made if missing), "network" (network.plug's plan), "cgroup",
"monitor_cgroup", "tty", "open_stdin", "stdin_once", "console_size"?: [rows, columns], "log": {"path","max_size","max_file"} or null,
"seccomp_path" or null, "restart"? (restarts.py), "started_at", "finished_at"? (of a former start), "auto_remove", "events"?:
{"path","attributes"} (start, die, oom, pause, unpause and health_status go to that journal), "health"? (health.py),
"remove": [paths deleted after the exit was told]}. All paths are absolute; unknown keys are ignored.
Also "init"?: true if an init of ours (runtime/initprogram.py) is to be process 1; "runtime"?: the program of another OCI runtime;
"ipc_from"?: {"pid", "start_time", "shm"}: the process whose /dev/shm is shared, and where it is mounted meanwhile.
"""
from __future__ import annotations

import os
import time

import lamina.errors as errors
from lamina.containers import state as states
from lamina.linux import ns, signals
from lamina.monitor import cleanup, loop, protocol
from lamina.monitor.lock import lock as lock
from lamina.monitor.making import Making, donors
from lamina.monitor.making import get_ready as get_ready
from lamina.monitor.restarts import NEVER, Restarts
from lamina.monitor.sockets import SOCK
from lamina.store import presence
from lamina.util import steps, times

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Mapping
    from typing import Any

    from lamina.monitor.health import Health


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
    while True:
        try:
            code = container.serve()
        except BaseException as e:
            code = container.abandon(e)
        if not container.again(code):
            break
    container.end(code)
    container.leave()
    container.linger()
    return 0


class Container(Making):
    def __init__(self, plan: dict[str, Any]) -> None:
        super().__init__(plan)
        self.health: Health | None = None
        self.state = states.State(boot_id=ns.boot_id(), monitor_pid=ns.own_pid(), monitor_start_time=ns.start_time(),
                                  started_at=int(plan.get("started_at") or 0), finished_at=int(plan.get("finished_at") or 0))
        self.stop_signal = signals.parse(plan.get("stop_signal") or "SIGTERM")
        self.restarts = Restarts(plan.get("restart") or {}, self.stop_signal)
        self.state.restart_count = self.restarts.count
        self.donors: dict[int, int] = {}
        self.lock_fd = -1
        self.marker = ""
        self.clean = True  # False: something could not be undone, and the next command shall come for it

    # -- start

    def start(self) -> None:
        """Everything up to the running process. Raises LaminaError or OSError; `fail` undoes what was done."""
        run_dir = self.plan["run_dir"]
        self.take_over()
        os.makedirs(run_dir, 0o700, exist_ok=True)
        self.lock_fd = lock(run_dir)
        self.server.listen(run_dir, SOCK)
        if steps.tell is not None:
            steps.tell(f"took the plan, as process {self.state.monitor_pid} of the host; clients find it at {run_dir}/{SOCK}")
        self.undo_last.append(("socket", self.close_socket))
        self.mount_root()
        self.donors = donors(self.plan["spec"])
        self.begin()

    def begin(self) -> None:
        """One run, from the root that is mounted to the running process; the clients hear of it."""
        self.make()
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

    def tell_started(self) -> None:
        state = self.state
        assert self.init is not None
        state.status, state.pid, state.start_time, state.started_at = states.RUNNING, self.pid, self.init.start_time, times.now_ns()
        state.exit_code, state.oom_killed, state.error = 0, False, ""
        self.watch_health()
        self.save()
        self.event("start")
        if steps.tell is not None:
            steps.tell(f"let process {self.pid} execute its command, and wrote so into {self.plan['state_path']}")
        started = protocol.json_frame(protocol.M_STARTED, {"pid": self.pid, "started_at": state.started_at})
        self.server.started = started
        self.server.broadcast(started)

    def watch_health(self) -> None:
        if self.plan.get("health"):
            from lamina.monitor.health import Health

            self.health = Health(self.plan, self.pid, self.state.start_time, self.pidfd, self.health_changed)
            self.parts.append(self.health)
            self.state.health = self.health.status

    def health_changed(self) -> None:
        assert self.health is not None
        self.state.health = self.health.status
        self.save()
        self.event(f"health_status: {self.health.status}")

    # -- requests

    def signal(self, number: int) -> None:
        self.restarts.signalled(number)
        if self.state.status == states.RESTARTING:
            return  # there is no process; docker says nothing either
        super().signal(number)
        if self.state.status == states.PAUSED and number in (signals.SIGKILL, self.stop_signal):
            self.unpause()  # as docker: who is to end must be let go on to do so

    def restart(self, how: dict[str, Any]) -> None:
        if how.get("cancel") is True:
            self.restarts.cancelled = True
        if isinstance(how.get("policy"), dict):
            self.restarts.set(how["policy"])
        if isinstance(how.get("resources"), dict):
            spec = self.plan["spec"]
            linux = spec.get("linux") or {}
            self.plan["spec"] = {**spec, "linux": {**linux, "resources": {**(linux.get("resources") or {}), **how["resources"]}}}

    def pause(self) -> None:
        if self.state.status == states.RESTARTING:
            raise errors.Conflict(f"Container {self.plan['id']} is restarting, wait until the container is running")
        if self.cgroup is None:
            raise errors.NotSupported("the container has no cgroup, so it can't be paused")
        if self.state.status == states.PAUSED:
            raise errors.Conflict(f"Container {self.plan['id']} is already paused")
        if self.health is not None:
            self.health.pause()
            self.state.health = self.health.status
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
        if self.health is not None:
            self.health.resume()
        if steps.tell is not None:
            steps.tell(f"let the cgroup {self.cgroup.path} go on")
        self.state.status = states.RUNNING
        self.save()
        self.event("unpause")

    # -- the end

    def again(self, code: int) -> bool:
        """The process has ended. Whether it runs again, by the restart policy, once its time has come; requests are served meanwhile."""
        state = self.state
        wait = self.restarts.after(code, (times.now_ns() - state.started_at) / times.BILLION)
        if wait == NEVER:
            return False
        state.restart_count = self.restarts.count
        self.note_end(code, states.RESTARTING)
        self.server.dismiss(loop.exit_frame(code))
        self.rewind(self.undo)
        end = time.monotonic() + wait
        try:
            while not self.restarts.cancelled and (left := end - time.monotonic()) > 0:
                self._turn(left * 1000 + 1)
            if self.restarts.cancelled:
                return False
            self.check_donors()
            self.begin()
        except BaseException as e:
            self.rewind(self.undo)
            state.error = protocol.describe(e)["message"]
            return False
        return True

    def check_donors(self) -> None:
        """Before another run: the containers whose namespaces it joins are the same as before."""
        try:
            same = donors(self.plan["spec"]) == self.donors
        except ProcessLookupError:
            same = False
        if not same:
            raise errors.StartError("the container whose namespaces it joins has ended, or was started again")

    def note_end(self, code: int, status: str) -> None:
        """Writes down that a run has ended, and how. The host's ports are free, and nobody of the container lives, when this returns."""
        state = self.state
        state.status, state.pid, state.exit_code, state.finished_at = status, 0, code, times.now_ns()
        if self.cgroup is not None:
            try:
                state.oom_killed = self.cgroup.oom_killed()
            except OSError:
                pass
        self.pid, self.init = 0, None
        self.withdraw_ports()
        if not self.own_pidns:
            self.kill_rest()
        if self.health is not None:
            self.parts = [part for part in self.parts if part is not self.health]
            self.health.close()
            state.health, self.health = self.health.status, None
        self.save()
        if state.oom_killed:
            self.event("oom")
        if steps.tell is not None:
            steps.tell(f"saw the end of process 1, exit code {code}, and wrote so into {self.plan['state_path']}")
        self.event("die", exitCode=str(code), execDuration=str(max(0, state.finished_at - state.started_at) // times.BILLION))

    def end(self, code: int) -> None:
        """It stays ended: the last word to disk and clients, then everything is undone."""
        if self.state.status == states.RESTARTING:
            self.state.status = states.EXITED
            self.save()
        else:
            self.note_end(code, states.EXITED)
        self.undo_last = [(what, undo) for what, undo in self.undo_last if what != "socket"]
        self.close_socket()
        self.server.finish(loop.exit_frame(code))
        clean = self.rewind(self.undo) & self.rewind(self.undo_last)
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
        self.rewind(self.undo)
        self.rewind(self.undo_last)
        told = protocol.describe(error)
        if mine:
            self.state.status, self.state.pid = states.EXITED if self.state.finished_at else states.CREATED, 0
            self.state.exit_code, self.state.error = told["exit_code"], told["message"]
            self.save()
        self.server.finish(protocol.json_frame(protocol.M_ERROR, told))
        if mine:
            if self.plan.get("auto_remove"):
                for path in self.plan.get("remove") or ():
                    cleanup.remove_tree(path)
            self.unlock()

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

    def close_socket(self) -> None:
        self.server.close_listener()
        cleanup.unlink(os.path.join(self.plan["run_dir"], SOCK))

    def leave(self) -> None:
        if self.marker and self.clean:
            presence.leave(self.marker)

    def unlock(self) -> None:
        os.close(self.lock_fd)
        self.lock_fd = -1
