# SPDX-License-Identifier: Apache-2.0
"""A fresh root, and a function that extracts into it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lamina.layers.tar.extract import Extracted, extract

Extract = Callable[..., Extracted]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def run(root: Path) -> Extract:
    """extract(bytes) into `root`."""

    def go(data: bytes, **options: object) -> Extracted:
        fd = os.open(root, os.O_RDONLY)
        try:
            return extract(io.BytesIO(data), fd, **options)  # type: ignore[arg-type]
        finally:
            os.close(fd)

    return go
