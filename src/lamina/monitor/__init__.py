# SPDX-License-Identifier: Apache-2.0
"""A process per container and per exec: holds its stdio, writes its log, serves its socket, sees its end, cleans up after it.

`launch` starts one from a plan, `client` talks to it, `main` and `execmon` are what it does, `loop` is where it spends its life.
The parts in between: `protocol` (frames), `server` (the clients' side of the monitor), `stdio` (pipes or pty), `logs` and
`logread` (the json-file log). A monitor is single-threaded, never opens the database, and is the only writer of its state file.
"""
