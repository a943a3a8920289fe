# SPDX-License-Identifier: Apache-2.0
"""An image store over a data root of its own, with each driver; containers as rows with a change set that a test writes into."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lamina.containers.state import State, save
from lamina.containers.store import ContainerStore, Record
from lamina.images.import_ import import_image
from lamina.images.store import ImageStore
from lamina.layers.store import LayerStore
from lamina.store.open import Store
from lamina.util.identity import boot_id, my_start_time
from lamina.util.ids import new_id


class World:
    """What a test needs of an engine."""

    def __init__(self, store: Store, driver: str) -> None:
        self.store = store
        self.layers = LayerStore(store)
        self.layers.use_driver(driver)
        self.images = ImageStore(store, self.layers)
        self.containers = ContainerStore(store)

    def image(self, repository: str = "", files: dict[str, bytes] | None = None, **more: Any) -> str:
        return import_image(self.images, io.BytesIO(small_tar(files or {"bin/sh": b"#!"})), repository=repository, **more)

    def container(self, ref: str, name: str, config: dict[str, Any] | None = None, change: Callable[[Path], None] | None = None) -> Record:
        image = self.images.resolve(ref)
        record = Record(
            new_id(),
            name,
            image_id=image.id,
            image_ref=ref,
            layer_chain=image.chain_id,
            driver=self.layers.driver.name,
            config={"Config": {"Cmd": ["sh"], **image.run_config, "Image": ref, **(config or {})}},
        )
        self.containers.insert(record)
        mount = self.layers.prepare_container(record.id, image.chain_id)
        if change is not None:
            root = mount.open_root()
            change(Path(f"/proc/self/fd/{root}"))
            os.close(root)
        return record

    def runs(self, record: Record) -> None:
        """As if it ran under a monitor: this very process."""
        state = State("running", pid=os.getpid(), boot_id=boot_id(), monitor_pid=os.getpid(), monitor_start_time=my_start_time())
        save(self.store.paths.container_state(record.id), state)


def small_tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(data), 1_500_000_000, 0o755
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()
