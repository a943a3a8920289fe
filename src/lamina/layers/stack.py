# SPDX-License-Identifier: Apache-2.0
"""`Stack`: the layers of one image come in, side by side, each in a process of its own; all of them become layers, or none. For load, pull.

    with Stack(store, driver, [(diff id, ...)], lease) as stack:
        stack.put(0, Incoming(...)); stack.put(1, Incoming(...))      # in any order, as soon as the bytes are on disk
        layers = stack.finish()                                       # verified, synced, published, lowest first

Order of writes as in `ingest`. An overlay layer needs its parents only for what its tar leaves unsaid (directories that it uses but doesn't
bring, hard links into the layers below); so each is begun without them, and begun again when they are there if it turns out to need them.
Drivers of whole trees work from the bottom up. What is here already is verified, not laid out again.

Processes and not threads: extraction holds Python's lock most of the time. Workers are forked when the stack is made, by a process without
threads, with the database closed; so make the stack before anything that starts a thread.
"""
from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable, Sequence
from time import monotonic, sleep

from lamina.errors import ArchiveError, NotFound, StoreError
from lamina.linux.ns import threads
from lamina.linux.prctl import set_parent_death_signal
from lamina.store import trash
from lamina.store.lease import Lease
from lamina.store.open import Store
from lamina.util.ids import new_id
from lamina.util.times import now_ns

from . import ingest, placement
from .chain import chain_ids, lowers
from .store import Layer
from .unpack import inherit_root
from .worker import raise_told, receive, send, serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .driver import Driver

WAITING, WORKING, DONE = "waiting", "working", "done"
MOST_WORKERS = 8
Tell = Callable[[int, str, int, int], None]
"""tell(place, "loading" | "done" | "exists", bytes of the source read, its size)"""


class Incoming:
    """A layer's bytes at rest: `size` bytes of `fd` from `offset` (the descriptor stays the giver's, open until `finish`). `digest`: of
    these bytes, "" where only the diff id is known; `what` names it in errors."""

    __slots__ = ("fd", "offset", "size", "digest", "what")

    def __init__(self, fd: int, offset: int, size: int, *, digest: str = "", what: str = "layer") -> None:
        self.fd = fd
        self.offset = offset
        self.size = size
        self.digest = digest
        self.what = what


class _Job:
    def __init__(self, place: int, diff_id: str, chain: str) -> None:
        self.place = place
        self.diff_id = diff_id
        self.chain = chain
        self.source: Incoming | None = None
        self.state = ""  # until the source is there
        self.known = False  # a layer of the store: verified only
        self.alone = False
        self.workspaces: list[str] = []
        self.active = ""
        self.bytes = 0
        self.shaped = False
        self.inherits = False  # the root's attributes from below, when that is there


class _Worker:
    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self.channel = channel
        self.job: _Job | None = None


class Stack:
    """`diff_ids`: lowest first; what each layer must turn out to be. `workers`: at most so many processes (default: one a CPU)."""

    def __init__(self, store: Store, driver: Driver, diff_ids: Sequence[str], lease: Lease, *, tell: Tell | None = None,
                 workers: int = 0) -> None:
        self.store = store
        self.driver = driver
        self.lease = lease
        self._tell: Tell = tell or (lambda place, what, done, size: None)
        self._jobs = [_Job(place, diff_ids[place], chain) for place, chain in enumerate(chain_ids(diff_ids))]  # which checks them
        self._base = ""  # the topmost chain that the store has
        self._find_known()
        self._below = lowers(store.db, store.paths, self._base)
        self._tmp: list[str] = []
        self._workers: list[_Worker] = []
        try:
            for _ in range(min(len(self._jobs), workers or len(os.sched_getaffinity(0)), MOST_WORKERS)):
                self._workers.append(self._fork())
        except BaseException:
            self.close()
            raise

    # -- life

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers and removes what wasn't published. Idempotent."""
        workers, self._workers = self._workers, []
        for worker in workers:
            if worker.job is not None:
                os.kill(worker.pid, signal.SIGKILL)
            worker.channel.close()
        for worker in workers:
            os.waitpid(worker.pid, 0)
        tmp, self._tmp = self._tmp, []
        for path in tmp:
            trash.discard(self.store, path)

    def _fork(self) -> _Worker:
        alone()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.store.close(lazy=True)  # connections never cross a fork
        parent = os.getpid()
        pid = os.fork()
        if pid:
            theirs.close()
            return _Worker(pid, ours)
        code = 1
        try:
            set_parent_death_signal(signal.SIGKILL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            ours.close()
            for other in self._workers:
                other.channel.close()
            if os.getppid() == parent:
                serve(theirs, self.store)
                code = 0
        except OSError:
            pass  # the other end went away: nobody is left to be told
        finally:
            os._exit(code)

    def _find_known(self) -> None:
        """The lowest layers may be here: held by the lease in the transaction that finds them."""
        with self.store.db.write(durable=False) as db:
            for job in self._jobs:
                if not db.value("SELECT EXISTS (SELECT 1 FROM layers WHERE chain_id = ?)", (job.chain,)):
                    break
                self.lease.add(ingest.LEASE_LAYER, job.chain)
                job.known = True
                self._base = job.chain

    # -- work

    def is_known(self, place: int) -> bool:
        """Whether the store has this layer, in its place."""
        return self._jobs[place].known

    def put(self, place: int, source: Incoming | None) -> None:
        """The bytes of a layer are there; its work begins when a worker is free. None for a known one whose bytes need no look."""
        job = self._jobs[place]
        assert not job.state and (source is not None or job.known), "a layer's bytes were put twice, or not at all"
        if source is None:
            job.state = DONE
            self._tell(job.place, "exists", 0, 0)
            return
        job.source, job.state = source, WAITING
        job.alone = not job.known and not self.driver.whole_trees and place > 0
        self._dispatch()

    def filenos(self) -> list[int]:
        """For who waits for other things, too: when one of these is readable, call `step(0)`."""
        return [worker.channel.fileno() for worker in self._workers]

    def step(self, timeout: float | None = None) -> None:
        """Takes what workers have to say, waiting at most `timeout` seconds for it (None: until there is something)."""
        ready, _, _ = select.select([worker.channel for worker in self._workers], [], [], timeout)
        for worker in self._workers:
            if worker.channel in ready:
                self._hear(worker)
        self._dispatch()

    def finish(self) -> list[Layer]:
        """Waits for all, then publishes; the layers, lowest first, held by the lease. What went wrong with any is raised, and nothing
        stays."""
        while any(job.state != DONE for job in self._jobs):
            missing = [job.diff_id for job in self._jobs if not job.state]
            if missing:
                raise ArchiveError(f"layer {missing[0]} is missing")
            self.step()
        fresh = [job for job in self._jobs if not job.known]
        self._settle(len(self._jobs))
        for job in fresh:
            ingest.remove_work(self.store, job.active)
        for job in fresh[-1:]:
            ingest.sync(job.active)  # the whole file system, once
        return [self._publish(job) for job in self._jobs]

    def _settle(self, below: int) -> None:
        """Layers that were laid out alone get what their roots have from below, as far as their tars don't tell; the lowest first."""
        for job in self._jobs[:below]:
            if job.inherits:
                job.shaped |= inherit_root(job.active, self._parents(job))
                job.inherits = False

    def _dispatch(self) -> None:
        for job in self._jobs:
            if job.state != WAITING:
                continue
            if not job.known and not job.alone and any(below.state != DONE for below in self._jobs[: job.place]):
                continue
            worker = next((worker for worker in self._workers if worker.job is None), None)
            if worker is None:
                return
            if not job.known and not job.alone:
                self._settle(job.place)
            self._send(worker, job)

    def _send(self, worker: _Worker, job: _Job) -> None:
        source = job.source
        assert source is not None
        if not job.known:
            token = "layer-" + new_id()
            workspace = self.store.paths.temp(token)
            self.lease.add(ingest.LEASE_TMP, token)
            self._tmp.append(workspace)
            job.active = placement.choose(workspace)
        parents = [] if job.alone or job.known else self._parents(job)
        message = {"job": job.place, "active": job.active, "driver": self.driver.name, "parents": parents, "alone": job.alone,
                   "offset": source.offset, "size": source.size, "digest": source.digest, "diff_id": job.diff_id, "what": source.what}
        try:
            send(worker.channel, message, source.fd)
        except ConnectionError:
            raise lost()
        worker.job, job.state = job, WORKING
        self._tell(job.place, "exists" if job.known else "loading", 0, source.size)

    def _parents(self, job: _Job) -> list[str]:
        """The directories below a layer, top first: those that are being made, then the store's."""
        made = [below.active + "/diff" for below in reversed(self._jobs[: job.place]) if not below.known]
        if self.driver.whole_trees and made:
            return made[:1]
        return [*made, *self._below]

    def _hear(self, worker: _Worker) -> None:
        job = worker.job
        try:
            found = receive(worker.channel)
        except ConnectionError:
            found = None
        if found is None or job is None or job.source is None:
            raise lost()
        answer = found[0]
        if "at" in answer:
            self._tell(job.place, "exists" if job.known else "loading", found[0]["at"], job.source.size)
            return
        worker.job = None
        if "error" in answer:
            raise_told(answer["error"])
        if answer.get("again"):
            job.alone, job.state = False, WAITING
            return
        done = answer["done"]
        job.state, job.bytes, job.shaped, job.inherits = DONE, done["bytes"], done["shaped"], job.alone and not done["root"]
        self._tell(job.place, "exists" if job.known else "done", job.source.size, job.source.size)

    # -- the end

    def _publish(self, job: _Job) -> Layer:
        store, db = self.store, self.store.db
        if job.known:
            row = db.one("SELECT chain_id, diff_id, parent, data_key, size, created_ns FROM layers WHERE chain_id = ?", (job.chain,))
            if row is None:
                raise NotFound(f"layer {job.chain} went away while the image was made")
            return Layer(*row)
        parent = self._jobs[job.place - 1].chain if job.place else ""
        layer = Layer(job.chain, job.diff_id, parent, "", job.bytes, now_ns())
        shaped = self.driver.whole_trees or job.shaped
        layer.data_key = (layer.chain_id if shaped else layer.diff_id)[7:]
        return ingest.publish(store, self.driver, job.active, layer, self.lease)


def lost() -> StoreError:
    return StoreError("a process that laid out a layer was killed", hint="is there memory enough? dmesg tells")


def alone() -> None:
    """Asserts that this process has no other thread. One that was joined may take a moment more to be gone."""
    end = monotonic() + 1
    while threads() > 1:
        assert monotonic() < end, "a fork beside threads"
        sleep(0.001)
