# SPDX-License-Identifier: Apache-2.0
"""An exec: a record that anyone may make, and a monitor of its own that runs it, with the same protocol as a container's.

The record is `<run_dir>/execs/<exec id>.json`: {"version":1,"plan":{..},"state":{..}}; `state` is a State as of a container (containers
.state), written by the exec's monitor only, and as little believed once that is dead. The socket is `<exec id>.sock` beside it. So
create, start, inspect, resize and attach may come from different processes. The monitor stays outside the container; only the joined
child enters its namespaces and cgroup. It dies with its container: the end of the pid namespace ends the process.
Plan: {"version":1,"exec_id","container_id","run_dir","init_pid","init_start_time","process": OCI process,"user","group_add","workdir",
"tty","open_stdin","stdin_once" (default true),"console_size","seccomp_path","cgroup","monitor_cgroup","spec","auto_remove",
"runtime"? (as a container's)}.
"""
from __future__ import annotations

import os
import time

import lamina.errors as errors
from lamina.containers import state as states
from lamina.linux import fs, ns
from lamina.monitor import cleanup, loop, place, protocol
from lamina.monitor.filling import fill_process, read_seccomp
from lamina.monitor.stdio import Stdio
from lamina.runtime import exec as joining
from lamina.runtime.cgroups import Cgroup
from lamina.store import presence
from lamina.util import fastjson, steps, times
from lamina.util.atomic import read_file, write_file
from lamina.util.ids import is_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Mapping
    from typing import Any

    from lamina.runtime.handshake import Init

EXECS = "execs"
PATIENCE = 2.0  # seconds that what it left in the background may go on writing, as docker has it
KEPT = 300.0  # seconds that an ended exec can still be inspected, as docker has it
MAX_RECORD = 16 << 20


def record_path(run_dir: str, exec_id: str) -> str:
    if not is_id(exec_id):
        raise errors.NotFound(f"No such exec instance: {exec_id[:80]}")
    return os.path.join(run_dir, EXECS, exec_id + ".json")


def socket_name(exec_id: str) -> str:
    """Relative to the container's run_dir, for client.connect."""
    return f"{EXECS}/{exec_id}.sock"


def write_record(plan: Mapping[str, Any], state: states.State | None = None) -> None:
    """Makes the record of an exec that is to be started later (exec create), or renews it. Raises OSError."""
    run_dir = plan["run_dir"]
    os.makedirs(os.path.join(run_dir, EXECS), 0o700, exist_ok=True)
    now = states.State() if state is None else state
    record = {"version": 1, "plan": dict(plan), "state": {name: getattr(now, name) for name in now.__slots__}}
    write_file(record_path(run_dir, plan["exec_id"]), fastjson.dump_bytes(record), 0o600, durable=False)


def read_record(run_dir: str, exec_id: str) -> tuple[dict[str, Any], states.State]:
    """(plan, state), the state with the liveness check applied. NotFound with docker's text, StoreError for a damaged record."""
    path = record_path(run_dir, exec_id)
    try:
        record = fastjson.loads(read_file(path, MAX_RECORD))
        state = states.parse(fastjson.dump_bytes(record["state"]))
        plan = record["plan"]
    except FileNotFoundError:
        raise errors.NotFound(f"No such exec instance: {exec_id}")
    except (ValueError, TypeError, KeyError):
        raise errors.StoreError(f"{path}: damaged")
    if state.live and not _alive(state):
        state.status, state.exit_code, state.error, state.pid = states.EXITED, 137, states.MONITOR_LOST, 0
    return plan, state


def _alive(state: states.State) -> bool:
    try:
        return ns.start_time(state.monitor_pid) == state.monitor_start_time and ns.boot_id() == state.boot_id
    except ProcessLookupError:
        return False


def run(plan: dict[str, Any], sock: _socket.socket, attach: Mapping[str, bool] | None, init: int = -1) -> int:
    """Runs an exec plan to its end; 0 if the process was started. All errors go to the clients and into the record.

    init: pidfd of the container's first process, for who can't open it by its number, in a pid namespace that isn't /proc's.
    """
    session = Exec(plan, init)
    session.server.add(sock, dict(attach) if attach else None)
    try:
        session.start()
    except BaseException as e:
        session.fail(e)
        session.leave()
        session.linger()
        return 1
    session.end(session.serve())
    session.leave()
    session.linger()
    return 0


class Exec(loop.Session):
    def __init__(self, plan: dict[str, Any], init: int = -1) -> None:
        about = {"id": plan["container_id"], "exec_id": plan["exec_id"]}
        about.update(tty=bool(plan.get("tty")), open_stdin=bool(plan.get("open_stdin")))
        super().__init__(about, own_pidns=False, patience=PATIENCE)
        self.plan = plan
        self.init = init
        self.marker = ""
        self.stdin_once = bool(plan.get("stdin_once", True))
        self.state = states.State(boot_id=ns.boot_id(), monitor_pid=ns.own_pid(), monitor_start_time=ns.start_time())

    def start(self) -> None:
        """Joins the container and starts the process. Raises LaminaError or OSError."""
        plan, state = self.plan, self.state
        os.makedirs(os.path.join(plan["run_dir"], EXECS), 0o700, exist_ok=True)
        if plan.get("active"):
            name = presence.name_of(state.monitor_pid, state.monitor_start_time, plan["container_id"], plan["exec_id"])
            self.marker = os.path.join(plan["active"], name)
            presence.make(self.marker)
        try:
            init = os.dup(self.init) if self.init >= 0 else ns.open_process(plan["init_pid"], plan["init_start_time"])
        except ProcessLookupError:
            raise errors.Conflict(f"container {plan['container_id']} is not running")
        try:
            self.server.listen(plan["run_dir"], socket_name(plan["exec_id"]))
            self.join(init)
        finally:
            os.close(init)
        started = protocol.json_frame(protocol.M_STARTED, {"pid": self.pid, "started_at": state.started_at})
        self.server.started = started
        self.server.broadcast(started)

    def join(self, init: int) -> None:
        """`init`: pidfd of the container's first process, alive when it was opened."""
        plan = self.plan
        process = dict(plan["process"])
        root = os.open(f"/proc/{plan['init_pid']}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            ns.pidfd_send_signal(init, 0)  # still that process, so that was its root
            fill_process(root, process, plan)
            process["cwd"] = plan.get("workdir") or process.get("cwd") or "/"
            self.check_cwd(root, process["cwd"])
        finally:
            os.close(root)
        self.stdio = stdio = Stdio(tty=bool(plan.get("tty")), stdin=bool(plan.get("open_stdin")))
        joined: Init
        if plan.get("runtime"):
            from lamina.runtime import external

            runtime = external.Runtime(plan["runtime"], plan["run_dir"] + "/oci", plan["container_id"])
            joined = runtime.exec(process, plan["exec_id"], stdio.child_fds())
        else:
            paths = Cgroup.open(plan["cgroup"], layout=place.layout()).paths if plan.get("cgroup") else {}
            joined = joining.exec_process(plan["init_pid"], process, spec=plan["spec"], cgroup_paths=paths, stdio=stdio.child_fds(),
                                          terminal=stdio.tty, seccomp=read_seccomp(plan), init_pidfd=init)
        stdio.release_child_fds()
        if steps.tell is not None:
            steps.tell(f"made process {joined.pid} of the host, to enter container {steps.short(plan['container_id'])}")
        place.settle()
        joined.wait_ready()
        if stdio.tty:
            master, joined.master_fd = joined.master_fd, -1
            stdio.use_master(master)
        joined.let_go()
        self.note_start(joined)  # meanwhile: whoever hears STARTED finds it in the record
        joined.confirm()
        self.pid, self.pidfd = joined.pid, joined.pidfd
        if steps.tell is not None:
            steps.tell(f"let process {self.pid}, born inside, execute the command")

    def note_start(self, joined: Init) -> None:
        state = self.state
        state.status, state.pid, state.start_time, state.started_at = states.RUNNING, joined.pid, joined.start_time, times.now_ns()
        self.save()

    def check_cwd(self, root: int, cwd: str) -> None:
        try:
            os.close(fs.open_beneath(root, cwd, os.O_PATH | os.O_DIRECTORY))
        except OSError as e:
            raise errors.CommandNotExecutable(
                "OCI runtime exec failed: exec failed: unable to start container process: "
                f"chdir to cwd (\"{cwd}\") set in config.json failed: {(e.strerror or '').lower()}: unknown")

    def end(self, code: int) -> None:
        state = self.state
        state.status, state.pid, state.exit_code, state.finished_at = states.EXITED, 0, code, times.now_ns()
        self.pid = 0
        self.close_socket()
        if self.plan.get("auto_remove"):
            cleanup.unlink(record_path(self.plan["run_dir"], self.plan["exec_id"]))
        else:
            self.save()
        if steps.tell is not None:
            steps.tell(f"saw the end of the process, exit code {code}")
        self.server.finish(loop.exit_frame(code))
        forget_old(self.plan["run_dir"])

    def fail(self, error: BaseException) -> None:
        """It could not be started: undoes what was done, and says why."""
        if self.stdio is not None:
            self.stdio.close()
            self.stdio = None
        self.close_socket()
        told = protocol.describe(error)
        state = self.state
        state.status, state.exit_code, state.error, state.finished_at = states.EXITED, told["exit_code"], told["message"], times.now_ns()
        state.pid = 0
        if self.plan.get("auto_remove"):
            cleanup.unlink(record_path(self.plan["run_dir"], self.plan["exec_id"]))
        else:
            self.save()
        self.server.finish(protocol.json_frame(protocol.M_ERROR, told))

    def save(self) -> None:
        try:
            write_record(self.plan, self.state)
        except OSError:
            pass  # the container may just have been removed, or the disk be full: the clients are told all the same

    def leave(self) -> None:
        if self.marker:
            presence.leave(self.marker)

    def close_socket(self) -> None:
        self.server.close_listener()
        cleanup.unlink(os.path.join(self.plan["run_dir"], socket_name(self.plan["exec_id"])))


def forget_old(run_dir: str) -> None:
    """Removes records of execs that ended more than KEPT seconds ago, so that a container with health checks doesn't gather them."""
    limit = time.time() - KEPT
    try:
        with os.scandir(os.path.join(run_dir, EXECS)) as entries:
            for entry in entries:
                if entry.name.endswith(".json") and entry.stat(follow_symlinks=False).st_mtime < limit:
                    if read_record(run_dir, entry.name[:-5])[1].ended:
                        os.unlink(entry.path)
    except (OSError, errors.LaminaError):
        pass  # another monitor does the same just now
