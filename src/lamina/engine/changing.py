# SPDX-License-Identifier: Apache-2.0
"""Verbs that change a container without making or removing it: pause, unpause, restart, rename, update, prune."""

from __future__ import annotations

import time

from lamina.containers.store import Record
from lamina.errors import Conflict, InvalidArgument, LaminaError
from lamina.runtime.cgroups import Cgroup
from lamina.util import steps

from . import config as configs
from . import limits, planning, stopping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .containers import Containers

# What `update` can change while the container exists; the rest of the API's body is refused unless it is unset.
UPDATABLE = (
    "Memory", "MemorySwap", "MemoryReservation", "NanoCpus", "CpuShares", "CpuPeriod", "CpuQuota", "CpusetCpus", "CpusetMems", "PidsLimit",
    "BlkioWeight", "CpuRealtimePeriod", "CpuRealtimeRuntime",
)  # fmt: skip


def pause(containers: Containers, record: Record, *, resume: bool) -> None:
    """Freezes the process space by its cgroup, not by signals; or lets it go on."""
    state = containers.state(record)
    client = stopping.client_of(containers, record) if state.live else None
    if client is None:
        raise Conflict(f"Container {record.id} is not paused" if resume else f"container {record.id} is not running")
    with client:
        client.unpause() if resume else client.pause()


def restart(containers: Containers, record: Record, timeout: int | None, signal: str | None) -> None:
    """stop, then start; a container that doesn't run is just started."""
    stopping.stop(containers, record, timeout, signal)
    stopping.wait_for_monitor(containers.records.state(record.id))
    client = containers.start(record.id)
    if client is not None:
        client.close()
    containers.event("restart", record)


def rename(containers: Containers, record: Record, new: str) -> None:
    """Another name; a `--rm` container that has ended gives way. The log, the host name and running processes stay as they are."""
    if not new.strip("/"):
        raise InvalidArgument("Neither old nor new names may be empty")
    old = record.name
    try:
        renamed = containers.records.rename(record.id, new if new.startswith("/") else "/" + new)
    except Conflict as e:
        e.message = f"Error when allocating new name: {e.message}"
        raise
    except InvalidArgument as e:
        if e.message.startswith("Invalid container name"):
            e.message = f"Error when allocating new name: {e.message}"
        raise
    if steps.tell is not None:
        steps.tell(f"renamed container {steps.short(record.id)} from {old} to {renamed.name}; its layers and processes stay as they are")
    containers.event("rename", renamed, oldName="/" + old)


def update(containers: Containers, record: Record, body: dict[str, Any]) -> dict[str, Any]:
    """`POST /containers/{id}/update`: new limits, at once for a running container. {"Warnings"}. All or nothing."""
    for key, value in body.items():
        if key not in (*UPDATABLE, "RestartPolicy") and value not in (None, "", 0, False, [], {}, {"Name": "", "MaximumRetryCount": 0}):
            raise InvalidArgument(f"update: {key} can't be changed, or not yet")
    changes = {key: body[key] for key in UPDATABLE if body.get(key)}
    host = {**record.config["HostConfig"], **changes}
    if "NanoCpus" in changes:
        host.update(CpuPeriod=changes.get("CpuPeriod", 0), CpuQuota=changes.get("CpuQuota", 0))
    if host["Memory"] and 0 < host["MemorySwap"] < host["Memory"] and "MemorySwap" not in changes:
        raise InvalidArgument(
            f"Cannot update container {record.id}: Memory limit should be smaller than already set memoryswap limit, "
            "update the memoryswap at the same time"
        )
    configs.check_resources(host)
    limited = any(map(host.get, configs.LIMITS))
    if limited:
        limits.check(host)
    policy = new_policy(record, body.get("RestartPolicy"))
    state = containers.state(record)
    if state.live:
        resources = planning.resources(host)
        del resources["devices"]
        if limited:
            limits.add(resources, host)
        try:
            if state.status != "restarting":
                Cgroup.open(planning.cgroup_path(record, containers.engine.store)).update(resources)
            if steps.tell is not None:
                steps.tell(f"wrote the new limits into the cgroup {planning.cgroup_path(record, containers.engine.store)}")
            if policy or stopping.restarts(record):
                tell_monitor(containers, record, policy, resources)
        except LaminaError as e:
            raise type(e)(f"Cannot update container {record.id}: {e.message}") from None
    if policy:
        host["RestartPolicy"] = policy
    containers.records.update_config(record.id, {**record.config, "HostConfig": host})
    if steps.tell is not None:
        steps.tell(f"wrote them down for the next start of container {steps.short(record.id)}")
    containers.event("update", record)
    return {"Warnings": []}


def new_policy(record: Record, given: dict[str, Any] | None) -> dict[str, Any] | None:
    """The restart policy that an update asks for; None if it doesn't."""
    if not given or not given.get("Name"):
        return None
    from .policies import restart_policy

    policy = restart_policy(given, auto_remove=False)
    if record.auto_remove and policy["Name"] != "no":
        raise Conflict(
            f"Cannot update container {record.id}: Restart policy cannot be updated because AutoRemove is enabled for the container"
        )
    return policy


def tell_monitor(containers: Containers, record: Record, policy: dict[str, Any] | None, resources: dict[str, Any]) -> None:
    """The running container's monitor starts it again by what it was handed: it has to know what is new."""
    client = stopping.client_of(containers, record)
    if client is None:
        return  # it has just ended
    with client:
        short = {"policy": {"name": policy["Name"], "maximum": policy["MaximumRetryCount"]}} if policy else {}
        client.set_restart({**short, "resources": resources})


def prune(containers: Containers, filters: dict[str, list[str]]) -> dict[str, Any]:
    """Removes all that have ended or were never started: {"ContainersDeleted","SpaceReclaimed"}. Filters: until, label, label!."""
    from lamina.images import filters as f
    from lamina.store import events

    from .sizes import container_sizes

    f.check_known(filters, ("until", "label", "label!"))
    limit = f.until(filters, time.time_ns())
    deleted, space = [], 0
    for record, state in containers.records.list_with_state():
        labels = record.config["Config"]["Labels"] or {}
        if state.live or state.lost and stopping.restarts(record) or limit is not None and record.created_ns > limit:
            continue
        if not f.labels_match(filters.get("label", []), labels) or any(f.labels_match([one], labels) for one in filters.get("label!", [])):
            continue
        size = container_sizes(containers.engine, record)[0]
        try:
            stopping.remove(containers, record, force=False, volumes=False)
        except LaminaError:
            continue  # started or removed by somebody else meanwhile
        deleted.append(record.id)
        space += size
    events.append(containers.engine.store.paths.events, "container", "prune", "", {"reclaimed": str(space)})
    return {"ContainersDeleted": deleted, "SpaceReclaimed": space}
