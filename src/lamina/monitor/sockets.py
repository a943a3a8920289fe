# SPDX-License-Identifier: Apache-2.0
"""Both ends of a monitor's socket: its name, a path that fits, and who may be at the other end."""
from __future__ import annotations

import os
from _socket import SO_PEERCRED, SOL_SOCKET

import lamina.errors as errors
from lamina.monitor import protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any

SOCK = "sock"
SUN_PATH = 107  # bytes that fit into sockaddr_un with the final NUL


def with_short_path(directory: str, name: str, use: Any) -> None:
    """Calls `use(path)` with a path to `directory/name` that fits into a socket address, however long `directory` is."""
    path = os.path.join(directory, name)
    try:
        if len(os.fsencode(path)) <= SUN_PATH:
            use(path)
            return
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            use(f"/proc/self/fd/{fd}/{name}")
        finally:
            os.close(fd)
    except OSError as e:
        raise OSError(e.errno, e.strerror, path)


def check_peer(sock: _socket.socket) -> None:
    """Raises Forbidden unless the other end is root's or our own user's. There are no abstract sockets, so the mode 0600 holds too."""
    cred = sock.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)
    uid = protocol.U32_NATIVE.unpack_from(cred, 4)[0]
    if uid not in (0, os.geteuid()):
        raise errors.Forbidden(f"the peer on the monitor's socket is user {uid}, not root or user {os.geteuid()}")
