# SPDX-License-Identifier: Apache-2.0
"""The commands that are killed: name -> (commands before it, the command). TAR is the tar of image `box`, which
is there, OTHER another tar."""

from __future__ import annotations

CASES: dict[str, tuple[list[list[str]], list[str]]] = {
    "import": ([], ["import", "-c", "CMD true", "OTHER", "second"]),
    "import-known": ([], ["import", "TAR", "second"]),
    "create": ([], ["create", "--name", "c1", "-v", "/data", "-v", "named:/named", "box", "sleep", "100"]),
    "start": ([["create", "--name", "c1", "-p", "127.0.0.1::80", "box", "sleep", "100"]], ["start", "c1"]),
    "run": ([], ["run", "--name", "c1", "-v", "/data", "box", "touch", "/data/new"]),
    "run-rm": ([], ["run", "--rm", "--name", "c1", "-v", "/data", "-p", "127.0.0.1::80", "box", "true"]),
    "run-d": ([], ["run", "-d", "--name", "c1", "-p", "127.0.0.1::80/udp", "-p", "127.0.0.1::80", "box", "sleep", "100"]),
    "exec": ([["run", "-d", "--name", "c1", "--network", "none", "box", "sleep", "100"]], ["exec", "c1", "true"]),
    "exec-d": ([["run", "-d", "--name", "c1", "--network", "none", "box", "sleep", "100"]], ["exec", "-d", "c1", "sleep", "100"]),
    "commit": ([["run", "--name", "c1", "--network", "none", "box", "touch", "/new"]], ["commit", "c1", "second"]),
    "rm": ([["run", "-d", "--name", "c1", "-v", "/data", "-p", "127.0.0.1::80", "box", "sleep", "100"]], ["rm", "-f", "-v", "c1"]),
    "rmi": ([["run", "--name", "c1", "--network", "none", "box", "touch", "/new"], ["commit", "c1", "second"], ["rm", "c1"]],
            ["rmi", "second"]),
    "stop": ([["run", "-d", "--name", "c1", "-p", "127.0.0.1::80", "box", "sleep", "100"]], ["stop", "-t", "0", "c1"]),
}  # fmt: skip
