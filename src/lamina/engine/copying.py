# SPDX-License-Identifier: Apache-2.0
"""`cp`, the engine's half: a container's files as `GET`, `HEAD` and `PUT /containers/{id}/archive` see them.

What a path means is what docker's daemon sees. A running container: its own root, with all that is mounted there, through the root of its
process 1. Another: its union, with volumes, binds and the files that the engine writes laid over it. Read-only volumes and a
read-only root stay so.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Iterable, Iterator

from lamina.containers.store import Record
from lamina.errors import InvalidArgument, LaminaError, NotFound
from lamina.linux import ns
from lamina.util import steps

from . import looking
from .copyput import Placer
from .copyview import Found, View
from .copywalk import Piece, of_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .containers import Containers

_OWN_FILES = (("hosts", b"/etc/hosts"), ("hostname", b"/etc/hostname"), ("resolv.conf", b"/etc/resolv.conf"))


class PathStat:
    """What a path in a container is, itself: `link_target` of a link is where it leads in the end, all links resolved, there or not."""

    __slots__ = ("link_target", "mode", "name", "size")

    def __init__(self, name: str, size: int, mode: int, link_target: str) -> None:
        self.name = name
        self.size = size
        self.mode = mode
        self.link_target = link_target

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)


class Files:
    """One container's files. A context manager; `ref` is what the user calls it, for messages."""

    def __init__(self, containers: Containers, ref: str) -> None:
        self._containers = containers
        self._ref = ref
        self._record = containers.records.get(ref)
        self._view = _view(containers, self._record)
        if steps.tell is not None:
            steps.tell(f"opened the tree of container {steps.short(self._record.id)}, with all that is mounted in it")

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *exc: object) -> None:
        self._view.__exit__()

    def stat(self, path: str) -> PathStat:
        """Follows no link at the end of `path`, unless a slash behind it asks for a directory. NotFound with docker's text."""
        with self._find(path) as found:
            assert found.status is not None
            target = ""
            if found.is_link:
                with self._view.find(_encode(path), missing=True) as real:
                    target = "/" + os.fsdecode(real.real)
            return PathStat(_base(path), found.status.st_size, found.status.st_mode, target)

    def read(self, path: str, top: str | None = None) -> Iterator[Piece]:
        """What is at `path`, as members that begin with `top`; by default with its last component, or "." if that is how it ends."""
        name = top if top is not None else _base(path)
        with self._find(path) as found:
            self._containers.event("archive-path", self._record)
            yield from of_tree(self._view, found, name.encode("utf-8", "surrogateescape"))

    def write(self, directory: str, pieces: Iterable[Piece]) -> None:
        """Puts members into an existing directory; they keep their numeric owners."""
        with self._find(directory, follow=True) as found:
            if not found.is_dir:
                raise InvalidArgument("extraction point is not a directory")
            self._check_writable(found)
            self._containers.event("extract-to-dir", self._record)
            try:
                Placer(self._view, found, keep_owner=True, shown_as=_absolute(directory).removesuffix("/.") or "/").run(pieces)
            except OSError as error:
                raise _told(error) from error

    def _find(self, path: str, follow: bool = False) -> Found:
        if not path:
            raise InvalidArgument("bad parameter: path cannot be empty")
        try:
            return self._view.find(_encode(path), follow=follow)
        except FileNotFoundError:
            raise NotFound(f"Could not find the file {path} in container {self._ref}") from None
        except OSError as error:
            raise _told(OSError(error.errno, error.strerror, "lstat " + _absolute(path))) from error

    def _check_writable(self, found: Found) -> None:
        point = self._view.point_of(found.real)
        if point is None:
            if self._record.config["HostConfig"]["ReadonlyRootfs"]:
                raise InvalidArgument("container rootfs is marked read-only")
            return
        for mount in self._record.config["Mounts"]:
            if not mount["RW"] and self._real(mount["Destination"]) == point:
                raise InvalidArgument("mounted volume is marked read-only")

    def _real(self, path: str) -> bytes:
        with self._view.find(_encode(path), missing=True) as found:
            return found.real


def _view(containers: Containers, record: Record) -> View:
    state = containers.state(record)
    mounts: list[dict[str, Any]] = sorted(record.config["Mounts"], key=lambda mount: str(mount["Destination"]).count("/"))
    if state.live and state.pid:  # none between two runs: then the union alone is there
        try:
            view = View(_root_of(state.pid, state.start_time))
        except OSError:
            if containers.records.state(record.id).live:
                raise
        else:
            for mount in mounts:
                with view.find(_encode(mount["Destination"]), missing=True) as found:
                    view.points[found.real] = -1
            return view
    view = View(looking.open_root(containers, record))
    for name, inside in _OWN_FILES:
        view.mount(inside, containers.engine.store.paths.container_file(record.id, name))
    for mount in mounts:
        if mount["Type"] == "tmpfs":
            continue  # what was there has gone with the process space
        view.mount(_encode(mount["Destination"]), mount["Source"])
    return view


def _root_of(pid: int, started: int) -> int:
    """The root of exactly this process."""
    pidfd = ns.open_process(pid, started)
    try:
        fd = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            ns.pidfd_send_signal(pidfd, 0)  # still that process, so that was its root
        except BaseException:
            os.close(fd)
            raise
    finally:
        os.close(pidfd)
    return fd


def _absolute(path: str) -> str:
    """From the root on and without "..", but with the "/" or "/." at its end, which mean something."""
    clean = posixpath.normpath("/" + path).replace("//", "/")
    if posixpath.basename(path) == ".":
        return clean.rstrip("/") + "/."
    return clean + "/" if path.endswith("/") and clean != "/" else clean


def _base(path: str) -> str:
    return posixpath.basename(_absolute(path).rstrip("/")) or "/"


def _encode(path: bytes | str) -> bytes:
    return path if isinstance(path, bytes) else _absolute(path).encode("utf-8", "surrogateescape")


def _told(error: OSError) -> LaminaError:
    reason = error.strerror or os.strerror(error.errno or errno.EIO)
    return LaminaError(f"{error.filename}: {reason[:1].lower()}{reason[1:]}")
