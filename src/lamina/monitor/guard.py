# SPDX-License-Identifier: Apache-2.0
"""Ends a container of another runtime when its monitor is killed.

With our own runtime the kernel does it: the monitor is process 1 of a pid namespace around the container's. Other runtimes look up the
processes they make in /proc, which shows the host's pids; so the monitor stays among those, and this small process watches it.
"""
from __future__ import annotations

import gc
import os
import select

from lamina.errors import LaminaError
from lamina.linux import ns
from lamina.runtime.create import close_but

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamina.runtime.cgroups import Cgroup


def watch(cgroup: Cgroup) -> int:
    """Forks it, in the single-threaded monitor; returns its pid, for `dismiss`."""
    monitor = ns.pidfd_open(os.getpid())
    pid = os.fork()
    if pid:
        os.close(monitor)
        return pid
    try:
        gc.disable()
        close_but([monitor])
        poll = select.poll()
        poll.register(monitor, select.POLLIN)
        poll.poll()
        cgroup.kill()
    except (OSError, LaminaError):
        pass  # what can't be killed is left to the next command, which says that the monitor was lost
    finally:
        os._exit(0)


def dismiss(pid: int) -> None:
    """The container has ended, or couldn't be made."""
    os.kill(pid, 9)  # our child, not waited for yet: the pid is its own
    os.waitpid(pid, 0)
