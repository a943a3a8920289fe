# SPDX-License-Identifier: Apache-2.0
"""What `lamina attach` does, without the engine: `attach_driver.py SRC RUN_DIR JSON`. Not a test."""
from __future__ import annotations

import json
import os
import signal
import sys

sys.path.insert(0, sys.argv[1])

from lamina.cli.attach import DETACHED, attach_terminal
from lamina.monitor.client import connect

how = json.loads(sys.argv[3])
client = connect(sys.argv[2])
client.attach(stdin=how["stdin"])
try:
    code = attach_terminal(client, **how, on_started=lambda: os.write(2, b"[started]\n"))
except BrokenPipeError:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
os.write(2, b"[detached]\n" if code == DETACHED else b"[exit %d]\n" % code)
os._exit(0 if code == DETACHED else code)
