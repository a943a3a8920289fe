# SPDX-License-Identifier: Apache-2.0
"""What a command does that finds others cut off: killed commands, monitors, execs (store.presence). Rare, so it may take a while."""

from __future__ import annotations

import os
from collections.abc import Sequence

from lamina.errors import Conflict, LaminaError
from lamina.layers.chain import WHOLE_TREES
from lamina.monitor import cleanup, execmon
from lamina.monitor.lock import lock
from lamina.monitor.sockets import SOCK
from lamina.store import check, presence
from lamina.util import steps
from lamina.util.identity import my_start_time
from lamina.util.lock import FileLock

from . import stopping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamina.store.presence import Marker

    from .containers import Containers
    from .engine import Engine


def tidy(engine: Engine, cut_off: Sequence[Marker]) -> None:
    """Puts everything right that the dead have left, host and store. What can't be is left, with its marker, for the next command."""
    done = []
    for marker in cut_off:
        path = marker.path
        try:
            if marker.container:  # from now on a monitor that the dead command has made comes too late
                path = presence.take(path, presence.name_of(os.getpid(), my_start_time(), marker.container, marker.what))
            if marker.what == presence.NEW:
                engine.containers.records.remove(marker.container, anonymous_volumes=True)
            elif marker.what:
                forget_exec(engine, marker)
            elif marker.container and not after(engine.containers, marker.container):
                continue
            done.append(path)
        except FileNotFoundError:
            continue  # another command was faster
        except (LaminaError, OSError):
            continue
    if any(not marker.container for marker in cut_off):  # maybe all who were at work when the power went
        remove_half_made(engine.containers)
    engine.system.reap()
    check.sweep(engine.store)
    for path in done:
        presence.leave(path)
    if steps.tell is not None:
        steps.tell(f"put right what killed commands and monitors had left: {len(done)}")


def remove_half_made(containers: Containers) -> None:
    """Containers whose row was on the disk before their directories were when the power went: nobody was ever told their ids."""
    paths = containers.engine.store.paths
    records = containers.records.list()
    being_made = presence.containers(paths.runroot)  # after the rows: who makes one is there before its row, until all of it is
    for record in records:
        needed = [paths.container_upper(record.id), *([] if record.driver in WHOLE_TREES else [paths.container_work(record.id)])]
        if record.id not in being_made and not all(map(os.path.isdir, needed)) and not os.path.lexists(paths.container_state(record.id)):
            containers.records.remove(record.id, anonymous_volumes=True)


def after(containers: Containers, cid: str) -> bool:
    """After a killed monitor, or a start that nobody finished. A start that is under way sees to it itself. False if something is left."""
    paths = containers.engine.store.paths
    if containers.records.state(cid).lost:
        containers.engine.system.after_lost_monitor(cid)
        return True
    try:
        bundle = FileLock(paths.container(cid) + "/lock")
        if not bundle.try_acquire():
            return True
    except FileNotFoundError:
        return clean(containers, cid)  # it has been removed: its id is never used again
    try:
        return clean(containers, cid)
    finally:
        bundle.release()


def clean(containers: Containers, cid: str) -> bool:
    """Unmounts, empties the cgroup, frees ports and address, of a container that doesn't run. For who keeps it from being started. False
    if not all of it could be done."""
    paths = containers.engine.store.paths
    run_dir = paths.run_container(cid)
    if os.path.isdir(run_dir):
        try:
            fd = lock(run_dir, timeout=0)
        except Conflict:
            return True  # a monitor lives, and tidies up by itself
        try:
            stopping.forget_ports(containers, cid)
            cleanup.remove_mount(paths.rootfs(cid))
            cleanup.remove_mount(paths.shm(cid))
            stopping.remove_cgroup(containers, cid)
            cleanup.unlink(os.path.join(run_dir, SOCK))
        finally:
            os.close(fd)
    return containers.finish(cid)


def forget_exec(engine: Engine, marker: Marker) -> None:
    """The socket of a killed exec, and its record where nobody was to ask for it."""
    paths = engine.store.paths
    run_dir = paths.run_container(marker.container)
    cleanup.unlink(paths.exec_socket(marker.container, marker.what))
    try:
        plan, _ = execmon.read_record(run_dir, marker.what)
    except LaminaError:
        return  # there is none, or none that could be asked for
    if plan.get("auto_remove"):
        cleanup.unlink(paths.exec_record(marker.container, marker.what))
