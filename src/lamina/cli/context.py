# SPDX-License-Identifier: Apache-2.0
"""What every verb is handed: global options, the engine (opened when first asked for) and the two output streams. [hot]

Output is written as bytes, straight to the descriptors: text of strangers may hold surrogates, the locale may not be UTF-8,
and a closed pipe must surface as BrokenPipeError at the write, not when the interpreter goes.
"""
from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lamina.monitor.launch import Prepared

# Lines are kept back on stdout until this many bytes are there, a verb waits for something, or it ends.
BUFFER = 1 << 16


class CliError(Exception):
    """A deliberate end of a verb: `message` goes to stderr as it is (nothing when empty), `code` is the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # a terminal left non-blocking by another program
            import select

            select.select([], [fd], [])


class Cli:
    __slots__ = (
        "_engine", "_monitor", "_pending", "_settings", "_size", "_tty", "config", "debug",
        "error", "exiting", "path", "quiet", "root", "runroot",
    )  # fmt: skip

    def __init__(self, root: str, runroot: str, *, debug: bool = False, quiet: bool = False, config: str = "") -> None:
        self.root = root
        self.config = config  # the directory of docker's config.json; "": there is none
        self.runroot = runroot
        self.debug = debug
        self.quiet = quiet  # no warnings
        self.exiting = False  # the process ends when this is closed
        self.error: BaseException | None = None  # what the verb has ended with
        self.path = "lamina"  # the command path for messages: "lamina container ls"
        self._engine: Any = None
        self._monitor: Prepared | None = None
        self._pending: list[bytes] = []
        self._size = 0
        self._tty: dict[int, bool] = {}
        self._settings: dict[str, Any] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What docker's config.json says; {} without one."""
        if self._settings is None:
            path = os.path.join(self.config, "config.json")
            self._settings = {}
            if self.config and os.path.exists(path):
                from .settings import load

                self._settings = load(self, path)
        return self._settings

    def setting(self, name: str) -> str:
        """One of the settings that are text; "" if it isn't set."""
        return str(self.settings.get(name) or "")

    @property
    def engine(self) -> Any:
        """The engine of --root and --runroot. Its type is the engine's; bodies and results are Docker API JSON."""
        if self._engine is None:
            from lamina.engine.engine import Engine

            self._engine = Engine(self.root, self.runroot)
            self._engine.monitor, self._monitor = self._monitor, None
        return self._engine

    def prepare(self, *, for_exec: bool = False) -> None:
        """Says that the verb is about to start something, before it asks for the engine: that gets a monitor that is getting ready."""
        if self._engine is None and self._monitor is None:
            from lamina.engine.ahead import prepare

            self._monitor = prepare(self.root, self.runroot, for_exec=for_exec)

    def use(self, engine: Any) -> None:
        """Takes an engine that is open already (the tests' one)."""
        self._engine = engine

    def close(self) -> None:
        self.flush()
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            monitor.cancel()
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close(exiting=self.exiting, error=self.error)

    def is_tty(self, fd: int) -> bool:
        if fd not in self._tty:
            self._tty[fd] = os.isatty(fd)
        return self._tty[fd]

    def out(self, text: str, end: str = "\n") -> None:
        self.out_bytes((text + end).encode("utf-8", "surrogateescape"))

    def out_bytes(self, data: bytes) -> None:
        self._pending.append(data)
        self._size += len(data)
        if self._size >= BUFFER or self.is_tty(1):
            self.flush()

    def flush(self) -> None:
        if self._pending:
            data, self._pending, self._size = b"".join(self._pending), [], 0
            write_all(1, data)

    def err(self, text: str, end: str = "\n") -> None:
        """A line for stderr, after what stands before it on stdout."""
        self.flush()
        if self.is_tty(2):
            from .term import sanitise

            text = sanitise(text, keep="\n\t")
        write_all(2, (text + end).encode("utf-8", "surrogateescape"))

    def warn(self, text: str) -> None:
        if not self.quiet:
            self.err(f"WARNING: {text}")

    def clean(self, text: str) -> str:
        """Text of strangers (names, labels, commands ...) for stdout: harmless on a terminal, exact in a pipe."""
        if not self.is_tty(1) or text.isprintable():
            return text
        from .term import sanitise

        return sanitise(text)


def add_site_packages() -> None:
    """Makes third-party packages importable; for verbs off the hot path. Never runs a .pth file.

    The launcher names its environment's directory (`-X lamina.site=DIR`); what Debian and pip use for this interpreter comes
    after it. Directories are appended: nothing in them can take the place of the standard library.
    """
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    named = sys._xoptions.get("lamina.site")
    candidates = [named] if isinstance(named, str) else []
    candidates += [f"{sys.prefix}/lib/{version}/site-packages"]
    if sys.prefix == "/usr":
        candidates += [f"/usr/local/lib/{version}/dist-packages", "/usr/lib/python3/dist-packages"]
    for directory in candidates:
        if directory not in sys.path and os.path.isdir(directory):
            sys.path.append(directory)
