# SPDX-License-Identifier: Apache-2.0
"""`rmi`: names go, and the image with its last one, unless somebody needs it. Docker's rules and texts, in one transaction.

By name: the name is removed; the image too when that was its last name and no child has it as Parent and no container uses it. By id:
refused while several
repositories name it. Hard conflicts (children, running containers) can't be forced, soft ones (names, stopped containers) can.
Untagged parents
that nobody needs any more go along. Data follows after the transaction, through the removal journal.
"""
from __future__ import annotations

from lamina.containers.store import ContainerStore
from lamina.errors import Conflict, NotFound
from lamina.spec import reference
from lamina.store.db import DB
from lamina.util import steps

from .create import tell
from .platforms import NAMED, others
from .store import Image, ImageStore, is_id_prefix

HARD = frozenset(("children", "running"))
SOFT = frozenset(("names", "stopped"))
Name = tuple[str, str, bool]  # repository in full form, tag or digest, whether it is a digest


def remove_image(images: ImageStore, ref: str, *, force: bool = False, no_prune: bool = False) -> list[dict[str, str]]:
    """[{"Untagged": name} | {"Deleted": id}, ...] in docker's order. Conflict with docker's text if it may not go; nothing has changed
    then."""
    work = Removal(images, force=force, prune=not no_prune)
    with images.store.db.write() as db:
        work.remove(db, ref)
    work.finish()
    return work.records


class Removal:
    """One removal (or a prune's many): what has been done in the transaction, and what is left to do after it."""

    def __init__(self, images: ImageStore, *, force: bool = False, prune: bool = True) -> None:
        self.images = images
        self.containers = ContainerStore(images.store)
        self.force = force
        self.prune = prune
        self.records: list[dict[str, str]] = []
        self.reclaimed = 0
        self._keys: list[str] = []
        self._orphans: list[str] = []
        self._news: list[tuple[str, str]] = []

    def remove(self, db: DB, ref: str) -> None:
        """Inside a transaction; raises before it changes anything."""
        self._remove(db, ref)
        for image_id in self._orphans:  # images of other platforms that went by a name that is gone
            image = self.images.by_id(image_id)
            if image is not None and not db.value(f"SELECT EXISTS (SELECT 1 FROM ({NAMED}) WHERE image_id = ?)", (image_id,)):
                self._delete(db, image, self.force, quiet=True)

    def _remove(self, db: DB, ref: str) -> None:
        image = self.images.find(ref)
        if image is None:
            raise NotFound("No such image: " + self.images.shown(ref))
        names = self.names(db, image.id)
        if is_id_prefix(image.id, ref):
            if _is_single(names):
                self._check(db, image, HARD if self.force else HARD | {"stopped"})
                for name in names:
                    self._untag(db, image, name)
            self._delete(db, image, self.force, quiet=False)
            return
        if not self.force and _is_single(names):
            users = self.containers.using_image(image.id)
            if users:
                raise Conflict(f'conflict: unable to remove repository reference "{ref}" (must force) - container {users[0].id[:12]} '
                               f"is using its referenced image {image.short_id}")
        parsed = reference.parse(ref).with_default_tag()
        # name:tag@digest is looked up by its digest, and so is removed by it.
        self._untag(db, image, (parsed.name, parsed.digest or parsed.tag, bool(parsed.digest)))
        names = self.names(db, image.id)
        if not parsed.digest and not any(name[0] == parsed.name and not name[2] for name in names):
            for name in [name for name in names if name[0] == parsed.name]:
                self._untag(db, image, name)
                names.remove(name)
        if not names:
            self._delete(db, image, self.force, quiet=True)

    def finish(self) -> None:
        """After the commit: events, and the data."""
        if steps.tell is not None:
            gone = [steps.short(name) for one in self.records for name in one.values()]
            steps.tell(f"struck from the database: {', '.join(gone) or 'nothing'}")
        for action, image_id in self._news:
            tell(self.images.store, action, image_id)
        self.images.layers.finish_removals(self._keys)

    @staticmethod
    def names(db: DB, image_id: str) -> list[Name]:
        tags = db.execute("SELECT repo, tag FROM tags WHERE image_id = ? ORDER BY repo, tag", (image_id,))
        digests = db.execute("SELECT repo, digest FROM repo_digests WHERE image_id = ? ORDER BY repo, digest", (image_id,))
        return [(repo, tag, False) for repo, tag in tags] + [(repo, digest, True) for repo, digest in digests]

    def _untag(self, db: DB, image: Image, name: Name) -> None:
        repo, what, is_digest = name
        if is_digest:
            db.execute("DELETE FROM repo_digests WHERE repo = ? AND digest = ? AND image_id = ?", (repo, what, image.id))
        else:
            self._orphans += others(db, repo, what)
            db.execute("DELETE FROM tags WHERE repo = ? AND tag = ? AND image_id = ?", (repo, what, image.id))
        self.records.append({"Untagged": f"{reference.familiar_name(repo)}{'@' if is_digest else ':'}{what}"})
        self._news.append(("untag", image.id))

    def conflict(self, db: DB, image: Image, kinds: frozenset[str]) -> _Conflict | None:
        if "children" in kinds and db.value("SELECT EXISTS (SELECT 1 FROM images WHERE parent = ?)", (image.id,)):
            return _Conflict(image, "image has dependent child images", hard=True)
        users = self.containers.using_image(image.id) if kinds & {"running", "stopped"} else []
        live = {user.id: self.containers.state(user.id).live for user in users}
        for user, runs in live.items():
            if "running" in kinds and runs:
                return _Conflict(image, f"image is being used by running container {user[:12]}", hard=True, used=True)
        if "names" in kinds and self.names(db, image.id):
            return _Conflict(image, "image is referenced in multiple repositories")
        for user, runs in live.items():
            if "stopped" in kinds and not runs:
                return _Conflict(image, f"image is being used by stopped container {user[:12]}", used=True)
        return None

    def _check(self, db: DB, image: Image, kinds: frozenset[str]) -> None:
        conflict = self.conflict(db, image, kinds)
        if conflict is not None:
            raise conflict.error()

    def _delete(self, db: DB, image: Image, force: bool, *, quiet: bool) -> None:
        """docker's order: conflicts, names, row, layers from the top down, then the parent in the same way, never by force."""
        todo: Image | None = image
        while todo is not None:
            conflict = self.conflict(db, todo, HARD if force else HARD | SOFT)
            if conflict is not None:
                # Quiet: a name was removed, or a child: that's success, unless what stays is an image that only its layers know.
                if quiet and (conflict.used or self._is_known(db, todo)):
                    return
                raise conflict.error()
            for name in self.names(db, todo.id):
                self._untag(db, todo, name)
            had = db.execute("SELECT digest FROM image_manifests WHERE image_id = ?", (todo.id,))
            for table, column in (("image_manifests", "image_id"), ("images", "id")):
                db.execute(f"DELETE FROM {table} WHERE {column} = ?", (todo.id,))
            for (digest,) in had:
                db.execute("DELETE FROM manifests WHERE digest = ?1 AND NOT EXISTS (SELECT 1 FROM image_manifests WHERE digest = ?1)",
                           (digest,))
            self.records.append({"Deleted": todo.id})
            self._news.append(("delete", todo.id))
            sizes = {layer.chain_id: layer.size for layer in self.images.layers.chain(todo.chain_id)}
            gone, keys = self.images.layers.drop_unused(db, todo.chain_id)
            self.records += [{"Deleted": chain} for chain in gone]
            self.reclaimed += sum(sizes[chain] for chain in gone)
            self._keys += keys
            parent = self.images.by_id(todo.parent) if todo.parent and self.prune else None
            todo, force, quiet = parent, False, True

    def _is_known(self, db: DB, image: Image) -> bool:
        return bool(self.names(db, image.id)) or bool(db.value("SELECT EXISTS (SELECT 1 FROM images WHERE parent = ?)", (image.id,)))


class _Conflict:
    def __init__(self, image: Image, why: str, *, hard: bool = False, used: bool = False) -> None:
        self.image = image
        self.why = why
        self.hard = hard
        self.used = used

    def error(self) -> Conflict:
        how = "cannot be forced" if self.hard else "must be forced"
        return Conflict(f"conflict: unable to delete {self.image.short_id} ({how}) - {self.why}")


def _is_single(names: list[Name]) -> bool:
    """At most one tag, and any digests belong to its repository."""
    if len(names) <= 1:
        return True
    tags = [name for name in names if not name[2]]
    if len(tags) > 1:
        return False
    repositories = {name[0] for name in names if name[2]}
    return len(repositories) == 1 and (tags or names)[0][0] in repositories
