# SPDX-License-Identifier: Apache-2.0
"""What the old ip_tables of a network namespace holds, asked of the kernel without a program: enough to see whether it has changed. [hot]

linux/netfilter_ipv4/ip_tables.h: IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES on a raw socket (needs CAP_NET_ADMIN). The kernel counts no
changes of these tables, so the rules themselves are compared, without the packet counters in them.
"""
from __future__ import annotations

import _socket
from _struct import pack, pack_into, unpack_from
from zlib import crc32

from . import _libc
from ._libc import syscall

_GET_INFO, _GET_ENTRIES = 64, 65
_INFO_SIZE = 84  # name[32], valid_hooks, hook_entry[5], underflow[5], num_entries, size
_HEAD = 40  # struct ipt_get_entries before its entries: name[32], size, padding
_NEXT, _COUNTERS, _ENTRY = 90, 96, 112  # offsets in struct ipt_entry, and its size
_LIMIT = 64 << 20


def fingerprint(table: str = "filter") -> str:
    """Equal as long as the rules are. Raises OSError (ENOENT: no such table); OSError EAGAIN if it changes while it is read."""
    name = table.encode()
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, _socket.IPPROTO_RAW)
    try:
        info = bytearray(pack("=32s52x", name))
        _get(sock.fileno(), _GET_INFO, info)
        count, size = unpack_from("=II", info, _INFO_SIZE - 8)
        data = bytearray(_HEAD + min(size, _LIMIT))
        pack_into("=32sI", data, 0, name, size)
        _get(sock.fileno(), _GET_ENTRIES, data)
    finally:
        sock.close()
    at = _HEAD
    while at + _ENTRY <= len(data):
        data[at + _COUNTERS : at + _ENTRY] = bytes(_ENTRY - _COUNTERS)
        step = unpack_from("=H", data, at + _NEXT)[0]
        if step < _ENTRY:
            break
        at += step
    return f"{count}.{size}.{crc32(info):08x}.{crc32(data):08x}"


def _get(fd: int, option: int, buffer: bytearray) -> None:
    syscall(_libc.GETSOCKOPT, fd, _socket.IPPROTO_IP, option, buffer, bytearray(pack("=I", len(buffer))), path="ip_tables")
