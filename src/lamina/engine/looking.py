# SPDX-License-Identifier: Apache-2.0
"""inspect, diff, export and logs: verbs that look into a container and change nothing."""

from __future__ import annotations

import os

from lamina.containers.store import Record
from lamina.errors import NotSupported
from lamina.network import bridge
from lamina.util import fastjson, steps
from lamina.util.atomic import read_file

from . import inspection, planning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from .containers import Containers

KINDS = {"C": 0, "A": 1, "D": 2}  # the API's numbers


def inspect(containers: Containers, record: Record, size: bool) -> dict[str, Any]:
    engine = containers.engine
    paths = engine.store.paths
    state = containers.state(record)
    host = record.config["HostConfig"]
    mount = engine.layer_store.container_mount(record.id, record.layer_chain, record.driver)
    if mount.type == "overlay":
        graph: dict[str, Any] = {
            "LowerDir": ":".join(mount.values("lowerdir+")), "MergedDir": paths.rootfs(record.id), "UpperDir": mount.values("upperdir")[0],
            "WorkDir": mount.values("workdir")[0],
        }  # fmt: skip
    else:
        graph = {"MergedDir": paths.rootfs(record.id), "SourceDir": mount.source}
    endpoint = endpoint_of(containers, record) if state.live else None
    execs = [name[:-5] for name in listdir(paths.execs(record.id)) if name.endswith(".json")] if state.live else []
    sizes = None
    if size:
        from .sizes import container_sizes

        sizes = container_sizes(engine, record)
    body = inspection.container(record, state, paths, graph=graph, endpoint=endpoint, execs=execs, sizes=sizes,
                                masked=planning.masked(host), readonly=planning.readonly(host))  # fmt: skip
    if state.live and (body["Config"].get("ExposedPorts") or host["PortBindings"]):
        from . import ports

        body["NetworkSettings"]["Ports"] = ports.inspected(paths, record, state)
    if state.health:
        body["State"]["Health"] = health(paths.container_file(record.id, "health.json"), state.health)
    body["AppArmorProfile"] = apparmor_profile(paths.container_config(record.id))
    if steps.tell is not None:
        where = paths.container_state(record.id)
        steps.tell(f"read container {steps.short(record.id)}: what was asked from the database, what is from {where}")
    return body


def health(path: str, status: str) -> dict[str, Any]:
    """State.Health, with the log that the monitor has written beside the status."""
    try:
        found = fastjson.loads(read_file(path, 1 << 20))
        return {"Status": status, "FailingStreak": int(found["FailingStreak"]), "Log": list(found["Log"])}
    except (OSError, ValueError, TypeError, KeyError):
        return {"Status": status, "FailingStreak": 0, "Log": []}  # not written yet, or lost with the power


def apparmor_profile(config: str) -> str:
    """What the last start applied, from the bundle's config.json; "" if it never was started, as docker shows it."""
    try:
        return str(fastjson.loads(read_file(config))["process"].get("apparmorProfile", ""))
    except FileNotFoundError:
        return ""


def endpoint_of(containers: Containers, record: Record) -> dict[str, Any] | None:
    store = containers.engine.store
    row = store.db.one("SELECT ipv4, mac FROM endpoints WHERE container_id=?", (record.id,))
    network = bridge.load(store.db, store.names)
    if row is None or network is None:
        return None
    return {
        "ipv4": row[0],
        "mac": row[1],
        "prefix": network.prefix,
        "gateway": network.gateway,
        "network_id": network.id,
        "endpoint_id": record.id,
    }


def listdir(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []


def diff(containers: Containers, record: Record) -> list[dict[str, Any]]:
    changes = containers.engine.layer_store.container_changes(record.id, record.layer_chain, record.driver)
    if steps.tell is not None:
        steps.tell(f"compared the read-write layer {containers.engine.store.paths.container_upper(record.id)} with what lies below")
    return [{"Path": path.decode("utf-8", "surrogateescape"), "Kind": KINDS[kind]} for kind, path in changes]


def export(containers: Containers, record: Record, write: Callable[[memoryview], object]) -> None:
    """A stopped container's union is mounted for nobody else to see; a running one's is its own root, without what is mounted in it."""
    from lamina.layers.tar import pack

    root = open_root(containers, record)
    try:
        if steps.tell is not None:
            steps.tell(f"opened the union of container {steps.short(record.id)}, and writes all of it as a tar")
        pack.pack_tree(root, write)
    finally:
        os.close(root)


def open_root(containers: Containers, record: Record) -> int:
    """An fd of the container's union. Overlay doesn't allow a second mount of an upper directory that is in use, so a running
    container's is taken from where its monitor has mounted it, in whatever mount namespace that was."""
    state = containers.records.state(record.id)
    paths = containers.engine.store.paths
    if state.live:
        from lamina.linux import ns

        pidfd = ns.open_process(state.monitor_pid, state.monitor_start_time)
        try:
            fd = os.open(f"/proc/{state.monitor_pid}/root{paths.rootfs(record.id)}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            ns.pidfd_send_signal(pidfd, 0)  # still that monitor, so that was its root
        finally:
            os.close(pidfd)
        return fd
    from . import unions

    if unions.is_mounted(paths.rootfs(record.id)):  # by `mount`: an upper directory has one union at a time
        return os.open(paths.rootfs(record.id), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return containers.engine.layer_store.container_mount(record.id, record.layer_chain, record.driver).open_root()


def logs(
    containers: Containers, record: Record, *, follow: bool = False, stdout: bool = True, stderr: bool = True, since: int | None = None,
    until: int | None = None, timestamps: bool = False, details: bool = False, tail: int = -1,
) -> Iterator[tuple[str, bytes]]:  # fmt: skip
    """(stream, bytes) in order, a record each. since, until: nanoseconds; tail < 0: all. Before each: with timestamps RFC 3339 and a blank;
    with details the log's attributes, of which this engine's log driver has none, and a blank.

    NotSupported for the log driver none.
    """
    from lamina.monitor.logread import read_logs
    from lamina.util.times import rfc3339nano

    if record.config["HostConfig"]["LogConfig"]["Type"] != "json-file":
        raise NotSupported("configured logging driver does not support reading")
    path = containers.engine.store.paths.container_log(record.id)
    if steps.tell is not None:
        steps.tell(f"reads the log that the monitor of container {steps.short(record.id)} writes: {path}")
    entries = read_logs(path, tail=None if tail < 0 else tail, since=since, until=until, follow=follow, stdout=stdout, stderr=stderr,
                        ended=lambda: not containers.records.state(record.id).live)  # fmt: skip
    for entry in entries:
        yield entry.stream, (rfc3339nano(entry.time).encode() + b" " if timestamps else b"") + (b" " if details else b"") + entry.data
