# SPDX-License-Identifier: Apache-2.0
"""Whether a container that has ended is started again, and after how long: docker's restart policies. [hot]

For the container's monitor; loaded with it, used where the plan has "restart": {"name": "on-failure"|"always"|"unless-stopped" or "no",
"maximum" (of on-failure; 0: without end), "count" (restarts so far), "any_signal": whether every signal that a user sends ends the
restarts, as docker has it for containers without a stop signal of their own}.
"""
from __future__ import annotations

from lamina.errors import InvalidArgument
from lamina.linux import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

FIRST, LONGEST = 0.1, 60.0  # seconds; doubled from one restart to the next
CALM = 10.0  # seconds that a container must have run for the wait to begin anew
NEVER = -1.0


class Restarts:
    """`count` restarts so far. `cancelled`: a user has ended it, whatever the policy says."""

    __slots__ = ("any_signal", "cancelled", "count", "delay", "maximum", "name", "stop_signal", "touched")

    def __init__(self, how: Mapping[str, Any], stop_signal: int) -> None:
        self.count = int(how.get("count") or 0)
        self.any_signal = bool(how.get("any_signal", True))
        self.stop_signal = stop_signal
        self.cancelled = False
        self.touched = False  # a user has sent a signal
        self.delay = 0.0
        self.set(how)

    def set(self, how: Mapping[str, Any]) -> None:
        """Another policy, from `update`; counts for the next exit."""
        name, maximum = how.get("name") or "no", how.get("maximum") or 0
        if not isinstance(name, str) or not isinstance(maximum, int):
            raise InvalidArgument("a restart policy is a name and a number")
        self.name, self.maximum = name, maximum

    def signalled(self, number: int) -> None:
        """A client sends a signal. SIGKILL and the stop signal end the restarts; others do unless the container names its stop signal."""
        self.touched = True
        if self.any_signal or number in (signals.SIGKILL, self.stop_signal):
            self.cancelled = True

    def after(self, code: int, seconds: float) -> float:
        """How long to wait before the next start of a container that ran for `seconds` and ended with `code`; NEVER: it stays ended."""
        if self.cancelled:
            return NEVER
        if seconds >= CALM:
            self.delay = 0.0
        self.delay = min(self.delay * 2, LONGEST) or FIRST
        failed = self.name == "on-failure" and code != 0 and (not self.maximum or self.count < self.maximum)
        if not (failed or self.name == "always" or self.name == "unless-stopped" and not self.touched):
            return NEVER
        self.count += 1
        return self.delay
