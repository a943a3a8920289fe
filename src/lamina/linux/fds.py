# SPDX-License-Identifier: Apache-2.0
"""File descriptors: closing ranges, passing them over Unix sockets, and the socket pair that processes of ours talk over."""
from __future__ import annotations

import _socket
import errno
import os
from _struct import iter_unpack, pack

from . import _libc
from ._libc import syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

CLOSE_RANGE_UNSHARE = 2
CLOSE_RANGE_CLOEXEC = 4
_LAST = 0xFFFFFFFF
MAX_FDS = 64


def close_range(first: int, last: int = _LAST, *, cloexec: bool = False) -> None:
    """Closes, or marks close-on-exec, every fd from `first` to `last`; falls back to a walk of the table before Linux 5.11."""
    try:
        syscall(_libc.CLOSE_RANGE, first, last, CLOSE_RANGE_CLOEXEC if cloexec else 0)
    except OSError as e:
        if e.errno not in (errno.ENOSYS, errno.EINVAL, errno.EPERM):
            raise
        _walk(first, last, cloexec)


def _walk(first: int, last: int, cloexec: bool) -> None:
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if first <= fd <= last:
            try:
                if cloexec:
                    os.set_inheritable(fd, False)
                else:
                    os.close(fd)
            except OSError as e:
                if e.errno != errno.EBADF:  # the fd of the listing itself is closed by now
                    raise


def socketpair(kind: int = _socket.SOCK_SEQPACKET) -> tuple[_socket.socket, _socket.socket]:
    """Two connected Unix sockets, both close-on-exec; by default datagrams that keep their order and bounds."""
    a, b = _socket.socketpair(_socket.AF_UNIX, kind | _socket.SOCK_CLOEXEC, 0)
    return a, b


def send_fds(sock: _socket.socket, data: bytes, fds: Sequence[int]) -> int:
    """Sends bytes and fds in one message; returns how many bytes went. The fds stay the caller's."""
    return sock.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, pack(f"={len(fds)}i", *fds))] if fds else [])


def recv_fds(sock: _socket.socket, size: int, max_fds: int = MAX_FDS) -> tuple[bytes, list[int]]:
    """Receives (bytes, fds); empty bytes mean the end. The fds are close-on-exec and the caller's; a cut message is an OSError."""
    data, ancillary, flags, _ = sock.recvmsg(size, _socket.CMSG_SPACE(4 * max_fds) if max_fds else 0, _socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, payload in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds += [fd for (fd,) in iter_unpack("=i", payload[: len(payload) // 4 * 4])]
    if flags & (_socket.MSG_CTRUNC | _socket.MSG_TRUNC):
        for fd in fds:
            os.close(fd)
        raise OSError(errno.EMSGSIZE, "message cut: more bytes or fds than expected")
    return data, fds
