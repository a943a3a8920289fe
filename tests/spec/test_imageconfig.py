# SPDX-License-Identifier: Apache-2.0
"""Image configs: the very bytes that dockerd writes for the same facts, and what strangers' configs may say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import ArchiveError
from lamina.spec import imageconfig
from lamina.spec.platform import Platform

DIFF = "sha256:" + "d4" * 32
# Recorded from dockerd 20.10: `docker import --change ...` and `docker commit`.
RECORDED = json.loads((Path(__file__).parent / "docker_configs.json").read_text())


def base(**more: Any) -> dict[str, Any]:
    return {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [DIFF]}, **more}


def check(value: dict[str, Any]) -> dict[str, Any]:
    return imageconfig.check(json.dumps(value).encode())


@pytest.mark.parametrize("text", RECORDED, ids=["import", "commit"])
def test_bytes_are_as_dockers(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = json.loads(text)
    monkeypatch.setattr(imageconfig, "PRODUCER", theirs["docker_version"])
    ours = imageconfig.build(
        platform=Platform("linux", "amd64"),
        created=theirs["created"],
        diff_ids=theirs["rootfs"]["diff_ids"],
        history=[imageconfig.history_entry(**h) for h in theirs["history"]],
        config=theirs["config"],
        container_config=theirs["container_config"],
        container=theirs.get("container", ""),
        author=theirs.get("author", ""),
        comment=theirs.get("comment", ""),
    )
    assert ours.decode() == text
    assert imageconfig.check(ours)["rootfs"]["diff_ids"] == theirs["rootfs"]["diff_ids"]


def test_nulls_are_absent_afterwards() -> None:
    checked = check(base(config=None, history=None, container_config={"Env": None, "Cmd": None}, author=None))
    assert "config" not in checked and checked["history"] == [] and checked["container_config"] == {} and "author" not in checked


@pytest.mark.parametrize(
    "bad",
    [
        {"rootfs": None},
        {"rootfs": []},
        {"rootfs": {"type": "squashfs", "diff_ids": []}},
        {"rootfs": {"type": "layers", "diff_ids": ["../../x"]}},
        {"rootfs": {"type": "layers", "diff_ids": [None]}},
        {"rootfs": {"type": "layers", "diff_ids": ["sha256:" + "A" * 64]}},
        {"rootfs": {"type": "layers", "diff_ids": ["sha512:" + "a" * 128]}},
        {"rootfs": {"type": "layers", "diff_ids": [DIFF] * 5000}},
        {"config": []},
        {"config": {"Env": "A=1"}},
        {"config": {"Env": [1]}},
        {"config": {"Labels": {"a": 1}}},
        {"config": {"Cmd": {}}},
        {"config": {"User": 0}},
        {"config": {"Tty": "yes"}},
        {"config": {"StopTimeout": True}},
        {"config": {"Healthcheck": {"Interval": "1s"}}},
        {"history": {}},
        {"history": [1]},
        {"history": [{"created_by": 1}]},
        {"history": [{}] * 3},
        {"history": [{"empty_layer": True}] * 20000},
        {"architecture": 1},
        {"created": 5},
    ],
    ids=lambda b: repr(b)[:50],
)
def test_wrong_types_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ArchiveError):
        check(base(**bad))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(max_size=5), c, max_size=3),
    max_leaves=6,
)
KEYS = ["config", "container_config", "history", "rootfs", "created", "architecture"]


@given(
    st.dictionaries(st.sampled_from(KEYS), json_values), st.dictionaries(st.sampled_from([f[0] for f in imageconfig.FIELDS]), json_values)
)
def test_anything_is_checked_or_refused_never_a_crash(top: dict[str, Any], config: dict[str, Any]) -> None:
    try:
        checked = check(base(config=config) | top)
    except ArchiveError:
        return
    shape = imageconfig.run_config(checked.get("config"))
    assert json.loads(imageconfig.encode(shape)) == shape
