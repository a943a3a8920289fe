# SPDX-License-Identifier: Apache-2.0
"""A monitor that is forked before it is known what it shall do: it gets ready on the other core while the engine looks things up. [hot]

For the command line, which knows from its arguments alone that `run`, `start` and `exec` need one, and has opened no database yet. It
is given to `Engine.monitor`, which uses it once, or ends it when the engine is closed; when the command is killed, it ends by itself.
"""

from __future__ import annotations

import os
import sys

from lamina.monitor.prepared import Prepared, take_early
from lamina.store.paths import Names, Paths


def prepare(root: str, runroot: str, *, for_exec: bool = False) -> Prepared | None:
    """None where that is not for this process, or the store isn't in use yet: the way without it tells what is wrong, if anything is."""
    if not may_fork():
        return None
    paths = Paths(os.path.realpath(root), os.path.realpath(runroot))
    if not (os.path.exists(paths.layout) and os.path.exists(paths.boot)):
        return None
    ready = take_early(for_exec) or Prepared(for_exec)
    return ready.aim(Names(paths.root, paths.runroot).cgroup + "/monitor", own_pidns=not for_exec)


def may_fork() -> bool:
    """Only a process that was started lean, as the command line is, makes a lean monitor; a library's host process may be anything. And
    only one without threads, since a lock that another thread holds would stay locked in the child."""
    return bool(sys.flags.no_site) and os.stat("/proc/self/task").st_nlink == 3
