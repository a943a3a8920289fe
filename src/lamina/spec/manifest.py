# SPDX-License-Identifier: Apache-2.0
"""Manifests, indexes and descriptors: those of strangers read strictly, our own built as bytes.

OCI image spec 1.1 (manifest.md, image-index.md, descriptor.md) and Docker's schema 2 and manifest list, which say the same in other
media types. `parse` is the only door for foreign ones. What two readers could understand differently is refused (attack 48): a
document that is manifest and index at once, a media type that isn't the descriptor's. Digests are checked before anybody makes a path
of one (attack 47), sizes and counts before anybody allocates (attack 46). Bytes are kept elsewhere, exactly as they came.
"""
from __future__ import annotations

from lamina.errors import ArchiveError, InvalidArgument
from lamina.util.digest import check_digest, digest_of
from lamina.util.fastjson import dumps

from . import document
from . import mediatype as media
from .platform import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_LAYERS = 4096
MAX_ENTRIES = 4096
MAX_SIZE = 1 << 46  # of a blob: 64 TiB
MAX_DEPTH = 3  # indexes in indexes
REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"
_KINDS: dict[type, str] = {str: "a string", int: "a whole number", list: "a list", dict: "an object"}


class Descriptor:
    """What points to a blob: media type, digest, size in bytes; `platform` where an index says it, `unknown` if it says unknown/unknown
    (an attestation, never chosen). `urls` of foreign layers are never followed, and so not kept."""

    __slots__ = ("media_type", "digest", "size", "annotations", "platform", "unknown", "artifact_type")

    def __init__(self, media_type: str, digest: str, size: int, *, annotations: dict[str, str] | None = None,
                 platform: Platform | None = None, unknown: bool = False, artifact_type: str = "") -> None:
        self.media_type = media_type
        self.digest = digest
        self.size = size
        self.annotations = annotations or {}
        self.platform = platform
        self.unknown = unknown
        self.artifact_type = artifact_type

    def to_json(self) -> dict[str, Any]:
        """Keys in the order that docker writes."""
        result: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.annotations:
            result["annotations"] = {key: self.annotations[key] for key in sorted(self.annotations)}
        if self.platform is not None:
            result["platform"] = {"architecture": self.platform.architecture, "os": self.platform.os}
            if self.platform.variant:
                result["platform"]["variant"] = self.platform.variant
        return result


class Manifest:
    """One image, or an artifact (`is_image` False: its config isn't an image's)."""

    __slots__ = ("media_type", "config", "layers", "annotations", "artifact_type", "subject")

    def __init__(self, media_type: str, config: Descriptor, layers: list[Descriptor], *, annotations: dict[str, str] | None = None,
                 artifact_type: str = "", subject: Descriptor | None = None) -> None:
        self.media_type = media_type
        self.config = config
        self.layers = layers
        self.annotations = annotations or {}
        self.artifact_type = artifact_type
        self.subject = subject

    @property
    def is_image(self) -> bool:
        return self.config.media_type in media.CONFIGS


class Index:
    """Several manifests, one a platform (or attestations, or further indexes)."""

    __slots__ = ("media_type", "manifests", "annotations")

    def __init__(self, media_type: str, manifests: list[Descriptor], *, annotations: dict[str, str] | None = None) -> None:
        self.media_type = media_type
        self.manifests = manifests
        self.annotations = annotations or {}


def parse(data: bytes, expected: str = "", what: str = "manifest") -> Manifest | Index:
    """The manifest or index in `data`. `expected`: the media type by which it was announced ("" where nobody said). ArchiveError
    otherwise, naming `what`."""
    value = document.parse(data, what, document.MANIFEST_LIMIT)
    version = _get(value, "schemaVersion", int, what)
    if "fsLayers" in value or "signatures" in value or version == 1:
        raise ArchiveError(f"{what} has Docker's schema 1, which is not supported", hint="pull and push it again with a newer docker")
    if version != 2:
        raise ArchiveError(f"{what} has no schemaVersion 2")
    stated = _get(value, "mediaType", str, what) or ""
    if stated and expected and stated != expected:
        raise ArchiveError(f"{what} says it is {_short(stated)}, but was announced as {_short(expected)}")
    is_index, is_manifest = "manifests" in value, "layers" in value or "config" in value
    if is_index and is_manifest:
        raise ArchiveError(f"{what} is ambiguous: it has both manifests and layers")
    kind = stated or expected or (media.OCI_INDEX if is_index else media.OCI_MANIFEST)
    if kind in media.INDEXES and not is_manifest:
        return _index(value, kind, what)
    if kind in media.MANIFESTS and not is_index:
        return _manifest(value, kind, what)
    raise ArchiveError(f"{what} has media type {_short(kind)}, which is none of an image's, or not what it holds")


def _index(value: dict[str, Any], kind: str, what: str) -> Index:
    entries = _get(value, "manifests", list, what) or []
    if len(entries) > MAX_ENTRIES:
        raise ArchiveError(f"{what} lists {len(entries)} manifests, at most {MAX_ENTRIES} are read")
    return Index(kind, [descriptor(entry, f"{what}: manifests") for entry in entries], annotations=_annotations(value, what))


def _manifest(value: dict[str, Any], kind: str, what: str) -> Manifest:
    layers = _get(value, "layers", list, what) or []
    if len(layers) > MAX_LAYERS:
        raise ArchiveError(f"{what} has {len(layers)} layers, at most {MAX_LAYERS} are read")
    if value.get("config") is None:
        raise ArchiveError(f"{what} has no config")
    subject = value.get("subject")
    return Manifest(kind, descriptor(value["config"], f"{what}: config"), [descriptor(entry, f"{what}: layers") for entry in layers],
                    annotations=_annotations(value, what), artifact_type=_get(value, "artifactType", str, what) or "",
                    subject=None if subject is None else descriptor(subject, f"{what}: subject"))


def descriptor(value: Any, where: str) -> Descriptor:
    """One descriptor, checked; its digest may be used as it is."""
    if not isinstance(value, dict):
        raise ArchiveError(f"{where} holds something that is no descriptor")
    kind, digest, size = _get(value, "mediaType", str, where), _get(value, "digest", str, where), _get(value, "size", int, where)
    if kind is None or digest is None or size is None:
        raise ArchiveError(f"{where}: a descriptor without {'mediaType' if kind is None else 'digest' if digest is None else 'size'}")
    try:
        check_digest(digest)
    except InvalidArgument as e:
        raise ArchiveError(f"{where}: {e.message}")
    if not 0 <= size <= MAX_SIZE:
        raise ArchiveError(f"{where}: {digest} has the size {size}")
    platform, unknown = _platform(_get(value, "platform", dict, where), where)
    return Descriptor(kind, digest, size, annotations=_annotations(value, where), platform=platform, unknown=unknown,
                      artifact_type=_get(value, "artifactType", str, where) or "")


def _platform(value: dict[str, Any] | None, where: str) -> tuple[Platform | None, bool]:
    if value is None:
        return None, False
    system, architecture, variant = (_get(value, key, str, where) or "" for key in ("os", "architecture", "variant"))
    if system == "unknown" and architecture == "unknown":
        return None, True
    if architecture == "arm64" and variant == "v8":
        variant = ""
    return (Platform(system, architecture, variant), False) if system and architecture else (None, False)


def _annotations(value: dict[str, Any], where: str) -> dict[str, str]:
    found = _get(value, "annotations", dict, where) or {}
    if not all(isinstance(item, str) for item in found.values()):
        raise ArchiveError(f"{where}: annotations must be strings")
    return found


def _get(value: dict[str, Any], key: str, kind: type, where: str) -> Any:
    """A member of the right type, or None where it is absent or null."""
    found = value.get(key)
    if found is None:
        return None
    if not isinstance(found, kind) or isinstance(found, bool):
        raise ArchiveError(f"{where}: {key} must be {_KINDS[kind]}")
    return found


def _short(text: str) -> str:
    return repr(text[:120])


def build_manifest(config: Descriptor, layers: list[Descriptor], media_type: str = media.OCI_MANIFEST) -> bytes:
    """A manifest's bytes, as docker 25 and newer write them: compact, keys in their order."""
    return dumps({"schemaVersion": 2, "mediaType": media_type, "config": config.to_json(),
                  "layers": [layer.to_json() for layer in layers]}).encode("utf-8")


def build_index(manifests: list[Descriptor], media_type: str = media.OCI_INDEX) -> bytes:
    return dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": [entry.to_json() for entry in manifests]}).encode("utf-8")


def of_bytes(data: bytes, media_type: str, *, annotations: dict[str, str] | None = None, platform: Platform | None = None) -> Descriptor:
    """The descriptor of bytes that we have."""
    return Descriptor(media_type, digest_of(data), len(data), annotations=annotations, platform=platform)
