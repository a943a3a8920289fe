# SPDX-License-Identifier: Apache-2.0
"""Blobs of a registry come in, several at once, a thread each; broken ones go on where they broke, also those of an earlier command.

    with Downloads(repository, partials, parallel) as downloads:
        while downloads.left:
            ... select on downloads.fileno() ...
            for event in downloads.take(): ...

Threads write their partial file and nothing else; what they have to say is taken by the one thread that owns the store.
"""
from __future__ import annotations

import os
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from threading import Event as Flag
from threading import Thread

from lamina.content.partials import Partial
from lamina.errors import ArchiveError, LaminaError, RegistryError
from lamina.registry.client import Repository
from lamina.registry.transport import Response

ATTEMPTS = 5  # in a row that bring nothing
BACK_OFF = 0.5  # seconds before going on, doubled each time
LOCK_PAUSE = 0.1  # seconds between two looks at a lock that another pull holds
WAITING, DOWNLOADING, VERIFYING = "waiting", "downloading", "verifying"


class Event:
    """About one blob: a `state` with `at` bytes there; or a `validator`; or `fd`, an open descriptor of the whole, verified; or `error`."""

    __slots__ = ("digest", "state", "at", "validator", "fd", "error")

    def __init__(self, digest: str, *, state: str = "", at: int = 0, validator: str | None = None, fd: int = -1,
                 error: BaseException | None = None) -> None:
        self.digest = digest
        self.state = state
        self.at = at
        self.validator = validator
        self.fd = fd
        self.error = error


class _Stopped(Exception):
    pass


class Downloads:
    """`left`: blobs that are neither whole nor failed, as far as `take` has told."""

    def __init__(self, repository: Repository, partials: Sequence[Partial], parallel: int) -> None:
        self._repository = repository
        self._todo: SimpleQueue[Partial] = SimpleQueue()
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._stop = Flag()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.left = len(partials)
        for partial in partials:
            self._todo.put(partial)
        self._threads = [Thread(target=self._run, name="download", daemon=True) for _ in range(min(parallel, len(partials)))]
        for thread in self._threads:
            thread.start()

    def fileno(self) -> int:
        """Readable when there are events."""
        return self._wake

    def take(self) -> list[Event]:
        """What has happened since. Raises the first error."""
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            pass
        found: list[Event] = []
        while True:
            try:
                event = self._events.get_nowait()
            except Empty:
                return found
            if event.error is not None:
                for other in found:
                    if other.fd >= 0:
                        os.close(other.fd)
                raise event.error
            self.left -= event.fd >= 0
            found.append(event)

    def close(self) -> None:
        """Stops what goes on: a thread that waits for a server's next byte ends when it comes, or with the process."""
        self._stop.set()
        for thread in self._threads:
            thread.join(None if not self.left else 1.0)
        while not self._events.empty():
            event = self._events.get()
            if event.fd >= 0:
                os.close(event.fd)
        if not any(thread.is_alive() for thread in self._threads):
            os.close(self._wake)

    def __enter__(self) -> Downloads:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- in the threads

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                partial = self._todo.get_nowait()
            except Empty:
                return
            try:
                fd = self._whole(partial)
            except _Stopped:
                return
            except BaseException as error:  # belongs to who takes
                self._tell(Event(partial.digest, error=error))
                return
            self._tell(Event(partial.digest, fd=fd))

    def _tell(self, event: Event) -> None:
        self._events.put(event)
        os.eventfd_write(self._wake, 1)

    def _whole(self, partial: Partial) -> int:
        """Brings it to its end and verifies it; a descriptor."""
        try:
            partial.open(self._pause)
            old = partial.at
            self._fill(partial)
            self._tell(Event(partial.digest, state=VERIFYING, at=partial.at))
            if partial.found != partial.digest and old:
                partial.restart()  # what an earlier command left was of something else
                self._fill(partial)
            if partial.found != partial.digest:
                found = partial.found
                partial.restart()
                raise ArchiveError(f"blob of {self._repository.name.familiar_name} has digest {found} instead of {partial.digest}",
                                   hint=f"asked: {self._repository.endpoint[0].authority}")
            partial.unlock()
            return partial.handle()
        finally:
            partial.close()

    def _pause(self) -> None:
        if self._stop.wait(LOCK_PAUSE):
            raise _Stopped

    def _fill(self, partial: Partial) -> None:
        """Until all its bytes are there, or nothing comes any more."""
        failed = 0
        while partial.at < partial.size:
            before = partial.at
            try:
                self._go_on(partial)
                error: LaminaError = RegistryError(
                    f"blob {partial.digest} of {self._repository.name.familiar_name} broke off: "
                    f"{partial.at} of {partial.size} bytes came from {self._repository.endpoint[0].authority}")
            except RegistryError as broken:
                error = broken
            if partial.at >= partial.size:
                return
            failed = 1 if partial.at > before else failed + 1
            if failed >= ATTEMPTS:
                raise error
            if self._stop.wait(BACK_OFF * 2 ** (failed - 1)):
                raise _Stopped

    def _go_on(self, partial: Partial) -> None:
        """One answer, as far as it goes."""
        with self._ask(partial) as response:
            if response.status != 206:
                if partial.at:
                    partial.restart()
            length = response.length()
            if length is not None and length != partial.size - partial.at:
                raise ArchiveError(f"blob {partial.digest} has {partial.at + length} bytes instead of {partial.size}",
                                   hint=f"{response.origin.authority} sends another size than the manifest says")
            validator = response.headers.get("ETag", "")
            validator = "" if validator.startswith("W/") else validator  # a weak one is no promise about bytes (RFC 9110, 13.1.5)
            if validator != partial.validator:
                partial.validator = validator
                self._tell(Event(partial.digest, validator=validator))
            for data in response.chunks():
                if self._stop.is_set():
                    raise _Stopped
                if partial.at + len(data) > partial.size:
                    partial.restart()
                    raise ArchiveError(f"blob {partial.digest} is longer than the {partial.size} bytes it should have",
                                       hint=f"asked: {response.origin.authority}")
                partial.write(data)
                self._tell(Event(partial.digest, state=DOWNLOADING, at=partial.at))

    def _ask(self, partial: Partial) -> Response:
        """Without an ETag it isn't known whether the bytes are the same; the digest tells in the end, so the range is asked for anyhow."""
        try:
            return self._repository.blob(partial.digest, partial.at, partial.validator)
        except RegistryError as error:
            if error.hint != "range":
                raise
            partial.restart()
            return self._repository.blob(partial.digest)
