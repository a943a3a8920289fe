# SPDX-License-Identifier: Apache-2.0
"""Netlink: the codec of messages and attributes, and a socket with an error per message. [hot]

Beneath `rtnetlink` (links, addresses, routes) and `nfnetlink` (the firewall). Packed by hand: a library for it costs 140 ms of imports.
Invariants: an attribute that does not fit its 16-bit length is refused, never truncated (attack 23); everything received is checked
against its own length fields; a batch is one send(2), and its first failure is raised as OSError whose filename says which message
failed (`rtnetlink: add link x`), with the kernel's own sentence where it gives one.
"""
from __future__ import annotations

import errno
import os
from _socket import AF_NETLINK, MSG_DONTWAIT, MSG_TRUNC, SOCK_CLOEXEC, SOCK_RAW
from _socket import socket as _Socket
from _struct import Struct, unpack_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

NLM_F_REQUEST, NLM_F_ACK = 0x1, 0x4
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
NLM_F_DUMP = 0x300
_NLM_F_DUMP_INTR, _NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x10, 0x100, 0x200

_NLMSG_NOOP, NLMSG_ERROR, _NLMSG_DONE = 1, 2, 3
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 270, 10, 11
_NLMSGERR_ATTR_MSG = 1

NLA_F_NESTED = 0x8000
_NLA_TYPE_MASK = 0x3FFF
MAX_PAYLOAD = 0xFFFF - 4  # nla_len is 16 bits wide and counts its own header

_HEADER = Struct("=IHHII")
_ATTR = Struct("=HH")
_U32 = Struct("=I")
_RECV_SIZE = 1 << 16


def attr(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to 4 bytes. OSError EMSGSIZE if the payload doesn't fit a 16-bit length."""
    size = len(payload)
    if size > MAX_PAYLOAD:
        raise OSError(errno.EMSGSIZE, f"attribute of {size} bytes", f"netlink attribute {kind & _NLA_TYPE_MASK}")
    return _ATTR.pack(size + 4, kind) + payload + b"\0" * (-size & 3)


def attr_u32(kind: int, value: int) -> bytes:
    """A 32-bit attribute in host order."""
    return _ATTR.pack(8, kind) + _U32.pack(value)


def attr_str(kind: int, text: str) -> bytes:
    """A NUL-terminated string; a NUL inside would be cut by the kernel and is refused."""
    raw = text.encode()
    if b"\0" in raw:
        raise OSError(errno.EINVAL, "NUL in a name", f"netlink attribute {kind & _NLA_TYPE_MASK}")
    return attr(kind, raw + b"\0")


def nest(kind: int, *attrs: bytes) -> bytes:
    """Attributes inside an attribute."""
    return attr(kind | NLA_F_NESTED, b"".join(attrs))


def iter_attrs(data: bytes, offset: int = 0) -> list[tuple[int, bytes]]:
    """[(kind, payload)] in order, flags masked off. OSError EBADMSG if a length lies."""
    found = []
    end = len(data)
    while end - offset >= 4:
        size, kind = _ATTR.unpack_from(data, offset)
        if size < 4 or offset + size > end:
            raise OSError(errno.EBADMSG, f"attribute length {size} at {offset} of {end}", "netlink")
        found.append((kind & _NLA_TYPE_MASK, data[offset + 4:offset + size]))
        offset += (size + 3) & ~3
    return found


def parse_attrs(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """As iter_attrs, the last of each kind."""
    return dict(iter_attrs(data, offset))


class Request:
    """A message before it has a sequence number. `what` names it in errors, e.g. `add link lamina0`."""

    __slots__ = ("kind", "flags", "body", "what")

    def __init__(self, kind: int, flags: int, body: bytes, what: str) -> None:
        self.kind = kind
        self.flags = flags | NLM_F_REQUEST
        self.body = body
        self.what = what

    def pack(self, sequence: int, flags: int = 0) -> bytes:
        size = 16 + len(self.body)
        return _HEADER.pack(size, self.kind, self.flags | flags, sequence, 0) + self.body + b"\0" * (-size & 3)


class Netlink:
    """A netlink socket; it stays in the network namespace in which it was opened. Not for use by two threads at once."""

    protocol_name = "rtnetlink"

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        self._socket = _Socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol)
        self._sequence = 0
        self._buffer = bytearray(_RECV_SIZE)
        for option in (_NETLINK_EXT_ACK, _NETLINK_CAP_ACK):
            try:
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
            except OSError:
                pass  # before 4.12: errors come without a sentence, and echo the request, which `_failure` skips
        self._socket.bind((0, 0))

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def next_sequence(self) -> int:
        self._sequence += 1
        return self._sequence

    def call(self, requests: Sequence[Request], *, ignore: tuple[int, ...] = ()) -> None:
        """Send all in one go and check each one's acknowledgement; the kernel goes on after a failure, so the first one is
        raised when all are done. Errnos in `ignore` count as success. Not atomic."""
        pending: dict[int, Request] = {}
        parts = []
        for request in requests:
            sequence = self.next_sequence()
            pending[sequence] = request
            parts.append(request.pack(sequence, NLM_F_ACK))
        self.send(b"".join(parts))
        self.collect(pending, ignore)

    def get(self, request: Request) -> bytes | None:
        """The body of the single answer; None if the object does not exist (ENODEV, ENOENT, ENXIO)."""
        sequence = self.next_sequence()
        self.send(request.pack(sequence))
        while True:
            for kind, _flags, number, body in self._receive():
                if number != sequence:
                    continue
                if kind != NLMSG_ERROR:
                    return body
                failure = self._failure(body, _flags, request.what)
                if failure is None or failure.errno in (errno.ENODEV, errno.ENOENT, errno.ENXIO):
                    return None
                raise failure

    def dump(self, request: Request) -> list[bytes]:
        """The bodies of all answers. A dump that the kernel marks as interrupted by a change is repeated."""
        for _attempt in range(10):
            found, interrupted = self._dump(request)
            if not interrupted:
                return found
        raise OSError(errno.EINTR, "the list kept changing", f"{self.protocol_name}: {request.what}")

    def _dump(self, request: Request) -> tuple[list[bytes], bool]:
        sequence = self.next_sequence()
        self.send(request.pack(sequence, NLM_F_DUMP))
        found: list[bytes] = []
        interrupted = False
        while True:
            for kind, flags, number, body in self._receive():
                if number != sequence:
                    continue
                if flags & _NLM_F_DUMP_INTR:
                    interrupted = True
                if kind == _NLMSG_DONE:
                    if len(body) >= 4 and (code := unpack_from("=i", body)[0]) < 0:
                        raise OSError(-code, os.strerror(-code), f"{self.protocol_name}: {request.what}")
                    return found, interrupted
                if kind == NLMSG_ERROR:
                    failure = self._failure(body, flags, request.what)
                    if failure is not None:
                        raise failure
                    return found, interrupted
                found.append(body)

    def send(self, data: bytes) -> None:
        self._socket.sendto(data, (0, 0))

    def collect(self, pending: dict[int, Request], ignore: tuple[int, ...] = ()) -> None:
        """Read until every sequence number in `pending` is answered; raise the failure of the earliest message."""
        waiting = set(pending)
        first: tuple[int, OSError] | None = None
        while waiting:
            for kind, flags, number, body in self._receive():
                if kind != NLMSG_ERROR or number not in waiting:
                    continue
                waiting.discard(number)
                failure = self._failure(body, flags, pending[number].what)
                if failure is not None and failure.errno not in ignore and (first is None or number < first[0]):
                    first = (number, failure)
        if first is not None:
            raise first[1]

    def _failure(self, body: bytes, flags: int, what: str) -> OSError | None:
        if len(body) < 20:
            return OSError(errno.EBADMSG, "short acknowledgement", f"{self.protocol_name}: {what}")
        code = -unpack_from("=i", body)[0]
        if code == 0:
            return None
        text = os.strerror(code)
        if flags & _NLM_F_ACK_TLVS:
            inner = 16 if flags & _NLM_F_CAPPED else (unpack_from("=I", body, 4)[0] + 3) & ~3
            sentence = parse_attrs(body, 4 + inner).get(_NLMSGERR_ATTR_MSG)
            if sentence:
                text = f"{text} ({sentence.rstrip(chr(0).encode()).decode('utf-8', 'replace')})"
        return OSError(code, text, f"{self.protocol_name}: {what}")

    def _receive(self, flags: int = 0) -> list[tuple[int, int, int, bytes]]:
        """One datagram from the kernel as [(kind, flags, sequence, body)]."""
        buffer = self._buffer
        count, address = self._socket.recvfrom_into(buffer, 0, flags | MSG_TRUNC)
        if address[0] != 0:  # any process may send to our port; only the kernel (port 0) is believed
            return []
        if count > len(buffer):
            raise OSError(errno.EMSGSIZE, f"answer of {count} bytes", self.protocol_name)
        data = bytes(memoryview(buffer)[:count])
        found = []
        offset = 0
        while count - offset >= 16:
            length, kind, message_flags, sequence, _port = _HEADER.unpack_from(data, offset)
            if length < 16 or offset + length > count:
                raise OSError(errno.EBADMSG, f"message length {length} at {offset} of {count}", self.protocol_name)
            if kind != _NLMSG_NOOP:
                found.append((kind, message_flags, sequence, data[offset + 16:offset + length]))
            offset += (length + 3) & ~3
        return found

    def drain(self) -> None:
        """Drop answers that nobody waits for (after a batch that failed as a whole)."""
        try:
            while True:
                self._receive(MSG_DONTWAIT)
        except BlockingIOError:
            pass
