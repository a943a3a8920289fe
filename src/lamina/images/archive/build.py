# SPDX-License-Identifier: Apache-2.0
"""The documents of an archive that is to be written: an image's manifest, and where each layer's bytes come from.

An image may have a manifest from the time it came in. Its digest can be kept if every layer can be given as it says: uncompressed (always
made again, byte for byte), by bytes that were kept, or compressed again with the same result (design.md 3). Else a new one is made.
"""
from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from lamina.content.blobs import BlobStore
from lamina.errors import NotFound, StoreError
from lamina.images.platforms import platform_of
from lamina.images.store import Image, ImageStore
from lamina.layers.store import Layer
from lamina.layers.tar import deflate
from lamina.layers.tar.output import Write
from lamina.layers.tar.tarmap import archive_of
from lamina.spec import manifest as spec
from lamina.spec import mediatype as media
from lamina.spec.manifest import Descriptor, Index, Manifest
from lamina.spec.platform import Platform
from lamina.util.atomic import nameless, write_all
from lamina.util.digest import PREFIX, new_sha256
from lamina.util.slices import Slice

from .sink import File, of_bytes

_PIECE = 1 << 20
Tell = Callable[[str, str, int, int], None]
"""tell(diff id, "compressing" | "saving" | "done", bytes, of so many)"""


class Built:
    """An image as it will stand in the archive. `manifest`: its descriptor, with the platform; `blobs`: digest -> file, of manifest, config
    and layers; `kept`: the manifest is one that the image came with; `had`: digests of those."""

    def __init__(self, image: Image, manifest: Descriptor, blobs: dict[str, File], layers: list[Descriptor], *, kept: bool,
                 had: list[str]) -> None:
        self.image = image
        self.manifest = manifest
        self.blobs = blobs
        self.layers = layers
        self.kept = kept
        self.had = had


class Builder:
    """`compression`: (format, level) for layers that have to be compressed; ("none", 0) leaves all uncompressed. A context manager: closes
    the nameless files that compressed layers are kept in."""

    def __init__(self, images: ImageStore, compression: tuple[str, int], *, docker: bool = False, keep: bool = True,
                 tell: Tell | None = None) -> None:
        self._images = images
        self._compression = compression
        self._docker = docker
        self._keep = keep
        self._tell: Tell = tell or (lambda diff_id, what, done, size: None)
        self._blobs = BlobStore(images.store)
        self._packed: dict[tuple[str, str], tuple[str, File]] = {}
        self._plain: dict[str, File] = {}
        self._fds: list[int] = []

    def __enter__(self) -> Builder:
        return self

    def __exit__(self, *exc: object) -> None:
        fds, self._fds = self._fds, []
        for fd in fds:
            os.close(fd)

    def build(self, image: Image, target: str = "") -> Built:
        """`target`: digest that the image's name points to; that manifest is tried first."""
        layers = self._images.layers.chain(image.chain_id)[::-1]
        had = manifests_of(self._images, image.id, target)
        if self._keep:
            for digest, media_type, content in had:
                found = self._as_it_came(image, layers, digest, media_type, content)
                if found is not None:
                    blobs, descriptors = found
                    manifest = Descriptor(media_type, digest, len(content), platform=platform_of(image.document))
                    return Built(image, manifest, blobs, descriptors, kept=True, had=[one[0] for one in had])
        blobs, descriptors = {image.id: of_bytes(image.config)}, []
        for layer in layers:
            digest, file, media_type = self.new(layer)
            blobs[digest] = file
            descriptors.append(Descriptor(media_type, digest, file.size))
        config = Descriptor(media.DOCKER_CONFIG if self._docker else media.OCI_CONFIG, image.id, len(image.config))
        kind = media.DOCKER_MANIFEST if self._docker else media.OCI_MANIFEST
        content = spec.build_manifest(config, descriptors, kind)
        manifest = spec.of_bytes(content, kind, platform=platform_of(image.document))
        blobs[manifest.digest] = of_bytes(content)
        return Built(image, manifest, blobs, descriptors, kept=False, had=[one[0] for one in had])

    def _as_it_came(self, image: Image, layers: list[Layer], digest: str, media_type: str,
                    content: bytes) -> tuple[dict[str, File], list[Descriptor]] | None:
        """The blobs of a manifest that was recorded, None if one of them can't be had."""
        manifest = spec.parse(content, media_type)
        if not isinstance(manifest, Manifest) or manifest.config.digest != image.id or len(manifest.layers) != len(layers):
            return None
        if self._docker and (media_type not in media.MANIFESTS):
            return None
        blobs = {digest: of_bytes(content), image.id: of_bytes(image.config)}
        for descriptor, layer in zip(manifest.layers, layers, strict=True):
            file = self.same(descriptor, layer)
            if file is None:
                return None
            blobs[descriptor.digest] = file
        return blobs, manifest.layers

    def same(self, descriptor: Descriptor, layer: Layer) -> File | None:
        """The very bytes that a descriptor names."""
        if descriptor.digest == layer.diff_id:
            return self._exact(layer)
        if self._compression[0] == "none":
            return None  # this archive has uncompressed layers only
        known = self._blobs.find(descriptor.digest)
        if known is not None and known.kept and known.diff_id == layer.diff_id:
            return File(known.size, lambda write: self._copy(descriptor.digest, write))
        kind = media.layer_compression(descriptor.media_type) or ""
        if kind in deflate.LEVELS:
            digest, file = self._pack(layer, kind, deflate.LEVELS[kind][2])
            if digest == descriptor.digest:
                return file
        return None

    def new(self, layer: Layer) -> tuple[str, File, str]:
        """(digest, bytes, media type) of a layer in the form that was asked for."""
        kind, level = self._compression
        base = media.DOCKER_LAYER if self._docker else media.OCI_LAYER
        if kind == "none":
            return layer.diff_id, self._exact(layer), base
        digest, file = self._pack(layer, kind, level)
        return digest, file, f"{base}{'.' if self._docker and kind == 'gzip' else '+'}{kind}"

    def _exact(self, layer: Layer) -> File:
        """The layer's tar, made again."""
        if layer.diff_id not in self._plain:
            paths = self._images.store.paths
            recorded = archive_of(paths.layer_tarmap(layer.data_key))
            if recorded is None or PREFIX + recorded[1] != layer.diff_id:
                raise StoreError(f"layer {layer.chain_id}: its tar can't be made again", hint="lamina system check")
            self._plain[layer.diff_id] = File(recorded[0], lambda write: self._export(layer, recorded[0], write))
        return self._plain[layer.diff_id]

    def _export(self, layer: Layer, size: int, write: Write) -> None:
        done = 0

        def told(view: memoryview) -> None:
            nonlocal done
            write(view)
            done += len(view)
            self._tell(layer.diff_id, "saving", done, size)

        self._tell(layer.diff_id, "saving", 0, size)
        self._images.layers.export_tar(layer.chain_id, told)
        self._tell(layer.diff_id, "done", size, size)

    def _pack(self, layer: Layer, kind: str, level: int) -> tuple[str, File]:
        """(digest, bytes) of the layer compressed, in a nameless file; made once."""
        known = self._packed.get((layer.diff_id, f"{kind}:{level}"))
        if known is not None:
            return known
        fd = nameless(self._images.store.paths.tmp)
        self._fds.append(fd)
        hasher, size, done = new_sha256(), self._exact(layer).size, 0

        def write(data: bytes) -> None:
            hasher.update(data)
            write_all(fd, data)

        packer = deflate.compressor(kind, level, write)

        def put(view: memoryview) -> None:
            nonlocal done
            packer.put(view)
            done += len(view)
            self._tell(layer.diff_id, "compressing", done, size)

        try:
            self._images.layers.export_tar(layer.chain_id, put)
            packer.finish()
        finally:
            packer.close()
        self._tell(layer.diff_id, "done", size, size)
        packed = os.fstat(fd).st_size
        file = File(packed, lambda out: _pour(Slice(fd, 0, packed, "compressed layer"), out), fd)
        self._packed[layer.diff_id, f"{kind}:{level}"] = PREFIX + hasher.hexdigest(), file
        return PREFIX + hasher.hexdigest(), file

    def _copy(self, digest: str, write: Write) -> None:
        """Kept bytes, verified on the way."""
        known = self._blobs.find(digest)
        if known is None:
            raise NotFound(f"blob {digest} is not in the store")
        hasher = new_sha256()
        with self._blobs.open(digest) as file:
            while data := file.read(_PIECE):
                hasher.update(data)
                write(memoryview(data))
        if PREFIX + hasher.hexdigest() != digest:
            raise StoreError(f"blob {digest} is damaged", hint="lamina system check --full")


def _pour(source: Slice, write: Write) -> None:
    source.at = 0
    while data := source.read(_PIECE):
        write(memoryview(data))


def manifests_of(images: ImageStore, image_id: str, target: str = "") -> list[tuple[str, str, bytes]]:
    """(digest, media type, bytes) of an image's own manifests; the one that `target` is or (an index) leads to first."""
    rows = images.store.db.execute(
        "SELECT m.digest, m.media_type, m.content FROM manifests m JOIN image_manifests i ON i.digest = m.digest WHERE i.image_id = ? "
        "ORDER BY m.digest", (image_id,))
    inside = set(_leads_to(images, target)) if target else set()
    found = [row for row in rows if row[1] in media.MANIFESTS]
    return sorted(found, key=lambda row: row[0] not in inside)


def _leads_to(images: ImageStore, digest: str) -> Iterator[str]:
    yield digest
    row = images.store.db.one("SELECT media_type, content FROM manifests WHERE digest = ?", (digest,))
    if row is not None and row[0] in media.INDEXES:
        value = spec.parse(row[1], row[0])
        if isinstance(value, Index):
            for entry in value.manifests:
                yield entry.digest


def index_above(images: ImageStore, digest: str) -> tuple[str, bytes] | None:
    """(media type, bytes) if the digest is that of an index."""
    row = images.store.db.one("SELECT media_type, content FROM manifests WHERE digest = ?", (digest,))
    return (row[0], row[1]) if row is not None and row[0] in media.INDEXES else None


def offered(images: list[Image]) -> list[Platform | None]:
    return [platform_of(image.document) for image in images]
