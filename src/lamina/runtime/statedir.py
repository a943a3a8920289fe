# SPDX-License-Identifier: Apache-2.0
"""What `lamina-runtime` remembers of a container between its commands: <root>/<id>/{state.json, exec.fifo}.

state.json is the OCI state plus what later commands need (the process's identity, the cgroup, the config). What *is*, is asked from
the kernel each time: an init counts as alive only as (pid, start time, boot id), so a recycled pid is never signalled. `exec.fifo`
exists while the init waits for `start`. A lock on the directory serialises commands that change a container.
"""
from __future__ import annotations

import fcntl
import os

from lamina.errors import Conflict, InvalidArgument, NotFound, StoreError
from lamina.linux import ns
from lamina.runtime.bundle import VERSION
from lamina.runtime.cgroups import Cgroup
from lamina.util.atomic import write_file
from lamina.util.fastjson import dump_bytes, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ID = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")


def check_id(container_id: str) -> str:
    """runc's grammar; what names a directory and a cgroup must not lead anywhere else."""
    if not container_id or container_id in (".", "..") or len(container_id) > 1024 or not _ID.issuperset(container_id):
        raise InvalidArgument(f"invalid container ID format: {container_id!r}")
    return container_id


class StateDir:
    """One container's directory. `data` is state.json's document, {} before it was written."""

    __slots__ = ("data", "id", "lock_fd", "path")

    def __init__(self, root: str, container_id: str) -> None:
        self.id = check_id(container_id)
        self.path = f"{root}/{container_id}"
        self.data: dict[str, Any] = {}
        self.lock_fd = -1

    @classmethod
    def make(cls, root: str, container_id: str) -> StateDir:
        """A new one, locked. Conflict when the id is taken."""
        self = cls(root, container_id)
        os.makedirs(root, 0o700, exist_ok=True)
        try:
            os.mkdir(self.path, 0o711)
        except FileExistsError:
            raise Conflict(f"container with id exists: {container_id}") from None
        self.lock()
        os.mkfifo(self.fifo, 0o600)
        return self

    @classmethod
    def find(cls, root: str, container_id: str) -> StateDir:
        self = cls(root, container_id)
        if not os.path.isdir(self.path):
            raise NotFound("container does not exist")  # the words that containerd looks for
        self.reload()
        return self

    def reload(self) -> None:
        try:
            with open(self.path + "/state.json", "rb") as f:
                self.data = loads(f.read())
        except FileNotFoundError:
            self.data = {}  # its `create` is under way, or died
        except ValueError as e:
            raise StoreError(f"{self.path}/state.json is damaged: {e}") from None

    @property
    def fifo(self) -> str:
        return self.path + "/exec.fifo"

    def lock(self) -> None:
        """Until this process ends or `unlock`."""
        self.lock_fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self.lock_fd, fcntl.LOCK_EX)

    def unlock(self) -> None:
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1

    def save(self) -> None:
        write_file(self.path + "/state.json", dump_bytes(self.data), 0o600, durable=False)

    def remove(self) -> None:
        for name in os.listdir(self.path):
            os.unlink(f"{self.path}/{name}")
        os.rmdir(self.path)
        self.unlock()

    # ---- the container behind it ----

    def cgroup(self) -> Cgroup:
        return Cgroup(self.data.get("cgroupPath") or "/", self.data.get("cgroups") or {})

    def open_init(self) -> int:
        """A pidfd of the init. NotFound when it isn't there any more."""
        pid, started = self.data.get("pid", 0), self.data.get("startTime", 0)
        if not pid or self.data.get("bootId") != ns.boot_id():
            raise NotFound(f"container {self.id} is not running")
        try:
            return ns.open_process(pid, started)
        except ProcessLookupError:
            raise NotFound(f"container {self.id} is not running") from None

    def status(self) -> str:
        """creating, created, running, paused or stopped; asked from the kernel now."""
        if not self.data:
            return "creating"
        try:
            os.close(self.open_init())
        except NotFound:
            return "stopped"
        if _is_zombie(self.data["pid"]):
            return "stopped"
        if os.path.exists(self.fifo):
            return "created"
        return "paused" if self.cgroup().frozen() else "running"

    def state(self, status: str | None = None) -> dict[str, Any]:
        """The OCI state, with rootfs, created and owner as runc adds them."""
        status = status or self.status()
        out = {
            "ociVersion": VERSION, "id": self.id, "pid": 0 if status == "stopped" else self.data.get("pid", 0), "status": status,
            "bundle": self.data.get("bundle", ""), "rootfs": self.data.get("rootfs", ""), "created": self.data.get("created", ""),
            "owner": self.data.get("owner", ""),
        }  # fmt: skip
        if self.data.get("annotations"):
            out["annotations"] = self.data["annotations"]
        return out


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb", 0) as f:
            return f.read(2048).rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except (OSError, IndexError):
        return True


def every(root: str) -> list[StateDir]:
    """All containers below `root`, by id; what disappears meanwhile is left out."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        try:
            found.append(StateDir.find(root, name))
        except (NotFound, InvalidArgument):
            continue
    return found
