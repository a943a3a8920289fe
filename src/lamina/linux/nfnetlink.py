# SPDX-License-Identifier: Apache-2.0
"""nf_tables over netlink: atomic batches, and what stands in the kernel: tables, chains, rules, elements. [hot]

For `network/firewall` and `network/foreign`; works whether or not the nft program is installed, and never calls it. Rules are lists of
expressions from `linux.nft`. Numbers in nf_tables attributes are big-endian. A `Batch` is all or nothing; the first failing message
is raised as OSError whose filename says which it was.
"""
from __future__ import annotations

import errno
from _struct import Struct, pack

from lamina.linux.netlink import (
    NETLINK_NETFILTER,
    NLM_F_ACK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLMSG_ERROR,
    Netlink,
    Request,
    attr,
    attr_str,
    iter_attrs,
    nest,
    parse_attrs,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Element = tuple[bytes, bytes | None, str]  # key, value (None in a set), comment

UNSPEC, INET, IPV4, BRIDGE, IPV6 = 0, 1, 2, 7, 10  # NFPROTO_*
FAMILY_NAMES = {INET: "inet", IPV4: "ip", BRIDGE: "bridge", IPV6: "ip6"}
PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = 0, 1, 2, 3, 4
DROP, ACCEPT = 0, 1

SET_ANONYMOUS, SET_CONSTANT, SET_INTERVAL, SET_MAP = 1, 2, 4, 8
# data types as the nft program numbers them: they only make its listings readable
TYPE_IPV4, TYPE_PROTOCOL, TYPE_PORT, TYPE_IFNAME = 7, 12, 13, 41
_TYPE_BITS = 6

_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
(_NEWTABLE, _GETTABLE, _DELTABLE, _NEWCHAIN, _GETCHAIN, _DELCHAIN, _NEWRULE, _GETRULE, _DELRULE, _NEWSET, _GETSET, _DELSET,
 _NEWSETELEM, _GETSETELEM, _DELSETELEM, _NEWGEN, _GETGEN) = (_SUBSYSTEM << 8 | n for n in range(17))
_TABLE_NAME, _TABLE_FLAGS, _TABLE_HANDLE, _TABLE_USERDATA = 1, 2, 4, 6
_CHAIN_TABLE, _CHAIN_HANDLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE = 1, 2, 3, 4, 5, 7
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_RULE_TABLE, _RULE_CHAIN, _RULE_HANDLE, _RULE_EXPRESSIONS, _RULE_USERDATA = 1, 2, 3, 4, 7
(_SET_TABLE, _SET_NAME, _SET_FLAGS, _SET_KEY_TYPE, _SET_KEY_LEN, _SET_DATA_TYPE, _SET_DATA_LEN, _SET_ID, _SET_USERDATA) = (
    1, 2, 3, 4, 5, 6, 7, 10, 13)
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS, _LIST_ELEM = 1, 2, 3, 1
_ELEM_KEY, _ELEM_DATA, _ELEM_USERDATA = 1, 2, 6
_DATA_VALUE = 1
_EXPR_NAME, _EXPR_DATA = 1, 2
_GEN_ID = 1
_BATCH_GEN_ID = 1
_UDATA_COMMENT, _UDATA_SET_BYTE_ORDER, _UDATA_SET_COMMENT = 0, 0, 7
_HOST_ORDER, _BIG_ENDIAN = 1, 2  # how the nft program should read keys when it lists them
_MAX_COMMENT = 127
_GENMSG = Struct("!BBH")
_U32 = Struct("!I")


def be32(kind: int, value: int) -> bytes:
    """A big-endian 32-bit attribute; negative values (priorities, verdicts) as two's complement."""
    return attr(kind, _U32.pack(value & 0xFFFFFFFF))


def concatenated(*types: int) -> int:
    """The type number of a key that is several fields side by side, each padded to 4 bytes."""
    number = 0
    for one in types:
        number = number << _TYPE_BITS | one
    return number


def _comment(text: str, kind: int = _UDATA_COMMENT) -> bytes:
    raw = text.encode() + b"\0"
    if len(raw) > _MAX_COMMENT:
        raise OSError(errno.EMSGSIZE, "comment too long", f"nftables: {text}")
    return bytes((kind, len(raw))) + raw


def _read_comment(userdata: bytes, kind: int = _UDATA_COMMENT) -> str:
    offset = 0
    while offset + 2 <= len(userdata):
        size = userdata[offset + 1]
        if userdata[offset] == kind:
            return userdata[offset + 2:offset + 2 + size].rstrip(b"\0").decode("utf-8", "replace")
        offset += 2 + size
    return ""


class Table:
    __slots__ = ("family", "name", "comment")

    def __init__(self, family: int, name: str, comment: str) -> None:
        self.family = family
        self.name = name
        self.comment = comment


class Chain:
    """`hook` is None for a chain that is only jumped to; `policy` is DROP or ACCEPT; `kind` is "filter", "nat", "route" or ""."""

    __slots__ = ("family", "table", "name", "kind", "hook", "priority", "policy")

    def __init__(self, family: int, table: str, name: str, kind: str, hook: int | None, priority: int, policy: int) -> None:
        self.family = family
        self.table = table
        self.name = name
        self.kind = kind
        self.hook = hook
        self.priority = priority
        self.policy = policy


class Rule:
    """`expressions` is [(name, attributes)] in order; taken apart when first asked for, as most rules are other people's."""

    __slots__ = ("family", "table", "chain", "handle", "comment", "_raw", "_expressions")

    def __init__(self, family: int, table: str, chain: str, handle: int, comment: str, raw: bytes) -> None:
        self.family = family
        self.table = table
        self.chain = chain
        self.handle = handle
        self.comment = comment
        self._raw = raw
        self._expressions: list[tuple[str, dict[int, bytes]]] | None = None

    @property
    def expressions(self) -> list[tuple[str, dict[int, bytes]]]:
        if self._expressions is None:
            self._expressions = []
            for _kind, one in iter_attrs(self._raw):
                parts = parse_attrs(one)
                self._expressions.append((_text(parts.get(_EXPR_NAME, b"")), parse_attrs(parts.get(_EXPR_DATA, b""))))
        return self._expressions


def _request(kind: int, flags: int, family: int, attrs: Iterable[bytes], what: str) -> Request:
    return Request(kind, flags, _GENMSG.pack(family, 0, 0) + b"".join(attrs), what)


class Batch:
    """Changes that the kernel makes all at once or not at all; `Nftables.commit` sends it. Methods return the batch."""

    __slots__ = ("requests", "_set_id")

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._set_id = 0

    def _add(self, kind: int, flags: int, family: int, attrs: Iterable[bytes], what: str) -> Batch:
        self.requests.append(_request(kind, flags, family, attrs, what))
        return self

    def table(self, family: int, name: str, *, comment: str = "", exclusive: bool = False) -> Batch:
        """Make a table; one that exists is left as it is, or with `exclusive` an error (EEXIST)."""
        attrs = [attr_str(_TABLE_NAME, name), be32(_TABLE_FLAGS, 0)]
        if comment:
            attrs.append(attr(_TABLE_USERDATA, _comment(comment)))
        return self._add(_NEWTABLE, NLM_F_CREATE | (NLM_F_EXCL if exclusive else 0), family, attrs, f"add table {name}")

    def delete_table(self, family: int, name: str) -> Batch:
        """Remove a table with all that is in it (ENOENT if there is none)."""
        return self._add(_DELTABLE, 0, family, [attr_str(_TABLE_NAME, name)], f"delete table {name}")

    def chain(self, family: int, table: str, name: str, *, kind: str = "", hook: int = 0, priority: int = 0,
              policy: int = ACCEPT) -> Batch:
        """Make a chain; with `kind` ("filter", "nat") a base chain on `hook`."""
        attrs = [attr_str(_CHAIN_TABLE, table), attr_str(_CHAIN_NAME, name)]
        if kind:
            attrs += [nest(_CHAIN_HOOK, be32(_HOOK_NUMBER, hook), be32(_HOOK_PRIORITY, priority)), be32(_CHAIN_POLICY, policy),
                      attr_str(_CHAIN_TYPE, kind)]
        return self._add(_NEWCHAIN, NLM_F_CREATE, family, attrs, f"add chain {table} {name}")

    def delete_chain(self, family: int, table: str, name: str) -> Batch:
        return self._add(_DELCHAIN, 0, family, [attr_str(_CHAIN_TABLE, table), attr_str(_CHAIN_NAME, name)],
                         f"delete chain {table} {name}")

    def rule(self, family: int, table: str, chain: str, expressions: Sequence[bytes], *, comment: str = "", head: bool = False) -> Batch:
        """A rule at the end of a chain, or at its head."""
        attrs = [attr_str(_RULE_TABLE, table), attr_str(_RULE_CHAIN, chain),
                 nest(_RULE_EXPRESSIONS, *[nest(_LIST_ELEM, one) for one in expressions])]
        if comment:
            attrs.append(attr(_RULE_USERDATA, _comment(comment)))
        flags = NLM_F_CREATE | (0 if head else NLM_F_APPEND)
        return self._add(_NEWRULE, flags, family, attrs, f"add rule {table} {chain} {comment}".rstrip())

    def delete_rule(self, family: int, table: str, chain: str, handle: int) -> Batch:
        attrs = [attr_str(_RULE_TABLE, table), attr_str(_RULE_CHAIN, chain), attr(_RULE_HANDLE, pack("!Q", handle))]
        return self._add(_DELRULE, 0, family, attrs, f"delete rule {table} {chain} {handle}")

    def set(self, family: int, table: str, name: str, *, key_type: int, key_size: int, data_type: int = 0, data_size: int = 0,
            comment: str = "") -> Batch:
        """A named set, or with `data_size` a map. Sizes in bytes, fields of a concatenation padded to 4."""
        self._set_id += 1
        attrs = [attr_str(_SET_TABLE, table), attr_str(_SET_NAME, name), be32(_SET_FLAGS, SET_MAP if data_size else 0),
                 be32(_SET_KEY_TYPE, key_type), be32(_SET_KEY_LEN, key_size), be32(_SET_ID, self._set_id)]
        if data_size:
            attrs += [be32(_SET_DATA_TYPE, data_type), be32(_SET_DATA_LEN, data_size)]
        order = pack("=BBI", _UDATA_SET_BYTE_ORDER, 4, _HOST_ORDER if key_type == TYPE_IFNAME else _BIG_ENDIAN)
        attrs.append(attr(_SET_USERDATA, order + (_comment(comment, _UDATA_SET_COMMENT) if comment else b"")))
        return self._add(_NEWSET, NLM_F_CREATE, family, attrs, f"add set {table} {name}")

    def _elements(self, kind: int, flags: int, family: int, table: str, name: str, items: Iterable[Element], what: str) -> Batch:
        packed = []
        for key, value, comment in items:
            parts = [nest(_ELEM_KEY, attr(_DATA_VALUE, key))]
            if value is not None:
                parts.append(nest(_ELEM_DATA, attr(_DATA_VALUE, value)))
            if comment:
                parts.append(attr(_ELEM_USERDATA, _comment(comment)))
            packed.append(nest(_LIST_ELEM, *parts))
        for start in range(0, len(packed), 256):  # a list is an attribute too: keep it below 64 KiB
            self._add(kind, flags, family, [attr_str(_LIST_TABLE, table), attr_str(_LIST_SET, name),
                                            nest(_LIST_ELEMENTS, *packed[start:start + 256])], f"{what} {table} {name}")
        return self

    def elements(self, family: int, table: str, name: str, items: Iterable[tuple[bytes, bytes | None]]) -> Batch:
        """Put (key, value) pairs into a map, or (key, None) into a set; a key that is there with another value is EEXIST."""
        return self.commented_elements(family, table, name, [(key, value, "") for key, value in items])

    def commented_elements(self, family: int, table: str, name: str, items: Iterable[Element], *, exclusive: bool = False) -> Batch:
        """The same with a comment each; with `exclusive`, a key that is there is EEXIST whatever its value."""
        flags = NLM_F_CREATE | (NLM_F_EXCL if exclusive else 0)
        return self._elements(_NEWSETELEM, flags, family, table, name, items, "add element to")

    def delete_elements(self, family: int, table: str, name: str, keys: Iterable[bytes]) -> Batch:
        """Take elements out (ENOENT if one is not there)."""
        return self._elements(_DELSETELEM, 0, family, table, name, [(key, None, "") for key in keys], "delete element from")


class Nftables(Netlink):
    """A socket to nf_tables of the network namespace in which it was opened."""

    protocol_name = "nftables"

    def __init__(self) -> None:
        super().__init__(NETLINK_NETFILTER)

    def __enter__(self) -> Nftables:
        return self

    def commit(self, batch: Batch, *, generation: int = 0) -> None:
        """Do the whole batch or nothing. OSError names the first message that failed. With a `generation` it is done only if that
        is still the current one, else ERESTART: what the batch was made from may have changed."""
        mark = _GENMSG.pack(UNSPEC, 0, _SUBSYSTEM)
        begin = Request(_BATCH_BEGIN, 0, mark + (be32(_BATCH_GEN_ID, generation) if generation else b""), "begin batch")
        sequence = self.next_sequence()
        pending = {sequence: begin}
        parts = [begin.pack(sequence)]
        for request in batch.requests:
            sequence = self.next_sequence()
            pending[sequence] = request
            parts.append(request.pack(sequence, NLM_F_ACK))
        parts.append(Request(_BATCH_END, 0, mark, "end batch").pack(self.next_sequence()))
        self.send(b"".join(parts))
        self._collect_batch(pending)

    def _collect_batch(self, pending: dict[int, Request]) -> None:
        # the begin marker is answered only when the batch was refused as a whole (EPERM), and then nothing else is
        begin = min(pending)
        refusal = dict(pending)
        refusal.pop(begin)
        first: tuple[int, OSError] | None = None
        waiting = set(refusal)
        while waiting:
            for kind, flags, number, body in self._receive():
                if kind != NLMSG_ERROR or number not in pending:
                    continue
                failure = self._failure(body, flags, pending[number].what)
                if number == begin:
                    if failure is not None:
                        self.drain()
                        raise failure
                    continue
                waiting.discard(number)
                if failure is not None and (first is None or number < first[0]):
                    first = (number, failure)
        if first is not None:
            raise first[1]

    def generation(self) -> int:
        """A number that every change to any table of this namespace moves: equal means untouched."""
        body = self.get(_request(_GETGEN, 0, UNSPEC, [], "get generation"))
        return _U32.unpack(parse_attrs(body, 4)[_GEN_ID])[0] if body is not None else 0

    def has_table(self, family: int, name: str) -> bool:
        return self.get(_request(_GETTABLE, 0, family, [attr_str(_TABLE_NAME, name)], f"get table {name}")) is not None

    def tables(self) -> list[Table]:
        found = []
        for body in self.dump(_request(_GETTABLE, 0, UNSPEC, [], "list tables")):
            attrs = parse_attrs(body, 4)
            found.append(Table(body[0], _text(attrs[_TABLE_NAME]), _read_comment(attrs.get(_TABLE_USERDATA, b""))))
        return found

    def chains(self, family: int = UNSPEC) -> list[Chain]:
        """All chains of one family, or of all."""
        found = []
        for body in self.dump(_request(_GETCHAIN, 0, family, [], "list chains")):
            attrs = parse_attrs(body, 4)
            hook: int | None = None
            priority = 0
            if _CHAIN_HOOK in attrs:
                inner = parse_attrs(attrs[_CHAIN_HOOK])
                hook = _U32.unpack(inner[_HOOK_NUMBER])[0]
                priority = int.from_bytes(inner[_HOOK_PRIORITY], "big", signed=True)
            policy = _U32.unpack(attrs[_CHAIN_POLICY])[0] if _CHAIN_POLICY in attrs else ACCEPT
            found.append(Chain(body[0], _text(attrs[_CHAIN_TABLE]), _text(attrs[_CHAIN_NAME]), _text(attrs.get(_CHAIN_TYPE, b"")),
                               hook, priority, policy))
        return found

    def rules(self, family: int = UNSPEC, table: str = "", chain: str = "") -> list[Rule]:
        """Rules in order; the kernel filters by table and chain where they are given."""
        found = []
        for body in self.raw_rules(family, table, chain):
            attrs = parse_attrs(body, 4)
            rule = Rule(body[0], _text(attrs[_RULE_TABLE]), _text(attrs[_RULE_CHAIN]), int.from_bytes(attrs[_RULE_HANDLE], "big"),
                        _read_comment(attrs.get(_RULE_USERDATA, b"")), attrs.get(_RULE_EXPRESSIONS, b""))
            if (not table or rule.table == table) and (not chain or rule.chain == chain):
                found.append(rule)
        return found

    def raw_rules(self, family: int, table: str, chain: str = "") -> list[bytes]:
        """The kernel's messages about them: nfgenmsg and attributes, chain by chain in order."""
        wanted = []
        if table:
            wanted.append(attr_str(_RULE_TABLE, table))
        if chain:
            wanted.append(attr_str(_RULE_CHAIN, chain))
        return self.dump(_request(_GETRULE, 0, family, wanted, f"list rules {table} {chain}".rstrip()))

    def elements(self, family: int, table: str, name: str) -> list[tuple[bytes, bytes | None]]:
        """[(key, value)] of a map, [(key, None)] of a set."""
        return [(key, value) for key, value, _comment in self.commented_elements(family, table, name)]

    def commented_elements(self, family: int, table: str, name: str) -> list[Element]:
        """[(key, value or None, comment or "")]."""
        found: list[Element] = []
        request = _request(_GETSETELEM, 0, family, [attr_str(_LIST_TABLE, table), attr_str(_LIST_SET, name)],
                           f"list elements {table} {name}")
        for body in self.dump(request):
            for _kind, one in iter_attrs(parse_attrs(body, 4).get(_LIST_ELEMENTS, b"")):
                attrs = parse_attrs(one)
                data = attrs.get(_ELEM_DATA)
                value = parse_attrs(data).get(_DATA_VALUE) if data is not None else None
                found.append((parse_attrs(attrs[_ELEM_KEY])[_DATA_VALUE], value, _read_comment(attrs.get(_ELEM_USERDATA, b""))))
        return found


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("utf-8", "replace")
