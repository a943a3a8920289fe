# SPDX-License-Identifier: Apache-2.0
"""How a monitor is told what to do: JSON objects with a u32 length (big-endian) before each. [hot]

The helper of `Prepared` gets its aim first, {"cgroup","own_pidns"}; every monitor gets its job, {"plan","attach"}. What its clients say
after that is `protocol`.
"""
from __future__ import annotations

import lamina.errors as errors
from lamina.util import fastjson, steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Mapping
    from typing import Any

MAX_PLAN = 16 << 20


def send_job(sock: _socket.socket, plan: Mapping[str, Any], attach: Mapping[str, bool] | None) -> None:
    explain = {} if steps.tell is None else {"explain": True}
    send(sock, {"plan": dict(plan), "attach": {**(attach or {}), **explain} if attach or explain else None})


def send(sock: _socket.socket, message: dict[str, Any]) -> None:
    """If the monitor has died, the client notices that by itself. StartError if the message is too large."""
    data = fastjson.dumps(message).encode("utf-8", "surrogateescape")
    if len(data) > MAX_PLAN:
        raise errors.StartError(f"a plan of {len(data)} bytes, at most {MAX_PLAN} are allowed")
    try:
        sock.sendall(len(data).to_bytes(4, "big") + data)
    except (BrokenPipeError, ConnectionResetError):
        pass


def receive(sock: _socket.socket) -> dict[str, Any] | None:
    """The next message; None if the maker has gone, or changed its mind. StartError for what is none."""
    head = _receive(sock, 4)
    if len(head) < 4:
        return None
    length = int.from_bytes(head, "big")
    if length > MAX_PLAN:
        raise errors.StartError(f"a plan of {length} bytes")
    data = _receive(sock, length)
    if len(data) < length:
        return None
    try:
        message = fastjson.loads(data)
    except ValueError as e:
        raise errors.StartError(f"a plan that is no JSON: {e}") from None
    if not isinstance(message, dict):
        raise errors.StartError("a plan that is no object")
    return message


def _receive(sock: _socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            break
        data += part
    return data
