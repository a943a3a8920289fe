# SPDX-License-Identifier: Apache-2.0
"""Making the file of all modules anew, from the .pyc files that are there. Off the hot path: once after an installation or a change."""
from __future__ import annotations

import marshal
import posix
import sys
from _frozen_importlib_external import MAGIC_NUMBER

from lamina.modules import EMPTY, HEAD, MODULE, PACKAGE

PYC_HEAD = 16  # PEP 552: magic number, flags, mtime, size


def renew(top: str, path: str) -> None:
    """Puts into `path` what has a valid .pyc below `top`, whole or not at all. That it can't be written is nobody's business."""
    temporary = f"{path}.{posix.getpid()}"
    try:
        fd = posix.open(temporary, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o644)
    except OSError:
        return
    try:
        try:
            write(fd, pack(dict(compiled(top, "lamina"))))
            posix.fsync(fd)
        finally:
            posix.close(fd)
        posix.rename(temporary, path)
    except OSError:
        posix.unlink(temporary)


def compiled(directory: str, package: str) -> list[tuple[str, tuple[bytes, int, int, int]]]:
    """(module, (its code's marshal, mtime and size of its source, kind)) for each module below that has a .pyc that is valid."""
    found = []
    suffix = f".{sys.implementation.cache_tag}.pyc"
    for name in sorted(posix.listdir(directory)):
        path = f"{directory}/{name}"
        if not name.endswith(".py"):
            if "." not in name and name != "__pycache__" and exists(path + "/__init__.py"):
                found += compiled(path, f"{package}.{name}")
            continue
        stem = name[:-3]
        try:
            status = posix.stat(path)
            data = slurp(f"{directory}/__pycache__/{stem}{suffix}")
        except OSError:
            continue
        noted = [int.from_bytes(data[at : at + 4], "little") for at in (4, 8, 12)]
        if data[:4] == MAGIC_NUMBER and noted == [0, int(status.st_mtime), status.st_size]:
            code, kind = data[PYC_HEAD:], MODULE
            if stem == "__init__":
                kind = EMPTY if set(marshal.loads(code).co_names) <= {"__doc__", "__future__", "annotations"} else PACKAGE
            found.append((f"{package}.{stem}" if kind == MODULE else package, (code, noted[1], noted[2], kind)))
    return found


def pack(modules: dict[str, tuple[bytes, int, int, int]]) -> bytes:
    """The file. The index's length depends on the offsets in it: marshal writes an int below 2**31 as five bytes, whatever it is."""
    index = {name: (0, len(code), mtime, size, kind) for name, (code, mtime, size, kind) in modules.items()}
    at = HEAD + len(marshal.dumps(index, 2))
    for name, (_, length, mtime, size, kind) in index.items():
        index[name] = (at, length, mtime, size, kind)
        at += length
    head = marshal.dumps(index, 2)
    return b"".join((MAGIC_NUMBER, len(head).to_bytes(4, "little"), head, *(code for code, *_ in modules.values())))


def exists(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def slurp(path: str) -> bytes:
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        data = b""
        while piece := posix.read(fd, 1 << 20):
            data += piece
        return data
    finally:
        posix.close(fd)


def write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[posix.write(fd, view) :]
