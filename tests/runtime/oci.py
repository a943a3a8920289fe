# SPDX-License-Identifier: Apache-2.0
"""A bundle around busybox and the command `lamina-runtime` on it, for tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from lamina.runtime import bundle
from lamina.runtime.cgroups import Cgroup, detect, files

REPO = Path(__file__).resolve().parents[2]
PARENT = f"/lm-oci-{os.getpid()}"
BUSYBOX = shutil.which("busybox")
APPLETS = "sh ls cat sleep echo id grep mount mkdir touch kill ps true false test stty".split()


class Bundle:
    """`spec` is written to config.json at each create or run."""

    def __init__(self, where: Path) -> None:
        self.path = where / "bundle"
        self.rootfs = self.path / "rootfs"
        self.state_root = where / "run"
        for name in ("bin", "proc", "dev", "sys", "tmp", "etc"):
            (self.rootfs / name).mkdir(parents=True)
        assert BUSYBOX is not None
        shutil.copy(BUSYBOX, self.rootfs / "bin/busybox")
        for name in APPLETS:
            (self.rootfs / "bin" / name).symlink_to("busybox")
        self.spec: dict[str, Any] = bundle.template()
        self.spec["process"].update(terminal=False, args=["sleep", "60"])
        self.ids: set[str] = set()

    def write(self, container_id: str) -> None:
        self.spec.setdefault("linux", {})["cgroupsPath"] = f"{PARENT}/{container_id}"
        self.ids.add(container_id)
        (self.path / "config.json").write_text(json.dumps(self.spec))

    def call(self, *args: str, ok: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
        """One command; its output goes to files, since a container outlives it and would hold a pipe open."""
        out, err = self.path / "out", self.path / "err"
        with out.open("w") as o, err.open("w") as e:
            command = [str(REPO / "bin/lamina-runtime"), "--root", str(self.state_root), *args]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=o, stderr=e, timeout=60, check=False, **more)
        result = subprocess.CompletedProcess(args, done.returncode, out.read_text(), err.read_text())
        assert not ok or result.returncode == 0, result
        return result

    def run(self, script: str, *, name: str = "c1", ok: bool = True) -> subprocess.CompletedProcess[str]:
        self.spec["process"]["args"] = ["sh", "-c", script]
        self.write(name)
        return self.call("run", "--bundle", str(self.path), name, ok=ok)

    def create(self, name: str = "c1", *flags: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        self.write(name)
        return self.call("create", "--bundle", str(self.path), *flags, name, ok=ok)

    def state(self, name: str = "c1") -> dict[str, Any]:
        return json.loads(self.call("state", name).stdout)  # type: ignore[no-any-return]

    def wait_for(self, status: str, name: str = "c1") -> None:
        for _ in range(500):
            if self.state(name)["status"] == status:
                return
            time.sleep(0.01)
        raise AssertionError(f"{name} is {self.state(name)['status']}, not {status}")

    def close(self) -> None:
        for name in self.ids:
            self.call("delete", "--force", name)
            assert not Cgroup.open(f"{PARENT}/{name}").paths, "a cgroup was left"
        assert not self.state_root.exists() or not list(self.state_root.iterdir())
        for h in detect().hierarchies:
            if os.path.isdir(h.mount + PARENT):
                files.remove_tree(h.mount + PARENT, 1)
