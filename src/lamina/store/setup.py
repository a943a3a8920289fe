# SPDX-License-Identifier: Apache-2.0
"""What `Store.open` does when something is not as usual: create, upgrade, begin a new boot, refuse.

Each step is idempotent and done under the root's lock, so commands that start at once on a new machine make one store, and a crash
halfway is finished by the next. layout.json comes last: a root without it was never used.
"""
from __future__ import annotations

import os
import stat

from lamina.errors import StoreError
from lamina.linux.fs import spread
from lamina.store import presence, schema
from lamina.store.db import DB
from lamina.store.open import check_layout, is_ours, read_json
from lamina.store.paths import Paths
from lamina.util import fastjson
from lamina.util.atomic import fsync_dir, write_file
from lamina.util.identity import boot_id
from lamina.util.lock import FileLock

# File systems whose locks or shared memory don't reach all who can write: no WAL there, and one host at a time.
NETWORK = frozenset(("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.sshfs", "fuse.glusterfs", "fuse.cephfs",
                     "lustre", "gpfs", "ocfs2", "gfs2", "beegfs", "orangefs", "coda", "ncpfs", "virtiofs"))


def make_ready(paths: Paths, engine: str) -> str:
    """Brings root and runroot into the usual state. Returns the network file system's name, or "". StoreError when refused."""
    root, runroot = paths.root + "/", paths.runroot + "/"
    if runroot.startswith(root) or root.startswith(runroot):
        raise StoreError(f"data root {paths.root} and runroot {paths.runroot} may not lie in each other")
    layout = read_json(paths.layout)
    if layout is not None:
        check_layout(paths, layout)
        refuse_foreign(paths, layout, engine)
    else:
        refuse_strange(paths)
    boot = read_json(paths.boot) if os.path.isdir(paths.runroot) else None
    if boot is not None and boot.get("engine") != engine:
        raise StoreError(f"{paths.runroot}: belongs to another engine ({boot.get('engine')}), not to the data root {paths.root} ({engine})",
                         hint="--root and --runroot go together: give this data root a runroot of its own")
    own_directory(paths.root)
    network = network_fs(paths.root)
    with FileLock(paths.lock):
        if network:
            claim_host(paths, network)
        layout = read_json(paths.layout)  # again: another command may have been first
        new = layout is None
        if layout is None:
            create(paths, engine, wal=not network)
        else:
            check_layout(paths, layout)
            refuse_foreign(paths, layout, engine)
            if layout["layout"] < schema.LAYOUT or "upgrading" in layout:
                from lamina.store import upgrade

                upgrade.upgrade(paths, layout, wal=not network)
        if network:
            _leave_wal(paths)
        begin_boot(paths, engine, network, new=new)
    return network


def refuse_foreign(paths: Paths, layout: dict[str, object], engine: str) -> None:
    """A root knows its engine: the same pair of real paths as when it was made."""
    if layout["engine"] != engine:
        made = layout.get("paths")
        was = f", made as root {made[0]} with runroot {made[1]}" if isinstance(made, list) and len(made) == 2 else ""
        raise StoreError(f"{paths.root}: belongs to engine {layout['engine']}{was}; "
                         f"with runroot {paths.runroot} this would be engine {engine}",
                         hint="give the --runroot it was made with; after moving a data root: lamina system adopt")


def refuse_strange(paths: Paths) -> None:
    """A directory that holds other things isn't made a data root."""
    try:
        status = os.lstat(paths.root)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        raise StoreError(f"{paths.root}: not a directory, so it can't be a data root")
    ours = {*Paths.ROOT_DIRS, *Paths.ROOT_FILES, "lost+found"}
    strange = sorted(name for name in os.listdir(paths.root) if name not in ours and not name.startswith(".tmp-"))
    if strange:
        raise StoreError(f"{paths.root}: not a lamina data root, and not empty ({strange[0]} is in it)",
                         hint="name a new or an empty directory with --root")


def own_directory(path: str) -> None:
    """Makes a directory (and its parents, 0755) that only we can enter. StoreError if it's somebody else's or a link."""
    if not os.path.lexists(path):
        parent = os.path.dirname(path)
        if not os.path.isdir(parent):
            os.makedirs(parent, 0o755, exist_ok=True)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        raise StoreError(f"{path}: not a real directory")
    if status.st_uid != os.geteuid():
        raise StoreError(f"{path}: belongs to user {status.st_uid}, not to {os.geteuid()}",
                         hint="an engine keeps its data in directories of its own user")
    if status.st_mode & 0o077:
        os.chmod(path, 0o700)  # set-uid programs of images lie below: nobody else may come near them (attack 37)


def create(paths: Paths, engine: str, *, wal: bool) -> None:
    """A new store, layout.json last."""
    for name in Paths.ROOT_DIRS:
        try:
            os.mkdir(f"{paths.root}/{name}", 0o700)
        except FileExistsError:
            pass
    for directory in (paths.tmp, paths.containers):  # where layers are made, and where containers write
        spread(directory)
    os.close(os.open(paths.database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    db = DB(paths.database, wal=wal)
    try:
        db.execute("PRAGMA journal_mode=WAL" if wal else "PRAGMA journal_mode=DELETE")
        with db.write():
            schema.create(db)
    finally:
        db.close()
    fsync_dir(paths.root)
    write_layout(paths, {"layout": schema.LAYOUT, "min_reader": schema.MIN_READER, "engine": engine, "paths": [paths.root, paths.runroot]})


def write_layout(paths: Paths, layout: dict[str, object]) -> None:
    write_file(paths.layout, fastjson.dump_bytes(layout) + b"\n")


def begin_boot(paths: Paths, engine: str, network: str, *, new: bool) -> None:
    """A runroot of this boot, which also remembers what kind of network file system the root is on, if any.

    What another boot left there is swept and believed in nothing: its processes and mounts are gone. new: the store is, too.
    """
    own_directory(paths.runroot)
    wanted = {"boot_id": boot_id(), "engine": engine, **({"network": network} if network else {})}
    with FileLock(paths.run_lock):
        boot = read_json(paths.boot)
        if boot is not None and boot.get("engine") != engine:
            raise StoreError(f"{paths.runroot}: belongs to another engine ({boot.get('engine')}), not to {paths.root} ({engine})")
        if boot is None or boot.get("boot_id") != wanted["boot_id"]:
            sweep_runroot(paths)
            if not new:  # whoever was at work when the power went is dead: process 0 stands for all of them
                presence.make(f"{paths.active}/{presence.name_of(0, 0)}")
        for name in Paths.RUN_DIRS:
            try:
                os.mkdir(f"{paths.runroot}/{name}", 0o700)
            except FileExistsError:
                if not is_ours(f"{paths.runroot}/{name}"):
                    raise StoreError(f"{paths.runroot}/{name}: not a private directory of ours") from None
        if boot != wanted:
            write_file(paths.boot, fastjson.dump_bytes(wanted) + b"\n", durable=False)


def sweep_runroot(paths: Paths) -> None:
    """Removes what we keep in a runroot, by name: what else lies there isn't ours to delete."""
    from lamina.store import trash

    for name in Paths.RUN_DIRS:
        path = f"{paths.runroot}/{name}"
        if os.path.lexists(path):
            trash.remove_path(path)


def network_fs(path: str) -> str:
    """The type of the file system if it's one that several hosts may share, else "".

    Local disks have a device number with a major; only the nameless rest is looked up in the mount table.
    """
    if os.major(os.stat(path).st_dev) != 0:
        return ""
    kind = file_system(path)
    return kind if kind in NETWORK or kind.startswith(("nfs", "smb")) else ""


def file_system(path: str) -> str:
    """The type as the mount table says it, found by the mount's id, "" if that can't be told."""
    from lamina.store import trash

    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        wanted = str(trash.mount_id(fd)).encode()
    finally:
        os.close(fd)
    with open("/proc/self/mountinfo", "rb") as table:
        for line in table:
            if line.split(b" ", 1)[0] == wanted:
                return line.partition(b" - ")[2].split(b" ", 1)[0].decode("ascii", "replace")
    return ""


def host_name() -> str:
    """Name and machine id: host names are not unique, machine ids don't tell people anything."""
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            machine = file.read().strip()[:12]
    except (OSError, UnicodeDecodeError):
        machine = ""
    return f"{os.uname().nodename}/{machine}"


def claim_host(paths: Paths, kind: str) -> None:
    """On a network file system the first host owns the store; a second one is refused by name, as locks and liveness don't reach it."""
    owner = f"{paths.root}/host.json"
    known = read_json(owner)
    me = host_name()
    if known is None:
        write_file(owner, fastjson.dump_bytes({"host": me}) + b"\n")
    elif known.get("host") != me:
        raise StoreError(f"{paths.root}: is on {kind} and in use by host {known.get('host')}; this is {me}",
                         hint=f"use a data root of this host's own; if that host is gone for good, remove {owner}")


def _leave_wal(paths: Paths) -> None:
    """A store that was copied to a network file system: WAL needs memory that all writers share."""
    db = DB(paths.database, wal=False)
    try:
        db.execute("PRAGMA journal_mode=DELETE")
    finally:
        db.close()


def adopt(paths: Paths, engine: str) -> None:
    """Makes a moved or copied data root the engine of this pair of paths.

    StoreError while the old pair is in use: two engines on one data would each sweep the other's.
    """
    layout = read_json(paths.layout)
    if layout is None:
        raise StoreError(f"{paths.root}: not a lamina data root")
    check_layout(paths, layout)
    if layout["engine"] == engine:
        return
    with FileLock(paths.lock):
        made = layout.get("paths")
        if isinstance(made, list) and len(made) == 2:
            old_root, old_runroot = str(made[0]), str(made[1])
            boot = read_json(old_runroot + "/boot.json") if is_ours(old_runroot) else None
            same = os.path.realpath(old_root) == paths.root
            if same and boot is not None and boot.get("engine") == layout["engine"] and boot.get("boot_id") == boot_id():
                raise StoreError(f"{paths.root}: its runroot {old_runroot} is of this boot, so containers may be running from it",
                                 hint="stop them, remove that runroot, then adopt")
        write_layout(paths, {**layout, "engine": engine, "paths": [paths.root, paths.runroot]})
