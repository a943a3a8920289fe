# SPDX-License-Identifier: Apache-2.0
"""A root with a tripwire tree beside it, payloads in every tar dialect, and naive extractors that show that the payloads fire.

The naive ones run in a forked child that has chrooted into a throw-away directory: what gets out of `/root` there lands in that directory.
"""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

from lamina.layers.tar import header as h
from lamina.layers.tar.extract import extract
from lamina.layers.tar.lower import Lower
from tests.layers.tar.tarmake import END, gnu_long, member, pax, resum, snapshot

Entry = tuple[bytes, bytes, bytes, bytes, int]
"""(name, type, link target, data, mode); OUTSIDE in names and targets becomes the absolute path of the tripwire tree"""
OUTSIDE = b"@OUTSIDE@"
DIALECTS = ("ustar", "v7", "pax", "gnu")


def file(name: bytes, data: bytes = b"evil", mode: int = 0o666) -> Entry:
    return name, h.REG, b"", data, mode


def directory(name: bytes, mode: int = 0o777) -> Entry:
    return name, h.DIR, b"", b"", mode


def symlink(name: bytes, target: bytes) -> Entry:
    return name, h.SYM, target, b"", 0o777


def hardlink(name: bytes, target: bytes, mode: int = 0o777) -> Entry:
    return name, h.LINK, target, b"", mode


def node(name: bytes, type: bytes) -> Entry:
    return name, type, b"", b"", 0o666


def encode(entry: Entry, dialect: str, outside: bytes) -> bytes:
    name, kind, target, data, mode = entry
    name, target = name.replace(OUTSIDE, outside), target.replace(OUTSIDE, outside)
    if dialect == "pax":
        records = {b"path": name} if name else {}
        if target:
            records[b"linkpath"] = target
        return pax(records) + member(b"harmless", data, type=kind, linkname=b"harmless" if target else b"", mode=mode)
    if dialect == "gnu" or len(name) > 99 or len(target) > 99:
        head = gnu_long(name) + (gnu_long(target, h.GNU_LONGLINK) if target else b"")
        return head + member(b"harmless", data, type=kind, linkname=b"harmless" if target else b"", mode=mode)
    raw = member(name, data, type=kind, linkname=target, mode=mode)
    return resum(raw[:257] + bytes(8) + raw[265:512]) + raw[512:] if dialect == "v7" else raw


def archive(entries: list[Entry], dialect: str, outside: bytes) -> bytes:
    return b"".join(encode(e, dialect, outside) for e in entries) + END


class Field:
    """`base/root` is extracted into, `base/outside` must not change, nor anything else beside the root appear."""

    def __init__(self, base: Path) -> None:
        self.base = base
        base.mkdir(exist_ok=True)
        self.base.chmod(0o755)
        self.root, self.outside = base / "root", base / "outside"
        self.root.mkdir()
        (self.outside / "dir").mkdir(parents=True)
        (self.outside / "file").write_text("precious")
        (self.outside / "file").chmod(0o600)
        (self.outside / "dir" / "inner").write_text("precious too")
        os.utime(self.outside / "file", (10**9, 10**9))
        self._before = self._look()
        self._inode = self.root.stat().st_ino

    def _look(self) -> object:
        links = (self.outside / "file").stat().st_nlink if (self.outside / "file").exists() else 0
        outside = self.outside.lstat()
        return sorted(os.listdir(self.base)), snapshot(self.outside), links, outside.st_mode, outside.st_uid

    def untouched(self) -> bool:
        if not self.root.exists():
            return False
        root = self.root.lstat()
        return self._look() == self._before and root.st_ino == self._inode and not self.root.is_symlink()

    def extract(self, data: bytes, mode: str, lower: list[str] | None = None) -> None:
        fd = os.open(self.root, os.O_RDONLY)
        try:
            if lower is None:
                extract(io.BytesIO(data), fd, mode=mode)
            else:
                with Lower(lower) as below:
                    extract(io.BytesIO(data), fd, mode=mode, lower=below)
        finally:
            os.close(fd)

    def naive(self, extractor: Callable[[bytes], None], data: bytes) -> bool:
        """Whether the payload fires: run in a child that has chrooted into `base`, with `/root` as the extraction's target."""
        pid = os.fork()
        if pid == 0:
            try:
                os.chroot(self.base)
                os.chdir("/root")
                extractor(data)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        return not self.untouched()


def tarfile_unfiltered(data: bytes) -> None:
    """Python's tarfile without a filter, member by member, going on after errors."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for m in tar:
            try:
                tar.extract(m, "/root", filter="fully_trusted")
            except (OSError, KeyError, tarfile.TarError):
                continue


def naive_layer(data: bytes) -> None:
    """Whiteouts as the first layer extractors did them: the name behind `.wh.`, joined and removed."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for m in tar:
            parent, base = os.path.split("/root/" + m.name)
            if base == ".wh..wh..opq":
                for name in os.listdir(parent):
                    remove(os.path.join(parent, name))
            elif base.startswith(".wh."):
                remove(os.path.join(parent, base[4:]))
            else:
                tarfile_unfiltered(data)


def remove(path: str) -> None:
    if os.path.isdir(path):
        for name in os.listdir(path):
            remove(os.path.join(path, name))
        with contextlib.suppress(OSError):
            os.rmdir(path)
    else:
        os.unlink(path)
