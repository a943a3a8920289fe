# SPDX-License-Identifier: Apache-2.0
"""state.json: what a container *is* [hot].

Written by its monitor only, whole or not at all; everybody else reads. Believed only as far as it can be true: a record that says
running, but whose monitor isn't alive (pid, start time, boot id), is a container that ended with its monitor: exited, 137, "monitor
lost". No file means created. Times are nanoseconds, 0 for never.
"""
from __future__ import annotations

import errno
import os

from lamina.errors import StoreError
from lamina.util import fastjson
from lamina.util.atomic import read_file, write_file
from lamina.util.identity import is_alive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamina.store.paths import Paths

CREATED, RUNNING, PAUSED, RESTARTING, EXITED, DEAD = "created", "running", "paused", "restarting", "exited", "dead"
LIVE = frozenset((RUNNING, PAUSED, RESTARTING))
ENDED = frozenset((EXITED, DEAD))
STATUSES = frozenset((CREATED, *LIVE, *ENDED))
MONITOR_LOST = "monitor lost"
STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
_LIMIT = 1 << 20


class State:
    """One container's state. `pid` is the init's in the host's pid namespace, 0 when there is none."""

    __slots__ = ("status", "pid", "start_time", "boot_id", "monitor_pid", "monitor_start_time", "exit_code", "oom_killed", "error",
                 "started_at", "finished_at", "restart_count", "health")

    def __init__(self, status: str = CREATED, *, pid: int = 0, start_time: int = 0, boot_id: str = "", monitor_pid: int = 0,
                 monitor_start_time: int = 0, exit_code: int = 0, oom_killed: bool = False, error: str = "", started_at: int = 0,
                 finished_at: int = 0, restart_count: int = 0, health: str = "") -> None:
        self.status = status
        self.pid = pid
        self.start_time = start_time
        self.boot_id = boot_id
        self.monitor_pid = monitor_pid
        self.monitor_start_time = monitor_start_time
        self.exit_code = exit_code
        self.oom_killed = oom_killed
        self.error = error
        self.started_at = started_at
        self.finished_at = finished_at
        self.restart_count = restart_count
        self.health = health  # "" without a health check; its log is in health.json

    @property
    def live(self) -> bool:
        """Has a process: running, paused or restarting."""
        return self.status in LIVE

    @property
    def lost(self) -> bool:
        """Its monitor was killed, and nobody has cleaned up after it yet (who does forgets the monitor's pid)."""
        return self.error == MONITOR_LOST and self.monitor_pid != 0

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    def dump(self) -> bytes:
        return fastjson.dump_bytes({name: getattr(self, name) for name in self.__slots__})


def parse(data: bytes) -> State:
    """StoreError if it isn't a state: wrong JSON, wrong types, unknown status. Unknown keys are ignored (a newer monitor's)."""
    try:
        record = fastjson.loads(data)
    except ValueError as error:
        raise StoreError(f"state.json: {error}") from None
    if not isinstance(record, dict) or record.get("status") not in STATUSES:
        raise StoreError("state.json: no known status in it")
    state = State()
    for name in State.__slots__:
        if name in record:
            if type(record[name]) is not type(getattr(state, name)):
                raise StoreError(f"state.json: {name} has the wrong type")
            setattr(state, name, record[name])
    return state


def load(paths: Paths, container_id: str) -> State:
    """The state with the liveness check applied. StoreError for a damaged file, naming it."""
    return load_file(paths.container_state(container_id))


def load_file(path: str) -> State:
    try:
        state = parse(read_file(path, _LIMIT))
    except FileNotFoundError:
        return State()
    except StoreError as error:
        raise StoreError(f"{path}: damaged ({error.message})", hint="`lamina rm -f` removes the container") from None
    if state.live and not is_alive(state.monitor_pid, state.monitor_start_time, state.boot_id):
        state = _read_again(path, state)
    return state


def _read_again(path: str, state: State) -> State:
    """The monitor is gone. It may have written its last word between our reading and our look at it: its file decides."""
    try:
        latest = parse(read_file(path, _LIMIT))
        if not latest.live or is_alive(latest.monitor_pid, latest.monitor_start_time, latest.boot_id):
            return latest
        state.finished_at = os.stat(path).st_mtime_ns  # the last sign of life; the same in every command that looks
    except (FileNotFoundError, StoreError):
        pass
    state.status, state.exit_code, state.error, state.pid = EXITED, 137, MONITOR_LOST, 0
    state.health = state.health and UNHEALTHY
    return state


def save(path: str, state: State, *, durable: bool = False) -> None:
    """For the monitor. durable where the container is kept: its exit code should survive a power cut. On a full disk it's written over the
    old one, in one piece of the same length or a longer one in the same block: that needs no space, and an exit code is worth it."""
    data = state.dump()
    try:
        write_file(path, data, 0o600, durable)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not os.path.exists(path):
            raise
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.pwrite(fd, data.ljust(os.fstat(fd).st_size), 0)
        finally:
            os.close(fd)
