# SPDX-License-Identifier: Apache-2.0
"""Forgets UDP connections of the kernel's connection tracking that were made before a port was published as it is now. [hot]

For the monitor. Only a connection's first packet meets the rewriting rules: a peer that keeps sending would otherwise go on to the
container that had the port before (for as long as it sends more often than every 30 seconds), or to none.
"""
from __future__ import annotations

import errno
import sys

from lamina.linux.netlink import NETLINK_NETFILTER, Netlink, Request, attr, nest, parse_attrs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_SUBSYSTEM = 1
_GET, _DELETE = _SUBSYSTEM << 8 | 1, _SUBSYSTEM << 8 | 2
_MESSAGE = bytes((2, 0, 0, 0))  # AF_INET, version 0
_ORIGINAL, _ID, _FILTER = 1, 12, 25
_PROTOCOL_PART, _NUMBER, _DESTINATION_PORT = 2, 1, 3
_FILTER_ORIGINAL, _FILTER_REPLY = 1, 2
_BY_NUMBER, _BY_DESTINATION_PORT = 1 << 3, 1 << 5
_UDP = 17


def forget_udp(ports: Iterable[int]) -> int:
    """Removes IPv4 UDP entries whose first packet went to one of these ports, whoever sent it; how many. A kernel without the interface
    (or without the right) is left alone: peers then come right once they pause."""
    gone = 0
    try:
        with Netlink(NETLINK_NETFILTER) as socket:
            for port in ports:
                for body in _entries(socket, port):
                    found = parse_attrs(body, 4)
                    parts = parse_attrs(parse_attrs(found[_ORIGINAL])[_PROTOCOL_PART])
                    if parts.get(_NUMBER, b"")[:1] != bytes((_UDP,)) or parts.get(_DESTINATION_PORT, b"")[:2] != port.to_bytes(2, "big"):
                        continue
                    which = nest(_ORIGINAL, found[_ORIGINAL]) + attr(_ID, found[_ID])
                    socket.call([Request(_DELETE, 0, _MESSAGE + which, "forget connection")], ignore=(errno.ENOENT,))
                    gone += 1
    except OSError:
        pass
    return gone


def _entries(socket: Netlink, port: int) -> list[bytes]:
    protocol = attr(_NUMBER, bytes((_UDP,))) + attr(_DESTINATION_PORT, port.to_bytes(2, "big"))
    flags = (_BY_NUMBER | _BY_DESTINATION_PORT).to_bytes(4, sys.byteorder)
    wanted = nest(_ORIGINAL, nest(_PROTOCOL_PART, protocol)) + nest(_FILTER, attr(_FILTER_ORIGINAL, flags), attr(_FILTER_REPLY, bytes(4)))
    try:
        return socket.dump(Request(_GET, 0, _MESSAGE + wanted, "list connections"))
    except OSError as failure:
        if failure.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
        return socket.dump(Request(_GET, 0, _MESSAGE, "list connections"))  # before 5.8 the kernel doesn't choose
