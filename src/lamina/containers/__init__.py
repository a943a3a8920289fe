# SPDX-License-Identifier: Apache-2.0
"""Rows and run-time state of containers: what was asked (database) and what is (state.json)."""
