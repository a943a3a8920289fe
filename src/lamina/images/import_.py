# SPDX-License-Identifier: Apache-2.0
"""`import`: a flat tar becomes an image of one layer, without a parent, as docker import makes it."""
from __future__ import annotations

from lamina.errors import InvalidArgument
from lamina.spec import imageconfig, platform
from lamina.util.digest import digest_of
from lamina.util.times import now_ns, rfc3339nano

from . import create
from .changes import apply_changes
from .store import ImageStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamina.layers.tar.source import Readable


def import_image(images: ImageStore, stream: Readable, *, repository: str = "", changes: Sequence[str] = (), message: str = "",
                 platform_: str = "", source: str = "-") -> str:
    """The new image's id. `stream`: a tar, plain or compressed; `source` is what history calls it ("-" or a URL).

    Name, changes and platform are checked before a byte is read. ArchiveError names the member that can't be believed; nothing of it stays.
    """
    name = create.target_name(repository)
    config = apply_changes({}, changes)
    system = platform.parse(platform_) if platform_ else platform.host()
    if system.os != "linux":
        raise InvalidArgument("operating system is not supported")
    comment = message or f"Imported from {source}"
    with create.making(images, "import " + (repository or source)) as lease:
        layer = images.layers.add(stream, "", lease)
        created_ns = now_ns()
        created = rfc3339nano(created_ns)
        data = imageconfig.build(
            platform=system, created=created, diff_ids=[layer.diff_id], config=config, container_config={}, comment=comment,
            history=[imageconfig.history_entry(created, comment=comment)],
        )  # fmt: skip
        image_id = digest_of(data)
        create.insert(images.store, image_id, data, chain_id=layer.chain_id, parent="", size=layer.size, created_ns=created_ns, name=name)
    create.tell(images.store, "import", image_id, name.familiar() if name else "")
    return image_id
