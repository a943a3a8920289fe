# SPDX-License-Identifier: Apache-2.0
"""Opening a store: the few checks that every command pays for, and what follows when one of them says "not as usual" [hot].

Usual means: root and runroot are real directories of ours with mode 0700, layout.json is of our layout, boot.json is of this boot, and
both name the same engine. Then the cost is a handful of stat and read calls, and the database opens on first use. Everything else
(creating, upgrading, a new boot, a foreign runroot) is in `setup.py`, imported only then. A store that is newer than this
lamina is refused before anything is written, created or locked.
"""
from __future__ import annotations

import os
import stat

from lamina.errors import StoreError
from lamina.store import presence
from lamina.store.db import DB
from lamina.store.paths import Names, Paths, engine_id
from lamina.store.schema import LAYOUT
from lamina.util import fastjson, steps
from lamina.util.atomic import read_file
from lamina.util.identity import boot_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any


class Store:
    """An opened store. `.paths` `.db` `.engine_id` `.names` `.network_fs` (the file system's name if the root is on a network, else "")."""

    __slots__ = ("paths", "db", "engine_id", "marker", "names", "network_fs")

    def __init__(self, paths: Paths, engine: str, *, network_fs: str = "") -> None:
        self.paths = paths
        self.engine_id = engine
        self.names = Names(paths.root, paths.runroot)
        self.network_fs = network_fs
        self.db = DB(paths.database, wal=not network_fs)
        self.db.announce = self.begin
        self.marker = ""
        if steps.tell is not None:
            steps.tell(f"opened the store {paths.root} of engine {engine}; what doesn't survive a reboot is in {paths.runroot}")

    @classmethod
    def open(cls, root: str, runroot: str) -> Store:
        """Opens the store, creating or upgrading it if need be.

        StoreError: newer than this lamina, another engine's, not ours, not a data root, a link for a runroot.
        """
        if not root.startswith("/") or not runroot.startswith("/"):
            raise StoreError(f"data root {root!r} and runroot {runroot!r} must be absolute paths")
        paths = Paths(os.path.realpath(root), real_runroot(runroot))
        engine = engine_id(paths.root, paths.runroot)
        layout = read_json(paths.layout)
        if layout is not None:
            check_layout(paths, layout)
        boot = read_json(paths.boot) if is_ours(paths.runroot) else None
        if (boot is None or boot.get("boot_id") != boot_id() or boot.get("engine") != engine
                or layout is None or layout["layout"] < LAYOUT or "upgrading" in layout or layout["engine"] != engine
                    or not is_ours(paths.root)):
            from lamina.store import setup

            return cls(paths, engine, network_fs=setup.make_ready(paths, engine))
        return cls(paths, engine, network_fs=str(boot.get("network", "")))

    def connect(self) -> DB:
        """Another connection, for another thread."""
        return DB(self.paths.database, wal=self.db.wal)

    def close(self, *, lazy: bool = False) -> None:
        """Closes the database (see DB.close). Must come before a fork; using the store again is fine."""
        self.db.close(lazy=lazy)

    def begin(self) -> None:
        """Says that this process is about to change something. Done by the first transaction that writes; idempotent."""
        if not self.marker:
            self.marker = presence.enter(self.paths.runroot)

    def give_up(self) -> None:
        """Something is left that this process can't finish: its marker stays, for the next command."""
        self.begin()
        self.marker = ""

    def leave(self) -> None:
        """All is done: nobody need look after this process. Idempotent."""
        marker, self.marker = self.marker, ""
        if marker:
            presence.leave(marker)
            self.db.announce = self.begin

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
        self.leave()


def real_runroot(runroot: str) -> str:
    """The real path of a runroot that is not itself a link: a link there is somebody's trap (attack 68)."""
    clean = runroot.rstrip("/") or "/"
    if os.path.islink(clean):
        raise StoreError(f"{clean}: the runroot is a symbolic link, which another user may have put there",
                         hint="remove it, or name a real directory")
    return os.path.realpath(clean)


def is_ours(path: str) -> bool:
    """A real directory of this user that nobody else can enter."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


def read_json(path: str) -> dict[str, Any] | None:
    """A small JSON object; None if there is no file. StoreError if it isn't one."""
    try:
        value = fastjson.loads(read_file(path, 1 << 16))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise StoreError(f"{path}: damaged ({error})", hint="see docs/on-disk.md for what it should say") from None
    if not isinstance(value, dict):
        raise StoreError(f"{path}: damaged (not an object)", hint="see docs/on-disk.md for what it should say")
    return value


def check_layout(paths: Paths, layout: dict[str, Any]) -> None:
    """Refuses what a newer lamina wrote and doesn't want read by this one. Writes nothing."""
    number, reader = layout.get("layout"), layout.get("min_reader")
    if type(number) is not int or type(reader) is not int or type(layout.get("engine")) is not str:
        raise StoreError(f"{paths.layout}: damaged (layout, min_reader or engine is missing)",
                         hint="see docs/on-disk.md for what it should say")
    if reader > LAYOUT:
        raise StoreError(f"{paths.root}: this data root has layout {number} and needs a lamina that reads layout {reader}; "
                         f"this one reads up to {LAYOUT}",
                         hint="use the newer lamina; nothing was changed")
