# SPDX-License-Identifier: Apache-2.0
"""An engine that several kills in a row may work on: made once for each file, with the image `box` and all that a first run makes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Lamina, traces


@pytest.fixture(scope="module")
def struck(tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path) -> Iterator[Lamina]:
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes namespaces, mounts, cgroups and a bridge")
    engine = Lamina(tmp_path_factory.mktemp("struck"))
    engine("import", busybox_tar, "box").check()
    engine("run", "--rm", "box", "true").check()
    yield engine
    engine("system", "reset", "--force").check()
    assert not traces(engine)
