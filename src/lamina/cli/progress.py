# SPDX-License-Identifier: Apache-2.0
"""Progress of things that go on side by side, a line each: bars that move on a terminal, a line at each change elsewhere.

For load, save, pull and push. A line is known by a key and shown as `label: state`, with a bar where a size is known, as docker's client
draws it: `[====>      ]  12.3MB/45.6MB`.
"""
from __future__ import annotations

import os
from time import monotonic

from lamina.util.sizes import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Cli

INTERVAL = 0.1  # seconds between two drawings
BAR = 50


class Progress:
    """`fd`: 1 or 2, where the lines go. `quiet`: shows nothing. A context manager: the last state stays on the screen."""

    def __init__(self, cli: Cli, fd: int = 1, *, quiet: bool = False) -> None:
        self._cli = cli
        self._fd = fd
        self._quiet = quiet
        self._live = not quiet and cli.is_tty(fd)
        self._lines: dict[str, str] = {}
        self._states: dict[str, str] = {}
        self._drawn = 0
        self._last = 0.0
        self._dirty = False

    def show(self, key: str, label: str, state: str, done: int = 0, total: int = 0) -> None:
        """The line `key` is in this state now. `done` of `total` bytes: 0 of 0 shows no bar."""
        if self._quiet:
            return
        changed = self._states.get(key) != state
        self._states[key] = state
        if not self._live:
            if changed:
                self._line(f"{label}: {state}")
            return
        self._lines[key] = f"{label}: {state}{bar(done, total, self._width() - len(label) - len(state) - 2)}"
        self._dirty = True
        now = monotonic()
        if changed or done == total or now - self._last >= INTERVAL:
            self._last = now
            self._draw()

    def close(self) -> None:
        if self._dirty:
            self._draw()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _width(self) -> int:
        try:
            return os.get_terminal_size(self._fd).columns or 80
        except OSError:
            return 80

    def _height(self) -> int:
        try:
            return os.get_terminal_size(self._fd).lines or 24
        except OSError:
            return 24

    def _line(self, text: str) -> None:
        if self._fd == 2:
            self._cli.err(text)
        else:
            self._cli.out(self._cli.clean(text))
            self._cli.flush()

    def _draw(self) -> None:
        """All lines again, over those of the last time; only the last ones where there are more than the screen has."""
        from .context import write_all
        from .term import sanitise

        self._dirty = False
        self._cli.flush()
        width, lines = self._width(), list(self._lines.values())[-max(self._height() - 1, 1) :]
        text = f"\x1b[{self._drawn}A" if self._drawn else ""
        text += "".join(f"\r\x1b[2K{sanitise(line)[: width - 1]}\n" for line in lines)
        self._drawn = len(lines)
        write_all(self._fd, text.encode("utf-8", "replace"))


def bar(done: int, total: int, width: int) -> str:
    """" [===>   ]  1.2MB/3.4MB" in at most `width` columns, without the bar where that is too narrow; "" of 0 of 0."""
    if total <= 0:
        return f" {human_size(done)}" if done else ""
    done = min(done, total)
    figures = f"{human_size(done):>8}/{human_size(total)}"
    length = min(BAR, width - len(figures) - 5)
    if length < 10:
        return f" {figures}"
    filled = length * done // total
    drawn = "=" * filled + (">" if filled < length else "") + " " * (length - filled - 1)
    return f" [{drawn}] {figures}"
