# SPDX-License-Identifier: Apache-2.0
"""The C module `_sqlite3` without what it drags in [hot].

Its initialization imports `functools` (and with it `collections`: 2.5 of 3.5 ms) for `lru_cache` alone, which is itself written in C.
While it loads, a stand-in with just that one name is there, unless the real module is loaded anyway (with threads it always is:
`threading` needs it, so no other thread can meet the stand-in). Should a Python want more, the plain import is what remains.
"""
from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _load() -> Any:
    if "functools" not in sys.modules and "_sqlite3" not in sys.modules:
        try:
            from _functools import _lru_cache_wrapper  # type: ignore[import-not-found]  # private, and only a shortcut

            stand_in: Any = type(sys)("functools")
            stand_in.lru_cache = lambda maxsize: lambda function: _lru_cache_wrapper(function, maxsize, False, tuple)
            sys.modules["functools"] = stand_in
            try:
                import _sqlite3
            finally:
                del sys.modules["functools"]
            return _sqlite3
        except (ImportError, AttributeError, TypeError):
            sys.modules.pop("_sqlite3", None)
    import _sqlite3

    return _sqlite3


sqlite: Any = _load()
