# SPDX-License-Identifier: Apache-2.0
"""`push`: an image goes to a registry, each layer in the cheapest way there is (design.md 3).

It is there already (HEAD), or in another of the registry's repositories (mount), or its bytes were kept here, or where they came from still
has them, or the layer is compressed again, always to the same bytes. Only the last may change the manifest's digest.
"""
from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

from lamina.content.blobs import BlobStore
from lamina.errors import Forbidden, InvalidArgument, NotFound, RegistryError
from lamina.images import create
from lamina.images.archive.build import Builder, manifests_of
from lamina.images.archive.sink import File, of_bytes
from lamina.images.store import Image, ImageStore
from lamina.layers.store import Layer
from lamina.registry import upload
from lamina.registry.client import Registry, Repository
from lamina.spec import manifest as spec
from lamina.spec import mediatype as media
from lamina.spec.manifest import Descriptor, Manifest
from lamina.spec.reference import Reference, parse
from lamina.util import steps
from lamina.util.atomic import write_all
from lamina.util.digest import PREFIX, new_sha256
from lamina.util.slices import Slice

Tell = Callable[[str, str, int, int], None]
"""tell(diff id, one of docker's states, bytes, of so many); from several threads, one at a time"""
PREPARING, WAITING, PUSHING, PUSHED, EXISTS, MOUNTED = "Preparing", "Waiting", "Pushing", "Pushed", "Layer already exists", "Mounted from"
USUAL = ("gzip", 6)
_PIECE = 1 << 20


class Pushed:
    """`digest` and `size` of the manifest; `kept`: the image had it before."""

    __slots__ = ("name", "digest", "size", "kept")

    def __init__(self, name: Reference, digest: str, size: int, kept: bool) -> None:
        self.name = name
        self.digest = digest
        self.size = size
        self.kept = kept


class Push:
    """`compression`: (format, level) for layers that have to be compressed; given by the user, what was pushed or pulled before is made
    anew, too. `preserve`: an error where the manifest's digest can't stay."""

    def __init__(self, images: ImageStore, registry: Registry, *, compression: tuple[str, int] | None = None, preserve: bool = False,
                 tell: Tell | None = None) -> None:
        self._images = images
        self._registry = registry
        self._compression = compression
        self._preserve = preserve
        self._told: Tell = tell or (lambda diff_id, state, done, size: None)
        self._lock = Lock()
        self._blobs = BlobStore(images.store)

    def _tell(self, diff_id: str, state: str, done: int = 0, size: int = 0) -> None:
        with self._lock:
            self._told(diff_id, state, done, size)

    def one(self, name: Reference, image: Image, target: str) -> Pushed:
        """Pushes an image under a name with tag. `target`: digest that the name points to here, "" if it has none."""
        repository = self._registry.repository(name, push=True)
        layers = self._images.layers.chain(image.chain_id)[::-1]
        for place, layer in enumerate(reversed(layers)):
            self._tell(layer.diff_id, PREPARING)
            if place >= self._registry.settings.parallel:
                self._tell(layer.diff_id, WAITING)
        with (Builder(self._images, self._compression or USUAL) as builder,
              _Sending(self._images, repository, self._registry.settings.parallel, self._tell) as sending):  # fmt: skip
            work = _Work(self._images, self._blobs, self._registry, repository, builder, sending, self._tell)
            content, manifest, kept = self._manifest(work, image, layers, target)
            work.config(manifest.config, image.config)
            sending.finish()
        digest = repository.put_manifest(name.tag, content, manifest.media_type)
        self._record(name, image, layers, manifest, digest, content)
        create.tell(self._images.store, "push", name.familiar(), name.familiar_name)
        if steps.tell is not None:
            steps.tell(f"pushed {steps.count(len(layers), 'layer')}, config and manifest of image {steps.short(image.id)} to "
                       f"{repository.endpoint[0].url}")
        return Pushed(name, digest, len(content), kept)

    def _manifest(self, work: _Work, image: Image, layers: list[Layer], target: str) -> tuple[bytes, Manifest, bool]:
        had = manifests_of(self._images, image.id, target)
        if self._compression is None:
            for _, media_type, content in had:
                manifest = spec.parse(content, media_type)
                if isinstance(manifest, Manifest) and len(manifest.layers) == len(layers) and manifest.config.digest == image.id \
                        and work.as_it_was(manifest, layers):
                    return content, manifest, True
        if had and self._preserve:
            raise InvalidArgument(f"the digest {had[0][0]} can't be kept: the bytes of a layer can't be had again",
                                  hint="without --preserve-digests it is pushed with a new digest")
        descriptors = [work.new(layer, any_form=self._compression is None) for layer in layers]
        config = Descriptor(media.OCI_CONFIG, image.id, len(image.config))
        return spec.build_manifest(config, descriptors), Manifest(media.OCI_MANIFEST, config, descriptors), False

    def _record(self, name: Reference, image: Image, layers: list[Layer], manifest: Manifest, digest: str, content: bytes) -> None:
        """What is there now: the next push asks for it, and `image inspect` shows the digest."""
        with self._images.store.db.write() as db:
            if not db.value("SELECT EXISTS (SELECT 1 FROM images WHERE id = ?)", (image.id,)):
                return  # removed meanwhile; it is pushed all the same
            create.insert_manifests(db, image.id, {digest: (manifest.media_type, content)})
            for descriptor, layer in zip(manifest.layers, layers, strict=True):
                self._blobs.record_in(descriptor.digest, descriptor.size, media_type=descriptor.media_type, diff_id=layer.diff_id,
                                      origin=name.name)
            db.execute("INSERT OR IGNORE INTO repo_digests (repo, digest, image_id) VALUES (?, ?, ?)", (name.name, digest, image.id))
            db.execute("UPDATE tags SET target_digest = ? WHERE repo = ? AND tag = ? AND image_id = ? AND target_digest IS NULL",
                       (digest, name.name, name.tag, image.id))


class _Work:
    """One push: where each blob comes from."""

    def __init__(self, images: ImageStore, blobs: BlobStore, registry: Registry, repository: Repository, builder: Builder,
                 sending: _Sending, tell: Callable[..., None]) -> None:
        self._images = images
        self._blobs = blobs
        self._registry = registry
        self._repository = repository
        self._builder = builder
        self._sending = sending
        self._tell = tell

    def as_it_was(self, manifest: Manifest, layers: list[Layer]) -> bool:
        """Has the very blobs of a manifest sent; False if one of them can't be had (some may have been sent by then)."""
        return all(self._exactly(descriptor, layer) for descriptor, layer in zip(manifest.layers, layers, strict=True))

    def _exactly(self, descriptor: Descriptor, layer: Layer) -> bool:
        if self._there(descriptor.digest, layer):
            return True
        known = self._blobs.find(descriptor.digest)
        file = None
        if descriptor.digest != layer.diff_id and not (known is not None and known.kept):
            file = self._from_origin(descriptor, known.origin if known is not None else None)
        if file is None:
            file = self._builder.same(descriptor, layer)
        if file is None:
            return False
        self._sending.send(descriptor.digest, file, layer.diff_id)
        return True

    def new(self, layer: Layer, *, any_form: bool) -> Descriptor:
        """The layer in any form that the registry has, if that will do, or compressed anew."""
        for known in self._blobs.with_diff_id(layer.diff_id) if any_form else ():
            kind = media.layer_compression(known.media_type or "")
            if kind is not None and self._there(known.digest, layer):
                return Descriptor(media.OCI_LAYER + ("" if kind == "none" else f"+{kind}"), known.digest, known.size)
        self._tell(layer.diff_id, PUSHING)
        digest, file, media_type = self._builder.new(layer)
        if not self._there(digest, layer):
            self._sending.send(digest, file, layer.diff_id)
        return Descriptor(media_type, digest, file.size)

    def config(self, descriptor: Descriptor, content: bytes) -> None:
        if self._repository.has_blob(descriptor.digest) is None:
            self._sending.send(descriptor.digest, of_bytes(content), "")

    def _there(self, digest: str, layer: Layer) -> bool:
        """Whether the repository has a blob, or the registry takes it from another of its repositories."""
        if self._sending.has(digest):
            return True
        if self._repository.has_blob(digest) is not None:
            self._tell(layer.diff_id, EXISTS)
            return True
        known = self._blobs.find(digest)
        origin = parse(known.origin) if known is not None and known.origin else None
        name = self._repository.name
        if origin is None or origin.domain != name.domain or origin.path == name.path:
            return False
        if not upload.mount(self._repository, digest, origin.path):
            return False
        self._tell(layer.diff_id, f"{MOUNTED} {origin.path}")
        return True

    def _from_origin(self, descriptor: Descriptor, origin: str | None) -> File | None:
        """The bytes from the repository that they came from, if it still has them."""
        if not origin:
            return None
        fd, done, hasher = self._sending.space(), 0, new_sha256()
        try:
            with self._registry.repository(parse(origin)).blob(descriptor.digest) as response:
                for data in response.chunks():
                    done += len(data)
                    if done > descriptor.size:
                        return None
                    hasher.update(data)
                    write_all(fd, data)
        except (NotFound, Forbidden, RegistryError):
            return None
        if PREFIX + hasher.hexdigest() != descriptor.digest:
            return None
        return File(done, lambda write: _pour(fd, done, write), fd)


class _Sending:
    """Uploads side by side. A context manager: closes what it made."""

    def __init__(self, images: ImageStore, repository: Repository, parallel: int, tell: Callable[..., None]) -> None:
        self._tmp = images.store.paths.tmp
        self._repository = repository
        self._pool = ThreadPoolExecutor(parallel, "upload")
        self._tell = tell
        self._futures: dict[str, Future[None]] = {}
        self._fds: list[int] = []

    def __enter__(self) -> _Sending:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        fds, self._fds = self._fds, []
        for fd in fds:
            os.close(fd)

    def space(self) -> int:
        """A nameless file, closed at the end."""
        self._fds.append(os.open(self._tmp, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600))
        return self._fds[-1]

    def has(self, digest: str) -> bool:
        return digest in self._futures

    def send(self, digest: str, file: File, diff_id: str) -> None:
        """The file's bytes are made now, and sent by another thread."""
        if digest in self._futures:
            return
        for future in self._futures.values():
            if future.done():
                future.result()  # what went wrong is told before more is made
        fd = file.fd
        if fd < 0:
            fd = self.space()
            file.fill(lambda view: write_all(fd, view))
        self._futures[digest] = self._pool.submit(self._send, digest, fd, file.size, diff_id)

    def _send(self, digest: str, fd: int, size: int, diff_id: str) -> None:
        with open(os.dup(fd), "rb") as body:
            body.seek(0)
            told = (lambda done: self._tell(diff_id, PUSHING, done, size)) if diff_id else None
            upload.push(self._repository, digest, size, body, told)
        if diff_id:
            self._tell(diff_id, PUSHED)

    def finish(self) -> None:
        """All is there; raises what went wrong."""
        for future in self._futures.values():
            future.result()


def _pour(fd: int, size: int, write: Callable[[memoryview], object]) -> None:
    source = Slice(fd, 0, size, "downloaded layer")
    while data := source.read(_PIECE):
        write(memoryview(data))
