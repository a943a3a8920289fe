# SPDX-License-Identifier: Apache-2.0
"""Telling what happens, step by step: what `--explain` shows. [hot]

`tell` is None unless somebody listens; then it is called at the end of each step with one sentence. Callers ask first, so that
nothing is composed for nobody: `if steps.tell is not None: steps.tell(f"...")`. A sentence begins with a verb in the past tense
and uses the words of docs/tour: layer, union, read-write layer, mount, namespace, cgroup, monitor, init. What it names is there
when it is told (or just gone, if it says so).

Each process sets its own: the command line prints, a monitor passes on to the clients that asked for it (monitor/server.py), a
container's init to its monitor (runtime/create.py).
"""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    class Teller(Protocol):
        def __call__(self, text: str, /, *, who: str = "", at: int = 0, now: bool = False) -> None:
            """who: "" for this process, else who did it; at: nanoseconds of the monotonic clock, 0 for now; now: don't hold it back
            to bring it into order with what other processes tell."""

    class Source(Protocol):
        def hear_out(self) -> None:
            """Takes what another process still has to tell. Doesn't raise."""

tell: Teller | None = None
sources: list[Source] = []


def short(digest: str) -> str:
    """The 12 hex digits by which tables show a layer, an image or a container."""
    return digest.removeprefix("sha256:")[:12]


def shorts(digests: Iterable[str]) -> str:
    return ", ".join(map(short, digests)) or "none"


def count(number: int, thing: str) -> str:
    """"1 layer", "2 layers"."""
    return f"{number} {thing}{'s'[: number != 1]}"
