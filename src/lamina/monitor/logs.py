# SPDX-License-Identifier: Apache-2.0
"""Writing a container's log in docker's json-file format: `{"log":"text\\n","stream":"stdout","time":"RFC3339Nano"}`, a record a line.

A line of output is one record; a line longer than 16 KiB is split into records of which only the last ends in \\n; what the
process leaves unfinished is written at its end. Bytes that aren't UTF-8 are written as the lone surrogates \\udc80..\\udcff, from
which our reader gets the exact bytes back (other readers show U+FFFD there, which is all that docker ever stores).
Records of one read are one write(2), so a reader sees a torn record at most at the very end. `path` is the newest file, `path.1` the
one before, ...; at most `max_file` files of about `max_size` bytes. A full disk costs records, never the container. Reader: `logread`.
"""
from __future__ import annotations

import os
from _json import encode_basestring, encode_basestring_ascii

from lamina.util import times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_LINE = 16384
MAX_SIZE = 10_000_000
MAX_FILE = 3


class LogWriter:
    """The only writer of one log. `lost` counts records that could not be written."""

    def __init__(self, path: str, max_size: int = MAX_SIZE, max_file: int = MAX_FILE, clock: Callable[[], int] = times.now_ns) -> None:
        self.path = path
        self.max_size = max_size if max_size > 0 else 0  # 0: no rotation
        self.max_file = max(1, max_file)
        self.clock = clock
        self.lost = 0
        self.fd = -1
        self.size = 0
        self.pending = {"stdout": b"", "stderr": b""}
        self._open()

    def write(self, stream: str, data: bytes) -> None:
        """Takes output as it was read, in any pieces. `stream` is "stdout" or "stderr". Never raises for I/O errors."""
        pending = self.pending[stream]
        if pending:
            data = pending + data
        end = data.rfind(b"\n") + 1
        rest = data[end:]
        lines = []
        if end:
            for line in data[:end].decode("utf-8", "surrogateescape").split("\n")[:-1]:
                if len(line) >= MAX_LINE or len(line) * 4 >= MAX_LINE and len(line.encode("utf-8", "surrogateescape")) >= MAX_LINE:
                    lines += _split(line.encode("utf-8", "surrogateescape"))
                    line = lines.pop()
                lines.append(line + "\n")
        if len(rest) >= MAX_LINE:
            full = len(rest) // MAX_LINE * MAX_LINE
            lines += [rest[at : at + MAX_LINE].decode("utf-8", "surrogateescape") for at in range(0, full, MAX_LINE)]
            rest = rest[full:]
        self.pending[stream] = rest
        if lines:
            self._records(stream, lines)

    def finish(self) -> None:
        """Writes what stands unfinished in either stream."""
        for stream, rest in self.pending.items():
            if rest:
                self.pending[stream] = b""
                self._records(stream, [rest.decode("utf-8", "surrogateescape")])

    def close(self) -> None:
        self.finish()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _records(self, stream: str, lines: list[str]) -> None:
        tail = f',"stream":"{stream}","time":"{times.rfc3339nano(self.clock())}"}}\n'
        try:
            records = b"".join([('{"log":' + encode_basestring(line) + tail).encode() for line in lines])
        except UnicodeEncodeError:
            records = b"".join([('{"log":' + encode_basestring_ascii(line) + tail).encode() for line in lines])
        if self.max_size and self.size + len(records) > self.max_size and len(lines) > 1:
            for record in records.splitlines(keepends=True):
                self._append(record, 1)
        else:
            self._append(records, len(lines))

    def _append(self, data: bytes, count: int) -> None:
        try:
            if self.max_size and self.size and self.size + len(data) > self.max_size:
                self._rotate()
            if self.fd < 0:
                self._open()
            done = os.write(self.fd, data)
            if done != len(data):
                os.ftruncate(self.fd, self.size)  # a disk that is full takes a part: better no record than a torn one
                self.lost += count
                return
            self.size += done
        except OSError:
            self.lost += count

    def _rotate(self) -> None:
        os.close(self.fd)
        self.fd = -1
        for n in range(self.max_file - 1, 0, -1):
            try:
                os.rename(f"{self.path}.{n - 1}" if n > 1 else self.path, f"{self.path}.{n}")
            except FileNotFoundError:
                pass
        if self.max_file == 1:
            os.unlink(self.path)  # not truncated: a follower still has the old file open and reads it to its end
        self._open()

    def _open(self) -> None:
        self.fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        self.size = os.fstat(self.fd).st_size
        if self.size and os.pread(self.fd, 1, self.size - 1) != b"\n":
            self.size += os.write(self.fd, b"\n")  # a record torn by a crash must not swallow the next one


def _split(line: bytes) -> list[str]:
    return [line[at : at + MAX_LINE].decode("utf-8", "surrogateescape") for at in range(0, len(line) // MAX_LINE * MAX_LINE + 1, MAX_LINE)]
