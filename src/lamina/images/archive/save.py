# SPDX-License-Identifier: Apache-2.0
"""`save`: images as one archive in one of four formats.

    docker-archive   a tar: an OCI layout with uncompressed layers, and manifest.json and repositories, as docker 25 and newer write it
    oci-archive      a tar: an OCI layout (image-layout.md 1.1); layers gzip-compressed unless asked otherwise, or as they came
    oci-dir          the same as a directory
    docker-dir       skopeo's `dir:`: one image, Docker's schema 2, uncompressed

What is written depends on the images and the order of the names alone.
"""
from __future__ import annotations

from collections.abc import Sequence

from lamina.errors import InvalidArgument, NotFound, NotSupported
from lamina.images import create
from lamina.images.store import Image, ImageStore, is_id_prefix
from lamina.layers.tar import deflate
from lamina.layers.tar.output import Write
from lamina.spec import manifest as spec
from lamina.spec import mediatype as media
from lamina.spec import reference
from lamina.spec.manifest import Descriptor
from lamina.spec.platform import Platform, best
from lamina.spec.reference import Reference
from lamina.util.fastjson import dumps

from . import build
from .build import Builder, Built, Tell
from .sink import File, of_bytes, write_directory, write_tar

FORMATS = ("docker-archive", "oci-archive", "oci-dir", "docker-dir")
DIRECTORIES = ("oci-dir", "docker-dir")
USUAL = {"docker-archive": ("none", 0), "oci-archive": ("gzip", 6), "oci-dir": ("gzip", 6), "docker-dir": ("none", 0)}
LAYOUT = b'{"imageLayoutVersion": "1.0.0"}'
DIR_VERSION = b"Directory Transport Version: 1.1\n"


class Root:
    """What one or several names stand for: an image, or the images of an index (`target` its digest) that are here, the main one first."""

    def __init__(self, images: list[Image], target: str) -> None:
        self.images = images
        self.target = target
        self.names: list[Reference] = []


class Saving:
    """What is to be saved, all of it found; nothing has been written yet. `notes`, afterwards: what the user should know."""

    def __init__(self, images: ImageStore, refs: Sequence[str], *, form: str = "docker-archive", platform: Platform | None = None,
                 compression: str = "", preserve_digests: bool = False, tell: Tell | None = None) -> None:
        if form not in FORMATS:
            raise InvalidArgument(f"unknown format {form!r}: it is one of {', '.join(FORMATS)}")
        self._images = images
        self._form = form
        self._keep = not compression
        self._compression = deflate.parse(compression) if compression else USUAL[form]
        if form == "docker-archive" and self._compression[0] != "none":
            raise InvalidArgument("a docker-archive has uncompressed layers", hint="--format oci-archive may have compressed ones")
        self._preserve = preserve_digests
        self._platform = platform
        self._tell = tell
        self.notes: list[str] = []
        self.roots = self._find(refs)
        if form == "docker-dir" and len(self.roots) > 1:
            raise InvalidArgument("docker-dir holds one image only", hint="save each to a directory of its own, or use oci-dir")

    @property
    def is_directory(self) -> bool:
        return self._form in DIRECTORIES

    # -- what

    def _find(self, refs: Sequence[str]) -> list[Root]:
        roots: dict[str, Root] = {}
        for ref in refs:
            for name, image, target in self._named(ref):
                root = self._root(image, target)
                root = roots.setdefault(root.target or root.images[0].id, root)
                if name is not None and name not in root.names:
                    root.names.append(name)
        return list(roots.values())

    def _named(self, ref: str) -> list[tuple[Reference | None, Image, str]]:
        """(name, image, digest that the name points to): a repository without a tag stands for all its tags, as docker has it."""
        image = self._images.find(ref)
        if image is not None and is_id_prefix(image.id, ref):
            return [(None, image, "")]
        name = reference.parse(ref)
        if name.digest:
            if image is None:
                raise NotFound("No such image: " + self._images.shown(ref))
            return [(None, image, name.digest)]
        rows = self._images.store.db.execute(
            "SELECT tag, image_id, target_digest FROM tags WHERE repo = ?1 AND (tag = ?2 OR ?2 = '') ORDER BY tag", (name.name, name.tag))
        found = []
        for tag, image_id, target in rows:
            one = self._images.by_id(image_id)
            if one is not None:
                found.append((Reference(name.domain, name.path, tag), one, target or ""))
        if not found:
            raise NotFound("No such image: " + self._images.shown(ref))
        return list(found)

    def _root(self, image: Image, target: str) -> Root:
        if not target or build.index_above(self._images, target) is None:
            return self._for_platform(Root([image], ""))
        rows = self._images.store.db.execute("SELECT image_id FROM image_manifests WHERE digest = ? ORDER BY image_id", (target,))
        others = [one for (image_id,) in rows if image_id != image.id and (one := self._images.by_id(image_id)) is not None]
        return self._for_platform(Root([image, *others], target))

    def _for_platform(self, root: Root) -> Root:
        if self._platform is None:
            return root
        place = best(self._platform, build.offered(root.images))
        if place < 0:
            name = (self._images.tags(root.images[0].id) or [root.images[0].id])[0]
            raise NotFound(f"image with reference {name} was found but does not provide the specified platform ({self._platform.format()})")
        return Root([root.images[place]], "")

    # -- how

    def write(self, write: Write) -> None:
        """The tar of an archive format."""
        with self._builder() as builder:
            write_tar(self._files(builder), write)
        self._events()

    def write_directory(self, path: str) -> None:
        """A directory format, into a directory that is there and empty."""
        with self._builder() as builder:
            write_directory(self._files(builder), path)
        self._events()

    def _builder(self) -> Builder:
        return Builder(self._images, self._compression, docker=self._form == "docker-dir", keep=self._keep, tell=self._tell)

    def _files(self, builder: Builder) -> dict[str, File]:
        built = [[builder.build(image, root.target or self._target(root)) for image in self._wanted(root)] for root in self.roots]
        for root, group in zip(self.roots, built, strict=True):
            for one in group:
                self._check(root, one)
        if self._form == "docker-dir":
            return self._dir(built[0][0])
        files = {"oci-layout": of_bytes(LAYOUT)}
        entries: list[Descriptor] = []
        for root, group in zip(self.roots, built, strict=True):
            for one in group:
                files.update((f"blobs/sha256/{digest[7:]}", file) for digest, file in one.blobs.items())
            entries += self._entries(root, group, files)
        files["index.json"] = of_bytes(spec.build_index(entries))
        if self._form == "docker-archive":
            self._docker(built, files)
        return files

    def _wanted(self, root: Root) -> list[Image]:
        return root.images[:1] if self._form == "docker-dir" else root.images

    def _target(self, root: Root) -> str:
        """The manifest that the first name points to."""
        for name in root.names[:1]:
            found = self._images.store.db.value("SELECT target_digest FROM tags WHERE repo = ? AND tag = ?", (name.name, name.tag))
            return found or ""
        return ""

    def _check(self, root: Root, one: Built) -> None:
        if one.kept or not one.had:
            return
        name = root.names[0].familiar() if root.names else one.image.id
        if self._preserve:
            raise NotSupported(f"{name}: its manifest {one.had[0]} can't be kept: the compressed bytes of its layers weren't",
                               hint="load it with --keep-blobs")
        if self._form != "docker-archive":
            self.notes.append(f"{name}: the manifest {one.had[0]} could not be kept, the archive has {one.manifest.digest}")

    def _entries(self, root: Root, group: list[Built], files: dict[str, File]) -> list[Descriptor]:
        """What index.json says of a root: an entry a name, or one without."""
        target = group[0].manifest
        if root.target:
            target = self._index(root, group, files)
        found = []
        for name in sorted(root.names, key=Reference.full):
            tag = name.tag if self._form == "docker-archive" else name.full()
            found.append(Descriptor(target.media_type, target.digest, target.size, annotations={
                spec.IMAGE_NAME: name.full(), spec.REF_NAME: tag}))
        return found or [Descriptor(target.media_type, target.digest, target.size)]

    def _index(self, root: Root, group: list[Built], files: dict[str, File]) -> Descriptor:
        """The index as it came, if all its manifests that are here are; else a new one of those."""
        known = build.index_above(self._images, root.target)
        if known is not None and all(one.kept for one in group):
            media_type, content = known
        else:
            media_type, content = media.OCI_INDEX, spec.build_index([one.manifest for one in group])
        descriptor = spec.of_bytes(content, media_type)
        files[f"blobs/sha256/{descriptor.digest[7:]}"] = of_bytes(content)
        return descriptor

    def _docker(self, built: list[list[Built]], files: dict[str, File]) -> None:
        """manifest.json and repositories: of an index, docker knows the main image only."""
        ids = {group[0].image.id for group in built}
        listed = []
        repositories: dict[str, dict[str, str]] = {}
        for root, group in zip(self.roots, built, strict=True):
            image, layers = group[0].image, group[0].layers
            names = sorted(root.names, key=Reference.full)
            entry: dict[str, object] = {"Config": f"blobs/sha256/{image.id[7:]}", "RepoTags": [name.familiar() for name in names] or None,
                                        "Layers": [f"blobs/sha256/{layer.digest[7:]}" for layer in layers]}
            if image.parent in ids:
                entry["Parent"] = image.parent
            entry["LayerSources"] = {
                layer.digest: {"mediaType": layer.media_type, "size": layer.size, "digest": layer.digest}
                for layer in sorted(layers, key=lambda layer: layer.digest)}
            listed.append(entry)
            for name in names if layers else ():
                repositories.setdefault(name.familiar_name, {})[name.tag] = layers[-1].digest[7:]
        files["manifest.json"] = of_bytes(dumps(listed).encode() + b"\n")
        if repositories:
            files["repositories"] = of_bytes(dumps({key: repositories[key] for key in sorted(repositories)}).encode() + b"\n")

    def _dir(self, one: Built) -> dict[str, File]:
        files = {digest[7:]: file for digest, file in one.blobs.items() if digest != one.manifest.digest}
        files["manifest.json"] = one.blobs[one.manifest.digest]
        files["version"] = of_bytes(DIR_VERSION)
        return files

    def _events(self) -> None:
        for root in self.roots:
            for image in root.images:
                create.tell(self._images.store, "save", image.id, image.id)

