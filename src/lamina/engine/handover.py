# SPDX-License-Identifier: Apache-2.0
"""Handing a plan to a monitor, for `start` and for `exec`. [hot]"""
from __future__ import annotations

from lamina.monitor.prepared import kind, prepared
from lamina.util import steps

from . import ahead

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lamina.containers.store import Record
    from lamina.monitor.client import Client

    from .engine import Engine


def meanwhile(engine: Engine, attach: dict[str, bool] | None, *, keep: Record | None = None) -> None:
    """What can be done while the monitor is at work: the container to keep becomes durable, and who doesn't stay looks for what is to
    tidy up."""
    if keep is not None:
        engine.layer_store.sync_container(keep.id, keep.driver)
        engine.store.db.sync()
        if steps.tell is not None:
            steps.tell("synced its directories and the database's log to the disk")
    if engine.meanwhile is not None:
        engine.meanwhile()
    if attach is None:
        engine.unfinished()
    engine.store.db.tidy()


def launch(engine: Engine, plan: dict[str, Any], attach: dict[str, bool] | None) -> Client:
    """The monitor made ahead, where there is one and it fits; else a forked one where this process may fork; else a fresh one."""
    ready, engine.monitor = engine.monitor, None
    if ready is not None:
        if ready.kind == kind(plan):
            return ready.start(plan, attach)
        ready.cancel()
    engine.store.close(lazy=True)  # a connection must not cross a fork
    if ahead.may_fork():
        return prepared(plan).start(plan, attach)
    from lamina.monitor.launch import spawn_monitor

    return spawn_monitor(plan, attach)


def seccomp_file(runroot: str, host: dict[str, Any], oci_spec: dict[str, Any]) -> str | None:
    """The cached filter for the container's capabilities; None for --privileged, which has none, as in docker."""
    if host["SecurityOpt"]:
        from . import options

        decided, path = options.seccomp_file(runroot, host, oci_spec["process"]["capabilities"]["bounding"])
        if decided:
            return path
    if host["Privileged"]:
        return None
    from lamina.runtime import profile

    granted, cache = oci_spec["process"]["capabilities"]["bounding"], runroot + "/cache"
    profile.default_bpf(granted, cache)
    return profile.default_path(granted, cache)
