# SPDX-License-Identifier: Apache-2.0
"""Takes away what an engine has put into the host's network.

For `system` commands and tests, when no container of the engine runs. The recorded network stays in the database; the next start makes
the bridge again.
"""
from __future__ import annotations

from lamina.network import setup
from lamina.network.bridge import HOST_LOCK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamina.store.paths import Names


def teardown(names: Names, *, host_lock: str = HOST_LOCK) -> None:
    """Remove the bridge with its ports, the table, and our rules in other people's chains. No error for what is not there."""
    setup.remove(names, host_lock)
