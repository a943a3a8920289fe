# SPDX-License-Identifier: Apache-2.0
"""The verbs of images: each finds what it needs and hands it to `lamina.images`."""

from __future__ import annotations

from lamina.util import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .engine import Engine

    Rows = list[dict[str, Any]]
    Steps = list[dict[str, str]]
    Strings = list[str]


class Images:
    __slots__ = ("engine",)

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def import_(
        self, stream: Any, *, repository: str | None = None, changes: list[str] | None = None, message: str = "",
        platform: str = "", source: str = "-",
    ) -> str:  # fmt: skip
        """A flat tar (plain, gzip, zstd, xz, bzip2) becomes an image of one layer; its id. source: as typed, for the history's text."""
        from lamina.images.import_ import import_image

        return import_image(self.engine.image_store, stream, repository=repository or "", changes=changes or [], message=message,
                            platform_=platform, source=source)  # fmt: skip

    def commit(
        self, container: str, repository: str | None = None, *, author: str = "", message: str = "",
        changes: list[str] | None = None, pause: bool = True,
    ) -> str:  # fmt: skip
        """The container's changes become a layer on top of its image; the new image's id. pause: hold its processes meanwhile."""
        from lamina.images.commit import commit_image

        from .stopping import client_of

        containers = self.engine.containers
        record = containers.records.get(container)
        client = client_of(containers, record) if pause and containers.records.state(record.id).status == "running" else None
        try:
            if client is not None:
                client.pause()
                if steps.tell is not None:
                    steps.tell(f"had container {steps.short(record.id)} paused", now=True)
            try:
                image_id = commit_image(self.engine.image_store, record, repository=repository or "", author=author, message=message,
                                        changes=changes or [])  # fmt: skip
            finally:
                if client is not None:
                    client.unpause()
                    if steps.tell is not None:
                        steps.tell(f"had container {steps.short(record.id)} go on")
        finally:
            if client is not None:
                client.close()
        containers.event("commit", record, comment=message)
        return image_id

    def list(self, all: bool = False, filters: dict[str, list[str]] | None = None) -> list[dict[str, Any]]:
        """`GET /images/json`: [ImageSummary], newest first."""
        from lamina.images.listing import list_images

        return list_images(self.engine.image_store, all=all, filters=filters or {})

    def inspect(self, ref: str) -> dict[str, Any]:
        from lamina.images.inspect import inspect_image

        return inspect_image(self.engine.image_store, ref)

    def history(self, ref: str) -> Rows:
        from lamina.images.history import history

        return history(self.engine.image_store, ref)

    def tag(self, source: str, target: str) -> None:
        from lamina.images.tagging import tag

        tag(self.engine.image_store, source, target)

    def remove(self, ref: str, *, force: bool = False, no_prune: bool = False) -> Steps:
        """[{"Untagged": name} | {"Deleted": id}] in docker's order."""
        from lamina.images.remove import remove_image

        steps = remove_image(self.engine.image_store, ref, force=force, no_prune=no_prune)
        self.sweep()
        return steps

    def prune(self, filters: dict[str, Strings] | None = None) -> dict[str, Any]:
        """{"ImagesDeleted","SpaceReclaimed"}; filters: dangling, until, label."""
        from lamina.images.prune import prune_images
        from lamina.store import events

        report = prune_images(self.engine.image_store, filters or {})
        events.append(self.engine.store.paths.events, "image", "prune", "", {"reclaimed": str(report["SpaceReclaimed"])})
        self.sweep()
        return report

    def sweep(self) -> None:
        """Deletes what imports and commits that were killed have left."""
        from lamina.store import check

        check.sweep(self.engine.store)

    # -- looking at an image on the host

    def mount(self, ref: str) -> str:
        """Mounts the image's union read-only; the path. The same path again if it is mounted already."""
        from lamina.images.mount import mount_image

        return mount_image(self.engine.image_store, ref)

    def umount(self, ref: str) -> str:
        """Takes it off again; the image's id. NotFound if it isn't mounted."""
        from lamina.images.mount import umount_image

        return umount_image(self.engine.image_store, ref)

    def mounted(self) -> Steps:
        """[{"Id","Path"}] of what `mount` has mounted."""
        from lamina.images.mount import mounted_images

        return [{"Id": image, "Path": path} for image, path in mounted_images(self.engine.image_store).items()]
