# SPDX-License-Identifier: Apache-2.0
"""Expressions of nf_tables rules, one small builder each, and the reading of verdicts. [hot]

For `network/firewall` and `network/foreign`. A rule is the concatenation of the lists that these builders return. Register 1 holds
the value that is being looked at; keys of several fields lie in consecutive 4-byte registers from `FIELD` on, which is the same place.
"""
from __future__ import annotations

import sys
from _socket import AF_INET, inet_pton

from lamina.linux.netlink import attr, attr_str, nest, parse_attrs
from lamina.linux.nfnetlink import be32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamina.linux.nfnetlink import Rule

EQUAL, UNEQUAL = 0, 1
CT_ESTABLISHED, CT_RELATED = 2, 4
CT_STATUS_DNAT = 1 << 5
DROP, ACCEPT, JUMP, GOTO, RETURN = 0, 1, -3, -4, -5
FIELD = 8  # NFT_REG32_00; FIELD + n is the n-th 4-byte field of register 1
_BYTE_ORDER = sys.byteorder
_VERDICT, _VALUE = 0, 1
_META_IIFNAME, _META_OIFNAME, _META_NFPROTO, _META_L4PROTO = 6, 7, 15, 16
_NETWORK, _TRANSPORT = 1, 2
_SOURCE, _DESTINATION = 12, 16  # offsets of the addresses in an IPv4 header
_CT_STATE, _CT_STATUS = 0, 2
_FIB_ADDRTYPE, _FIB_DADDR, _RTN_LOCAL = 3, 2, 2
_IMM_REG, _IMM_DATA, _DATA_VALUE, _DATA_VERDICT, _VERDICT_CODE, _VERDICT_CHAIN = 1, 2, 1, 2, 1, 2


def expression(name: str, *attrs: bytes) -> bytes:
    return attr_str(1, name) + nest(2, *attrs)


def _compare(operator: int, value: bytes) -> bytes:
    return expression("cmp", be32(1, _VALUE), be32(2, operator), nest(3, attr(_DATA_VALUE, value)))


def _meta(key: int, register: int = _VALUE) -> bytes:
    return expression("meta", be32(1, register), be32(2, key))


def _payload(base: int, offset: int, size: int, register: int = _VALUE) -> bytes:
    return expression("payload", be32(1, register), be32(2, base), be32(3, offset), be32(4, size))


def _masked(mask: bytes) -> bytes:
    size = len(mask)
    return expression("bitwise", be32(1, _VALUE), be32(2, _VALUE), be32(3, size), nest(4, attr(_DATA_VALUE, mask)),
                      nest(5, attr(_DATA_VALUE, bytes(size))))


def iifname(name: str, operator: int = EQUAL) -> list[bytes]:
    """The interface that the packet came in by; compared with its NUL, so not as a prefix."""
    return [_meta(_META_IIFNAME), _compare(operator, name.encode() + b"\0")]


def oifname(name: str, operator: int = EQUAL) -> list[bytes]:
    return [_meta(_META_OIFNAME), _compare(operator, name.encode() + b"\0")]


def oifname_in(set_name: str) -> list[bytes]:
    return [_meta(_META_OIFNAME), expression("lookup", attr_str(1, set_name), be32(2, _VALUE))]


def ipv4() -> list[bytes]:
    """Only IPv4 packets: needed before any look at IPv4 addresses in an inet table."""
    return [_meta(_META_NFPROTO), _compare(EQUAL, b"\x02")]


def _network(offset: int, network: str, prefix: int, operator: int) -> list[bytes]:
    mask = ((0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF).to_bytes(4, "big")
    return [_payload(_NETWORK, offset, 4), _masked(mask), _compare(operator, inet_pton(AF_INET, network))]


def source(network: str, prefix: int, operator: int = EQUAL) -> list[bytes]:
    """IPv4 source in network/prefix (host bits zero)."""
    return _network(_SOURCE, network, prefix, operator)


def destination(network: str, prefix: int, operator: int = EQUAL) -> list[bytes]:
    return _network(_DESTINATION, network, prefix, operator)


def destination_is_local() -> list[bytes]:
    """The packet is for an address of this host, by its routing table."""
    return [expression("fib", be32(1, _VALUE), be32(2, _FIB_ADDRTYPE), be32(3, _FIB_DADDR)),
            _compare(EQUAL, _RTN_LOCAL.to_bytes(4, _BYTE_ORDER))]


def _conntrack(key: int, bits: int, operator: int) -> list[bytes]:
    # any of the bits set (UNEQUAL zero), or none (EQUAL zero)
    return [expression("ct", be32(1, _VALUE), be32(2, key)), _masked(bits.to_bytes(4, _BYTE_ORDER)), _compare(operator, bytes(4))]


def established() -> list[bytes]:
    """Part of, or related to, a connection that was let through before."""
    return _conntrack(_CT_STATE, CT_ESTABLISHED | CT_RELATED, UNEQUAL)


def not_established() -> list[bytes]:
    return _conntrack(_CT_STATE, CT_ESTABLISHED | CT_RELATED, EQUAL)


def was_dnat() -> list[bytes]:
    """The connection's destination was rewritten: it came by a published port."""
    return _conntrack(_CT_STATUS, CT_STATUS_DNAT, UNEQUAL)


def load_destination(field: int) -> bytes:
    """IPv4 destination address into a field of the key."""
    return _payload(_NETWORK, _DESTINATION, 4, FIELD + field)


def load_protocol(field: int) -> bytes:
    """Layer 4 protocol number (1 byte, zero-padded) into a field of the key."""
    return _meta(_META_L4PROTO, FIELD + field)


def load_destination_port(field: int) -> bytes:
    """Bytes 2-3 of the transport header; means a port only beside the protocol in the same key."""
    return _payload(_TRANSPORT, 2, 2, FIELD + field)


def lookup_map(name: str) -> bytes:
    """The map's value for the key in register 1, into the fields from 0 on; a packet without one leaves the rule."""
    return expression("lookup", attr_str(1, name), be32(2, _VALUE), be32(3, _VALUE))


def dnat_to_fields() -> bytes:
    """Rewrite the destination to the address in field 0 and the port in field 1."""
    return expression("nat", be32(1, 1), be32(2, 2), be32(3, FIELD), be32(5, FIELD + 1))


def masquerade() -> bytes:
    return expression("masq")


def counter() -> bytes:
    return expression("counter")


def verdict(code: int, chain: str = "") -> bytes:
    """DROP, ACCEPT, RETURN, or JUMP / GOTO to a chain."""
    inner = be32(_VERDICT_CODE, code)
    if chain:
        inner += attr_str(_VERDICT_CHAIN, chain)
    return expression("immediate", be32(_IMM_REG, _VERDICT), nest(_IMM_DATA, nest(_DATA_VERDICT, inner)))


def verdict_of(rule: Rule) -> tuple[int, str] | None:
    """(code, chain) of the verdict at a rule's end; a `reject` counts as DROP; None for a rule that only counts, logs or rewrites."""
    for name, attrs in rule.expressions:
        if name == "reject":
            return DROP, ""
        if name != "immediate" or int.from_bytes(attrs.get(_IMM_REG, b"\xff"), "big") != _VERDICT:
            continue
        data = parse_attrs(attrs.get(_IMM_DATA, b"")).get(_DATA_VERDICT)
        if data is not None:
            inner = parse_attrs(data)
            chain = inner.get(_VERDICT_CHAIN, b"").rstrip(b"\0").decode("utf-8", "replace")
            return int.from_bytes(inner.get(_VERDICT_CODE, b""), "big", signed=True), chain
    return None


def is_unconditional(rule: Rule) -> bool:
    """Whether every packet that reaches the rule meets its verdict: nothing before it but counting and logging."""
    return all(name in ("immediate", "counter", "log", "reject") for name, _attrs in rule.expressions)
