# SPDX-License-Identifier: Apache-2.0
"""A plain tar whose layer is here already: recognised by its bytes before anything is laid out again. For ingest.

Reading is cheap, making thousands of files that are thrown away again is not. Only the digest of all the bytes counts; the size is asked
first, so that nothing is read in vain.
"""
from __future__ import annotations

import io
import os
import stat

from lamina.store.lease import Lease
from lamina.store.open import Store
from lamina.util.atomic import fsync_dir
from lamina.util.digest import new_sha256

from .store import Layer
from .tar.source import Readable
from .tar.tarmap import archive_of

_BLOCK = 1 << 20


def find(store: Store, stream: Readable, lease: Lease, kind: str) -> Layer | None:
    """The base layer that the rest of `stream` is the exact tar of, held by `lease` as a `kind`; then the stream is at its end.

    None, with the stream untouched, for anything but an unbuffered regular file, and for bytes that aren't here.
    """
    if not isinstance(stream, io.FileIO):
        return None
    fd = stream.fileno()
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return None
    start = os.lseek(fd, 0, os.SEEK_CUR)
    size = status.st_size - start
    wanted = dict(_of_size(store, size))
    if not wanted:
        return None
    digest = _hash(fd, start, size)
    if digest not in wanted:
        return None
    with store.db.write(durable=False) as db:  # the row may have gone since: it is relied on in the transaction that finds it
        row = db.one("SELECT chain_id, diff_id, parent, data_key, size, created_ns FROM layers WHERE chain_id = ?", (wanted[digest],))
        if row is None:
            return None
        lease.add(kind, row[0])
    fsync_dir(store.paths.layers)  # whoever made it may not have got that far
    os.lseek(fd, 0, os.SEEK_END)
    return Layer(*row)


def _of_size(store: Store, size: int) -> list[tuple[str, str]]:
    """(hex digest of the tar, chain id) of the base layers whose tar has this size."""
    found = []
    for chain, diff, key in store.db.execute("SELECT chain_id, diff_id, data_key FROM layers WHERE parent = ''"):
        recorded = archive_of(store.paths.layer_tarmap(key))
        if recorded is not None and recorded[0] == size and diff == "sha256:" + recorded[1]:
            found.append((recorded[1], chain))
    return found


def _hash(fd: int, start: int, size: int) -> str:
    """sha256 of `size` bytes from `start`; the file's position stays."""
    digest, buffer = new_sha256(), bytearray(_BLOCK)
    view = memoryview(buffer)
    at, end = start, start + size
    while at < end:
        count = os.preadv(fd, [view[: min(_BLOCK, end - at)]], at)
        if not count:
            break  # it has become shorter: the digest won't be one of ours
        digest.update(view[:count])
        at += count
    return digest.hexdigest()
