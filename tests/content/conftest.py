# SPDX-License-Identifier: Apache-2.0
"""A store of each test's own."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.store.open import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(str(tmp_path / "root"), str(tmp_path / "run")) as opened:
        yield opened
