# SPDX-License-Identifier: Apache-2.0
"""`pull`: an image comes from a registry; its layers are downloaded and laid out side by side, and one transaction makes it count.

A layer isn't downloaded only where this engine has itself seen those very bytes become that layer (a row of `blobs`), and the layer is
here: what a config claims grants nothing.
"""
from __future__ import annotations

import os
import select
from collections.abc import Callable

from lamina.content.blobs import BlobStore
from lamina.content.partials import Partials
from lamina.errors import Forbidden, InvalidArgument, NotFound
from lamina.images import create
from lamina.images.store import ImageStore
from lamina.layers.chain import chain_ids
from lamina.layers.stack import Incoming, Stack
from lamina.layers.store import Layer
from lamina.registry.client import Registry, Repository
from lamina.spec import reference
from lamina.spec.platform import Platform
from lamina.spec.reference import Reference
from lamina.store.lease import Lease
from lamina.util import steps
from lamina.util.times import parse_rfc3339

from . import downloads
from .downloads import Downloads
from .remote import Remote, resolve

Tell = Callable[[str, str, int, int], None]
"""tell(digest, one of docker's states, bytes, of so many)"""
FS_LAYER, WAITING, DOWNLOADING, VERIFYING = "Pulling fs layer", "Waiting", "Downloading", "Verifying Checksum"
DOWNLOADED, EXTRACTING, COMPLETE, EXISTS = "Download complete", "Extracting", "Pull complete", "Already exists"
_STATES = {downloads.DOWNLOADING: DOWNLOADING, downloads.VERIFYING: VERIFYING}


class Pulled:
    """`name` as it was resolved, with tag or digest; `digest` that it points to; `newer`: the name means another image than before."""

    __slots__ = ("name", "image_id", "digest", "newer")

    def __init__(self, name: Reference, image_id: str, digest: str, newer: bool) -> None:
        self.name = name
        self.image_id = image_id
        self.digest = digest
        self.newer = newer


class Pull:
    """`begin(name)` is called when a tag was found, before its layers; `done` when it counts."""

    def __init__(self, images: ImageStore, registry: Registry, *, platform: Platform | None = None, tell: Tell | None = None,
                 begin: Callable[[Reference], None] | None = None, done: Callable[[Pulled], None] | None = None) -> None:
        self._images = images
        self._registry = registry
        self._platform = platform
        self._tell: Tell = tell or (lambda digest, state, done, size: None)
        self._begin = begin or (lambda name: None)
        self._done = done or (lambda pulled: None)
        self._partials = Partials(images.store)
        self._blobs = BlobStore(images.store)

    def find(self, text: str) -> tuple[Repository, Reference, Remote]:
        """The first place that has what was typed, with its default tag; the last one's error if none has."""
        candidates = self._registry.settings.candidates(text)
        for place, candidate in enumerate(candidates):
            name = candidate.with_default_tag()
            repository = self._registry.repository(name)
            try:
                return repository, name, resolve(repository, name.digest or name.tag, self._platform)
            except (NotFound, Forbidden):
                if place == len(candidates) - 1:
                    raise
        raise InvalidArgument(reference.BAD_FORMAT)

    def one(self, text: str) -> Pulled:
        """A tag (by default latest) or digest."""
        repository, name, remote = self.find(text)
        return self._take(repository, name, remote)

    def every_tag(self, text: str) -> list[Pulled]:
        """All tags of a repository, in its order."""
        name = self._registry.settings.candidates(text)[0]
        if name.tag or name.digest:
            raise InvalidArgument("tag can't be used with --all-tags/-a")
        repository = self._registry.repository(name)
        done = []
        for tag in repository.tags():
            tagged = Reference(name.domain, name.path, tag)
            done.append(self._take(repository, tagged, resolve(repository, tag, self._platform)))
        return done

    # -- one image

    def _take(self, repository: Repository, name: Reference, remote: Remote) -> Pulled:
        self._begin(name)
        if steps.tell is not None:
            steps.tell(f"found {name.familiar()} at {repository.endpoint[0].url}: {steps.short(remote.target)}, image "
                       f"{steps.short(remote.id)}, {steps.count(len(remote.layers), 'layer')}")
        with create.making(self._images, f"pull {name.familiar()}") as lease:
            layers = self._layers(repository, remote, lease)
            pulled = self._insert(name, remote, layers)
        create.tell(self._images.store, "pull", name.familiar(), name.familiar_name)
        if steps.tell is not None:
            steps.tell(f"wrote down image {steps.short(remote.id)}, its manifests and the name {name.familiar()}, in one transaction")
        self._done(pulled)
        return pulled

    def _layers(self, repository: Repository, remote: Remote, lease: Lease) -> list[Layer]:
        """Makes or finds them; lowest first, held by the lease."""
        if not remote.layers:
            return []
        held = self._all_here(remote, lease)
        if held is not None:
            return held
        sizes = {descriptor.digest: descriptor.size for descriptor, _ in remote.layers}
        wanted: dict[str, list[int]] = {}

        def told(place: int, what: str, done: int, size: int) -> None:
            digest = remote.layers[place][0].digest
            ended = what == "done" or what == "exists" and done == size  # verified, of what is here
            self._tell(digest, EXISTS if digest not in wanted else COMPLETE if ended else EXTRACTING, done, size)

        fds: list[int] = []
        store = self._images.store
        try:
            with Stack(store, self._images.layers.driver, [diff_id for _, diff_id in remote.layers], lease, tell=told) as stack:
                self._put_known(stack, remote, wanted, fds)
                parallel = self._registry.settings.parallel
                for digest in wanted:
                    self._tell(digest, FS_LAYER, 0, 0)
                for digest in list(wanted)[parallel:]:
                    self._tell(digest, WAITING, 0, 0)
                partials = self._partials.enter({digest: sizes[digest] for digest in wanted})
                with Downloads(repository, partials, parallel) as loading:
                    while loading.left:
                        select.select([loading.fileno(), *stack.filenos()], [], [])
                        self._hear(loading, stack, wanted, sizes, fds)
                return stack.finish()
        finally:
            for fd in fds:
                os.close(fd)

    def _all_here(self, remote: Remote, lease: Lease) -> list[Layer] | None:
        """The layers of an image that is here and was seen in this very form: nothing is to be done, as docker shows it."""
        if self._images.by_id(remote.id) is None or not all(self._verified(place, remote) for place in range(len(remote.layers))):
            return None
        top = chain_ids([diff_id for _, diff_id in remote.layers])[-1]
        with self._images.store.db.write(durable=False):
            layers = self._images.layers.chain(top)[::-1]
            for layer in layers:
                lease.add("layer", layer.chain_id)
        return layers if len(layers) == len(remote.layers) else None

    def _verified(self, place: int, remote: Remote) -> bool:
        """Whether these bytes were once hashed and decompressed to that diff id, here."""
        descriptor, diff_id = remote.layers[place]
        record = self._blobs.find(descriptor.digest)
        return record is not None and record.diff_id == diff_id and record.size == descriptor.size

    def _put_known(self, stack: Stack, remote: Remote, wanted: dict[str, list[int]], fds: list[int]) -> None:
        """Gives the stack what needs no download; digest -> places of the rest goes to `wanted`."""
        for place, (descriptor, _) in enumerate(remote.layers):
            if self._verified(place, remote):
                if stack.is_known(place):
                    stack.put(place, None)
                    continue
                record = self._blobs.find(descriptor.digest)
                if record is not None and record.kept:
                    with self._blobs.open(descriptor.digest) as file:
                        fds.append(os.dup(file.fileno()))
                    stack.put(place, _incoming(fds[-1], descriptor.digest, descriptor.size))
                    continue
            wanted.setdefault(descriptor.digest, []).append(place)

    def _hear(self, loading: Downloads, stack: Stack, wanted: dict[str, list[int]], sizes: dict[str, int], fds: list[int]) -> None:
        stack.step(0)
        for event in loading.take():
            if event.validator is not None:
                self._partials.note(event.digest, event.validator)
            elif event.fd >= 0:
                fds.append(event.fd)
                self._tell(event.digest, DOWNLOADED, 0, 0)
                for place in wanted[event.digest]:
                    stack.put(place, _incoming(event.fd, event.digest, sizes[event.digest]))
            else:
                verifying = event.state == downloads.VERIFYING
                self._tell(event.digest, _STATES[event.state], 0 if verifying else event.at, 0 if verifying else sizes[event.digest])

    def _insert(self, name: Reference, remote: Remote, layers: list[Layer]) -> Pulled:
        origin = name.name
        with self._images.store.db.write() as db:
            create.insert_row(db, remote.id, remote.config, chain_id=layers[-1].chain_id if layers else "", parent="",
                              size=sum(layer.size for layer in layers), created_ns=_created(remote))
            create.insert_manifests(db, remote.id, remote.manifests)
            for descriptor, diff_id in remote.layers:
                self._blobs.record_in(descriptor.digest, descriptor.size, media_type=descriptor.media_type, diff_id=diff_id, origin=origin)
            had = None
            if name.tag:
                had = db.value("SELECT image_id FROM tags WHERE repo = ? AND tag = ?", (name.name, name.tag))
                create.set_tag(db, name, remote.id, remote.target)
            else:
                had = db.value("SELECT image_id FROM repo_digests WHERE repo = ? AND digest = ?", (name.name, remote.target))
            db.execute("INSERT OR IGNORE INTO repo_digests (repo, digest, image_id) VALUES (?, ?, ?)",
                       (name.name, remote.target, remote.id))
            self._partials.remove({descriptor.digest for descriptor, _ in remote.layers})
        return Pulled(name, remote.id, remote.target, had != remote.id)


def _incoming(fd: int, digest: str, size: int) -> Incoming:
    return Incoming(fd, 0, size, digest=digest, what=f"layer {digest}")


def _created(remote: Remote) -> int:
    """When the image says it was made; 0 where that is no time."""
    try:
        created = parse_rfc3339(remote.document.get("created") or "")
        return created if abs(created) < 1 << 63 else 0
    except ValueError:
        return 0
