# SPDX-License-Identifier: Apache-2.0
"""An image store over a data root of its own, by the library: what archives do to it is looked at directly."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from archive_maker import Files, archive

from lamina.images.archive import bundle
from lamina.images.archive.load import Loaded, load
from lamina.images.archive.save import Saving
from lamina.images.store import ImageStore
from lamina.layers.store import LayerStore
from lamina.spec import platform as platforms
from lamina.store import check
from lamina.store.open import Store


class Shelf:
    """An image store that archives go into and come from."""

    def __init__(self, base: Path, driver: str) -> None:
        self.store = Store.open(str(base / "root"), str(base / "run"))
        self.layers = LayerStore(self.store)
        self.layers.use_driver(driver)
        self.images = ImageStore(self.store, self.layers)

    def load(self, data: bytes | Files | Path, *, platform: str = "", keep_blobs: bool = False) -> Loaded:
        wanted = platforms.parse(platform) if platform else None
        if isinstance(data, Path):
            with bundle.open_path(self.store, str(data)) as opened:
                return load(self.images, opened, platform=wanted, keep_blobs=keep_blobs)
        with tempfile.TemporaryFile() as file:
            file.write(archive(data) if isinstance(data, dict) else data)
            file.flush()
            file.seek(0)
            with bundle.open_fd(self.store, file.fileno()) as opened:
                return load(self.images, opened, platform=wanted, keep_blobs=keep_blobs)

    def save(self, *refs: str, form: str = "docker-archive", platform: str = "", compression: str = "", preserve: bool = False) -> bytes:
        out = io.BytesIO()
        wanted = platforms.parse(platform) if platform else None
        saving = Saving(self.images, refs, form=form, platform=wanted, compression=compression, preserve_digests=preserve)
        saving.write(out.write)
        self.notes = saving.notes
        return out.getvalue()

    def tags(self) -> dict[str, str]:
        """Familiar name -> image id."""
        return {f"{repo.removeprefix('docker.io/').removeprefix('library/')}:{tag}": image for repo, tag, image in self.store.db.execute(
            "SELECT repo, tag, image_id FROM tags")}  # fmt: skip

    def rows(self) -> dict[str, int]:
        return {table: self.store.db.value(f"SELECT count(*) FROM {table}") for table in (
            "images", "tags", "manifests", "image_manifests", "blobs", "layers", "layer_data", "leases", "removals")}  # fmt: skip

    def assert_sound(self) -> None:
        assert [str(problem) for problem in check.check(self.store, full=True)] == []
        for (chain,) in self.store.db.execute("SELECT chain_id FROM layers"):
            self.layers.verify(chain)

    def assert_empty(self) -> None:
        self.assert_sound()
        assert set(self.rows().values()) == {0}
        paths = self.store.paths
        assert [list(Path(path).iterdir()) for path in (paths.layers, paths.blobs, paths.tmp, paths.trash)] == [[], [], [], []]
