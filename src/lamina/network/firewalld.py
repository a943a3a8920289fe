# SPDX-License-Identifier: Apache-2.0
"""firewalld: a bridge goes into its trusted zone, for as long as firewalld's run-time configuration lives.

For `foreign`. firewalld writes its table anew at each reload (and may own it exclusively), so that a rule of ours in it would not
last; an interface in a zone does. It is asked by its own program; nothing happens on hosts where its table does not exist.
"""
from __future__ import annotations

from lamina.network.programs import run

TABLE = "firewalld"
_PROGRAM = "firewall-cmd"


def trust(bridge: str) -> bool:
    """Put the interface into zone `trusted`; False if firewalld could not be asked or refused."""
    return run(_PROGRAM, "--zone=trusted", f"--change-interface={bridge}") is not None


def distrust(bridge: str) -> None:
    """Take the interface out again; whatever firewalld says, it forgets it at the latest when the interface is gone and it reloads."""
    run(_PROGRAM, "--zone=trusted", f"--remove-interface={bridge}")
