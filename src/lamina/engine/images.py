# SPDX-License-Identifier: Apache-2.0
"""The verbs of images: each finds what it needs and hands it to `lamina.images`."""
from __future__ import annotations

import os

from ..errors import Conflict, InvalidArgument, NotFound
from ..linux import mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .engine import Engine


class Images:
    __slots__ = ("engine",)

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def import_(
        self, stream: Any, *, repository: str | None = None, changes: list[str] | None = None, message: str = "", platform: str = "", source: str = "-",
    ) -> str:  # fmt: skip
        """A flat tar (plain, gzip, zstd, xz, bzip2) becomes an image of one layer; its id. source: as typed, for the history's text."""
        from ..images.import_ import import_image

        image_id = import_image(self.engine.image_store, stream, repository=repository, changes=changes or [], message=message,
                                platform=platform, source=source)  # fmt: skip
        self.event("import", image_id)
        return image_id

    def commit(
        self, container: str, repository: str | None = None, *, author: str = "", message: str = "", changes: list[str] | None = None, pause: bool = True,
    ) -> str:  # fmt: skip
        """The container's changes become a layer on top of its image; the new image's id. pause: hold its processes meanwhile."""
        from ..images.commit import commit_image
        from .stopping import client_of

        containers = self.engine.containers
        record = containers.records.get(container)
        client = client_of(containers, record) if pause and containers.records.state(record.id).status == "running" else None
        try:
            if client is not None:
                client.pause()
            try:
                image_id = commit_image(self.engine.image_store, record, self.engine.store.paths.container(record.id) + "/rw", repository=repository,
                                        author=author, message=message, changes=changes or [])  # fmt: skip
            finally:
                if client is not None:
                    client.unpause()
        finally:
            if client is not None:
                client.close()
        containers.event("commit", record, comment=message)
        return image_id

    def list(self, all: bool = False, filters: dict[str, list[str]] | None = None) -> list[dict[str, Any]]:
        """`GET /images/json`: [ImageSummary], newest first."""
        from ..images.listing import list_images

        return list_images(self.engine.image_store, all=all, filters=filters or {})

    def inspect(self, ref: str) -> dict[str, Any]:
        from ..images.inspect import inspect_image

        return inspect_image(self.engine.image_store, ref)

    def history(self, ref: str) -> list[dict[str, Any]]:
        from ..images.history import history

        return history(self.engine.image_store, ref)

    def tag(self, source: str, target: str) -> None:
        from ..images.tags import tag

        tag(self.engine.image_store, source, target)
        self.event("tag", self.engine.image_store.resolve(source).id)

    def remove(self, ref: str, *, force: bool = False, no_prune: bool = False) -> list[dict[str, str]]:
        """[{"Untagged": name} | {"Deleted": id}] in docker's order."""
        from ..images.remove import remove_image

        done = remove_image(self.engine.image_store, ref, force=force, no_prune=no_prune)
        for entry in done:
            for what, name in entry.items():
                self.event("untag" if what == "Untagged" else "delete", name)
        return done

    def prune(self, filters: dict[str, list[str]] | None = None) -> dict[str, Any]:
        """{"ImagesDeleted","SpaceReclaimed"}; filters: dangling, until, label."""
        from ..images.prune import prune_images

        return prune_images(self.engine.image_store, filters or {})

    # -- looking at an image on the host

    def mount(self, ref: str) -> str:
        """Mounts the image's union read-only; the path. The same path again if it is mounted already."""
        image = self.engine.image_store.resolve(ref)
        target = self.engine.store.paths.image_mount(image.id.removeprefix("sha256:")[:12])
        if os.path.ismount(target):
            return target
        os.makedirs(target, 0o700, exist_ok=True)
        fd = self.engine.layer_store.open_view(image.chain_id)
        try:
            mount.attach(fd, target)
        except BaseException:
            os.rmdir(target)
            raise
        finally:
            os.close(fd)
        return target

    def umount(self, ref: str) -> str:
        """Takes it off again; the image's id. Conflict if somebody stands in it, NotFound if it isn't mounted."""
        image = self.engine.image_store.resolve(ref)
        target = self.engine.store.paths.image_mount(image.id.removeprefix("sha256:")[:12])
        if not os.path.ismount(target):
            raise NotFound(f"image {ref} is not mounted")
        try:
            mount.umount(target, mount.UMOUNT_NOFOLLOW)
        except OSError as e:
            raise Conflict(f"image {ref} is in use at {target}: {e.strerror}") from None
        os.rmdir(target)
        return image.id

    def mounted(self) -> list[dict[str, str]]:
        """[{"Id","Path"}] of what `mount` has mounted."""
        base = self.engine.store.paths.runroot + "/images"
        rows = []
        for name in sorted(os.listdir(base)):
            if os.path.ismount(f"{base}/{name}"):
                try:
                    rows.append({"Id": self.engine.image_store.resolve(name).id, "Path": f"{base}/{name}"})
                except (NotFound, InvalidArgument):
                    rows.append({"Id": name, "Path": f"{base}/{name}"})
        return rows

    def event(self, action: str, image_id: str) -> None:
        from ..store import events

        events.append(self.engine.store.paths.events, "image", action, image_id, {"name": image_id})
