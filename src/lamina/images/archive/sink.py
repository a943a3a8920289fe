# SPDX-License-Identifier: Apache-2.0
"""Where the files of a saved archive go: a tar, or a directory.

A tar has the same bytes for the same files, always: names sorted, time 0, root's, no names of users. Files are 0644 and directories 0755,
as docker's; who may read the archive is decided by the mode of the archive.
"""
from __future__ import annotations

import os
from collections.abc import Callable

from lamina.errors import StoreError
from lamina.layers.tar import header
from lamina.layers.tar.output import Output, Write
from lamina.layers.tar.writer import TarWriter
from lamina.util.atomic import fsync_dir, write_all

Fill = Callable[[Write], object]
"""fill(write): gives all bytes of a file to `write`, in order"""


class File:
    """`size` bytes, known before; `fill` writes them. `fd`: a file of just these bytes, where there is one; it stays its maker's."""

    __slots__ = ("size", "fill", "fd")

    def __init__(self, size: int, fill: Fill, fd: int = -1) -> None:
        self.size = size
        self.fill = fill
        self.fd = fd


def of_bytes(data: bytes) -> File:
    return File(len(data), lambda write: write(memoryview(data)))


def write_tar(files: dict[str, File], write: Write) -> None:
    """The files as one tar, with the directories that they lie in."""
    with Output(write, hashed=False) as out:
        tar = TarWriter(out)
        for name in sorted({*files, *directories(files)}):
            if name.endswith("/"):
                tar.member(name.encode(), type=header.DIR, mode=0o755)
                continue
            file = files[name]
            tar.member(name.encode(), type=header.REG, mode=0o644, size=file.size)
            start = out.size
            file.fill(out.put)
            if out.size - start != file.size:
                raise StoreError(f"{name}: {out.size - start} bytes instead of {file.size}", hint="lamina system check --full")
            tar.pad(file.size)
        tar.end()
        out.finish()


def write_directory(files: dict[str, File], path: str) -> None:
    """The files in a directory that is there and empty; on disk when it returns."""
    for name in directories(files):
        os.mkdir(f"{path}/{name}", 0o755)
    for name, file in files.items():
        fd = os.open(f"{path}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            file.fill(lambda view, fd=fd: write_all(fd, view))  # type: ignore[misc]
            if os.fstat(fd).st_size != file.size:
                raise StoreError(f"{name}: {os.fstat(fd).st_size} bytes instead of {file.size}", hint="lamina system check --full")
            os.fsync(fd)
        finally:
            os.close(fd)
    for name in ["", *directories(files)]:
        fsync_dir(f"{path}/{name}")


def directories(files: dict[str, File]) -> list[str]:
    """Names with a slash at the end, the upper ones first."""
    found = set()
    for name in files:
        while "/" in name:
            name = name.rpartition("/")[0]
            found.add(name + "/")
    return sorted(found)
