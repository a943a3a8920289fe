# SPDX-License-Identifier: Apache-2.0
"""Volumes as containers use them: settled at create, filled from the image when new, forgotten with their last user."""

from __future__ import annotations

import os

from lamina.errors import LaminaError

from .mounts import check_propagation, ensure_bind_source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lamina.store.lease import Lease

    from .engine import Engine


def settle(engine: Engine, points: list[dict[str, Any]], chain_id: str, lease: Lease) -> list[str]:
    """Gives every mount point its source: makes missing bind sources and volumes. The names of volumes that are new.

    On an error the volumes made so far are removed; the lease holds the anonymous ones meanwhile.
    """
    from lamina.volumes.store import VolumeStore

    volumes = VolumeStore(engine.store)
    made: list[str] = []
    try:
        for point in points:
            if point["Type"] == "tmpfs":
                continue
            if point["Type"] == "bind":
                if not point.get("Given"):
                    ensure_bind_source(point["Source"])
                check_propagation(point)
                continue
            known = volumes.find(point["Name"]) if point["Name"] else None
            volume = known or volumes.create(point["Name"] or None, labels=point.get("Labels"), lease=lease)
            if known is None:
                made.append(volume.name)
            point.update(Name=volume.name, Driver="local", Source=engine.store.paths.volume_data(volume.name))
            if "nocopy" not in point["Mode"].split(",") and not os.listdir(point["Source"]):
                fill(engine, chain_id, point["Destination"], point["Source"])
    except BaseException:
        forget(engine, made)
        raise
    for name in made:
        engine.volumes.event("create", name)
    return made


def fill(engine: Engine, chain_id: str, inside: str, target: str) -> None:
    """docker copies what the image has at the mount point into a volume that is empty, with its owner and mode."""
    import tempfile

    from lamina.layers.tar import extract, pack
    from lamina.linux import fs

    root = engine.layer_store.view(chain_id).open_root()
    try:
        try:
            source = fs.open_beneath(root, inside, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return
        with tempfile.TemporaryFile(dir=engine.store.paths.tmp) as spool:
            pack.pack_tree(source, spool.write)
            spool.seek(0)
            destination = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                extract.extract(spool, destination, mode="plain")
                status = os.fstat(source)
                os.fchown(destination, status.st_uid, status.st_gid)
                os.fchmod(destination, status.st_mode & 0o7777)
                os.utime(destination, ns=(status.st_atime_ns, status.st_mtime_ns))
            finally:
                os.close(destination)
                os.close(source)
    finally:
        os.close(root)


def forget(engine: Engine, names: list[str]) -> None:
    """Removes volumes that nobody uses any more; one in use stays."""
    from lamina.volumes.store import VolumeStore

    volumes = VolumeStore(engine.store)
    for name in names:
        try:
            volumes.remove(name)
        except LaminaError:
            pass  # another container has taken it up meanwhile
