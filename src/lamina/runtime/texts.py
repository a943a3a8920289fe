# SPDX-License-Identifier: Apache-2.0
"""How a failed start is worded: docker's chain of prefixes around runc's sentences, which clients match on.

`run` and `exec` clients take 126 and 127 from "permission denied", "executable file not found" and "no such file or directory", so
these sentences are exact; the name of the runtime is ours. `core` takes the chain off again for `lamina-runtime`, which is inside it.
"""
from __future__ import annotations

import errno
from posix import strerror

from lamina.errors import CommandNotExecutable, CommandNotFound, StartError

CREATE = ("failed to create task for container: failed to create shim task: OCI runtime create failed: lamina-runtime create failed: "
          "unable to start container process: ")
EXEC = "OCI runtime exec failed: exec failed: unable to start container process: "
SUFFIX = ": unknown"
WRONG_KIND = (": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the "
              "expected type")

KINDS: tuple[type[StartError], ...] = (StartError, CommandNotFound, CommandNotExecutable)


def reason(error: OSError) -> str:
    """The errno's text as Go prints it: lower case at the start."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def wrap(kind: int, core_text: str, prefix: str) -> StartError:
    """The exception for a child's report; `kind` indexes KINDS."""
    tail = WRONG_KIND if "mounting" in core_text and core_text.endswith("not a directory") else ""
    return KINDS[kind](prefix + core_text + SUFFIX + tail)


def core(message: str) -> str:
    """The runtime's own sentence in a message that `wrap` made; any other message as it is."""
    for prefix in (CREATE, EXEC):
        if message.startswith(prefix):
            return "unable to start container process: " + message[len(prefix):].partition(SUFFIX)[0]
    return message


def lookup_failure(name: str, error: OSError | None) -> StartError:
    """Why args[0] can't be executed; `error` is None when the search of PATH ended without a find."""
    if error is None:
        return CommandNotFound(f'exec: "{name}": executable file not found in $PATH')
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return CommandNotFound(f'exec: "{name}": stat {name}: {reason(error)}')
    return CommandNotExecutable(f'exec: "{name}": {reason(error)}')


def exec_failure(path: str, error: OSError) -> StartError:
    """Why execve itself failed: a script's interpreter or a loader that isn't there, an unknown format, a refusal."""
    kind = CommandNotFound if error.errno in (errno.ENOENT, errno.ENOTDIR) else CommandNotExecutable
    return kind(f"exec {path}: {strerror(error.errno or 0).lower()}")
