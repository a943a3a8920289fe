# SPDX-License-Identifier: Apache-2.0
"""A monitor around an ordinary program instead of a container: `fake_monitor.py RUN_DIR SOCK_FD JSON`. Not a test.

Everything but creating the process is the real thing: loop, server, stdio, log. So streams are tested without mounts and namespaces.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys

sys.path.insert(0, sys.argv[1])

import _socket

from lamina.linux import ns, tty
from lamina.monitor import launch, loop, protocol
from lamina.monitor.logs import LogWriter
from lamina.monitor.stdio import Stdio


def main() -> None:
    run_dir, fd, job = sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
    sock = _socket.socket(fileno=fd)
    session = loop.Session({"id": "fake"}, own_pidns=True, patience=job.get("patience", 0.0))
    session.server.listen(run_dir, "sock")
    session.server.add(sock, job["attach"])
    session.stdin_once = job["stdin_once"]
    if job["log"]:
        session.log = LogWriter(job["log"], job["max_size"], job["max_file"])
    session.stdio = stdio = Stdio(tty=job["tty"], stdin=job["stdin"])
    launch.detach.__globals__["_signal"].signal(13, launch.detach.__globals__["_signal"].SIG_IGN)
    if job["tty"]:
        master, slave, _ = tty.openpty()
        process = subprocess.Popen(job["argv"], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                                   preexec_fn=lambda: tty.set_controlling(0))
        os.close(slave)
        stdio.use_master(master)
    else:
        i, o, e = stdio.child_fds() or (0, 1, 2)
        process = subprocess.Popen(job["argv"], stdin=i, stdout=o, stderr=e)
        stdio.release_child_fds()
    session.pid, session.pidfd = process.pid, ns.pidfd_open(process.pid)
    started = protocol.json_frame(protocol.M_STARTED, {"pid": process.pid, "started_at": 1})
    session.server.started = started
    session.server.broadcast(started)
    code = session.serve()
    session.server.close_listener()
    os.unlink(os.path.join(run_dir, "sock"))
    session.server.finish(loop.exit_frame(code))
    session.linger()


main()
