# SPDX-License-Identifier: Apache-2.0
"""Plans for real containers of busybox: an overlay of one layer, no network, the runtime's defaults. Not a test."""
from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from lamina.linux import mount
from lamina.runtime import defaults


def busybox_tree(path: Path) -> Path:
    """A root with busybox and three users."""
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "root"):
        (path / name).mkdir(parents=True)
    source = shutil.which("busybox") or "/bin/busybox"
    shutil.copy2(source, path / "bin/busybox")
    for name in "sh cat echo sleep head tr id pwd stty true false kill ps mount yes seq sync mkdir test env dd sha256sum wc ls rm".split():
        (path / "bin" / name).symlink_to("busybox")
    (path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\n")
    (path / "etc/group").write_text("root:x:0:\nbob:x:1000:\nextra:x:2000:bob\n")
    return path


class Engine:
    """What an engine does for a container, as far as the monitor needs it."""

    def __init__(self, base: Path, name: str) -> None:
        self.base = base
        self.name = name
        self.layer = busybox_tree(base / "layer")
        self.count = 0
        run = base / "run"
        run.mkdir(0o700)
        mount.mount(str(run), str(run), None, mount.MS_BIND)
        mount.mount(None, str(run), None, mount.MS_PRIVATE)

    def close(self) -> None:
        mount.umount(str(self.base / "run"), mount.MNT_DETACH)

    def plan(self, *argv: str, **more: Any) -> dict[str, Any]:
        self.count += 1
        container_id = os.urandom(32).hex()
        bundle, run_dir = self.base / "containers" / container_id, self.base / "run/containers" / container_id
        for directory in (bundle / "rw/diff", bundle / "rw/work", run_dir):
            directory.mkdir(parents=True)
        spec = {
            "ociVersion": "1.0.2",
            "process": {"args": list(argv), "env": ["PATH=/bin"], "cwd": "/", "terminal": bool(more.get("tty")),
                        "capabilities": defaults.capabilities(defaults.CAPABILITIES)},
            "root": {"path": "rootfs"}, "hostname": "box", "mounts": defaults.mounts(),
            "linux": {"namespaces": defaults.namespaces(), "maskedPaths": defaults.masked_paths(),
                      "readonlyPaths": defaults.readonly_paths(),
                      "resources": {"devices": defaults.device_rules(), **more.pop("resources", {})}},
        }
        return {
            "version": 1, "id": container_id, "name": f"c{self.count}", "bundle": str(bundle), "run_dir": str(run_dir),
            "rootfs": str(self.base / "run/rootfs" / container_id),
            "mount": {"type": "overlay", "lowers": [str(self.layer)], "upper": str(bundle / "rw/diff"), "work": str(bundle / "rw/work"),
                      "volatile": False},
            "spec": spec, "user": "", "group_add": [], "workdir": "/", "network": {"mode": "none"},
            "cgroup": f"/{self.name}/{container_id}", "monitor_cgroup": f"/{self.name}/monitor",
            "tty": False, "open_stdin": False, "stdin_once": False,
            "log": {"path": str(bundle / "log.json"), "max_size": 10_000_000, "max_file": 3}, "state_path": str(bundle / "state.json"),
            "stop_signal": 15, "auto_remove": False, "remove": [], "seccomp_path": None, **more,
        }

    def exec_plan(self, plan: dict[str, Any], pid: int, start_time: int, *argv: str, **more: Any) -> dict[str, Any]:
        process = {**plan["spec"]["process"], "args": list(argv), "terminal": bool(more.get("tty"))}
        return {"version": 1, "exec_id": os.urandom(32).hex(), "container_id": plan["id"], "run_dir": plan["run_dir"], "init_pid": pid,
                "init_start_time": start_time, "process": process, "user": "", "tty": False, "open_stdin": False, "seccomp_path": None,
                "cgroup": plan["cgroup"], "monitor_cgroup": plan["monitor_cgroup"], "spec": plan["spec"], **more}
