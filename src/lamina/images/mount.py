# SPDX-License-Identifier: Apache-2.0
"""`image mount`: an image's union, read-only, at a path of the host, to look at (W2.3)."""
from __future__ import annotations

import os

from lamina.errors import NotFound
from lamina.linux.mount import MNT_DETACH, attach, mountinfo, umount
from lamina.util import steps

from .store import Image, ImageStore


def mount_image(images: ImageStore, ref: str) -> str:
    """Where it is mounted, `<runroot>/images/<12 hex>`; mounted now unless it was."""
    image = images.resolve(ref)
    path = mount_path(images, image)
    os.makedirs(path, 0o700, exist_ok=True)
    if not is_mounted(path):
        fd = images.layers.view(image.chain_id).open()
        try:
            attach(fd, path)
        finally:
            os.close(fd)
        if steps.tell is not None:
            chain = [layer.chain_id for layer in images.layers.chain(image.chain_id)]
            steps.tell(f"mounted the union of layers {steps.shorts(chain)} (top first), read-only, at {path}")
    elif steps.tell is not None:
        steps.tell(f"found image {image.short_id} mounted already, at {path}")
    return path


def umount_image(images: ImageStore, ref: str) -> str:
    """The image's id. NotFound if it isn't mounted."""
    image = images.resolve(ref)
    path = mount_path(images, image)
    if not is_mounted(path):
        raise NotFound(f"image {image.short_id} is not mounted")
    umount(path, MNT_DETACH)
    os.rmdir(path)
    if steps.tell is not None:
        steps.tell(f"unmounted {path}")
    return image.id


def mounted_images(images: ImageStore) -> dict[str, str]:
    """Image id -> path, of all that are mounted."""
    targets = {info.target for info in mountinfo()}
    if steps.tell is not None:
        steps.tell("read the table of mounts, /proc/self/mountinfo")
    return {image.id: path for image in images.all() if (path := mount_path(images, image)) in targets}


def mount_path(images: ImageStore, image: Image) -> str:
    return images.store.paths.image_mount(image.id[7:19])


def is_mounted(path: str) -> bool:
    real = os.path.realpath(path)
    return any(info.target == real for info in mountinfo())
