# SPDX-License-Identifier: Apache-2.0
"""Two stores for each test, with each driver: where images come from, and where they go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from archive_shelf import Shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path / "shelf", "overlay")
    yield shelf
    shelf.store.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path / "other", "vfs")
    yield shelf
    shelf.store.close()
