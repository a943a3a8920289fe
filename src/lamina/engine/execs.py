# SPDX-License-Identifier: Apache-2.0
"""exec: a further process in a running container's process space. [hot]"""

from __future__ import annotations

from lamina.containers.store import Record
from lamina.errors import Conflict, InvalidArgument, NotFound, NotSupported
from lamina.util import fastjson, steps
from lamina.util.atomic import read_file
from lamina.util.ids import is_id, new_id

from .environ import environment, merge_env
from .handover import launch as hand_over
from .handover import meanwhile, seccomp_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lamina.monitor.client import Client

    from .containers import Containers

START_TIMEOUT = 60.0
APPLIED = frozenset((
    "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "Env", "Cmd", "User", "Privileged", "WorkingDir",
    "ConsoleSize", "DetachKeys", "Detach",
))  # fmt: skip


def plan_of(containers: Containers, record: Record, body: dict[str, Any]) -> dict[str, Any]:
    """The exec's plan; refuses what isn't applied and a container that can't take it."""
    for key, value in body.items():
        if key not in APPLIED and value:
            raise NotSupported(f"exec: {key} is not supported")
    argv = body.get("Cmd") or []
    if not argv:
        raise InvalidArgument("No exec command specified")
    if any(not isinstance(word, str) or "\0" in word for word in argv):
        raise InvalidArgument("the command holds something that is no string, or a NUL byte")
    workdir = body.get("WorkingDir") or ""
    if workdir and not workdir.startswith("/"):
        raise InvalidArgument(f"the working directory '{workdir}' is invalid, it needs to be an absolute path")
    state = containers.records.state(record.id)
    if not state.live:
        raise Conflict(f"container {record.id} is not running")
    if state.status == "restarting":
        raise Conflict(f"Container {record.id} is restarting, wait until the container is running")
    if state.status == "paused":
        raise Conflict(f"Container {record.name} is paused, unpause the container before exec")
    store = containers.engine.store
    spec = fastjson.loads(read_file(store.paths.container_config(record.id)))
    config, host = record.config["Config"], record.config["HostConfig"]
    tty = bool(body.get("Tty"))
    env = environment({**config, "Tty": tty}, spec["hostname"])
    privileged = bool(body.get("Privileged"))
    granted = spec["process"]["capabilities"]["bounding"]
    if privileged:
        from lamina.linux import capnames

        granted = capnames.names(capnames.own())
    process = {
        **spec["process"],
        "terminal": tty,
        "args": list(argv),
        "env": merge_env(env, body.get("Env")),
        "cwd": workdir or config["WorkingDir"] or "/",
        "capabilities": {"bounding": granted, "effective": granted, "permitted": granted},
    }
    if privileged and spec["process"].get("apparmorProfile"):
        process["apparmorProfile"] = "unconfined"
    return {
        "version": 1,
        "exec_id": new_id(),
        "container_id": record.id,
        "run_dir": store.paths.run_container(record.id),
        "init_pid": state.pid,
        "init_start_time": state.start_time,
        "process": process,
        "user": body.get("User") or config["User"],
        "group_add": host["GroupAdd"] or [],
        "workdir": process["cwd"],
        "tty": tty,
        "open_stdin": bool(body.get("AttachStdin")),
        "stdin_once": True,
        "seccomp_path": None if privileged else seccomp_file(store.paths.runroot, host, spec),
        "cgroup": spec["linux"]["cgroupsPath"],
        "monitor_cgroup": f"{store.names.cgroup}/monitor",
        "active": store.paths.active,
        "spec": spec,
        "runtime": external(host),
    }


def external(host: dict[str, Any]) -> str | None:
    """See planning.runtime_program, which is loaded for it."""
    if host.get("Runtime", "lamina") == "lamina":
        return None
    from .planning import runtime_program

    return runtime_program(host)


def create(containers: Containers, record: Record, body: dict[str, Any]) -> str:
    from lamina.monitor import execmon

    plan = plan_of(containers, record, body)
    execmon.write_record(plan)
    return str(plan["exec_id"])


def run(
    containers: Containers, record: Record, body: dict[str, Any], attach: dict[str, bool] | None, size: tuple[int, int] | None
) -> Client:
    """create and start in one, without a record between: what the command line does."""
    return launch(containers, plan_of(containers, record, body), attach, size)


def start_created(containers: Containers, exec_id: str, attach: dict[str, bool] | None, size: tuple[int, int] | None) -> Client:
    from lamina.monitor import execmon

    if not is_id(exec_id):
        raise NotFound(f"No such exec instance: {exec_id}")
    import os

    paths = containers.engine.store.paths
    for record in containers.records.list():
        if os.path.exists(paths.exec_record(record.id, exec_id)):
            plan, state = execmon.read_record(paths.run_container(record.id), exec_id)
            if state.status != "created":
                raise Conflict(f"exec {exec_id} has already run" if state.ended else f"exec {exec_id} is already running")
            return launch(containers, plan, attach, size)
    raise NotFound(f"No such exec instance: {exec_id}")


def launch(containers: Containers, plan: dict[str, Any], attach: dict[str, bool] | None, size: tuple[int, int] | None) -> Client:
    if size is not None:
        plan = {**plan, "console_size": list(size)}
    if steps.tell is not None:
        steps.tell(f"found container {steps.short(plan['container_id'])} running; its process 1 is process {plan['init_pid']} of the host")
    client = hand_over(containers.engine, plan, attach)
    if steps.tell is not None:
        steps.tell("handed the plan to a monitor of the exec's own")
    try:
        meanwhile(containers.engine, None)
        client.wait_started(START_TIMEOUT)
        if steps.tell is not None:
            steps.tell("heard from the monitor that the process runs", now=True)
    except BaseException:
        client.close()
        raise
    return client
