# SPDX-License-Identifier: Apache-2.0
"""The real server: Debian's docker-registry, with a directory of the test's own."""
from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# bcrypt of "secret", by crypt(3): the server reads nothing else.
HTPASSWD = "me:$2b$04$2Gm3lnoG4LBA.TiNn9/x8eHRwyrDouc1Iv/ug/T9a2WfYXqGLDv3.\n"


@contextmanager
def docker_registry(base: Path, tls: tuple[str, str, str] | None = None, *, auth: bool = False) -> Iterator[str]:
    """Its host:port. tls: (CA, certificate, key)."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("needs docker-registry (Debian's package)")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    http: dict[str, Any] = {"addr": f"127.0.0.1:{port}", "secret": "of the tests"}
    if tls is not None:
        http["tls"] = {"certificate": tls[1], "key": tls[2]}
    config: dict[str, Any] = {
        "version": 0.1, "log": {"level": "error", "accesslog": {"disabled": True}}, "http": http,
        "storage": {"filesystem": {"rootdirectory": str(base / "data")}, "delete": {"enabled": True}},
    }  # fmt: skip
    base.mkdir(exist_ok=True)
    if auth:
        (base / "htpasswd").write_text(HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(base / "htpasswd")}}
    (base / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    with open(base / "log", "wb") as log:
        server = subprocess.Popen([program, "serve", str(base / "config.yml")], stdout=log, stderr=log)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert server.poll() is None, (base / "log").read_text()
                time.sleep(0.02)
        yield f"127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()
