# SPDX-License-Identifier: Apache-2.0
"""The volume verbs."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import Lamina


def test_life_of_a_named_volume(lamina: Lamina, box: str) -> None:
    assert lamina("volume", "create", "--label", "k=v", "data").out == "data"
    assert lamina("volume", "create", "data").out == "data", "again is no error, as in docker"
    info = json.loads(lamina("volume", "inspect", "data").out)[0]
    assert (info["Name"], info["Driver"], info["Labels"], info["Scope"]) == ("data", "local", {"k": "v"}, "local")
    assert Path(info["Mountpoint"]).is_dir()
    assert json.loads(lamina("inspect", "--type", "volume", "data").out)[0] == info
    cid = lamina("create", "--name", "user", "-v", "data:/d", "box", "true").out
    busy = lamina("volume", "rm", "data")
    assert busy.returncode == 1 and f"remove data: volume is in use - [{cid}]" in busy.stderr
    lamina("rm", "user").check()
    assert lamina("volume", "rm", "data").out == "data"
    assert not Path(info["Mountpoint"]).exists()
    gone = lamina("volume", "rm", "data")
    assert gone.returncode == 1 and "get data: no such volume" in gone.stderr


def test_listing_and_filters(lamina: Lamina, box: str) -> None:
    lamina("volume", "create", "--label", "a=1", "one").check()
    lamina("volume", "create", "two").check()
    lamina("create", "-v", "two:/x", "box", "true").check()
    assert lamina("volume", "ls").out.splitlines() == ["DRIVER    VOLUME NAME", "local     one", "local     two"]
    expected = {"label=a": "one", "label=a=2": "", "name=tw": "two", "dangling=true": "one", "dangling=false": "two", "driver=x": ""}
    for flt, names in expected.items():
        assert lamina("volume", "ls", "-q", "--filter", flt).out == names, flt
    assert lamina("volume", "ls", "--format", "{{.Name}}:{{.Driver}}").out == "one:local\ntwo:local"
    assert "invalid filter 'nonsense'" in lamina("volume", "ls", "--filter", "nonsense=1").stderr


def test_rm_of_volumes_follows_a_run_at_once(lamina: Lamina, box: str) -> None:
    for _ in range(10):
        lamina("run", "--rm", "--network", "none", "-v", "v1:/v", "box", "touch", "/v/f").check()
        lamina("volume", "rm", "v1").check()


def test_prune_takes_anonymous_ones_and_all_on_request(lamina: Lamina, box: str) -> None:
    lamina("volume", "create", "named").check()
    anonymous = lamina("volume", "create").out
    lamina("run", "--rm", "--network", "none", "-v", "/anon", "box", "true").check()
    assert set(lamina("volume", "ls", "-q").out.split()) == {"named", anonymous}, "--rm takes its own anonymous volume with it"
    out = lamina("volume", "prune", "-f").out.splitlines()
    assert out[:2] == ["Deleted Volumes:", anonymous]
    assert lamina("volume", "prune", "-f", "-a").out.splitlines()[:2] == ["Deleted Volumes:", "named"]
    for name in ("x", "a b", "../etc"):
        bad = lamina("volume", "create", name)
        assert bad.returncode == 1, name
