# SPDX-License-Identifier: Apache-2.0
"""The host's `zstd` as a decompressor, where the `zstandard` package is missing. Never one that somebody but root could have put there,
never one from a PATH or a container (attacks 41, 42): fixed directories, owner and mode checked, an empty environment.
"""

from __future__ import annotations

import os
import stat
from threading import Thread

from lamina.errors import ArchiveError, NotSupported

from .source import Readable

MAX_WINDOW = 1 << 27
_DIRECTORIES = ("/usr/bin", "/bin", "/usr/local/bin")


def find(directories: tuple[str, ...] = _DIRECTORIES) -> str:
    """Absolute path of a trustworthy `zstd`, or NotSupported."""
    for directory in directories:
        path = f"{directory}/zstd"
        try:
            found = [os.stat(directory), os.stat(path)]
        except OSError:
            continue
        if stat.S_ISREG(found[1].st_mode) and all(st.st_uid == 0 and not st.st_mode & 0o022 for st in found):
            return path
    raise NotSupported(
        "the archive is zstd-compressed, and neither the zstandard package nor a zstd program is there", hint="install either of them"
    )


class ZstdProgram:
    """`read(n)` gives 0 to n uncompressed bytes; b"" is the end, reached only if the program was content. `close` ends it early."""

    def __init__(self, fileobj: Readable) -> None:
        path = find()
        self._file = fileobj
        self._error: BaseException | None = None
        stdin, self._to = os.pipe2(os.O_CLOEXEC)
        self._from, stdout = os.pipe2(os.O_CLOEXEC)
        try:
            actions = [
                (os.POSIX_SPAWN_DUP2, stdin, 0),
                (os.POSIX_SPAWN_DUP2, stdout, 1),
                (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
            ]
            self._pid = os.posix_spawn(path, [path, "-dcq", f"-M{MAX_WINDOW >> 20}MB"], {}, file_actions=actions)
        except OSError:
            os.close(self._to)
            os.close(self._from)
            raise
        finally:
            os.close(stdin)
            os.close(stdout)
        self._feeder = Thread(target=self._feed, name="zstd", daemon=True)
        self._feeder.start()

    def _feed(self) -> None:
        try:
            while data := self._file.read(1 << 16):
                view = memoryview(data)
                while view:
                    view = view[os.write(self._to, view) :]
        except BrokenPipeError:
            pass  # the program ended: its exit status tells why
        except BaseException as error:  # whatever the stream raises belongs to the reader
            self._error = error
        finally:
            os.close(self._to)

    def read(self, size: int = -1, /) -> bytes:
        if self._from < 0:
            return b""
        data = os.read(self._from, size if size >= 0 else 1 << 20)
        if not data:
            self._end()
        return data

    def _end(self) -> None:
        os.close(self._from)
        self._from = -1
        self._feeder.join()
        _, status = os.waitpid(self._pid, 0)
        if self._error is not None:
            raise self._error
        if status:
            raise ArchiveError("archive: the zstd data is damaged, cut off, or needs too much memory")

    def close(self) -> None:
        """End the program now (it gets SIGPIPE); waits until the stream's next read returns."""
        if self._from >= 0:
            os.close(self._from)
            self._from = -1
            self._feeder.join()
            os.waitpid(self._pid, 0)
