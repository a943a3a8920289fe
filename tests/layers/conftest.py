# SPDX-License-Identifier: Apache-2.0
"""A data root for each test, with each driver or with overlay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.layers.store import LayerStore
from lamina.store.open import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(str(tmp_path / "root"), str(tmp_path / "run")) as opened:
        yield opened


@pytest.fixture(params=["overlay", "vfs"])
def layers(store: Store, request: pytest.FixtureRequest) -> LayerStore:
    """A layer store, once with each driver."""
    found = LayerStore(store)
    found.use_driver(request.param)
    return found


@pytest.fixture
def overlay(store: Store) -> LayerStore:
    found = LayerStore(store)
    found.use_driver("overlay")
    return found
