# SPDX-License-Identifier: Apache-2.0
"""Starting a container: address, bundle, plan, monitor. [hot]

Everything is written before the monitor gets its plan, and the database is not open when it is forked. The container's own lock is held
from the look at its state until the monitor has told the start, so that two starts at once make one process space.
"""

from __future__ import annotations

import os

from lamina.containers.store import Record
from lamina.errors import Conflict, LaminaError
from lamina.network import files, ipam, model
from lamina.store import presence
from lamina.util import fastjson, steps
from lamina.util.atomic import write_file
from lamina.util.lock import FileLock

from . import planning
from .handover import launch, meanwhile, seccomp_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lamina.containers.state import State
    from lamina.monitor.client import Client

    from .containers import Containers

START_TIMEOUT = 120.0  # seconds; a disk under heavy load may take long, a monitor that hangs must not hang its caller for ever


def start(containers: Containers, record: Record, attach: dict[str, bool] | None) -> Client | None:
    engine = containers.engine
    store = engine.store
    bundle = store.paths.container(record.id)
    with FileLock(bundle + "/lock"):
        state = containers.records.state(record.id)
        if state.status == "paused":
            raise Conflict("cannot start a paused container, try unpause instead")
        if state.live:
            return None
        if presence.cut_off(store.paths.runroot, record.id):
            from . import tidying

            tidying.clean(containers, record.id)
        if state.lost:
            engine.system.clean_after_lost_monitor(record.id, settle=False)  # should we be killed now, it is lost still
        marker = presence.enter(store.paths.runroot, record.id)  # the monitor takes it over
        client: Client | None = None
        network: dict[str, Any] = {"mode": record.config["HostConfig"]["NetworkMode"]}
        try:
            network, warnings = connect(containers, record)
            if steps.tell is not None and network["mode"] == "bridge":
                steps.tell(f"took the address {network['ipv4']} on the bridge {network['bridge']}")
            check_sources(record)
            text = files.host_resolv_conf()
            resolv, more = files.resolv_conf(text, host_network=network["mode"] == "host")
            host = record.config["HostConfig"]
            if host["Dns"] or host["DnsSearch"] or host["DnsOptions"]:
                resolv = files.custom_resolv_conf(text, dns=host["Dns"], search=host["DnsSearch"], options=host["DnsOptions"])
                more = more if not host["Dns"] else []
            plan = write_bundle(containers, record, network, resolv, state)
            if steps.tell is not None:
                steps.tell(f"wrote config.json (OCI), resolv.conf, hosts and hostname into {bundle}")
            plan["marker"] = marker
            client = launch(engine, plan, attach)
            if steps.tell is not None:
                steps.tell("handed the plan to a monitor, a process of its own that stays as long as the container runs")
            meanwhile(engine, attach, keep=None if record.auto_remove else record)
            client.wait_started(START_TIMEOUT)
            if steps.tell is not None:
                steps.tell(f"heard from the monitor that container {steps.short(record.id)} runs", now=True)
        except BaseException:
            if client is not None:
                client.close()
            if network.get("ports"):
                engine.system.after_failed_start(record.id)
            if containers.finish(record.id):
                presence.leave(marker)
            engine.reap_at_close = True  # there may be no monitor that removes anything
            raise
    client.warnings = warnings + more
    return client


def connect(containers: Containers, record: Record) -> tuple[dict[str, Any], list[str]]:
    """The container's part of the plan's `network`, with an address of its own, and warnings for the user."""
    mode = record.config["HostConfig"]["NetworkMode"]
    if mode != "bridge":
        return {"mode": mode}, []
    from lamina.network import bridge

    store = containers.engine.store
    network = bridge.ensure(store.names, store.db, store.paths.runroot + "/network.known")
    with store.db.write(durable=False) as db:
        ipv4, mac = ipam.allocate(db, network, record.id)
        if record.config.get("MacAddress"):
            mac = record.config["MacAddress"]
            db.execute("UPDATE endpoints SET mac=? WHERE network_id=? AND container_id=?", (mac, network.id, record.id))
    netplan = model.netplan(network, ipv4, mac)
    if record.config.get("LinkLocalIPs"):
        netplan["more"] = [f"{one}/16" for one in record.config["LinkLocalIPs"]]
    host = record.config["HostConfig"]
    if host["PortBindings"] or host["PublishAllPorts"]:
        from . import ports

        netplan["ports"] = ports.plan(record, store)
        if os.path.exists(store.paths.ports(record.id)):
            containers.engine.system.forget_ports(record.id)  # of a monitor that was killed while it started
    return netplan, list(network.warnings)


def check_sources(record: Record) -> None:
    """docker makes missing sources of `-v` at create; one that has gone since is an error, not an empty directory."""
    for point in record.config.get("Mounts", []):
        if point["Type"] == "tmpfs":
            continue
        try:
            os.stat(point["Source"])
        except OSError as e:
            raise LaminaError(f"error while mounting {point['Destination']}: source {point['Source']}: {e.strerror}") from None


def write_bundle(containers: Containers, record: Record, network: dict[str, Any], resolv: str, before: State) -> dict[str, Any]:
    """Fills the bundle; returns the plan. Files of the bundle are made anew at each start, as docker does. `before`: how it is now."""
    engine = containers.engine
    store, paths = engine.store, engine.store.paths
    host = record.config["HostConfig"]
    address = [network["ipv4"].partition("/")[0]] if network["mode"] == "bridge" else []
    hostname = planning.hostname_of(record)
    domain = record.config["Config"]["Domainname"]
    hosts = files.host_hosts() if network["mode"] == "host" else files.hosts(hostname, domainname=domain, addresses=address)
    if host["ExtraHosts"]:
        from . import options

        extra = options.hosts_lines(record, network.get("gateway", ""))
        hosts = hosts.rstrip("\n") + "\n" + "".join(f"{address}\t{name}\n" for name, address in extra)
    for name, text in (("resolv.conf", resolv), ("hosts", hosts), ("hostname", files.hostname(hostname))):
        put(paths.container_file(record.id, name), text.encode("utf-8", "surrogateescape"), 0o644)
    oci_spec = planning.spec(record, store)
    oci_spec["process"]["apparmorProfile"] = apparmor_profile(paths.runroot, host)
    if host["Runtime"] != "lamina":
        from . import options

        profile = options.seccomp_profile(host, oci_spec["process"]["capabilities"]["bounding"])
        if profile is not None:
            oci_spec["linux"]["seccomp"] = profile  # ours gets the compiled filter instead
    put(paths.container_config(record.id), fastjson.dump_bytes(oci_spec), 0o600)
    mount = engine.layer_store.container_mount(record.id, record.layer_chain, record.driver).plan(volatile=record.auto_remove)
    plan = planning.plan(
        record, store, oci_spec=oci_spec, mount=mount, network=network, seccomp=seccomp_file(engine.store.paths.runroot, host, oci_spec)
    )
    if before.started_at:
        plan["started_at"], plan["finished_at"] = before.started_at, before.finished_at
    if host["RestartPolicy"]["Name"] != "no" or record.config["Config"]["Healthcheck"]:
        from . import policies

        plan["restart"] = policies.restart_plan(record, before)
        plan["health"] = policies.health_plan(record, paths)
    os.makedirs(paths.execs(record.id), 0o700, exist_ok=True)
    os.makedirs(paths.rootfs(record.id), 0o700, exist_ok=True)
    return plan


def put(path: str, data: bytes, mode: int) -> None:
    """A file that is made anew at each start: whole or not at all, but not worth an fsync."""
    write_file(path, data, mode, durable=False)


def apparmor_profile(runroot: str, host: dict[str, Any]) -> str:
    """The name of the container's AppArmor profile; "" on hosts that have no AppArmor, "unconfined" for --privileged, as in docker."""
    if not os.path.exists("/sys/kernel/security/apparmor"):
        return ""  # asked here, so that other hosts needn't load the module
    from lamina.runtime import apparmor

    if host["SecurityOpt"]:
        from .options import security_of

        named = security_of(host)["apparmor"]
        if named:
            return str(named)
    return apparmor.UNCONFINED if host["Privileged"] else apparmor.default_profile(runroot + "/cache")
