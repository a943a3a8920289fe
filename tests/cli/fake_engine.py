# SPDX-License-Identifier: Apache-2.0
"""An engine of canned answers, to test parsing and rendering alone; it records the calls that it gets."""
from __future__ import annotations

import time
from typing import Any

from lamina.cli.context import Cli
from lamina.cli.main import main
from lamina.errors import LaminaError, NotFound

ID = "94177be01b3de03b37ad22ddc69eca18640f8842e914e205a73349ec4fbf3f3e"
IMAGE = "sha256:5e7dffd975c0bbd4c10c5d0864297800ece4bebaa12d6c84077dd9d31bca878c"


def container(**changed: Any) -> dict[str, Any]:
    return {
        "Id": ID, "Names": ["/web"], "Image": "box:1", "ImageID": IMAGE, "Command": "sh -c 'while true; do sleep 1; done'",
        "Created": int(time.time()) - 7300, "Ports": [], "Labels": {"b": "2", "a": "1"}, "State": "running", "Status": "Up 2 hours",
        "HostConfig": {"NetworkMode": "bridge"}, "NetworkSettings": {"Networks": {"bridge": {}}}, "Mounts": [],
        "SizeRw": 1984, "SizeRootFs": 1984532,
        **changed,
    }  # fmt: skip


def image(**changed: Any) -> dict[str, Any]:
    return {
        "Id": IMAGE, "RepoTags": ["box:1"], "RepoDigests": [], "Created": int(time.time()) - 90, "Size": 1982548, "SharedSize": -1,
        "Containers": -1, "Labels": None, "ParentId": "",
        **changed,
    }  # fmt: skip


class Fake:
    """Attributes and methods of any depth: engine.containers.list(...) returns answers["containers.list"], or raises it."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def close(self, **_: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return _Part(self, name)


class _Part:
    def __init__(self, fake: Fake, path: str) -> None:
        self._fake = fake
        self._path = path

    def __getattr__(self, name: str) -> Any:
        return _Part(self._fake, f"{self._path}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._fake.calls.append((self._path, args, kwargs))
        answer = self._fake.answers.get(self._path)
        if callable(answer):
            answer = answer(*args, **kwargs)
        if isinstance(answer, LaminaError):
            raise answer
        return answer


def run(fake: Fake, *argv: str) -> int:
    cli = Cli("/nonexistent/root", "/nonexistent/run")
    cli.use(fake)
    return main(list(argv), cli)


def missing(ref: str, **_: Any) -> LaminaError:
    return NotFound(f"No such container: {ref}")
