# SPDX-License-Identifier: Apache-2.0
"""A monitor in a fresh interpreter, as launch.spawn_monitor starts it: the plan on fd 3, the first client on fd 4.

It forks at once and its parent exits, so that whoever started it has no child to wait for.
"""
from __future__ import annotations

import os
import sys


def main() -> None:
    """The whole life of the process; it ends with os._exit, as there is nothing to flush."""
    code = 1
    try:
        if os.fork() == 0:
            code = start()
        else:
            code = 0
    finally:
        os._exit(code)


def start() -> int:
    """Takes plan and client from their fds, and runs the monitor in a child that is born into the monitors' cgroup."""
    import _socket

    from lamina.monitor import launch, place
    from lamina.util import fastjson

    sock = _socket.socket(fileno=launch.SOCK_FD)
    try:
        with open(launch.PLAN_FD, "rb") as f:
            job = fastjson.loads(f.read(launch.MAX_PLAN))
        os.set_inheritable(launch.SOCK_FD, False)
        if place.fork_into(job["plan"]):
            return 0
        launch.detach(sock)
        return launch.run(job["plan"], sock, job["attach"])
    except BaseException as e:
        launch.tell_failure(sock, e)
        return 1


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    main()
