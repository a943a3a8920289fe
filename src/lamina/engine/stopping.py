# SPDX-License-Identifier: Apache-2.0
"""stop, kill, wait and rm: everything that ends a container or its record. [hot, for `rm` and `stop`]

A signal goes through the container's monitor, or by pidfd where the monitor doesn't answer; a process is believed to be the one that
is meant only by (pid, start time, boot id).
"""

from __future__ import annotations

import errno
import os
import select

from lamina.containers.store import Record, no_such
from lamina.errors import Conflict, LaminaError
from lamina.linux import ns, signals
from lamina.linux.signals import SIGKILL
from lamina.monitor.client import Client, connect
from lamina.util import fastjson, steps
from lamina.util.atomic import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamina.containers.state import State

    from .containers import Containers

GRACE = 10  # seconds between the stop signal and SIGKILL, docker's default
PATIENCE = 30.0  # seconds for a killed container and its monitor to be gone


def client_of(containers: Containers, record: Record) -> Client | None:
    """A connection to the running container's monitor; None if there is none (any more)."""
    try:
        return connect(containers.engine.store.paths.run_container(record.id))
    except (FileNotFoundError, ConnectionRefusedError):
        return None


def not_running(record: Record) -> Conflict:
    return Conflict(f"container {record.id} is not running")


def stop(containers: Containers, record: Record, timeout: int | None, signal: str | None) -> None:
    """The stop signal, then SIGKILL after `timeout` seconds (default 10; -1: never). Nothing to do if it doesn't run."""
    config = record.config["Config"]
    number = signals.parse(signal or config["StopSignal"] or "SIGTERM")
    grace = timeout if timeout is not None else config["StopTimeout"] if config["StopTimeout"] is not None else GRACE
    state = containers.state(record)
    if state.lost:
        containers.engine.system.clean_after_lost_monitor(record.id)  # no restart any more
    client = client_of(containers, record) if state.live else None
    if client is None:
        return
    with client:
        if restarts(record):
            client.no_restart()
        containers.event("kill", record, signal=str(number))
        if not send(client, number):
            return settle(containers, record, client)
        if steps.tell is not None:
            steps.tell(f"had signal {number} sent to the process 1 of container {steps.short(record.id)}; "
                       + (f"waits {grace} s for its end" if grace >= 0 else "waits for its end"), now=True)
        if grace < 0:
            finish_wait(client, None)
        elif not ends_within(client, grace):
            containers.event("kill", record, signal=str(SIGKILL))
            send(client, SIGKILL)
            if steps.tell is not None:
                steps.tell("had SIGKILL sent, as the time was over", now=True)
            if not ends_within(client, PATIENCE):
                raise LaminaError(f"cannot stop container: {record.id}: it doesn't end after SIGKILL")
        settle(containers, record, client)
    containers.event("stop", record)


def settle(containers: Containers, record: Record, client: Client) -> None:
    """The container has ended: what it held is free when this returns."""
    try:
        containers.finish(record.id)
    finally:
        client.close()


def send(client: Client, number: int) -> bool:
    """False if it has ended meanwhile."""
    try:
        client.signal(number)
    except Conflict:
        return False
    except LaminaError:
        if client.ended:
            return False
        raise
    return True


def ends_within(client: Client, seconds: float) -> bool:
    try:
        finish_wait(client, seconds)
    except TimeoutError:
        return False
    return True


def finish_wait(client: Client, seconds: float | None) -> None:
    try:
        client.wait(seconds)
    except LaminaError:
        pass  # the monitor was lost: the container is as ended as it can be


def kill(containers: Containers, record: Record, signal: str) -> None:
    number = signals.parse(signal)
    state = containers.state(record)
    client = client_of(containers, record) if state.live else None
    if client is None:
        raise not_running(record)
    with client:
        containers.event("kill", record, signal=str(number))  # before it is sent: the monitor writes "die" at once
        if not send(client, number):
            raise not_running(record)
        if steps.tell is not None:
            steps.tell(f"had signal {number} sent to the process 1 of container {steps.short(record.id)}", now=True)
        if number == SIGKILL:
            ends_within(client, PATIENCE)  # docker's kill returns when it's dead
            settle(containers, record, client)


def restarts(record: Record) -> bool:
    return bool(record.config["HostConfig"]["RestartPolicy"]["Name"] != "no")


def wait(containers: Containers, record: Record) -> int:
    """The exit code of a container that has ended for good: not while it is only between two runs."""
    while True:
        state = containers.state(record)
        client = client_of(containers, record) if state.live else None
        if client is None:
            return containers.state(record).exit_code
        with client:
            if steps.tell is not None:
                steps.tell(f"connected to the monitor of container {steps.short(record.id)}, and waits for the exit code", now=True)
            try:
                code = client.wait()
            except LaminaError:
                return containers.state(record).exit_code or 137
        again = containers.records.find(record.id)
        if again is None or not restarts(again):
            return code


def remove(containers: Containers, record: Record, *, force: bool, volumes: bool) -> None:
    state = containers.state(record)
    if state.live:
        if not force:
            raise Conflict(
                f'cannot remove container "/{record.name}": container is {state.status}: '
                + ("unpause and then " if state.status == "paused" else "")
                + "stop the container before removing or force remove"
            )
        end_now(containers, record)
    state = containers.state(record)
    if not containers.delete_row(record, anonymous_volumes=volumes or record.auto_remove):
        raise no_such(record.id)
    discard(containers, record.id, state)


def end_now(containers: Containers, record: Record) -> None:
    """SIGKILL, and the end of it."""
    client = client_of(containers, record)
    if client is None:
        return
    with client:
        send(client, SIGKILL)
        if steps.tell is not None:
            steps.tell(f"had SIGKILL sent to the process 1 of container {steps.short(record.id)}", now=True)
        if not ends_within(client, PATIENCE):
            raise LaminaError(f"cannot remove container {record.id}: it doesn't end after SIGKILL")


def discard(containers: Containers, cid: str, state: State) -> None:
    """The files of a removed container, after its monitor has gone (it unmounts, and removes the cgroup)."""
    wait_for_monitor(state)
    forget_ports(containers, cid)
    remove_cgroup(containers, cid)
    containers.records.discard(cid)
    if steps.tell is not None:
        steps.tell(f"removed its files, the read-write layer among them: {containers.engine.store.paths.container(cid)}")


def forget_ports(containers: Containers, cid: str) -> None:
    """What a killed monitor left of published ports in the firewall; one that ended by itself has left nothing."""
    store = containers.engine.store
    file = store.paths.ports(cid)
    if os.path.exists(file):
        from lamina.network import ports

        ports.forget(store.names.table, cid, store.paths.network_known)
        os.unlink(file)


def wait_for_monitor(state: State) -> None:
    if not state.monitor_pid:
        return
    try:
        fd = ns.open_process(state.monitor_pid, state.monitor_start_time)
    except OSError as e:
        if e.errno in (errno.ESRCH, errno.ENOENT, errno.EINVAL):
            return
        raise
    try:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        if not poller.poll(PATIENCE * 1000):
            raise LaminaError(f"the container's monitor (process {state.monitor_pid}) doesn't end")
    finally:
        os.close(fd)


def remove_cgroup(containers: Containers, cid: str) -> None:
    from lamina.runtime.cgroups import Cgroup

    group = Cgroup.open(cgroup_path(containers, cid))
    if group.paths:
        group.kill()
        group.remove()


def cgroup_path(containers: Containers, cid: str) -> str:
    """Where the container's cgroup is or was; by its bundle when the row has gone already."""
    from . import planning

    store = containers.engine.store
    record = containers.records.find(cid)
    if record is not None:
        return planning.cgroup_path(record, store)
    try:
        return str(fastjson.loads(read_file(store.paths.container_config(cid)))["linux"]["cgroupsPath"])
    except (OSError, ValueError, LookupError, TypeError):
        return f"{store.names.cgroup}/{cid}"
