# SPDX-License-Identifier: Apache-2.0
"""[hot] What the drivers share: directories of layer data below layers/, sealed by rename."""
from __future__ import annotations

import errno
import os

from lamina.layers.driver import Usage, measure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lamina.store.open import Store


class Directories:
    """The half of the contract that doesn't depend on how a change set is kept."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._paths = store.paths

    def commit(self, active: str, name: str) -> bool:
        target = self._paths.layer(name)
        work = active + "/work"
        if os.path.isdir(work):
            from lamina.store.trash import discard

            discard(self._store, work)
        try:
            os.rename(active, target)
        except OSError as e:
            if e.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        return True

    def usage(self, directory: str) -> Usage:
        return measure(directory)

    def remove(self, name: str) -> None:
        from lamina.store.trash import discard

        discard(self._store, self._paths.layer(name))

    def walk(self) -> Iterator[str]:
        yield from sorted(os.listdir(self._paths.layers))

    def cleanup(self, known: Sequence[str]) -> list[str]:
        keep = frozenset(known)
        gone = [key for key in self.walk() if key not in keep]
        for key in gone:
            self.remove(key)
        return gone


def copy_root_attributes(source: str, target: str) -> None:
    """Owner, mode and times of a tree's root: in a union the topmost directory's are what "/" shows."""
    status = os.stat(source)
    os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, status.st_mode & 0o7777)
    for name in os.listxattr(source):
        if not name.startswith(("trusted.overlay.", "security.selinux")):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
