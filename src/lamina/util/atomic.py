# SPDX-License-Identifier: Apache-2.0
"""Files that are there whole or not at all [hot].

Written beside the target under a random name that nobody can guess, locked while its writer lives, then renamed. A reader sees the
old or the new content; a crash leaves at most a `.tmp-*` that nobody has locked, which `is_abandoned` tells the sweep.
"""
from __future__ import annotations

import errno
import fcntl
import os

TMP_PREFIX = ".tmp-"


def write_file(path: str, data: bytes, mode: int = 0o600, durable: bool = True) -> None:
    """Replaces `path` by `data`. durable: on disk, name and content, when this returns. OSError with the filename.

    A link at `path` is replaced, not followed.
    """
    directory = os.path.dirname(path) or "."
    temp = f"{directory}/{TMP_PREFIX}{os.urandom(12).hex()}"
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode & 0o700)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # "locked by a living owner": the sweep leaves it alone
            write_all(fd, data)
            if mode & 0o077:
                os.fchmod(fd, mode)  # independent of umask, and not readable by others before it is complete
            if durable:
                os.fdatasync(fd)
            os.rename(temp, path)
        except OSError as error:
            if error.filename is None:
                error.filename = path
            raise
        except BaseException:
            raise
    except BaseException:
        try:
            os.unlink(temp)
        except OSError:
            pass
        raise
    finally:
        os.close(fd)
    if durable:
        fsync_dir(directory)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """os.write until all is written: a short write is not an error, an unfinished one is."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


def nameless(directory: str) -> int:
    """A new empty file for reading and writing that has no name: nothing is left of it when its last descriptor is closed."""
    try:
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
    path = f"{directory}/{TMP_PREFIX}{os.urandom(12).hex()}"  # NFS and others without O_TMPFILE
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    os.unlink(path)
    return fd


def fsync_dir(path: str) -> None:
    """Makes the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_file(path: str, limit: int = 64 << 20) -> bytes:
    """The whole of a small file, links not followed. OSError (EFBIG) beyond `limit`: a damaged store must not eat the memory."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        data = os.read(fd, 65536)
        if len(data) < 65536:
            return data
        parts = [data]
        size = len(data)
        while data:
            data = os.read(fd, 1 << 20)
            parts.append(data)
            size += len(data)
            if size > limit:
                raise OSError(27, "File too large", path)
        return b"".join(parts)
    finally:
        os.close(fd)


def is_abandoned(path: str) -> bool:
    """A temporary file whose writer is gone: nobody holds its lock."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
