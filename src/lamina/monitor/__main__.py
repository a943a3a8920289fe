# SPDX-License-Identifier: Apache-2.0
"""A monitor in a fresh interpreter, as launch.spawn_monitor starts it: with its first client on fd 3, which sends the plan.

It forks at once and its parent exits, so that whoever started it has no child to wait for.
"""
from __future__ import annotations

import os
import sys

from lamina import modules


def main() -> None:
    """The whole life of the process; it ends with os._exit, as there is nothing to flush."""
    code = 1
    modules.install()
    try:
        if os.fork() == 0:
            code = start()
        else:
            code = 0
    finally:
        os._exit(code)


def start() -> int:
    """Takes the plan from the first client and runs the monitor in a child that is born into the monitors' cgroup."""
    import _socket

    from lamina.monitor import launch, place, prepared, wire

    sock = _socket.socket(fileno=launch.SOCK_FD)
    try:
        job = wire.receive(sock)
        if job is None or place.fork_into(job["plan"].get("monitor_cgroup"), own_pidns=prepared.kind(job["plan"])[2]):
            return 0
        launch.detach(sock)
        return launch.run(job["plan"], sock, job["attach"])
    except BaseException as e:
        launch.tell_failure(sock, e)
        return 1


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    main()
