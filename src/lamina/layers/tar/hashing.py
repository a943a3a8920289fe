# SPDX-License-Identifier: Apache-2.0
"""sha256 of a stream beside the thread that works on it, without copying: buffers circulate between the two.

`Hasher` owns a few buffers. The worker takes a free one, fills it, works with it, and hands it over with `done`; the hashing thread hashes
it (hashlib lets the other thread run meanwhile) and puts it back among the free ones. The thread never blocks on anything but this queue,
so that `finish`/`abandon` always end it: no thread outlives the extraction.
"""

from __future__ import annotations

import hashlib
from queue import SimpleQueue
from threading import Thread

BUFFER = 1 << 20


class Hasher:
    """A context manager; `hexdigest` is valid after `finish()`."""

    def __init__(self, buffers: int = 6, size: int = BUFFER) -> None:
        self._hash = hashlib.sha256()
        self._free: SimpleQueue[bytearray] = SimpleQueue()
        self._full: SimpleQueue[tuple[bytearray, int] | None] = SimpleQueue()
        self._unused = buffers
        self._size = size
        self._thread: Thread | None = None
        self._small = bytearray()
        self.hexdigest = ""

    def __enter__(self) -> Hasher:
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()

    def buffer(self) -> bytearray:
        """A free buffer, fresh as long as not all have been made."""
        if self._unused and self._free.empty():
            self._unused -= 1
            return bytearray(self._size)
        return self._free.get()

    def done(self, buffer: bytearray, used: int) -> None:
        """Hash the first `used` bytes; the caller doesn't touch the buffer any more."""
        if self._thread is None:
            self._thread = Thread(target=self._work, name="sha256", daemon=True)
            self._thread.start()
        self._full.put((buffer, used))

    def _work(self) -> None:
        while True:
            item = self._full.get()
            if item is None:
                return
            buffer, used = item
            with memoryview(buffer) as view:
                self._hash.update(view[:used])
            self._free.put(buffer)

    def _end(self) -> None:
        if self._thread is not None:
            self._full.put(None)
            self._thread.join()
            self._thread = None

    def finish(self) -> str:
        self._end()
        self.hexdigest = self._hash.hexdigest()
        return self.hexdigest
