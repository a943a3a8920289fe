# SPDX-License-Identifier: Apache-2.0
"""`save` and `load`: finds what they need and hands it to `lamina.images.archive`."""

from __future__ import annotations

from lamina.images.archive import bundle
from lamina.images.archive.load import Loaded, load
from lamina.images.archive.save import Saving
from lamina.spec import platform as platforms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .engine import Engine

    Tell = Callable[[str, str, int, int], None]


class Archives:
    __slots__ = ("engine",)

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def saving(
        self, refs: Sequence[str], *, form: str = "docker-archive", platform: str = "", compression: str = "",
        preserve_digests: bool = False, tell: Tell | None = None,
    ) -> Saving:  # fmt: skip
        """What is to be saved, found and checked; its `write(write)` or `write_directory(path)` saves it."""
        wanted = platforms.parse(platform) if platform else None
        return Saving(self.engine.image_store, refs, form=form, platform=wanted, compression=compression,
                      preserve_digests=preserve_digests, tell=tell)  # fmt: skip

    def load(
        self, source: str | int, *, platform: str = "", keep_blobs: bool = False, tell: Tell | None = None,
        copied: Callable[[int], None] | None = None,
    ) -> Loaded:  # fmt: skip
        """Loads the images of an archive: a path (file or directory), or a descriptor to read from. `copied` hears of an archive that has
        to be copied first, as it is compressed or a pipe."""
        wanted = platforms.parse(platform) if platform else None
        store = self.engine.store
        opened = bundle.open_fd(store, source, tell=copied) if isinstance(source, int) else bundle.open_path(store, source, tell=copied)
        with opened:
            return load(self.engine.image_store, opened, platform=wanted, keep_blobs=keep_blobs, tell=tell)
