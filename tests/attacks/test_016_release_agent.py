# SPDX-License-Identifier: Apache-2.0
"""Attack 16 (CVE-2022-0492): mount a v1 hierarchy from inside, write its release_agent, have the host's kernel run a program."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import caged
import pytest

from lamina.linux import mount, ns
from lamina.runtime.cgroups import detect


def payload(target: Path, *, user_namespace: bool) -> int:
    """Up to the point where the agent could be written; 1 when it could. Nothing is written."""
    ns.unshare(ns.CLONE_NEWNS | (ns.CLONE_NEWUSER if user_namespace else 0))
    mount.mount("none", "/", None, mount.MS_REC | mount.MS_PRIVATE)
    mount.mount("cgroup", str(target), "cgroup", 0, "pids")
    os.close(os.open(target / "release_agent", os.O_WRONLY))
    return 1


@pytest.fixture
def target(tmp_path: Path) -> Path:
    if not any(h.version == 1 and "pids" in h.controllers for h in detect().hierarchies):
        pytest.skip("no v1 pids hierarchy here: release_agent doesn't exist")
    return tmp_path


def test_control_bare_root_could(target: Path) -> None:
    assert caged.run(lambda: payload(target, user_namespace=False), filtered=False) == 1


@pytest.mark.parametrize("user_namespace", [False, True])
def test_filter_refuses(target: Path, user_namespace: bool) -> None:
    assert caged.run(lambda: payload(target, user_namespace=user_namespace), filtered=True) == -errno.EPERM
    # And without the detour over namespaces.
    assert caged.run(lambda: mount.mount("cgroup", str(target), "cgroup", 0, "pids") or 0, filtered=True) == -errno.EPERM
