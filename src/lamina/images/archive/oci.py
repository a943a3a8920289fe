# SPDX-License-Identifier: Apache-2.0
"""OCI layouts (image-layout.md 1.1: oci-layout, index.json, blobs/<algorithm>/<hex>) and skopeo's `dir:` (manifest.json, version, <hex>).

Every blob that is used is read under the digest that names it. Of an index, a platform none of whose layers are there is not present,
which is all right; one only partly there is refused unless `--platform` leaves it out. Attestations (unknown/unknown) are no images.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator

from lamina.errors import ArchiveError, InvalidArgument
from lamina.spec import document
from lamina.spec import manifest as spec
from lamina.spec import mediatype as media
from lamina.spec.manifest import Descriptor, Index, Manifest
from lamina.spec.platform import Platform, best
from lamina.spec.reference import Reference, parse_repository
from lamina.util.digest import digest_of
from lamina.util.slices import Slice

from .bundle import Bundle
from .plan import Plan, PlannedImage, PlannedLayer, matches, read_config, refuse_foreign

LAYOUT_VERSIONS = ("1.0.0", "1.1.0")
Above = dict[str, tuple[str, bytes]]


def plan_layout(bundle: Bundle, plan: Plan, wanted: Platform | None) -> None:
    """Adds what index.json lists, under the names that its annotations give."""
    marker = bundle.find("oci-layout")
    if marker is None:
        raise ArchiveError("archive: index.json without oci-layout")
    version = document.parse(marker.read_all(4096), "oci-layout").get("imageLayoutVersion")
    if version not in LAYOUT_VERSIONS:
        raise ArchiveError(f"oci-layout: version {str(version)[:40]!r} is unknown, read are {', '.join(LAYOUT_VERSIONS)}")
    index = spec.parse(bundle.get("index.json").read_all(document.MANIFEST_LIMIT), what="index.json")
    if not isinstance(index, Index):
        raise ArchiveError("index.json must be an index")
    reader = _Reader(wanted, lambda digest: bundle.find(f"blobs/sha256/{digest[7:]}"))
    for entry in index.manifests:
        images = [plan.add(image) for image in reader.root(entry)]
        name = name_of(entry)
        if name is not None and images:
            plan.name(name, images, entry.digest, wanted)


def plan_dir(bundle: Bundle, plan: Plan, wanted: Platform | None) -> None:
    """Adds the one image (or index) of a `dir:`, which gives no names."""
    data = bundle.get("manifest.json").read_all(document.MANIFEST_LIMIT)

    def find(digest: str) -> Slice | None:
        if digest == root.digest:
            return bundle.get("manifest.json")
        return bundle.find(f"{digest[7:]}.manifest.json") or bundle.find(digest[7:])

    root = spec.of_bytes(data, spec.parse(data, what="manifest.json").media_type)
    for image in _Reader(wanted, find).root(root):
        plan.add(image)


def name_of(entry: Descriptor) -> Reference | None:
    """The name that an entry of index.json has: containerd's annotation, or OCI's where it is more than a tag. Others mean nothing."""
    for key in (spec.IMAGE_NAME, spec.REF_NAME):
        text = entry.annotations.get(key, "")
        if text and (key == spec.IMAGE_NAME or ":" in text or "/" in text):
            try:
                name = parse_repository(text)
            except InvalidArgument as error:
                raise ArchiveError(f"index.json: {key}: {text[:200]!r}: {error.message}")
            if name.tag:
                return name
            return name.with_default_tag()
    return None


class _Reader:
    """`find`: the bytes that a digest names, None if they aren't in the archive."""

    def __init__(self, wanted: Platform | None, find: Callable[[str], Slice | None]) -> None:
        self._wanted = wanted
        self._find = find
        self._count = 0

    def root(self, entry: Descriptor) -> list[PlannedImage]:
        """The images that an entry of index.json stands for: one, or those of an index that are there."""
        if entry.media_type not in media.INDEXES:
            image = self._image(entry, {}, must=True)
            return [] if image is None else [image]
        children = list(self._children(entry, {}, 1))
        if self._wanted is not None:
            place = best(self._wanted, [child.platform for child, _ in children])
            if place < 0:
                return []
            child, above = children[place]
            chosen = self._image(child, above, must=True)
            return [] if chosen is None else [chosen]
        found = [image for child, above in children if (image := self._image(child, above, must=False)) is not None]
        if not found:
            raise ArchiveError(f"archive: no image of the index {entry.digest} is there")
        return found

    def _document(self, entry: Descriptor, above: Above) -> tuple[Manifest | Index, Above] | None:
        """What a descriptor points to, and all that led there; None if it isn't in the archive."""
        source = self._find(entry.digest)
        if source is None:
            return None
        data = source.read_all(document.MANIFEST_LIMIT)
        if digest_of(data) != entry.digest or len(data) != entry.size:
            raise ArchiveError(f"{source.what}: it has digest {digest_of(data)} and {len(data)} bytes, "
                               f"instead of {entry.digest} and {entry.size}")
        return spec.parse(data, entry.media_type, f"manifest {entry.digest}"), {**above, entry.digest: (entry.media_type, data)}

    def _children(self, entry: Descriptor, above: Above, depth: int) -> Iterator[tuple[Descriptor, Above]]:
        """Every image of an index, also of those in it."""
        if depth > spec.MAX_DEPTH:
            raise ArchiveError(f"archive: indexes in indexes, more than {spec.MAX_DEPTH} deep")
        if entry.digest in above:
            raise ArchiveError(f"archive: the index {entry.digest} contains itself")
        found = self._document(entry, above)
        if found is None:
            raise ArchiveError(f"archive: the index {entry.digest} is missing")
        value, above = found
        if not isinstance(value, Index):
            raise ArchiveError(f"archive: {entry.digest} must be an index")
        for child in value.manifests:
            self._count += 1
            if self._count > spec.MAX_ENTRIES:
                raise ArchiveError(f"archive: more than {spec.MAX_ENTRIES} manifests")
            if child.media_type in media.INDEXES:
                yield from self._children(child, above, depth + 1)
            elif not child.unknown and child.media_type in media.MANIFESTS and (child.platform is None or child.platform.os == "linux"):
                yield child, above

    def _image(self, entry: Descriptor, above: Above, *, must: bool) -> PlannedImage | None:
        """The image of a manifest; None if it isn't for the wanted platform, or (unless `must`) not here at all."""
        found = self._document(entry, above)
        if found is None:
            if must:
                raise ArchiveError(f"archive: the manifest {entry.digest} is missing")
            return None
        manifest, above = found
        if not isinstance(manifest, Manifest):
            raise ArchiveError(f"archive: {entry.digest} must be a manifest")
        if not manifest.is_image:
            if must:
                raise ArchiveError(f"manifest {entry.digest} is no image but an artifact "
                                   f"({(manifest.artifact_type or manifest.config.media_type)[:120]}), which can't be loaded")
            return None
        sources = [self._find(layer.digest) for layer in manifest.layers]
        config = self._find(manifest.config.digest)
        if not must and not any(sources) and (sources or config is None):
            return None
        absent = [layer.digest for layer, source in zip(manifest.layers, sources, strict=True) if source is None]
        if config is None:
            raise ArchiveError(f"archive: the config {manifest.config.digest} of the manifest {entry.digest} is missing")
        data, checked = read_config(config, manifest.config.digest)
        image = PlannedImage(data, checked, [])
        if not matches(self._wanted, image.platform):
            return None
        refuse_foreign(image.platform.os)
        if absent:
            raise ArchiveError(f"archive: the layer {absent[0]} of the manifest {entry.digest} ({image.platform.format()}) is missing",
                               hint="" if must else "`--platform` of another one that is whole leaves it out")
        diff_ids = checked["rootfs"]["diff_ids"]
        if len(manifest.layers) != len(diff_ids):
            raise ArchiveError(f"manifest {entry.digest} has {len(manifest.layers)} layers, its config {len(diff_ids)}")
        for layer, source, diff_id in zip(manifest.layers, sources, diff_ids, strict=True):
            if media.layer_compression(layer.media_type) is None:
                raise ArchiveError(f"manifest {entry.digest}: {layer.media_type[:120]!r} is no media type of a layer")
            if source is None:
                continue
            if source.size != layer.size:
                raise ArchiveError(f"{source.what}: it has {source.size} bytes instead of {layer.size}")
            image.layers.append(PlannedLayer(source, diff_id, layer.digest, layer.media_type))
        image.manifests = above
        return image
