# SPDX-License-Identifier: Apache-2.0
"""`--explain`: prints on stderr what each process did, with its times.

A line is: when the step was done (ms since the command began), how long it took (ms since the same process told its last one), who
did it, and what. Lines come in the order of time: while a monitor is telling its steps, too, they are held back until a step says
`now`, or to the end. On a terminal they are coloured (unless NO_COLOR is set) and wrapped; elsewhere the text is plain, one line a step.
"""
from __future__ import annotations

import os
import time

from lamina.util import steps

from .context import write_all
from .term import sanitise

HEADER = ("ms", "took", "who", "what happened")
MARGIN = 7 + 1 + 7 + 2 + 7 + 2  # columns before the text
COLOURS = {"lamina": "36", "monitor": "33", "init": "35"}


class Recorder:
    """`began`: nanoseconds of the monotonic clock."""

    def __init__(self, began: int, *, width: int, colour: bool) -> None:
        self.began = began
        self.width = width  # 0: one line a step, however long
        self.colour = colour
        self.last = {"lamina": began}
        self.waiting: list[tuple[int, str, str]] = []
        self.headed = False

    def tell(self, text: str, /, *, who: str = "", at: int = 0, now: bool = False) -> None:
        self.waiting.append((at or time.monotonic_ns(), who or "lamina", text))
        if now or not steps.sources:
            self.show()

    def show(self) -> None:
        """Prints what is held back."""
        lines, self.waiting = sorted(self.waiting, key=lambda step: step[0]), []
        text = "" if self.headed else self.line(*HEADER)
        self.headed = True
        for at, who, what in lines:
            before = self.last.get(who)
            took = f"{(at - before) / 1e6:.1f}" if before is not None else ""
            self.last[who] = at
            text += self.line(f"{(at - self.began) / 1e6:.1f}", took, who, what)
        try:
            write_all(2, text.encode("utf-8", "surrogateescape"))
        except OSError:
            steps.tell = None  # nobody reads it; the command goes on

    def line(self, at: str, took: str, who: str, what: str) -> str:
        times, name = f"{at:>7} {took:>7}", f"{who:<7}"
        what = sanitise(what)  # also in a pipe: one line is one step
        if self.width:
            what = wrap(what, self.width - MARGIN)
        if self.colour:
            times, name = f"\033[2m{times}\033[0m", f"\033[{COLOURS.get(who, '2')}m{name}\033[0m"
        return f"{times}  {name}  {what}\n"


def wrap(text: str, room: int) -> str:
    """In lines of at most `room` columns, at blanks where there are some; the others begin below the first."""
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > room:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return ("\n" + " " * MARGIN).join([*lines, line])


def begin() -> None:
    """From here on steps are printed. Once for a command; what it did before counts by its CPU time, as the kernel's clock for
    the start of a process ticks in hundredths of a second."""
    if steps.tell is not None:
        return
    now = time.monotonic_ns()
    recorder = Recorder(now - time.process_time_ns(), width=columns(), colour=coloured())
    steps.tell = recorder.tell
    recorder.tell("was started, and read its command line (CPU time)", at=now)


def coloured() -> bool:
    """https://no-color.org: a NO_COLOR that isn't empty."""
    return os.isatty(2) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def columns() -> int:
    if not os.isatty(2):
        return 0
    try:
        width = os.get_terminal_size(2).columns
    except OSError:
        return 0
    return width if width > MARGIN + 20 else 0


def end(code: int) -> None:
    """What other processes still have to tell, and the last line."""
    for source in steps.sources:
        source.hear_out()
    if steps.tell is not None:
        steps.tell(f"ended with exit code {code}", now=True)
        steps.tell = None
