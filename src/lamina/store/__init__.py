# SPDX-License-Identifier: Apache-2.0
"""The data root: every path on disk, the metadata database, leases, the event journal, trash, and the checker.

docs/on-disk.md describes the layout and numbers its invariants; `check.py` proves them.
"""
