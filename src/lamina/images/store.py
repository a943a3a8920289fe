# SPDX-License-Identifier: Apache-2.0
"""[hot] ImageStore: finding images by what people type. All other things done to images are in the modules beside it.

A reference is, in docker's order: a full id; a name (with tag, or the digest it was pulled by); the start of an id. Images are rows:
the exact bytes of their config,
the chain of their layers, their parent (set by commit only), and what docker's inspect shows beyond the config (`meta`).
"""
from __future__ import annotations

from lamina.errors import InvalidArgument, NotFound
from lamina.spec import reference
from lamina.util.fastjson import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from lamina.layers.store import LayerStore
    from lamina.store.open import Store

COLUMNS = "id, config, chain_id, parent, size, created_ns, meta"


class Image:
    """`id` "sha256:...", `config` the exact bytes, `chain_id` "" for an image without layers, `size` the sum of its layers' sizes."""

    __slots__ = ("id", "config", "chain_id", "parent", "size", "created_ns", "_meta", "_document")

    def __init__(self, id_: str, config: bytes, chain_id: str, parent: str, size: int, created_ns: int, meta: str) -> None:
        self.id = id_
        self.config = config
        self.chain_id = chain_id
        self.parent = parent
        self.size = size
        self.created_ns = created_ns
        self._meta = meta
        self._document: dict[str, Any] | None = None

    @property
    def meta(self) -> dict[str, Any]:
        value: dict[str, Any] = loads(self._meta)
        return value

    @property
    def document(self) -> dict[str, Any]:
        """The whole config, parsed once. It was checked when the image was made: fields have their types or are absent or null."""
        if self._document is None:
            self._document = loads(self.config)
        return self._document or {}

    @property
    def run_config(self) -> dict[str, Any]:
        """What containers of it start with; {} if it says nothing."""
        return self.document.get("config") or {}

    @property
    def short_id(self) -> str:
        return self.id[7:19]


class ImageStore:
    def __init__(self, store: Store, layers: LayerStore) -> None:
        self.store = store
        self.layers = layers

    def resolve(self, ref: str) -> Image:
        """The image that a user means. NotFound "No such image: x:latest"; InvalidArgument for what can't be a name, and for the start
        of an id that several images share."""
        image = self.find(ref)
        if image is None:
            raise NotFound("No such image: " + self.shown(ref))
        return image

    def find(self, ref: str) -> Image | None:
        """As `resolve`, None instead of NotFound."""
        full = full_id(ref)
        if full:
            return self.by_id(full)
        name = reference.parse(ref).with_default_tag()
        image = self.by_name(name)
        return image if image is not None else self._by_prefix(ref)

    @staticmethod
    def shown(ref: str) -> str:
        """How docker repeats a reference in an error: normalized, familiar, with its default tag."""
        return full_id(ref) or reference.parse(ref).with_default_tag().familiar()

    def by_id(self, image_id: str) -> Image | None:
        return self._one(f"SELECT {COLUMNS} FROM images WHERE id = ?", (image_id,))

    def by_name(self, name: reference.Reference) -> Image | None:
        columns = "i." + COLUMNS.replace(", ", ", i.")
        if name.digest:
            return self._one(f"SELECT {columns} FROM repo_digests r JOIN images i ON i.id = r.image_id WHERE r.repo = ? AND r.digest = ?",
                             (name.name, name.digest))
        return self._one(f"SELECT {columns} FROM tags t JOIN images i ON i.id = t.image_id WHERE t.repo = ? AND t.tag = ?",
                         (name.name, name.tag))

    def _by_prefix(self, ref: str) -> Image | None:
        prefix = ref.removeprefix("sha256:")
        if not reference.is_hex_id(prefix):
            return None
        # "g" follows every hex digit: a range that the primary key answers.
        rows = self.store.db.execute(f"SELECT {COLUMNS} FROM images WHERE id >= ? AND id < ? LIMIT 2",
                                     ("sha256:" + prefix, f"sha256:{prefix}g"))
        if len(rows) > 1:
            raise InvalidArgument(f"multiple IDs found with provided prefix: {ref}")
        return Image(*rows[0]) if rows else None

    def _one(self, sql: str, params: Sequence[object]) -> Image | None:
        row = self.store.db.one(sql, params)
        return None if row is None else Image(*row)

    # -- names of an image
    def tags(self, image_id: str) -> list[str]:
        """Familiar names with tags, sorted; also those of an index that leads to it."""
        from .platforms import NAMED

        return [f"{reference.familiar_name(repo)}:{tag}" for repo, tag in self.store.db.execute(
            f"SELECT repo, tag FROM ({NAMED}) WHERE image_id = ? ORDER BY repo, tag", (image_id,))]

    def digests(self, image_id: str) -> list[str]:
        """Familiar names with digests, sorted."""
        return [f"{reference.familiar_name(repo)}@{digest}" for repo, digest in self.store.db.execute(
            "SELECT repo, digest FROM repo_digests WHERE image_id = ? ORDER BY repo, digest", (image_id,))]

    def all(self) -> list[Image]:
        """Newest first."""
        return [Image(*row) for row in self.store.db.execute(f"SELECT {COLUMNS} FROM images ORDER BY created_ns DESC, id")]


def full_id(ref: str) -> str:
    """The image id that a text is in full ("sha256:" is optional), or ""."""
    bare = ref.removeprefix("sha256:")
    return "sha256:" + bare if len(bare) == 64 and reference.is_hex_id(bare) else ""


def is_id_prefix(image_id: str, ref: str) -> bool:
    """Whether a text that was resolved to this image meant its id."""
    return image_id.startswith(ref) or image_id[7:].startswith(ref)
