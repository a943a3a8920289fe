# SPDX-License-Identifier: Apache-2.0
"""--cidfile: a new file with the container's id, made before the container so that a name that is taken is told in time."""
from __future__ import annotations

import os

from .context import CliError


class CidFile:
    __slots__ = ("fd", "path")

    def __init__(self, path: str) -> None:
        """CliError (125) where there is such a file already, or none can be made."""
        self.path = path
        try:
            self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            raise CliError(f"container ID file found, make sure the other container isn't running or delete {path}", 125)
        except OSError as e:
            raise CliError(f"failed to create the container ID file: open {path}: {(e.strerror or '').lower()}", 125)

    def write(self, container: str) -> None:
        try:
            os.write(self.fd, container.encode())
        finally:
            os.close(self.fd)

    def drop(self) -> None:
        """No container came of it."""
        os.close(self.fd)
        os.unlink(self.path)
