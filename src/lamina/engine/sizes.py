# SPDX-License-Identifier: Apache-2.0
"""How much a container takes: its read-write layer, and that plus its image."""

from __future__ import annotations

import os

from lamina.containers.store import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .engine import Engine


def container_sizes(engine: Engine, record: Record) -> tuple[int, int]:
    """(SizeRw, SizeRootFs) in bytes, apparent sizes as docker counts them: each inode once."""
    upper = tree_size(engine.store.paths.container_upper(record.id))
    row = engine.store.db.one("SELECT size FROM images WHERE id=?", (record.image_id,))
    return upper, upper + (row[0] if row else 0)


def tree_size(path: str) -> int:
    total, seen = 0, set()
    todo = [path]
    while todo:
        try:
            entries = list(os.scandir(todo.pop()))
        except FileNotFoundError:
            continue  # removed while we look; a running container may do that
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            if entry.is_dir(follow_symlinks=False):
                todo.append(entry.path)
            else:
                total += status.st_size
    return total
