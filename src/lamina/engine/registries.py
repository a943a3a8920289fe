# SPDX-License-Identifier: Apache-2.0
"""The verbs of registries: each finds what it needs and hands it on. Settings and credentials are the caller's: faces read files."""
from __future__ import annotations

from typing import Any

from lamina.errors import InvalidArgument, NotFound
from lamina.registry.auth import Source
from lamina.registry.client import Registry
from lamina.registry.settings import Settings
from lamina.registry.transport import Wait
from lamina.spec import platform as platforms
from lamina.util import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from lamina.spec.reference import Reference

    from .engine import Engine
    from .pulling import Pulled, Tell
    from .pushing import Pushed


class Registries:
    """One for the command: connections and tokens are shared."""

    def __init__(self, engine: Engine, settings: Settings, source: Source | None = None, *, wait: Wait | None = None) -> None:
        self.engine = engine
        self.client = Registry(settings, source, wait=wait)

    def pull(
        self, text: str, *, platform: str = "", all_tags: bool = False, tell: Tell | None = None,
        begin: Callable[[Reference], None] | None = None, done: Callable[[Pulled], None] | None = None,
    ) -> list[Pulled]:  # fmt: skip
        """What was pulled: one, or each tag."""
        from .pulling import Pull

        wanted = platforms.parse(platform) if platform else None
        pull = Pull(self.engine.image_store, self.client, platform=wanted, tell=tell, begin=begin, done=done)
        return pull.every_tag(text) if all_tags else [pull.one(text)]

    def push(
        self, text: str, *, all_tags: bool = False, compression: str = "", preserve_digests: bool = False, tell: Tell | None = None,
        done: Callable[[Pushed], None] | None = None,
    ) -> list[Pushed]:  # fmt: skip
        """One tag (by default latest), or each that the repository has here. NotFound, with docker's text, where there is none."""
        from lamina.layers.tar import deflate
        from lamina.spec.reference import Reference, parse

        from .pushing import Push

        name = parse(text)
        if name.digest:
            raise InvalidArgument("cannot push a digest reference")
        images = self.engine.image_store
        rows = images.store.db.execute("SELECT tag, image_id, target_digest FROM tags WHERE repo = ? ORDER BY tag", (name.name,))
        if not rows:
            raise NotFound(f"An image does not exist locally with the tag: {name.familiar_name}")
        wanted = rows if all_tags else [row for row in rows if row[0] == name.with_default_tag().tag]
        if not wanted:
            raise NotFound(f"tag does not exist: {name.with_default_tag().familiar()}")
        push = Push(images, self.client, compression=deflate.parse(compression) if compression else None, preserve=preserve_digests,
                    tell=tell)
        found = []
        for tag, image_id, target in wanted:
            image = images.by_id(image_id)
            if image is None:
                continue  # removed meanwhile
            found.append(push.one(Reference(name.domain, name.path, tag), image, target or ""))
            if done is not None:
                done(found[-1])
        return found

    def login(self, domain: str) -> str:
        """Asks the registry with the credentials that this was made with; an identity token, if it gave one to keep instead of them."""
        self.client.ping(domain)
        if steps.tell is not None:
            steps.tell(f"asked {domain} whether it takes the credentials: it does")
        return self.client.authorizer.identity_token

    def search(self, term: str, limit: int) -> list[dict[str, Any]]:
        """[{"name","description","star_count","is_official","is_automated"}]."""
        from lamina.registry.search import search

        found = search(self.client, term, limit)
        if steps.tell is not None:
            steps.tell(f"asked for names with {term}: {len(found)} found")
        return found

    def inspect(self, text: str) -> dict[str, Any]:
        """As `image inspect`, of an image at its registry: Size is that of its blobs, and it lies in no driver. Nothing is kept."""
        from lamina.images.inspect import describe, rootfs

        from .pulling import Pull

        repository, name, remote = Pull(self.engine.image_store, self.client).find(text)
        if steps.tell is not None:
            steps.tell(f"asked {repository.endpoint[0].url} for the manifest and config of {name.familiar()}")
        tags = [name.familiar()] if name.tag and not name.digest else []
        result = describe(remote.document, remote.id, tags, [f"{name.familiar_name}@{remote.target}"], "")
        result["Size"] = sum(descriptor.size for descriptor, _ in remote.layers)
        result["RootFS"] = rootfs(remote.document)
        return result

    def manifest(self, text: str) -> dict[str, Any]:
        """The manifest or index that a tag or digest stands for, of whatever kind: an object, checked to have the digest that names it."""
        from lamina.spec import document

        from .remote import named, parse

        name = self.client.settings.candidates(text)[0].with_default_tag()
        repository = self.client.repository(name)
        reference = name.digest or name.tag
        found = repository.manifest(reference)
        parse(found, named(name, reference))
        if steps.tell is not None:
            steps.tell(f"asked {repository.endpoint[0].url} for the manifest of {name.familiar()}: {len(found.content)} bytes")
        return document.parse(found.content, "manifest", document.MANIFEST_LIMIT)

    def tags(self, text: str) -> list[str]:
        """Those that a repository has at its registry."""
        repository = self.client.repository(self.client.settings.candidates(text)[0])
        found = repository.tags()
        if steps.tell is not None:
            steps.tell(f"asked {repository.endpoint[0].url} for the tags of {repository.name.path}: {len(found)}")
        return found
