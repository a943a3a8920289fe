# SPDX-License-Identifier: Apache-2.0
"""`save` and `load`: finds what they need and hands it to `lamina.images.archive`."""

from __future__ import annotations

from lamina.errors import LaminaError, NotFound
from lamina.images.archive import bundle
from lamina.images.archive.load import Loaded, load
from lamina.images.archive.save import Saving
from lamina.spec import platform as platforms
from lamina.util import steps

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
        try:
            saving = Saving(self.engine.image_store, refs, form=form, platform=wanted, compression=compression,
                            preserve_digests=preserve_digests, tell=tell)  # fmt: skip
        except NotFound as e:
            e.hint = e.hint or self.meant(refs)
            raise
        if steps.tell is not None:
            steps.tell(f"found what is to be saved: {', '.join(refs)}; writes its layers and their metadata")
        return saving

    def meant(self, refs: Sequence[str]) -> str:
        """For who names a container: the verb that was meant."""
        for ref in refs:
            try:
                if self.engine.containers.records.find(ref) is not None:
                    return f"{ref} is a container; `export` writes a container's files, `save` an image"
            except LaminaError:
                continue  # it can't be one's name
        return ""

    def load(
        self, source: str | int, *, platform: str = "", keep_blobs: bool = False, tell: Tell | None = None,
        copied: Callable[[int], None] | None = None, commit: Callable[[], None] | None = None,
    ) -> Loaded:  # fmt: skip
        """Loads the images of an archive: a path (file or directory), or a descriptor to read from. `copied` hears of an archive that has
        to be copied first, as it is compressed or a pipe; `commit` is called before the last step, which makes all of it count."""
        wanted = platforms.parse(platform) if platform else None
        store = self.engine.store
        opened = bundle.open_fd(store, source, tell=copied) if isinstance(source, int) else bundle.open_path(store, source, tell=copied)
        with opened:
            if steps.tell is not None:
                steps.tell("opened the archive, and takes from it what isn't here yet")
            return load(self.engine.image_store, opened, platform=wanted, keep_blobs=keep_blobs, tell=tell,
                        commit=commit)  # fmt: skip
