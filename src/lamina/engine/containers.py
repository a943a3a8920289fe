# SPDX-License-Identifier: Apache-2.0
"""The verbs of containers. Hot ones (create, start, ps, exec) are here and in `start`; the others load their module. [hot]

References are what users type: full id, name, or unique prefix of an id. Every method raises LaminaError with docker's text for
what docker's clients match on.
"""

from __future__ import annotations

import os

from lamina.containers.store import ContainerStore, Record, check_name
from lamina.errors import Conflict, InvalidArgument, LaminaError, NotFound, StoreError
from lamina.store import presence, removal
from lamina.util import steps
from lamina.util.ids import new_id, new_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from lamina.containers.state import State
    from lamina.images.store import Image
    from lamina.monitor.client import Client

    from .engine import Engine

    Summaries = list[dict[str, Any]]
    Strings = list[str]


class Containers:
    __slots__ = ("engine", "records", "_started")

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.records = ContainerStore(engine.store)
        self._started: dict[str, Record] = {}  # rows of `--rm` containers that have ended are hidden, also from who waited for them

    # -- create

    def create(
        self, body: dict[str, Any], name: str | None = None, platform: str | None = None, *, starting: bool = False
    ) -> dict[str, Any]:
        """`POST /containers/create`: {"Id","Warnings"}. Adds the read-write layer; runs nothing. Nothing is changed on an error.

        starting: the caller starts it at once; only then it becomes durable, while its monitor is at work.
        """
        from . import config as configs
        from . import mounts, planning

        image_ref = body.get("Image") or ""
        if not isinstance(image_ref, str) or not image_ref:
            raise InvalidArgument("invalid reference format")
        host = configs.host_config(body)
        planning.capabilities(host)  # one that can't be granted is told before anything is made
        image = self.engine.image_store.resolve(image_ref)
        if platform:
            image = image_for(self.engine, image_ref, image, platform)
        if steps.tell is not None:
            chain = [layer.chain_id for layer in self.engine.layer_store.chain(image.chain_id)]
            steps.tell(f"found image {image_ref}: {image.short_id}, {steps.count(len(chain), 'layer')}, top first: {steps.shorts(chain)}")
        facts = image.document
        if platform:
            check_platform(platform, facts, image_ref)
        settings = configs.merge(body, facts.get("config") or {}, image_ref)
        configs.check_config(settings)
        warnings: list[str] = []
        special = configs.special(host)
        if special:
            from . import options

            warnings += options.check(host)
            if host["PidMode"].startswith("container:"):
                self.records.get(host["PidMode"][10:])
            if host["IpcMode"].startswith("container:"):
                host["IpcMode"] = "container:" + self.records.get(host["IpcMode"][10:]).id
            if host["UTSMode"] == "host" and settings["Hostname"]:
                raise InvalidArgument("conflicting options: hostname and the UTS mode")
        if host["PortBindings"]:
            from . import ports

            warnings += ports.check(settings, host)
        endpoint: dict[str, Any] = {"MacAddress": ""}
        wanted = (body.get("NetworkingConfig") or {}).get("EndpointsConfig")
        if wanted:
            from . import endpoints

            endpoint["MacAddress"], local = endpoints.settings(wanted, host["NetworkMode"])
            if local:
                endpoint["LinkLocalIPs"] = local
        if host.get("Mounts") or host.get("Tmpfs") or host["VolumesFrom"]:
            from . import more_mounts

            points = more_mounts.points(host, settings["Volumes"], self.records)
        else:
            points = mounts.points(host["Binds"], settings["Volumes"])
        cid = new_id()
        if not settings["Hostname"] and host["NetworkMode"] != "host" and host["UTSMode"] != "host":
            settings["Hostname"] = cid[:12]
        if name is not None:
            check_name(name)
        bare = (name or "").removeprefix("/") or new_name(self.records.name_taken)
        layers = self.engine.layer_store
        init = layers.init_layer(image.chain_id)
        if steps.tell is not None:
            steps.tell(f"laid the init layer on them: {self.engine.store.paths.layer_diff(init)}")
        created_volumes: list[str] = []
        lease = None
        if points:
            from lamina.store.lease import Lease

            from . import volumes

            lease = Lease(self.engine.store, f"create {bare}")
            created_volumes = volumes.settle(self.engine, points, image.chain_id, lease)
            if steps.tell is not None:
                steps.tell(f"settled what is mounted in it: {', '.join(point['Destination'] for point in points)}"
                           + (f"; made volume {', '.join(created_volumes)}" if created_volumes else ""))
        record = Record(
            cid, bare, image_id=image.id, image_ref=image_ref, layer_chain=image.chain_id, driver=layers.driver.name,
            auto_remove=bool(host["AutoRemove"]), config={"Config": settings, "HostConfig": host, "Mounts": points, **endpoint},
        )  # fmt: skip
        marker = presence.enter(self.engine.store.paths.runroot, cid, presence.NEW)
        try:
            self.records.insert(
                record, volumes=[p["Name"] for p in points if p["Type"] == "volume"], durable=not (starting and self.engine.store.db.wal),
                lease=lease, made_up=not name,
            )
        except BaseException:
            if created_volumes:
                volumes.forget(self.engine, created_volumes)
            if lease is not None:
                lease.release()
            presence.leave(marker)
            raise
        if steps.tell is not None:
            bundle = self.engine.store.paths.container(cid)
            steps.tell(f"wrote down container {steps.short(cid)} under the name {record.name}, and made its bundle {bundle}")
        try:
            layers.prepare_container(cid, image.chain_id)
            if not starting and not record.auto_remove:
                layers.sync_container(cid, record.driver)
        except BaseException:
            self.records.remove(cid)
            if created_volumes:
                volumes.forget(self.engine, created_volumes)
            presence.leave(marker)
            raise
        if starting:
            presence.enter(self.engine.store.paths.runroot, cid)  # `start` goes on from there
        presence.leave(marker)
        if steps.tell is not None:
            steps.tell(f"made its read-write layer, empty: {self.engine.store.paths.container_upper(cid)}")
        self.event("create", record)
        return {"Id": cid, "Warnings": warnings}

    # -- start

    def start(self, ref: str, *, attach: dict[str, bool] | None = None) -> Client | None:
        """Starts it; None if it runs already. Returns the monitor's client, which has seen the start; attach: see fork_monitor.

        Raises StartError (125), CommandNotExecutable (126) or CommandNotFound (127); then nothing is left of the try.
        """
        from . import start

        record = self.records.get(ref)
        self._started[record.id] = record
        return start.start(self, record, attach)

    def finish(self, cid: str) -> bool:
        """After the exit of a container that this process has waited for: what it held is free when this returns.

        A `--rm` container is gone for every verb; its monitor deletes the files. Otherwise only the address goes back. False when that
        had to be left to the next command.
        """
        record = self._started.pop(cid, None) or self.records.find(cid)
        if record is None:
            return True  # another command has noticed the end first
        try:
            self._release(record)
        except StoreError:  # a full disk, say; how the container ended is what counts
            self.engine.store.give_up()
            return False
        return True

    def _release(self, record: Record) -> None:
        if record.auto_remove:
            if self.delete_row(record, anonymous_volumes=True):
                self.engine.reap_at_close = False  # its monitor is at it, and whoever waits for the exit code shall not
                if any(point["Type"] == "volume" for point in record.config["Mounts"]):
                    removal.finish_all(self.engine.store, removal.VOLUME)
            return
        if record.config["HostConfig"]["RestartPolicy"]["Name"] != "no" and self.records.state(record.id).live:
            return  # it will be started again, with the same address
        from lamina.network import ipam

        with self.engine.store.db.write(durable=False) as db:
            given = ipam.release(db, record.id)
        if steps.tell is not None and given:
            steps.tell(f"gave back the address of container {steps.short(record.id)}")

    def delete_row(self, record: Record, *, anonymous_volumes: bool) -> bool:
        """Row, name, address and references, in one transaction; the files are left to the removal journal."""
        gone = self.records.delete(record.id, anonymous_volumes=anonymous_volumes)
        if gone:
            if steps.tell is not None:
                steps.tell(f"struck container {steps.short(record.id)} from the database: its name, address and references are free")
            self.event("destroy", record)
        return gone

    def start_quietly(self, record: Record) -> bool:
        """A start by nobody's order: whether it runs now. Why not stands in its state."""
        from . import start

        try:
            client = start.start(self, record, None)
        except (LaminaError, OSError):
            return False
        if client is not None:
            client.close()
        return True

    def state(self, record: Record) -> State:
        """What it is; one whose monitor was lost is cleaned up after when the engine closes."""
        state = self.records.state(record.id)
        self.note_lost(record, state)
        return state

    def note_lost(self, record: Record, state: State) -> None:
        if state.lost:
            self.engine.lost.append(record.id)

    def unfinished(self) -> bool:
        """Whether a removal, or an ended `--rm` container, waits for somebody. Strikes what a monitor has done already from the journal."""
        store = self.engine.store
        paths, waiting, done = store.paths, False, []
        for kind, key in removal.pending(store.db):
            if kind == removal.CONTAINER and not any(
                map(os.path.lexists, (paths.container(key), paths.run_container(key), paths.rootfs(key)))
            ):
                done.append(key)
            else:
                waiting = True
        if done:
            with store.db.write(durable=False) as db:
                for key in done:
                    db.execute("DELETE FROM removals WHERE kind=? AND key=?", (removal.CONTAINER, key))
        return waiting or bool(self.records.over())

    # -- looking

    def list(
        self, all: bool = False, limit: int = 0, size: bool = False, filters: dict[str, list[str]] | None = None
    ) -> list[dict[str, Any]]:
        """`GET /containers/json`: [ContainerSummary], newest first. limit > 0 shows so many, also of those that don't run."""
        from . import listing

        filters = filters or {}
        listing.check_filters(filters)
        pairs = self.records.list_with_state()
        if steps.tell is not None:
            steps.tell(f"read {steps.count(len(pairs), 'container')} from the database, and what each is from its state.json")
        if any(key in filters for key in ("ancestor", "before", "since")):
            from .relations import related

            pairs = related(self, pairs, filters)
        everything = all or limit > 0 or "status" in filters or "exited" in filters
        for record, state in pairs:
            self.note_lost(record, state)
        addresses = dict_of_addresses(self.engine)
        rows: list[dict[str, Any]] = []
        names: dict[tuple[str, str], str] = {}  # a thousand containers are of a few images
        for record, state in pairs:
            if not everything and state.status not in ("running", "paused", "restarting"):
                continue
            address = addresses.get(record.id) if state.live else None
            image = record.image_ref, record.image_id
            if image not in names:
                names[image] = self.image_name(record)
            row = listing.summary(record, state, image_name=names[image], address=address)
            if state.live and (record.config["Config"]["ExposedPorts"] or record.config["HostConfig"]["PortBindings"]):
                from . import ports

                row["Ports"] = ports.summary(self.engine.store.paths, record, state)
            if filters and not listing.keep(row, state, filters):
                continue
            if size:
                from .sizes import container_sizes

                row["SizeRw"], row["SizeRootFs"] = container_sizes(self.engine, record)
            rows.append(row)
            if limit > 0 and len(rows) == limit:
                break
        return rows

    def image_name(self, record: Record) -> str:
        """The image as typed, or its short id once that name means another image or none (as docker shows it)."""
        ref = record.image_ref
        hexes = record.image_id.removeprefix("sha256:")
        if record.image_id.startswith((ref, "sha256:" + ref)):
            return ref
        try:
            same = self.engine.image_store.resolve(ref).id == record.image_id
        except (NotFound, InvalidArgument):
            same = False
        return ref if same else hexes[:12]

    def inspect(self, ref: str, size: bool = False) -> dict[str, Any]:
        """`GET /containers/{id}/json`."""
        from . import looking

        return looking.inspect(self, self.records.get(ref), size)

    def diff(self, ref: str) -> Summaries:
        """`GET /containers/{id}/changes`: [{"Path","Kind"}], Kind 0 modified, 1 added, 2 deleted."""
        from . import looking

        return looking.diff(self, self.records.get(ref))

    def export(self, ref: str, write: Callable[[memoryview], object]) -> None:
        """The union view as a flat tar, handed to `write` in pieces."""
        from . import looking

        looking.export(self, self.find_or_explain(ref, "`save` writes an image, `export` a container's files"), write)

    def find_or_explain(self, ref: str, instead: str) -> Record:
        """For verbs that images have, too, by another name: an image is refused with the verb that was meant."""
        record = self.records.find(ref)
        if record is None:
            try:
                self.engine.image_store.resolve(ref)
            except (NotFound, InvalidArgument):
                raise NotFound(f"No such container: {ref}") from None
            raise NotFound(f"No such container: {ref}", hint=f"{ref} is an image; {instead}")
        return record

    def mount(self, ref: str) -> str:
        """The path of the container's union on the host, writable; mounted there if it doesn't run."""
        from . import unions

        return unions.mount(self, self.find_or_explain(ref, "`image mount` mounts an image, `mount` a container's union"))

    def umount(self, ref: str) -> None:
        """NotFound if it isn't mounted, Conflict while it runs."""
        from . import unions

        unions.umount(self, self.records.get(ref))

    def mounted(self) -> Summaries:
        """[{"Id","Path"}] of the containers whose union is mounted, running ones among them."""
        from . import unions

        return unions.mounted(self)

    def logs(self, ref: str, **options: Any) -> Iterator[tuple[str, bytes]]:
        """(stream, line) pairs; options: follow, stdout, stderr, since, until (ns), timestamps, details, tail (lines, -1 for all)."""
        from . import looking

        return looking.logs(self, self.records.get(ref), **options)

    # -- ending

    def stop(self, ref: str, timeout: int | None = None, signal: str | None = None) -> None:
        from . import stopping

        stopping.stop(self, self.records.get(ref), timeout, signal)

    def kill(self, ref: str, signal: str = "SIGKILL") -> None:
        from . import stopping

        try:
            stopping.kill(self, self.records.get(ref), signal)
        except LaminaError as e:
            e.message = f"cannot kill container: {ref}: {e.message}"  # docker's, whatever went wrong
            raise

    def wait(self, ref: str) -> int:
        """The exit code, once it doesn't run. At once for one that has ended or was never started (then 0, as docker)."""
        from . import stopping

        return stopping.wait(self, self.records.get(ref))

    def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        """Removes the container and its read-write layer; its own data is gone when this returns."""
        from . import stopping

        stopping.remove(self, self.records.get(ref), force=force, volumes=volumes)

    def remove_link(self, ref: str) -> None:
        """`rm --link`. No container here has a link from another, so it is an error with docker's text in any case."""
        self.records.get(ref)
        raise Conflict("Conflict, cannot remove the default link name of the container")

    # -- changing

    def attach(self, ref: str, streams: dict[str, bool]) -> Client:
        """A client of the running container's monitor, attached; streams: {"stdin","stdout","stderr"}."""
        from . import stopping

        record = self.records.get(ref)
        client = stopping.client_of(self, record) if self.state(record).live else None
        if client is None:
            raise Conflict(f"container {record.id} is not running")
        client.attach(**streams)
        if steps.tell is not None:
            steps.tell(f"attached to the monitor of container {steps.short(record.id)} by its socket", now=True)
        self._started[record.id] = record
        self.event("attach", record)
        return client

    def pause(self, ref: str) -> None:
        from . import changing

        changing.pause(self, self.records.get(ref), resume=False)

    def unpause(self, ref: str) -> None:
        from . import changing

        changing.pause(self, self.records.get(ref), resume=True)

    def restart(self, ref: str, timeout: int | None = None, signal: str | None = None) -> None:
        from . import changing

        record = self.records.get(ref)
        try:
            changing.restart(self, record, timeout, signal)
        except LaminaError as e:
            e.message = f"Cannot restart container {ref}: {e.message}"
            raise

    def rename(self, ref: str, name: str) -> None:
        from . import changing

        changing.rename(self, self.records.get(ref), name)

    def update(self, ref: str, body: dict[str, Any]) -> dict[str, Any]:
        """`POST /containers/{id}/update`: {"Warnings"}."""
        from . import changing

        return changing.update(self, self.records.get(ref), body)

    def prune(self, filters: dict[str, Strings] | None = None) -> dict[str, Any]:
        """{"ContainersDeleted","SpaceReclaimed"}."""
        from . import changing

        return changing.prune(self, filters or {})

    def top(self, ref: str, ps_args: Strings | None = None) -> dict[str, Any]:
        """{"Titles","Processes"} of its processes, with the pids of the host."""
        from . import processes

        return processes.top(self, self.records.get(ref), ps_args or [])

    def stats(self, ref: str) -> dict[str, Any]:
        """One sample of what it uses."""
        from . import watching

        return watching.stats(self, self.records.get(ref))

    # -- exec

    def exec_create(self, ref: str, body: dict[str, Any]) -> str:
        """`POST /containers/{id}/exec`: the exec's id."""
        from . import execs

        return execs.create(self, self.records.get(ref), body)

    def exec_start(self, exec_id: str, *, attach: dict[str, bool] | None = None, size: tuple[int, int] | None = None) -> Client:
        """Starts a created exec; the client has seen the start. size: rows, columns of the terminal."""
        from . import execs

        return execs.start_created(self, exec_id, attach, size)

    def exec_run(
        self, ref: str, body: dict[str, Any], *, attach: dict[str, bool] | None = None, size: tuple[int, int] | None = None
    ) -> Client:
        """exec_create and exec_start in one."""
        from . import execs

        return execs.run(self, self.records.get(ref), body, attach, size)

    # -- events

    def event(self, action: str, record: Record, **more: str) -> None:
        from lamina.store import events

        labels = record.config["Config"]["Labels"] or {}
        attributes = {**labels, "image": record.image_ref, "name": record.name, **more}
        events.append(self.engine.store.paths.events, "container", action, record.id, attributes)


def dict_of_addresses(engine: Engine) -> dict[str, tuple[str, str]]:
    return {row[0]: (row[1], row[2]) for row in engine.store.db.execute("SELECT container_id, ipv4, mac FROM endpoints")}


def image_for(engine: Engine, ref: str, image: Image, platform: str) -> Image:
    """The image of a platform, where a name stands for several."""
    from lamina.images.platforms import for_platform
    from lamina.spec.platform import parse

    return for_platform(engine.image_store, ref, image, parse(platform))


def check_platform(platform: str, facts: dict[str, Any], ref: str) -> None:
    from lamina.spec.platform import Platform, parse

    wanted = parse(platform)
    have = Platform(facts.get("os") or "linux", facts.get("architecture") or "", facts.get("variant") or "")
    if (wanted.os, wanted.architecture) != (have.os, have.architecture):
        raise NotFound(
            f"image with reference {ref} was found but does not match the specified platform: "
            f"wanted {wanted.format()}, actual: {have.format()}"
        )
