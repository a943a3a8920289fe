# SPDX-License-Identifier: Apache-2.0
"""The verbs, a module per group; each has VERBS: key -> `flags.Verb`. `cli.registry` says which module holds which verb."""
