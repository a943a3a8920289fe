# SPDX-License-Identifier: Apache-2.0
"""The verbs of registries: each finds what it needs and hands it on. Settings and credentials are the caller's: faces read files."""
from __future__ import annotations

from lamina.registry.auth import Source
from lamina.registry.client import Registry
from lamina.registry.settings import Settings
from lamina.registry.transport import Wait
from lamina.spec import platform as platforms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from lamina.spec.reference import Reference

    from .engine import Engine
    from .pulling import Pulled, Tell


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
