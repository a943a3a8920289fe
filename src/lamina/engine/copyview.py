# SPDX-License-Identifier: Apache-2.0
"""A tree that may be hostile, and what is mounted in it, walked by descriptor: where `cp` finds a path.

A path is taken one component at a time, O_PATH|O_NOFOLLOW; links are read and their text is walked from the view's own root, ".." goes
back along the way we came. So nothing that a container swaps meanwhile leads out of the view (attack 42), and absolute links work.
Real paths are bytes without links, dots or a leading slash; b"" is the root.
"""

from __future__ import annotations

import errno
import os
import stat

from lamina.layers.tar.names import join, split

_NODE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LINKS = 40
_MAX_PARTS = 4096


class Found:
    """`fd` is an O_PATH descriptor of the object itself (a link's, if it is one), the caller's to close; -1 if nothing is there."""

    __slots__ = ("fd", "real", "status")

    def __init__(self, real: bytes, fd: int, status: os.stat_result | None) -> None:
        self.real = real
        self.fd = fd
        self.status = status

    def __enter__(self) -> Found:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    @property
    def mode(self) -> int:
        """st_mode, 0 for what isn't there."""
        return self.status.st_mode if self.status else 0

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)


class View:
    """Owns `root` and every descriptor in `points`: real path -> O_PATH fd of what is mounted there, or -1 where the kernel has it mounted.

    cross: whether a walk over a whole tree enters every mount (the host's own tree), or only those in `points`.
    """

    def __init__(self, root: int, *, cross: bool = False) -> None:
        self.root = root
        self.points: dict[bytes, int] = {}
        self.cross = cross

    def __enter__(self) -> View:
        return self

    def __exit__(self, *exc: object) -> None:
        for fd in (self.root, *self.points.values()):
            if fd >= 0:
                os.close(fd)
        self.points.clear()

    def step(self, directory: int, real: bytes, name: bytes) -> tuple[int, bytes]:
        """(O_PATH fd, real path) of one name in a directory of this view, following nothing but what is mounted there."""
        child = join(real, name)
        mounted = self.points.get(child, -1)
        if mounted >= 0:
            return os.dup(mounted), child
        return os.open(name, _NODE, dir_fd=directory), child

    def find(self, path: bytes, *, start: bytes = b"", follow: bool = True, missing: bool = False) -> Found:
        """What lies at `path`; a relative one counts from the real path `start`. A trailing "/" or "/." asks for a directory.

        follow: whether the last component's link is. missing: where nothing is there, the rest of the path as it would be, with fd -1;
        otherwise FileNotFoundError. Errors carry the path as far as it was walked, from the root on.
        """
        todo = path.split(b"/")[::-1]
        if path.endswith((b"/", b"/.")) or path == b".":
            follow = must = True
        else:
            must = False
        stack: list[tuple[bytes, int]] = [(b"", os.dup(self.root))]
        if start and not path.startswith(b"/"):
            todo += start.split(b"/")[::-1]
        links = walked = 0
        absent: list[bytes] | None = None
        try:
            while todo:
                part = todo.pop()
                walked += 1
                if walked > _MAX_PARTS:
                    raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), os.fsdecode(path))
                if part in (b"", b"."):
                    continue
                if absent is not None:
                    if part != b"..":
                        absent.append(part)
                    elif absent:
                        absent.pop()
                    continue
                if part == b"..":
                    if len(stack) > 1:
                        os.close(stack.pop()[1])
                    continue
                real, here = stack[-1]
                try:
                    fd, child = self.step(here, real, part)
                except FileNotFoundError:
                    if not missing:
                        raise
                    absent = [part]
                    continue
                except OSError as error:
                    raise OSError(error.errno, error.strerror, os.fsdecode(b"/" + join(real, part))) from None
                status = os.fstat(fd)
                last = not any(word not in (b"", b".") for word in todo)
                if stat.S_ISLNK(status.st_mode) and (follow or not last):
                    target = os.readlink(b"", dir_fd=fd)
                    os.close(fd)
                    links += 1
                    if links > _MAX_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fsdecode(b"/" + child))
                    if target.startswith(b"/"):
                        while len(stack) > 1:
                            os.close(stack.pop()[1])
                    todo += target.split(b"/")[::-1]
                    continue
                stack.append((child, fd))
                if not stat.S_ISDIR(status.st_mode) and (not last or must):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fsdecode(b"/" + child))
            real, fd = stack.pop()
            if absent is not None:
                os.close(fd)
                return Found(b"/".join([real, *absent] if real else absent), -1, None)
            return Found(real, fd, os.fstat(fd))
        except FileNotFoundError as error:
            raise FileNotFoundError(error.errno, error.strerror, os.fsdecode(b"/" + join(stack[-1][0], part))) from None
        finally:
            for _, fd in stack:
                os.close(fd)

    def make_directories(self, path: bytes, start: bytes = b"") -> None:
        """Makes what is missing of a directory's path, 0755 and ours."""
        upto = b""
        for part in path.strip(b"/").split(b"/"):
            upto = join(upto, part)
            with self.find(upto, start=start, missing=True) as found:
                if found.fd >= 0:
                    continue
                above, name = split(found.real)
                with self.find(b"/" + above) as parent:
                    os.mkdir(name, 0o755, dir_fd=parent.fd)

    def mount(self, destination: bytes, source: str) -> None:
        """Puts what is at the host's path `source` onto `destination`, as a mount would. A missing directory there is made; left out is
        a source that is gone, and one of another kind than what is there."""
        try:
            fd = os.open(source, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return
        try:
            is_dir = stat.S_ISDIR(os.fstat(fd).st_mode)
            if is_dir:
                self.make_directories(destination)
            with self.find(destination, missing=True) as found:
                if found.fd >= 0 and is_dir == found.is_dir and found.real:
                    self.points[found.real] = os.dup(fd)
        except OSError:
            return  # a link that leads nowhere, a file in the way: the container can't be started like this either
        finally:
            os.close(fd)

    def point_of(self, real: bytes) -> bytes | None:
        """The innermost mount that a real path lies in, None if that is the root's own tree."""
        while real:
            if real in self.points:
                return real
            real = split(real)[0]
        return None


def readable(fd: int, kind: int) -> int:
    """A descriptor to read from, of the directory or regular file that an O_PATH one stands for; nothing else is ever opened."""
    if kind == stat.S_IFDIR:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
    return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def host() -> View:
    """The host's own tree, as the calling process sees it."""
    return View(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), cross=True)
