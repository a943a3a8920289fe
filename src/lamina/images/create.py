# SPDX-License-Identifier: Apache-2.0
"""The one transaction that makes an image: its row, its name, and its last tag time. For import and commit (and load and pull)."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lamina.errors import Conflict, LaminaError, NotFound
from lamina.spec.reference import Reference, parse_repository
from lamina.store import events
from lamina.store.db import DB
from lamina.store.lease import Lease
from lamina.store.open import Store
from lamina.util import steps
from lamina.util.fastjson import dumps, loads
from lamina.util.times import now_ns

from .store import ImageStore


@contextmanager
def making(images: ImageStore, what: str) -> Iterator[Lease]:
    """A lease for making an image. If that fails, layers that nobody needs now go with it."""
    try:
        with Lease(images.store, what) as lease:
            yield lease
    except BaseException:
        try:
            images.layers.remove_unused()
        except (LaminaError, OSError):
            pass  # the first error is the one to tell; the next sweep comes for the rest
        raise


def target_name(repository: str) -> Reference | None:
    """The name that a new image gets ("repo[:tag]", "" for none), checked before any work is done."""
    return parse_repository(repository).with_default_tag() if repository else None


def insert(store: Store, image_id: str, config: bytes, *, chain_id: str, parent: str, size: int, created_ns: int,
           name: Reference | None) -> None:
    """Durable when it returns. What had the name before keeps its image, dangling."""
    with store.db.write() as db:
        insert_row(db, image_id, config, chain_id=chain_id, parent=parent, size=size, created_ns=created_ns)
        if name is not None:
            set_tag(db, name, image_id)
    if steps.tell is not None:
        steps.tell(f"wrote down image {steps.short(image_id)}, the digest of its config, on layer {steps.short(chain_id) or 'none'}"
                   + (f", under the name {name.familiar()}" if name is not None else ""))


def insert_row(db: DB, image_id: str, config: bytes, *, chain_id: str, parent: str, size: int, created_ns: int) -> None:
    """The image's row, inside a transaction; one that is there stays as it is."""
    if chain_id and not db.value("SELECT EXISTS (SELECT 1 FROM layers WHERE chain_id = ?)", (chain_id,)):
        raise NotFound(f"layer {chain_id} went away while the image was made")
    if parent and not db.value("SELECT EXISTS (SELECT 1 FROM images WHERE id = ?)", (parent,)):
        parent = ""  # rmi -f under a commit: the new image stands on its own layers
    db.execute("INSERT OR IGNORE INTO images (id, config, chain_id, parent, size, created_ns, meta) VALUES (?, ?, ?, ?, ?, ?, '{}')",
               (image_id, config, chain_id, parent, size, created_ns))


def insert_manifests(db: DB, image_id: str, manifests: dict[str, tuple[str, bytes]]) -> None:
    """Inside a transaction: digest -> (media type, exact bytes) of an image's manifest, and of the indexes that lead to it."""
    for digest, (media_type, content) in manifests.items():
        db.execute("INSERT OR IGNORE INTO manifests (digest, media_type, content) VALUES (?, ?, ?)", (digest, media_type, content))
        db.execute("INSERT OR IGNORE INTO image_manifests (image_id, digest) VALUES (?, ?)", (image_id, digest))


def set_tag(db: DB, name: Reference, image_id: str, target: str = "") -> None:
    """Points a name to an image, inside a transaction. `target`: digest of the manifest or index that the name stands for, if known."""
    assert db.in_transaction and name.tag
    db.execute("INSERT INTO tags (repo, tag, image_id, target_digest) VALUES (?, ?, ?, ?) ON CONFLICT (repo, tag) DO UPDATE SET "
               "image_id = excluded.image_id, target_digest = excluded.target_digest", (name.name, name.tag, image_id, target or None))
    meta = db.value("SELECT meta FROM images WHERE id = ?", (image_id,))
    if meta is None:
        raise Conflict(f"image {image_id} was removed meanwhile")
    value = loads(meta)
    value["LastTagTime"] = now_ns()
    db.execute("UPDATE images SET meta = ? WHERE id = ?", (dumps(value), image_id))


def tell(store: Store, action: str, image_id: str, name: str = "") -> None:
    """One event; news that can't be written (a full disk) must not undo what was done."""
    try:
        events.append(store.paths.events, "image", action, image_id, {"name": name} if name else None)
    except OSError:
        pass
