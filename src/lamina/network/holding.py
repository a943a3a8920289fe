# SPDX-License-Identifier: Apache-2.0
"""Host ports, held by sockets: who has bound it has published it. [hot]

For the monitor. The kernel is the only allocator, so parallel starts, other engines and ordinary programs can't get the same port, and
whatever way a monitor ends, its ports are free. TCP sockets listen as well: two sockets that allow reuse (needed, as the relay's ended
connections would keep the port for a minute) could both be bound, but only one can listen.
"""
from __future__ import annotations

import _socket
import errno
import os

from lamina.errors import StartError
from lamina.network import ports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Wanted = tuple[int, int, str, int, int]  # protocol number, port in the container, host address ("" all), first and last host port

_ANY4, _ANY6 = "0.0.0.0", "::"
_TRIES = 64
_BACKLOG = 1024
_MANY = 200
IPPROTO_IPV6, IPV6_V6ONLY, IPV6_RECVPKTINFO, IPPROTO_IP, IP_PKTINFO = 41, 26, 49, 0, 8


class Held:
    """A bound socket, nonblocking; for TCP it listens, for UDP it tells with each packet which address that came to."""

    __slots__ = ("sock", "protocol", "private", "address", "port")

    def __init__(self, sock: _socket.socket, protocol: int, private: int, address: str, port: int) -> None:
        self.sock = sock
        self.protocol = protocol
        self.private = private
        self.address = address
        self.port = port

    @property
    def bound(self) -> tuple[int, int, str, int]:
        return self.protocol, self.private, self.address, self.port


def hold(wanted: Iterable[Wanted], table: str) -> list[Held]:
    """Binds them all or none. First port 0: the kernel picks one of net.ipv4.ip_local_port_range; a range: the first free one.
    StartError with docker's words when one can't be had; `table` only tells whether a container of this engine has it."""
    held: list[Held] = []
    six: bool | None = None
    wanted = list(wanted)
    if len(wanted) > _MANY:
        _allow_files(4 * len(wanted))
    try:
        for protocol, private, address, first, last in wanted:
            if address:
                addresses = [address]
            else:
                six = has_ipv6() if six is None else six
                addresses = [_ANY4, _ANY6] if six else [_ANY4]
            held += _hold_one(protocol, private, addresses, first, last, table, held)
    except BaseException:
        release(held)
        raise
    return held


def release(held: Iterable[Held]) -> None:
    for one in held:
        one.sock.close()


def has_ipv6() -> bool:
    """Whether this host has IPv6 switched on, as far as its loopback says."""
    try:
        with _Socket(_socket.AF_INET6, _socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


class _Socket(_socket.socket):
    """With a `with`, which the C module's lacks."""

    __slots__ = ()

    def __enter__(self) -> _Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _allow_files(count: int) -> None:
    """Raises our own limit as far as that goes; the container's process has been made already, and has its own."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard) if hard != resource.RLIM_INFINITY else count, hard))


def _hold_one(protocol: int, private: int, addresses: list[str], first: int, last: int, table: str, before: list[Held]) -> list[Held]:
    failure: OSError | None = None
    address, port = addresses[0], first
    for candidate in range(first, last + 1) if first else (0,) * _TRIES:
        held: list[Held] = []
        port = candidate
        try:
            for address in addresses:  # one number on all of them; where the kernel picked it for the first, the next may not have it
                sock = _bind(protocol, address, port)
                port = sock.getsockname()[1]
                held.append(Held(sock, protocol, private, address, port))
            return held
        except OSError as e:
            release(held)
            failure = e
            if e.errno != errno.EADDRINUSE:
                break
    assert failure is not None
    ours = failure.errno == errno.EADDRINUSE and (
        any(one.protocol == protocol and one.port == port for one in before) or ports.is_published(table, protocol, port))
    shown = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    if ours:
        raise StartError(f"Bind for {shown} failed: port is already allocated")
    family = ports.NAMES[protocol] + ("6" if ":" in address else "4")
    why = "bind: " + os.strerror(failure.errno or 0).lower()
    raise StartError(f"Error starting userland proxy: listen {family} {shown}: {why}")


def _bind(protocol: int, address: str, port: int) -> _socket.socket:
    six = ":" in address
    kind = _socket.SOCK_STREAM if protocol == ports.TCP else _socket.SOCK_DGRAM
    sock = _socket.socket(_socket.AF_INET6 if six else _socket.AF_INET, kind | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC, protocol)
    try:
        if six:
            sock.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)
        if protocol == ports.TCP:
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        elif six:
            sock.setsockopt(IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(IPPROTO_IP, IP_PKTINFO, 1)
        sock.bind((address, port))
        if protocol == ports.TCP:
            sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
