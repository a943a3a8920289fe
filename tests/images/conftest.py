# SPDX-License-Identifier: Apache-2.0
"""A `World` for each test, with each driver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from image_world import World

from lamina.store.open import Store


@pytest.fixture(params=["overlay", "vfs"])
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    with Store.open(str(tmp_path / "root"), str(tmp_path / "run")) as store:
        yield World(store, request.param)
