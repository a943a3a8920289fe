# SPDX-License-Identifier: Apache-2.0
"""What an archive holds, as images to be loaded: found, believed in nothing, and complete, before a byte is written.

An archive may say the same thing twice (docker 25 and newer write an OCI layout and their own manifest.json): then both are read, and must
agree on which image a name means. `--platform` leaves out all others; of an index, only what is there can be loaded.
"""
from __future__ import annotations

from lamina.errors import ArchiveError, InvalidArgument, NotFound
from lamina.images.platforms import platform_of
from lamina.spec import document, imageconfig, reference
from lamina.spec.platform import Platform, best, host
from lamina.util.digest import digest_of
from lamina.util.slices import Slice

from .bundle import Bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class PlannedLayer:
    """`digest`: of the bytes as they lie in the archive, "" where only the diff id is known; `media_type` "" likewise."""

    __slots__ = ("source", "diff_id", "digest", "media_type")

    def __init__(self, source: Slice, diff_id: str, digest: str = "", media_type: str = "") -> None:
        self.source = source
        self.diff_id = diff_id
        self.digest = digest
        self.media_type = media_type


class PlannedImage:
    """`manifests`: digest -> (media type, bytes) of the manifest and of each index above it; `parent`: an image of the same archive."""

    def __init__(self, config: bytes, checked: dict[str, Any], layers: list[PlannedLayer]) -> None:
        self.id = digest_of(config)
        self.config = config
        self.document = checked
        self.layers = layers
        self.parent = ""
        self.manifests: dict[str, tuple[str, bytes]] = {}

    @property
    def platform(self) -> Platform:
        return platform_of(self.document)


class Plan:
    """`images` in the archive's order, each once; `names`: full name -> (image id, digest that the name points to or "")."""

    def __init__(self) -> None:
        self.images: dict[str, PlannedImage] = {}
        self.names: dict[str, tuple[str, str]] = {}

    def add(self, image: PlannedImage) -> PlannedImage:
        known = self.images.setdefault(image.id, image)
        if known is not image:
            known.manifests.update(image.manifests)
            known.parent = known.parent or image.parent
            for old, new in zip(known.layers, image.layers, strict=True):
                if new.digest and not old.digest:
                    old.source, old.digest, old.media_type = new.source, new.digest, new.media_type
        return known

    def name(self, name: reference.Reference, candidates: list[PlannedImage], target: str, wanted: Platform | None) -> None:
        """Gives a name to the candidate that runs here (or was asked for). ArchiveError if it has been given to something else."""
        place = best(wanted or host(), [image.platform for image in candidates])
        image = candidates[max(place, 0)]
        old_id, old_target = self.names.get(name.full(), (image.id, target))
        if old_target and target and old_target != target or old_id not in [candidate.id for candidate in candidates]:
            raise ArchiveError(f"archive: the name {name.familiar()} is given to two different images")
        self.names[name.full()] = (old_id, target or old_target)


def make(bundle: Bundle, wanted: Platform | None = None) -> Plan:
    """The plan of whatever kind of archive it is. ArchiveError: what is wrong with it; NotFound: nothing in it is for `wanted`."""
    from . import docker, legacy, oci

    plan = Plan()
    listed = bundle.find("manifest.json")
    layout = bundle.find("index.json")
    if listed is not None and layout is None and docker.is_single(listed):
        oci.plan_dir(bundle, plan, wanted)
    elif listed is not None or layout is not None:
        if listed is not None:
            docker.plan_archive(bundle, plan, wanted)
        if layout is not None:
            oci.plan_layout(bundle, plan, wanted)
    elif bundle.find("repositories") is not None or legacy.is_archive(bundle):
        legacy.plan_archive(bundle, plan, wanted)
    else:
        raise ArchiveError("archive: it has neither manifest.json nor index.json nor repositories; not an archive of images",
                           hint="`import` makes an image of the tar of a root directory")
    if wanted is not None and not plan.images:
        raise NotFound(f"the archive has no image for {wanted.format()}")
    return plan


def read_config(source: Slice, digest: str = "") -> tuple[bytes, dict[str, Any]]:
    """An image's config: exact bytes, and what they say, checked."""
    data = source.read_all(document.CONFIG_LIMIT)
    if digest and digest_of(data) != digest:
        raise ArchiveError(f"{source.what}: the image config has digest {digest_of(data)} instead of {digest}")
    return data, imageconfig.check(data)


def matches(wanted: Platform | None, offered: Platform) -> bool:
    return wanted is None or best(wanted, [offered]) == 0


def refuse_foreign(system: str) -> None:
    """Of another operating system there is nothing to run. Docker's text."""
    if system != "linux":
        raise ArchiveError(f"cannot load {system} image on linux")


def parse_name(text: str, where: str) -> reference.Reference:
    """A name with tag that the archive gives to an image."""
    try:
        name = reference.parse_repository(text)
    except InvalidArgument as error:
        raise ArchiveError(f"{where}: {text[:200]!r}: {error.message}")
    if not name.tag:
        raise ArchiveError(f"{where}: invalid tag {text[:200]!r}")
    return name
