# SPDX-License-Identifier: Apache-2.0
"""Small tools without state that every part uses: JSON, ids, times, digests, atomic files, locks.

[hot] modules here import nothing that costs: `run` and the monitor load them. They know no path of the store.
"""
