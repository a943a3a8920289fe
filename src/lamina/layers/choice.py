# SPDX-License-Identifier: Apache-2.0
"""Which driver a store's new layers get: asked of the kernel once, by a real mount on the store's own file system, then kept in `meta`.

A file system's name says too little (overlay on overlay, on NFS, in a user namespace, without xattrs): only trying shows it.
"""
from __future__ import annotations

import os

from lamina.errors import NotSupported, StoreError
from lamina.store.lease import Lease
from lamina.store.open import Store
from lamina.store.trash import discard
from lamina.util.ids import new_id

from .drivers import NAMES, load

META_KEY = "layer_driver"


def choose(store: Store, wanted: str = "") -> str:
    """The store's driver, chosen now if it never was. `wanted` names one; it can't change what a store already has for new layers
    silently: StoreError then, NotSupported if it doesn't work here."""
    known = store.db.value("SELECT value FROM meta WHERE key = ?", (META_KEY,))
    if known is not None:
        if wanted and wanted != known:
            raise StoreError(f"this data root uses the layer driver {known}, not {wanted}", hint="use another data root")
        return str(known)
    if wanted:
        if wanted not in NAMES:
            raise NotSupported(f"layer driver {wanted} is not supported", hint="overlay and vfs are")
        reason = probe(store, wanted)
        if reason:
            raise NotSupported(f"layer driver {wanted} does not work on {store.paths.root}: {reason}")
        chosen = wanted
    else:
        chosen = next((name for name in NAMES if not probe(store, name)), "vfs")
    with store.db.write() as db:
        db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (META_KEY, chosen))
        return str(db.value("SELECT value FROM meta WHERE key = ?", (META_KEY,)))


def probe(store: Store, name: str) -> str:
    """"" if the driver works on this data root, else the reason. Leaves nothing."""
    if name != "overlay":
        return ""
    token = "probe-" + new_id()
    base = store.paths.temp(token)
    lease = Lease(store, "probe of the layer driver").take([("tmp", token)])
    try:
        os.makedirs(base + "/lower", 0o700)
        os.makedirs(base + "/lower2", 0o700)
        with open(base + "/lower/gone", "wb"):
            pass
        driver = load(name, store)
        driver.prepare(base + "/active", [base + "/lower", base + "/lower2"])
        root = driver.mounts(base + "/active", [base + "/lower", base + "/lower2"]).open_root()
        try:
            os.unlink("gone", dir_fd=root)  # needs whiteouts
            os.mkdir("dir", dir_fd=root)
            os.setxattr(f"/proc/self/fd/{root}/dir", "trusted.lamina.probe", b"y")  # needs xattrs that only root may write
        finally:
            os.close(root)
        if not os.path.lexists(base + "/active/diff/gone"):
            return "whiteouts are not kept"
        return ""
    except OSError as e:
        return f"{e.strerror}"
    finally:
        discard(store, base)
        lease.release()
