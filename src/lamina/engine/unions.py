# SPDX-License-Identifier: Apache-2.0
"""`mount` and `umount` of containers: a container's union at a path of the host, to look at and to write to (W2.3).

While a container runs, its union is mounted at `<runroot>/rootfs/<id>` by its monitor. `mount` does the same for one that doesn't run, at
the same place, where `inspect` says MergedDir. The kernel's table of mounts is the only record of it: a mount goes with `umount`, with
the next start (whose monitor mounts anew, and unmounts at the end), with `rm`, and with a reboot.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

from lamina.containers.store import Record
from lamina.errors import Conflict, NotFound
from lamina.linux import mount as m
from lamina.monitor import cleanup
from lamina.monitor.lock import lock
from lamina.store import presence
from lamina.util import steps
from lamina.util.lock import FileLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from .containers import Containers


def mount(containers: Containers, record: Record) -> str:
    """Where the container's union is, writable; mounted now unless it was. Of one that runs in a mount namespace that isn't ours: the
    way there through its monitor's root."""
    target = containers.engine.store.paths.rootfs(record.id)
    cut_off = presence.cut_off(containers.engine.store.paths.runroot)
    if cut_off:  # now: who tidies up after a killed monitor unmounts what is here
        from . import tidying

        tidying.tidy(containers.engine, cut_off)
    with alone(containers, record):
        state = containers.records.state(record.id)
        if state.live:
            if steps.tell is not None:
                steps.tell(f"found container {steps.short(record.id)} running, its union mounted by its monitor")
            return target if is_mounted(target) else f"/proc/{state.monitor_pid}/root{target}"
        if state.lost:
            containers.engine.system.clean_after_lost_monitor(record.id)
        with cleaned(containers, record):
            if not is_mounted(target):
                put(containers, record, target)
            elif steps.tell is not None:
                steps.tell(f"found it mounted already, at {target}")
    return target


def put(containers: Containers, record: Record, target: str) -> None:
    layers = containers.engine.layer_store
    fd = layers.container_mount(record.id, record.layer_chain, record.driver).open()
    try:
        os.makedirs(target, 0o700, exist_ok=True)
        m.mount_setattr(fd, "", propagation=m.MS_PRIVATE)
        m.attach(fd, target)
    finally:
        os.close(fd)
    if steps.tell is not None:
        chain = [layer.chain_id for layer in layers.chain(record.layer_chain)]
        steps.tell(f"mounted at {target} the union of container {steps.short(record.id)}: its read-write layer, the init layer, "
                   f"layers {steps.shorts(chain)}")


def umount(containers: Containers, record: Record) -> None:
    """Takes it off again. Conflict while the container runs, NotFound if it isn't mounted."""
    target = containers.engine.store.paths.rootfs(record.id)
    with alone(containers, record):
        if containers.records.state(record.id).live:
            raise Conflict(f"container {record.id} is running, and needs its union", hint=f"lamina stop {record.name} unmounts it")
        with cleaned(containers, record):
            if not is_mounted(target):
                raise NotFound(f"container {record.name} is not mounted")
            cleanup.remove_mount(target)
            if steps.tell is not None:
                steps.tell(f"unmounted {target}")


def mounted(containers: Containers) -> list[dict[str, str]]:
    """[{"Id","Path"}] of all whose union is mounted in this mount namespace, those that run among them; newest first."""
    targets = {entry.target for entry in m.mountinfo()}
    paths = containers.engine.store.paths
    if steps.tell is not None:
        steps.tell("read the table of mounts, /proc/self/mountinfo")
    found = [(record.id, paths.rootfs(record.id)) for record in containers.records.list()]
    return [{"Id": cid, "Path": path} for cid, path in found if path in targets]


def is_mounted(target: str) -> bool:
    return any(entry.target == target for entry in m.mountinfo())


def alone(containers: Containers, record: Record) -> AbstractContextManager[object]:
    """Nobody starts the container meanwhile."""
    return FileLock(containers.engine.store.paths.container(record.id) + "/lock")


@contextmanager
def cleaned(containers: Containers, record: Record) -> Iterator[None]:
    """A monitor that is at its end has unmounted what it had mounted."""
    run_dir = containers.engine.store.paths.run_container(record.id)
    os.makedirs(run_dir, 0o700, exist_ok=True)
    fd = lock(run_dir)
    try:
        yield
    finally:
        os.close(fd)
