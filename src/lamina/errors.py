# SPDX-License-Identifier: Apache-2.0
"""Every error that lamina raises on purpose, as one small tree.

    LaminaError                     exit 1    HTTP 500
    ├── InvalidArgument             exit 1    HTTP 400   the request itself is wrong
    │   └── NotSupported            exit 1    HTTP 501   right, but not done by this engine or kernel
    ├── NotFound                    exit 1    HTTP 404   texts that clients match on: "No such container: x"
    ├── Conflict                    exit 1    HTTP 409   the state of the object forbids it
    ├── Forbidden                   exit 1    HTTP 403   not allowed, whatever the state
    ├── StoreError                  exit 1    HTTP 500   the data root: damaged, too new, foreign, full
    ├── ArchiveError                exit 1    HTTP 400   a tar, manifest or config that can't be believed
    ├── RegistryError               exit 1    HTTP 502   another machine did not answer, or not as it should
    └── StartError                  exit 125  HTTP 500   the container could not be made or started
        ├── CommandNotExecutable    exit 126  HTTP 400
        └── CommandNotFound         exit 127  HTTP 400

Below the faces nothing prints or exits; each face maps this tree once (`cli.main`, `runtime.cli`). Kernel calls raise plain
`OSError`; whoever knows what was being done turns it into one of these. Imports nothing: it is on the hot path.
"""
from __future__ import annotations


class LaminaError(Exception):
    """Base: `message` names the object and its state, without a final period; `hint` says what to do about it."""

    exit_code = 1
    http_status = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidArgument(LaminaError):
    http_status = 400


class NotSupported(InvalidArgument):
    http_status = 501


class NotFound(LaminaError):
    http_status = 404


class Conflict(LaminaError):
    http_status = 409


class Forbidden(LaminaError):
    http_status = 403


class StoreError(LaminaError):
    pass


class ArchiveError(LaminaError):
    http_status = 400


class RegistryError(LaminaError):
    http_status = 502


class StartError(LaminaError):
    exit_code = 125


class CommandNotExecutable(StartError):
    exit_code = 126
    http_status = 400


class CommandNotFound(StartError):
    exit_code = 127
    http_status = 400
