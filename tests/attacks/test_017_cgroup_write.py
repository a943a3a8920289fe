# SPDX-License-Identifier: Apache-2.0
"""Attacks 16 and 17 from inside a whole container: its view of /sys/fs/cgroup is its own, and can't be written."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "runtime"))
import oci

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or oci.BUSYBOX is None, reason="needs root and busybox")
SCRIPT = """
for f in $(find /sys/fs/cgroup -name cgroup.procs -o -name tasks -o -name release_agent -o -name devices.allow -o -name "*.limit*"); do
    (echo 0 > $f) 2>/dev/null && echo wrote $f
done
find /sys/fs/cgroup -name release_agent
mkdir /sys/fs/cgroup/*/sub 2>/dev/null && echo made
echo done
"""


@pytest.fixture
def box(tmp_path: Path) -> Iterator[oci.Bundle]:
    b = oci.Bundle(tmp_path)
    (b.rootfs / "bin/find").symlink_to("busybox")
    yield b
    b.close()


def cgroup_mount(box: oci.Bundle) -> dict[str, object]:
    return next(m for m in box.spec["mounts"] if m["destination"] == "/sys/fs/cgroup")


def test_nothing_can_be_written(box: oci.Bundle) -> None:
    assert "ro" in cgroup_mount(box)["options"]  # type: ignore[operator]
    assert box.run(SCRIPT).stdout == "done\n"


def test_control_a_writable_mount_lets_it(box: oci.Bundle) -> None:
    cgroup_mount(box)["options"].remove("ro")  # type: ignore[attr-defined]
    box.spec["root"]["readonly"] = False
    out = box.run(SCRIPT).stdout
    assert "wrote /sys/fs/cgroup/" in out
