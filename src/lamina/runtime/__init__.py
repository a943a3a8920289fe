# SPDX-License-Identifier: Apache-2.0
"""The built-in OCI runtime: a config.json as a dict in, a container out; it knows no store, image or engine.

`create.create` and `exec.exec_process` start processes; `users` and `defaults` help to write the dict; `cgroups`, `seccomp` and
`profile` are its other inputs. What runs in the child imports nothing and reports every failure over a socket.
"""
