# SPDX-License-Identifier: Apache-2.0
"""The command line: docker 26.1's verbs, flags, texts, tables and exit codes over `lamina.engine`.

`main` dispatches and maps errors, `flags` parses as pflag does, `verbs/` has a module per group of verbs, loaded when used;
`table`, `term` and `attach` are on the hot path, `template`, `help` and `helptexts` are loaded only for what needs them.
"""
