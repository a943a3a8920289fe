# SPDX-License-Identifier: Apache-2.0
"""A process that lays out layers: jobs in, results out, over a socket; it opens no database and publishes nothing. For `stack`.

Forked from a process without threads and without an open database (asserted by the caller), before the first byte is there. Messages
are a length (u32, big endian) and JSON; a job's source comes with it as a descriptor. Jobs and answers:

    {"job", "active", "driver", "parents", "alone", "offset", "size", "digest", "diff_id", "what"}     -> {"job", "done": {...}}
                                                                                            | {"job", "again": true}
                                                                                            | {"job", "error": [class, message, hint]}
    while it works                                                                          -> {"job", "at": bytes of the source}

`active` "" asks for verification only: nothing is written. `alone`: the parents are not there yet; a layer that can't be laid out
without them answers "again".
"""
from __future__ import annotations

import hashlib
import os
import socket
from queue import Queue
from threading import Thread
from typing import Any, NoReturn

from lamina import errors
from lamina.errors import ArchiveError, LaminaError
from lamina.util.digest import VerifyingReader
from lamina.util.fastjson import dumps, loads
from lamina.util.slices import Slice

from .drivers import load
from .tar.compress import decompress, recognise
from .tar.lower import AloneError
from .unpack import unpack_alone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from lamina.store.open import Store

    from .tar.extract import Extracted
    from .tar.source import Readable

_TELL_EVERY = 2 << 20
_AHEAD = 4


def serve(channel: socket.socket, store: Store) -> None:
    """Works until the other end closes."""
    while True:
        found = receive(channel)
        if found is None:
            return
        job, fd = found
        try:
            answer = _work(channel, store, job, fd)
        finally:
            os.close(fd)
        send(channel, {"job": job["job"], **answer})


def send(channel: socket.socket, message: dict[str, Any], fd: int = -1) -> None:
    data = dumps(message).encode("utf-8", "surrogateescape")
    head = len(data).to_bytes(4, "big")
    if fd < 0:
        channel.sendall(head + data)
    else:
        socket.send_fds(channel, [head], [fd])
        channel.sendall(data)


def receive(channel: socket.socket) -> tuple[dict[str, Any], int] | None:
    """(message, descriptor that came with it or -1); None at the other end's end."""
    head, fds, _, _ = socket.recv_fds(channel, 4, 1)
    if len(head) < 4:
        return None
    left, parts = int.from_bytes(head, "big"), []
    while left:
        data = channel.recv(left)
        if not data:
            return None
        parts.append(data)
        left -= len(data)
    message: dict[str, Any] = loads(b"".join(parts).decode("utf-8", "surrogateescape"))
    return message, fds[0] if fds else -1


def _work(channel: socket.socket, store: Store, job: dict[str, Any], fd: int) -> dict[str, Any]:
    told = 0

    def tell(at: int) -> None:
        nonlocal told
        if at - told >= _TELL_EVERY:
            told = at
            send(channel, {"job": job["job"], "at": at})

    try:
        done = layout(store, job, _Told(Slice(fd, job["offset"], job["size"], job["what"]), tell))
    except AloneError:
        return {"again": True}
    except LaminaError as error:
        return {"error": [type(error).__name__, error.message, error.hint]}
    except OSError as error:
        return {"error": ["StoreError", f"{job['what']}: {error.strerror or error}", ""]}
    return {"done": {"files": done.files, "bytes": done.bytes, "digest": done.digest, "size": done.size, "shaped": done.shaped_by_parent,
                     "root": done.root_told}}


class _Told:
    """A slice that tells how far it was read."""

    def __init__(self, inner: Slice, tell: Callable[[int], None]) -> None:
        self.inner = inner
        self.size = inner.size
        self._tell = tell

    def read(self, size: int = -1, /) -> bytes:
        data = self.inner.read(size)
        self._tell(self.inner.at)
        return data

    def readinto(self, buffer: memoryview) -> int:
        count = self.inner.readinto(buffer)
        self._tell(self.inner.at)
        return count


def layout(store: Store, job: dict[str, Any], source: _Told) -> Extracted:
    """Does one job: decompress, verify what came and what it is, extract. ArchiveError, StoreError, AloneError."""
    what, digest, diff_id = job["what"], job["digest"], job["diff_id"]
    head = os.pread(source.inner.fd, min(6, source.size), source.inner.offset)
    plain = recognise(head) == "none"
    if plain:
        if digest and diff_id and digest != diff_id:
            digest_of_stream(source, digest, what)  # tells which of the two lies
            raise ArchiveError(f"{what} is not compressed, and has digest {digest} instead of its diff id {diff_id}")
        return _apply(store, job, source, digest or diff_id)
    compressed = VerifyingReader(source, digest or None, source.size, what)
    stream, _ = decompress(compressed)
    with _Ahead(stream) as ahead:
        try:
            done = _apply(store, job, ahead, diff_id)
        except ArchiveError:
            ahead.close()
            if digest:
                compressed.drain()  # a wrong blob is told as that, not as what it happened to unpack to
            raise
    compressed.drain()
    return done


def _apply(store: Store, job: dict[str, Any], stream: Readable, expected: str) -> Extracted:
    """Into `active`, or nowhere; the digest of the plain tar is `expected`."""
    if job["active"]:
        active, parents = job["active"], job["parents"]
        driver = load(job["driver"], store)
        driver.prepare(active, parents if driver.whole_trees else ())
        done = unpack_alone(active, stream) if job["alone"] else driver.apply(active, parents, stream)
    else:
        done = _verify(stream)
    if expected and done.digest != expected:
        raise ArchiveError(f"{job['what']} has digest {done.digest} instead of {expected}")
    return done


def _verify(stream: Readable) -> Extracted:
    from .tar.extract import Extracted

    hasher, size = hashlib.sha256(), 0
    while data := stream.read(1 << 20):
        hasher.update(data)
        size += len(data)
    return Extracted(digest="sha256:" + hasher.hexdigest(), size=size)


def digest_of_stream(stream: Readable, digest: str, what: str) -> None:
    """Reads all; ArchiveError unless it has this digest."""
    found = _verify(stream).digest
    if found != digest:
        raise ArchiveError(f"{what} has digest {found} instead of {digest}")


class _Ahead:
    """Decompresses beside whoever reads: a few pieces of at most 1 MiB lie ready. A context manager, ends its thread."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._queue: Queue[bytes | BaseException] = Queue(_AHEAD)
        self._rest: bytes = b""
        self._stop = False
        self._end = False
        self._thread = Thread(target=self._run, name="decompress", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop:
                data = self._stream.read(1 << 20) or b""
                self._queue.put(data)
                if not data:
                    return
        except BaseException as error:  # belongs to the reader
            self._queue.put(error)

    def read(self, size: int = -1, /) -> bytes:
        if not self._rest:
            if self._end:
                return b""
            found = self._queue.get()
            if isinstance(found, BaseException):
                self._end = True
                raise found
            self._end = not found
            self._rest = found
        if size < 0 or size >= len(self._rest):
            data, self._rest = self._rest, b""
            return data
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def close(self) -> None:
        """Idempotent."""
        self._stop = True
        while self._thread.is_alive():
            while not self._queue.empty():
                self._queue.get()
            self._thread.join(0.01)
        closing = getattr(self._stream, "close", None)
        if closing is not None:
            closing()

    def __enter__(self) -> _Ahead:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def raise_told(told: list[str]) -> NoReturn:
    """The error that a worker met, here."""
    name, message, hint = told
    kind = getattr(errors, name, LaminaError)
    raise kind(message, hint=hint)
