# SPDX-License-Identifier: Apache-2.0
"""The use cases: the only place that combines stores, layers, network, runtime and monitor.

One module per group of verbs; `engine.Engine` owns the parts. Bodies and results are the Docker Engine API's JSON objects, so
that each face (CLI, library, server) maps them to its own form without another model between. Nothing here prints, reads the
environment or exits.
"""
