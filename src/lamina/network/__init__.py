# SPDX-License-Identifier: Apache-2.0
"""Networks of containers: the engine's bridge, addresses, the firewall, and the files that name resolution needs."""
