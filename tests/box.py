# SPDX-License-Identifier: Apache-2.0
"""A tiny root from busybox, and containers of the bare runtime in it, for tests of the runtime and of attacks on it."""
from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lamina.runtime import create, defaults

APPLETS = ("sh cat ls id true false sleep grep stat readlink mount env pwd echo touch mkdir tty stty ps head wc hostname chmod "
           "kill cut").split()
Spec = dict[str, Any]


def make_root(path: Path) -> Path:
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.fail("these tests need busybox-static")
    for name in ("bin", "etc", "tmp", "root"):
        (path / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(busybox, path / "bin/busybox")
    for name in APPLETS:
        (path / "bin" / name).symlink_to("busybox")
    (path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\n")
    (path / "etc/group").write_text("root:x:0:\nu:x:1000:\nextra:x:44:u,v\nother:x:45:v\n")
    return path


def make_spec(*args: str, mounts: list[dict[str, Any]] | None = None, **process: Any) -> Spec:
    base: dict[str, Any] = {"args": list(args), "env": [defaults.PATH], "cwd": "/", "user": {"uid": 0, "gid": 0, "additionalGids": [0]},
                            "capabilities": defaults.capabilities(defaults.CAPABILITIES)}
    return {"process": {**base, **process}, "root": {"readonly": False}, "hostname": "box", "mounts": [*defaults.mounts(), *(mounts or [])],
            "linux": {"namespaces": defaults.namespaces(), "maskedPaths": defaults.masked_paths(),
                      "readonlyPaths": defaults.readonly_paths(), "sysctl": dict(defaults.SYSCTLS)}}


def drain(fd: int) -> str:
    """Everything until the end of a pipe or, EIO, of a terminal; closes the fd."""
    parts = []
    while True:
        try:
            data = os.read(fd, 65536)
        except OSError:
            break
        if not data:
            break
        parts.append(data)
    os.close(fd)
    return b"".join(parts).decode()


def finish(make: Callable[[tuple[int, int, int]], Any]) -> tuple[int, str]:
    """Starts what `make` creates with its output on a pipe; (exit code or -signal, output)."""
    null = os.open("/dev/null", os.O_RDONLY)
    r, w = os.pipe()
    try:
        made = make((null, w, w))
        made.wait_ready()
        made.start()
    except BaseException:
        os.close(r)
        raise
    finally:
        os.close(w)
        os.close(null)
    if made.master_fd >= 0:
        os.close(r)
        r = made.master_fd
    out = drain(r)
    done = os.waitid(os.P_PIDFD, made.pidfd, os.WEXITED)
    os.close(made.pidfd)
    assert done is not None
    return (done.si_status if done.si_code == os.CLD_EXITED else -done.si_status), out


def run(root: Path, spec: Spec, **kw: Any) -> tuple[int, str]:
    return finish(lambda stdio: create.create(spec, rootfs=str(root), stdio=stdio, **kw))


def sh(root: Path, script: str, **kw: Any) -> str:
    """Output of a shell script in a container that must succeed."""
    code, out = run(root, make_spec("sh", "-c", script), **kw)
    assert code == 0, out
    return out
