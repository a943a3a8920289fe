# SPDX-License-Identifier: Apache-2.0
"""lamina: a Docker-compatible container engine without a daemon.

    from lamina import Engine
    with Engine(root, runroot) as engine:
        engine.images.list()

Names are loaded when first used (PEP 562): importing the package itself costs nothing, the command line depends on it.
"""
from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["Engine", "__version__", "errors"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import errors as errors
    from .engine.engine import Engine as Engine


def __getattr__(name: str) -> object:
    if name == "Engine":
        from .engine.engine import Engine

        return Engine
    if name == "errors":
        import importlib

        return importlib.import_module("lamina.errors")
    raise AttributeError(f"module 'lamina' has no attribute {name!r}")
