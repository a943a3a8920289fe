# SPDX-License-Identifier: Apache-2.0
"""What concerns the engine as a whole: finishing what was cut off, check, info, reset."""

from __future__ import annotations

import os

from lamina.containers import state as states
from lamina.errors import LaminaError, StoreError
from lamina.linux import mount, ns
from lamina.monitor import cleanup
from lamina.monitor.main import lock
from lamina.store import presence, removal
from lamina.util import steps

from . import stopping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from lamina.store.check import Problem

    from .engine import Engine


class System:
    __slots__ = ("engine",)

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def reap(self) -> None:
        """Finishes what an earlier command or a killed monitor left: ended `--rm` containers, removals, mounts, cgroups, addresses."""
        containers, store = self.engine.containers, self.engine.store
        for record in containers.records.over():
            self.forget_ports(record.id)
            stopping.remove_cgroup(containers, record.id)
        for kind, key in removal.pending(store.db):
            if kind == removal.CONTAINER:
                self.forget_ports(key)
                stopping.remove_cgroup(containers, key)
        containers.records.reap()
        lost, self.engine.lost = self.engine.lost, []
        for cid in lost:
            self.after_lost_monitor(cid)
        store.db.tidy()

    def after_lost_monitor(self, cid: str) -> bool:
        """Starts the container again if its restart policy says so (then True); else cleans up, and it stays ended."""
        containers = self.engine.containers
        record = containers.records.find(cid)
        if record is not None and stopping.restarts(record):
            from .policies import asks_for_restart

            state = containers.records.state(cid)
            wanted = state.lost and asks_for_restart(record.config["HostConfig"]["RestartPolicy"], state)
            if wanted and containers.start_quietly(record):
                return True
        self.clean_after_lost_monitor(cid)
        return False

    def boot(self) -> list[str]:
        """After the host's start, as docker's daemon has it: starts what ran when it went down and has a restart policy, and of those that
        had ended before whatever has "always". The names of what was started."""
        containers, now = self.engine.containers, ns.boot_id()
        started = []
        for record, state in reversed(containers.records.list_with_state()):
            policy = record.config["HostConfig"]["RestartPolicy"]["Name"]
            if state.lost:
                again = self.after_lost_monitor(record.id)
            else:
                again = policy == "always" and state.ended and state.boot_id != now and containers.start_quietly(record)
            if again:
                started.append(record.name)
        return started

    def clean_after_lost_monitor(self, cid: str, *, settle: bool = True) -> None:
        """Unmounts, empties the cgroup, frees the address, and writes down what every reader concluded (unless settle is off: then it
        counts as lost until somebody else writes); once, under the monitor's lock."""
        containers, paths = self.engine.containers, self.engine.store.paths
        try:
            fd = lock(paths.run_container(cid), timeout=0)
        except (LaminaError, FileNotFoundError):
            return  # it has been started again, or removed
        try:
            state = containers.records.state(cid)
            if state.lost:
                self.forget_ports(cid)
                cleanup.remove_mount(paths.rootfs(cid))
                cleanup.remove_mount(paths.shm(cid))
                stopping.remove_cgroup(containers, cid)
                cleanup.unlink(paths.socket(cid))
                if settle:
                    state.monitor_pid = state.monitor_start_time = 0
                    states.save(paths.container_state(cid), state)
        finally:
            os.close(fd)
        containers.finish(cid)

    def forget_ports(self, cid: str) -> None:
        """Takes out of the firewall what a killed monitor left of a container's published ports. A monitor that lives keeps its own."""
        stopping.forget_ports(self.engine.containers, cid)

    def after_failed_start(self, cid: str) -> None:
        """The monitor may have been killed before it wrote that anything runs."""
        try:
            fd = lock(self.engine.store.paths.run_container(cid), timeout=0)
        except (LaminaError, FileNotFoundError):
            return  # it lives, and tidies up by itself
        try:
            self.forget_ports(cid)
        finally:
            os.close(fd)

    def df(self) -> dict[str, Any]:
        """What is on disk, by images, containers and volumes."""
        from .usage import usage

        return usage(self.engine)

    def check(self, *, full: bool = False, repair: bool = False) -> list[Problem]:
        """What is wrong with the store, if anything; `full` reads every byte, `repair` mends what can be mended."""
        from lamina.store import check

        cut_off = presence.cut_off(self.engine.store.paths.runroot)
        if cut_off:
            from . import tidying

            tidying.tidy(self.engine, cut_off)
        for record, state in self.engine.containers.records.list_with_state():
            self.engine.containers.note_lost(record, state)
        self.reap()
        check.sweep(self.engine.store)
        if steps.tell is not None:
            steps.tell("swept what killed commands have left")
        if repair:
            return check.repair(self.engine.store)[1]
        return check.check(self.engine.store, full=full)

    def events(self, **options: Any) -> Iterator[dict[str, Any] | None]:
        """See watching.events."""
        from . import watching

        return watching.events(self.engine, **options)

    def info(self) -> dict[str, Any]:
        """`GET /info`, as far as this engine has something to say."""
        from .about import info

        return info(self.engine)

    def reset(self) -> None:
        """Removes everything of this engine: containers, images, volumes, bridge, firewall table, cgroups, mounts, both roots."""
        import shutil

        from lamina.network import teardown
        from lamina.runtime.cgroups import Cgroup

        engine = self.engine
        store, paths = engine.store, engine.store.paths
        for record in engine.containers.records.list():
            engine.containers.remove(record.id, force=True, volumes=True)
        self.reap()
        for row in engine.images.mounted():
            mount.umount(row["Path"], mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW)
        teardown.teardown(store.names)
        for name in (f"{store.names.cgroup}/monitor", store.names.cgroup):
            Cgroup.open(name).remove()
        store.close()
        engine.reap_at_close = False  # there is no database any more
        if steps.tell is not None:
            names = store.names
            steps.tell(f"removed the containers, the bridge {names.bridge}, the table {names.table} and the cgroup {names.cgroup}")
        for root in (paths.runroot, paths.root):
            refuse_foreign_mounts(root)
        for root, known in ((paths.runroot, paths.RUN_DIRS), (paths.root, paths.ROOT_DIRS)):
            for name in known:
                shutil.rmtree(f"{root}/{name}", ignore_errors=True)
        for path in (*(f"{paths.root}/{name}" for name in paths.ROOT_FILES), paths.boot, paths.run_lock, f"{paths.runroot}/network.known"):
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
        for root in (paths.runroot, paths.root):
            try:
                os.rmdir(root)
            except OSError:
                pass  # somebody's own file lies in it, or it is a mount point: that is theirs


def adopt(root: str, runroot: str) -> None:
    """Makes a moved data root the engine of this pair of paths; no engine can be open on it yet. Volumes of its containers move along.

    StoreError while the pair it was made with is in use, and for a runroot that is another engine's.
    """
    from lamina.store import setup
    from lamina.store.open import Store, is_ours, read_json, real_runroot
    from lamina.store.paths import Paths, engine_id
    from lamina.util import fastjson

    paths = Paths(os.path.realpath(root), real_runroot(runroot))
    engine = engine_id(paths.root, paths.runroot)
    boot = read_json(paths.boot) if is_ours(paths.runroot) else None
    if boot is not None and boot.get("engine") != engine:
        raise StoreError(f"{paths.runroot}: belongs to another engine ({boot.get('engine')})", hint="give it a --runroot of its own")
    setup.adopt(paths, engine)
    with Store.open(paths.root, paths.runroot) as store, store.db.write() as db:
        for cid, text in db.execute("SELECT id, config FROM containers"):
            config = fastjson.loads(text)
            for point in config.get("Mounts") or ():
                if point["Type"] == "volume":
                    point["Source"] = paths.volume_data(point["Name"])
            db.execute("UPDATE containers SET config=? WHERE id=?", (fastjson.dumps(config), cid))


def refuse_foreign_mounts(root: str) -> None:
    """Nothing is deleted while something is mounted below: it may be a bind of the user's own files (attack 66)."""
    for entry in mount.mountinfo():
        if entry.target.startswith(root + "/"):
            raise LaminaError(f"{entry.target} is mounted below {root}; nothing was removed there", hint=f"umount {entry.target}")
