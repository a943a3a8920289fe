# SPDX-License-Identifier: Apache-2.0
"""Attacks 5, 6 and 9: images whose /proc, /sys, /dev or /dev/null is a trap for the one who mounts, masks and makes nodes."""
from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from box import make_root, make_spec, run, sh

from lamina.errors import StartError


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_an_api_directory_that_is_a_link_is_refused(tmp_path: Path, name: str) -> None:
    root, outside = make_root(tmp_path / "root"), tmp_path / "outside"
    outside.mkdir()
    (root / name).symlink_to("../outside")
    (root / "outside").mkdir()
    assert os.path.samefile(root / name, outside), "the control: by its path the link leads out"
    with pytest.raises(StartError, match="symbolic link"):
        run(root, make_spec("true"))
    assert not list(outside.iterdir()) and not list((root / "outside").iterdir())


@pytest.mark.parametrize("destination", ["/proc", "/proc/self/attr", "/proc/sys", "/sys", "/link", "/link/sys"])
def test_a_volume_over_proc_or_sys_is_refused(tmp_path: Path, destination: str) -> None:
    root, volume = make_root(tmp_path / "root"), tmp_path / "volume"
    volume.mkdir()
    (root / "link").symlink_to("/proc")
    bind = {"type": "bind", "source": str(volume), "options": ["rbind"]}
    with pytest.raises(StartError, match="cannot be mounted|symbolic link"):
        run(root, make_spec("true", mounts=[{"destination": destination, **bind}]))
    assert run(root, make_spec("true", mounts=[{"destination": "/fine", **bind}]))[0] == 0, "the control"


def test_a_bind_target_never_leads_out(tmp_path: Path) -> None:
    root, outside = make_root(tmp_path / "root"), tmp_path / "outside"
    outside.mkdir()
    (root / "out").symlink_to("../../../../../.." + str(outside))
    (tmp_path / "v").mkdir()
    run(root, make_spec("true", mounts=[{"destination": "/out/x", "type": "bind", "source": str(tmp_path / "v"), "options": ["bind"]}]))
    assert not list(outside.iterdir()), "nothing was made outside"
    assert (root / str(outside).lstrip("/") / "x").is_dir(), "the link was taken inside the root"


def test_masks_are_null_devices_whatever_dev_null_is(tmp_path: Path) -> None:
    """Attack 6: the container's /dev/null is replaced while the masks are made; ours come from a place it can't reach."""
    root = make_root(tmp_path / "root")
    evil = tmp_path / "evil"
    evil.write_text("owned")
    bind = {"destination": "/dev/null", "type": "bind", "source": str(evil), "options": ["bind"]}
    spec = make_spec("sh", "-c", "cat /dev/null; stat -c %t:%T /proc/keys; stat -f -c %T /proc/timer_list; cat /proc/keys", mounts=[bind])
    with pytest.raises(StartError):
        run(root, spec)  # a /dev/null that is none is refused outright
    assert sh(root, "stat -c %t:%T /proc/keys; cat /proc/keys; test -c /dev/null && echo device").split() == ["1:3", "device"]
