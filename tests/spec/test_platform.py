# SPDX-License-Identifier: Apache-2.0
"""Platforms as users type them."""

from __future__ import annotations

import os

import pytest

from lamina.errors import InvalidArgument
from lamina.spec import mediatype, platform


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("linux/amd64", "linux/amd64"),
        ("arm64", "linux/arm64"),
        ("aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm/v7", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("armhf", "linux/arm/v7"),
        ("x86_64", "linux/amd64"),
        ("LINUX/AMD64", "linux/amd64"),
        ("windows/amd64", "windows/amd64"),
    ],
)
def test_normal_form(text: str, normal: str) -> None:
    assert platform.parse(text).format() == normal


@pytest.mark.parametrize("text", ["", "foo", "linux/", "/amd64", "linux/amd64/v1/x", "linux/am d64", "linux/../x"])
def test_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        platform.parse(text)


def test_host_is_this_machine() -> None:
    host = platform.host()
    assert host.os == "linux" and platform.ARCHITECTURES[os.uname().machine][0] == host.architecture
    assert platform.parse("linux") == host


def test_layer_media_types() -> None:
    assert mediatype.layer_compression(mediatype.OCI_LAYER + "+zstd") == "zstd"
    assert mediatype.layer_compression(mediatype.DOCKER_LAYER + ".gzip") == "gzip"
    assert mediatype.layer_compression(mediatype.OCI_LAYER) == "none"
    assert mediatype.layer_compression("application/x-evil") is None
