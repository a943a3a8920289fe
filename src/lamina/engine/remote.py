# SPDX-License-Identifier: Apache-2.0
"""What a reference on a registry stands for: from an index to the image of one platform, every document under the digest that names it.

Nothing is written here. An index may lead to indexes, at most `MAX_DEPTH` deep, never to itself; attestations (unknown/unknown) are no
images.
"""
from __future__ import annotations

from typing import Any

from lamina.errors import ArchiveError, InvalidArgument, NotFound
from lamina.images.platforms import platform_of
from lamina.registry.client import Fetched, Repository
from lamina.spec import document, imageconfig
from lamina.spec import manifest as spec
from lamina.spec import mediatype as media
from lamina.spec.manifest import Descriptor, Index, Manifest
from lamina.spec.platform import Platform, best, host
from lamina.spec.reference import Reference
from lamina.util.digest import digest_of

Documents = dict[str, tuple[str, bytes]]
# What servers say that don't know what they hold: then the document speaks for itself.
_UNTOLD = frozenset(("", "application/json", "application/octet-stream", "text/plain"))


class Remote:
    """One image as a registry has it. `target`: digest that the reference points to; `manifests`: digest -> (media type, bytes) of that,
    of the image's own manifest, and of what is between; `layers`: (descriptor, diff id), lowest first."""

    __slots__ = ("target", "manifests", "manifest", "config", "document")

    def __init__(self, target: str, manifests: Documents, manifest: Manifest, config: bytes, checked: dict[str, Any]) -> None:
        self.target = target
        self.manifests = manifests
        self.manifest = manifest
        self.config = config
        self.document = checked

    @property
    def id(self) -> str:
        return self.manifest.config.digest

    @property
    def layers(self) -> list[tuple[Descriptor, str]]:
        return list(zip(self.manifest.layers, self.document["rootfs"]["diff_ids"], strict=True))


def resolve(repository: Repository, reference: str, wanted: Platform | None = None) -> Remote:
    """The image that a tag or digest stands for, of the platform `wanted` (or this host's). NotFound where an index has none for it;
    ArchiveError for what can't be believed, or is no image."""
    what = named(repository.name, reference)
    found = repository.manifest(reference)
    value = parse(found, what)
    above: Documents = {found.digest: (value.media_type, found.content)}
    if isinstance(value, Index):
        child, above = _choose(repository, value, above, wanted or host())
        content = _fetch(repository, child)
        inner = spec.parse(content, child.media_type, f"manifest {child.digest}")
        above = {**above, child.digest: (child.media_type, content)}
        if not isinstance(inner, Manifest):
            raise ArchiveError(f"{child.digest} must be a manifest")
        value = inner
    return _image(repository, value, found.digest, above, what, wanted)


def parse(found: Fetched, what: str) -> Manifest | Index:
    return spec.parse(found.content, "" if found.media_type in _UNTOLD else found.media_type, f"manifest of {what}")


def named(name: Reference, reference: str) -> str:
    return f"{name.familiar_name}{'@' if ':' in reference else ':'}{reference}"


def _image(repository: Repository, manifest: Manifest, target: str, above: Documents, what: str, wanted: Platform | None) -> Remote:
    if not manifest.is_image:
        kind = (manifest.artifact_type or manifest.config.media_type)[:120]
        raise InvalidArgument(f"{what} is no image but an artifact ({kind}): it can be looked at by `manifest inspect`, and not be run")
    for layer in manifest.layers:
        if media.layer_compression(layer.media_type) is None:
            raise ArchiveError(f"manifest of {what}: {layer.media_type[:120]!r} is no media type of a layer")
    config = small_blob(repository, manifest.config, document.CONFIG_LIMIT, f"config of {what}")
    checked = imageconfig.check(config)
    offered = platform_of(checked)
    if wanted is not None and best(wanted, [offered]) != 0:
        raise NotFound(f"image with reference {what} was found but does not match the specified platform: wanted {wanted.format()}, "
                       f"actual: {offered.format()}")
    if offered.os != "linux":
        raise ArchiveError(f'operating system "{offered.os[:40]}" cannot be used on this platform: {what} is an image for it')
    count = len(checked["rootfs"]["diff_ids"])
    if len(manifest.layers) != count:
        raise ArchiveError(f"manifest of {what} has {len(manifest.layers)} layers, its config {count}")
    return Remote(target, above, manifest, config, checked)


def small_blob(repository: Repository, descriptor: Descriptor, limit: int, what: str) -> bytes:
    """All of a small blob, of the size and digest that its descriptor says."""
    if descriptor.size > limit:
        raise ArchiveError(f"{what} is too large: {descriptor.size} bytes, at most {limit} are read")
    with repository.blob(descriptor.digest) as response:
        content = response.read(descriptor.size)
    return _checked(content, descriptor, what)


def _checked(content: bytes, descriptor: Descriptor, what: str) -> bytes:
    if len(content) != descriptor.size or digest_of(content) != descriptor.digest:
        raise ArchiveError(f"{what}: it has digest {digest_of(content)} and {len(content)} bytes, "
                           f"instead of {descriptor.digest} and {descriptor.size}")
    return content


def _fetch(repository: Repository, entry: Descriptor) -> bytes:
    return _checked(repository.manifest(entry.digest).content, entry, f"manifest {entry.digest}")


def _choose(repository: Repository, index: Index, above: Documents, wanted: Platform) -> tuple[Descriptor, Documents]:
    """The manifest of an index that is for a platform, and what led to it."""
    found: list[tuple[Descriptor, Documents]] = []
    _walk(repository, index, above, found, 1, set())
    place = best(wanted, [entry.platform for entry, _ in found])
    if place < 0:
        raise NotFound(f"no matching manifest for {wanted.format()} in the manifest list entries", hint=_offered(found))
    return found[place]


def _offered(found: list[tuple[Descriptor, Documents]]) -> str:
    names = sorted({entry.platform.format() for entry, _ in found if entry.platform is not None})
    return f"there are: {', '.join(names)}"[:300] if names else ""


def _walk(repository: Repository, index: Index, above: Documents, found: list[tuple[Descriptor, Documents]], depth: int,
          seen: set[str]) -> None:
    if depth > spec.MAX_DEPTH:
        raise ArchiveError(f"indexes in indexes, more than {spec.MAX_DEPTH} deep")
    for entry in index.manifests:
        if entry.media_type in media.INDEXES:
            if entry.digest in above:
                raise ArchiveError(f"the index {entry.digest} contains itself")
            if entry.digest in seen:
                continue
            seen.add(entry.digest)
            if len(seen) > spec.MAX_ENTRIES:
                raise ArchiveError(f"more than {spec.MAX_ENTRIES} indexes")
            content = _fetch(repository, entry)
            value = spec.parse(content, entry.media_type, f"index {entry.digest}")
            if not isinstance(value, Index):
                raise ArchiveError(f"{entry.digest} must be an index")
            _walk(repository, value, {**above, entry.digest: (entry.media_type, content)}, found, depth + 1, seen)
        elif not entry.unknown and entry.media_type in media.MANIFESTS:
            found.append((entry, above))
            if len(found) > spec.MAX_ENTRIES:
                raise ArchiveError(f"more than {spec.MAX_ENTRIES} manifests")
