# SPDX-License-Identifier: Apache-2.0
"""From one layout to the next: one transaction per step, resumable at every point.

Order: layout.json says {"upgrading": n, "min_reader": n}, so that no older lamina comes near; then the step's transaction, which also
sets meta.layout; then layout.json with the new number. A crash anywhere is finished by the next command, as the database knows
which steps it has. A step that moves files does so idempotently before its transaction changes the rows.
"""
from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from lamina.errors import StoreError
from lamina.store import schema
from lamina.store.db import DB
from lamina.store.paths import Paths


class Step:
    """To `layout` from the one before. `files(paths)` may be run several times; `rows(db)` runs inside the step's transaction."""

    def __init__(self, layout: int, min_reader: int, rows: Callable[[DB], None], files: Callable[[Paths], None] | None = None) -> None:
        self.layout = layout
        self.min_reader = min_reader
        self.rows = rows
        self.files = files


def _partials_files(paths: Paths) -> None:
    os.makedirs(paths.root + "/partials", 0o700, exist_ok=True)


def _partials_rows(db: DB) -> None:
    db.execute("CREATE TABLE IF NOT EXISTS partials (digest TEXT PRIMARY KEY, size INTEGER NOT NULL, "
               "validator TEXT NOT NULL DEFAULT '', used_ns INTEGER NOT NULL) WITHOUT ROWID")


# Layout 1 is the first. A step is added here together with the fixture store of the layout before it (tests/fixtures/stores).
STEPS: Mapping[int, Step] = {
    2: Step(2, 1, _partials_rows, _partials_files),  # downloads to go on with
}


def upgrade(paths: Paths, layout: dict[str, Any], *, wal: bool, steps: Mapping[int, Step] = STEPS, target: int = schema.LAYOUT) -> None:
    """Brings the store to `target`. The caller holds the root's lock and has checked `min_reader`."""
    from lamina.store.setup import write_layout

    db = DB(paths.database, wal=wal)
    try:
        while True:
            reached = int(db.value("SELECT value FROM meta WHERE key='layout'") or 0)
            if reached >= target:
                break
            step = steps.get(reached + 1)
            if step is None:
                raise StoreError(f"{paths.root}: layout {reached} can't be upgraded to {target} by this lamina",
                                 hint="an older lamina may do it in two steps")
            layout = {**layout, "upgrading": step.layout, "min_reader": max(int(layout["min_reader"]), step.layout)}
            write_layout(paths, layout)
            if step.files is not None:
                step.files(paths)
            with db.write():
                step.rows(db)
                db.execute("INSERT OR REPLACE INTO meta VALUES ('layout', ?)", (str(step.layout),))
        done = {key: value for key, value in layout.items() if key != "upgrading"}
        done["layout"] = reached
        if reached in steps:
            done["min_reader"] = steps[reached].min_reader
        write_layout(paths, done)
    finally:
        db.close()
