# SPDX-License-Identifier: Apache-2.0
"""Compiles OCI `linux.seccomp` into classic BPF: a balanced binary search over ranges of system call numbers.

For the default profile (profile.py keeps the result as bytes) and for profiles from bundles and `--security-opt seccomp=FILE`.
Meaning: the rules of one call are tried in the profile's order, those with argument conditions before those without; the first that
holds decides, else the default action. A filter of "deny unless" kind answers ENOSYS, not its errno, to calls newer than all it names:
that is what makes C libraries fall back (runc does the same). x32 calls get ENOSYS, foreign architectures are killed.
"""
from __future__ import annotations

import errno
import struct

from lamina.errors import InvalidArgument, NotSupported
from lamina.linux import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

KILL_PROCESS, KILL_THREAD, TRAP, ERRNO, TRACE, LOG, ALLOW = 0x80000000, 0, 0x00030000, 0x00050000, 0x7FF00000, 0x7FFC0000, 0x7FFF0000
_ACTIONS = {
    "SCMP_ACT_KILL": KILL_THREAD, "SCMP_ACT_KILL_THREAD": KILL_THREAD, "SCMP_ACT_KILL_PROCESS": KILL_PROCESS, "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_ERRNO": ERRNO, "SCMP_ACT_TRACE": TRACE, "SCMP_ACT_LOG": LOG, "SCMP_ACT_ALLOW": ALLOW,
}  # fmt: skip
_OPS = frozenset(("EQ", "NE", "GE", "GT", "LE", "LT", "MASKED_EQ"))
FLAGS = {"SECCOMP_FILTER_FLAG_TSYNC": 1, "SECCOMP_FILTER_FLAG_LOG": 2, "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4}

# native architecture -> [(OCI names, our table, AUDIT_ARCH_*)], the native one first.
ARCHES: dict[str, list[tuple[str, str, int]]] = {
    "x86_64": [("SCMP_ARCH_X86_64", "x86_64", 0xC000003E), ("SCMP_ARCH_X86", "i386", 0x40000003)],
    "aarch64": [("SCMP_ARCH_AARCH64", "aarch64", 0xC00000B7)],
}
_X32_BIT = 0x40000000
# Calls of architectures that we have no table for, as published profiles name them: known, and of no effect here.
_FOREIGN = frozenset(
    "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls get_tls usr26 usr32 s390_pci_mmio_read s390_pci_mmio_write "
    "s390_runtime_instr s390_guarded_storage s390_sthyi riscv_flush_icache riscv_hwprobe sync_file_range2 swapcontext switch_endian "
    "rtas subpage_prot spu_create spu_run pciconfig_iobase pciconfig_read pciconfig_write multiplexer sysmips cachectl fstatat64 getsid "
    "timerfd swapoff uretprobe uprobe".split()
)  # fmt: skip

Condition = tuple[int, str, int, int]  # argument index, operator, value, second value
Rule = tuple[tuple[Condition, ...], int]  # all conditions must hold -> action
Leaf = int | tuple[Rule, ...]  # an action, or rules to try; the last one has no conditions


# ---- reading a profile ----


def _action(name: object, number: object, what: str) -> int:
    if name == "SCMP_ACT_NOTIFY":
        raise NotSupported(f"{what}: SCMP_ACT_NOTIFY needs a listener; not supported")
    action = _ACTIONS.get(name) if isinstance(name, str) else None
    if action is None:
        raise InvalidArgument(f"{what}: unknown seccomp action {name!r}")
    if action not in (ERRNO, TRACE):
        return action
    value = errno.EPERM if number is None else number
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= (4095 if action == ERRNO else 0xFFFF):
        raise InvalidArgument(f"{what}: errnoRet {number!r} is not an error number")
    return action | value


def _condition(arg: Mapping[str, Any], what: str) -> Condition:
    index, value, second, op = arg.get("index"), arg.get("value"), arg.get("valueTwo", 0), arg.get("op")
    name = op.removeprefix("SCMP_CMP_") if isinstance(op, str) else ""
    if not isinstance(index, int) or not 0 <= index <= 5:
        raise InvalidArgument(f"{what}: argument index {index!r} is not 0 to 5")
    if name not in _OPS:
        raise InvalidArgument(f"{what}: unknown operator {op!r}")
    for number in (value, second):
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 1 << 64:
            raise InvalidArgument(f"{what}: {number!r} is not an unsigned 64 bit number")
    return index, name, value, second  # type: ignore[return-value]


def parse(profile: Mapping[str, Any]) -> tuple[int, list[tuple[str, list[Rule]]]]:
    """(default action, [(call name, rules)] in the profile's order). InvalidArgument names the entry that is wrong."""
    default = _action(profile.get("defaultAction"), profile.get("defaultErrnoRet"), "seccomp defaultAction")
    if profile.get("listenerPath"):
        raise NotSupported("seccomp listenerPath: SCMP_ACT_NOTIFY is not supported")
    entries: list[tuple[str, list[Rule]]] = []
    for i, entry in enumerate(profile.get("syscalls") or ()):
        names = entry.get("names") if isinstance(entry, dict) else None
        if names is None and isinstance(entry, dict) and "name" in entry:
            names = [entry["name"]]  # profiles written before 2017
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise InvalidArgument(f"seccomp syscalls[{i}]: names are missing")
        what = f"seccomp syscalls[{i}] ({', '.join(names[:3])})"
        action = _action(entry.get("action"), entry.get("errnoRet"), what)
        conditions = [_condition(arg, what) for arg in entry.get("args") or ()]
        rules: list[Rule]
        if len({c[0] for c in conditions}) < len(conditions):
            rules = [((c,), action) for c in conditions]  # several for one argument are alternatives, as in runc
        else:
            rules = [(tuple(conditions), action)]
        entries += [(name, rules) for name in names]
    return default, entries


def flags_of(profile: Mapping[str, Any]) -> int:
    """The flags for loading the filter."""
    flags = 0
    for name in profile.get("flags") or ():
        if name not in FLAGS:
            raise NotSupported(f"seccomp flag {name!r} is not supported")
        flags |= FLAGS[name]
    return flags


def table(profile: Mapping[str, Any], arch: str) -> tuple[dict[int, Leaf], int, int]:
    """What the profile says for one of our tables: ({number: leaf}, action of all others, first number that is newer than all named)."""
    default, entries = parse(profile)
    known = syscalls.numbers(arch)
    rules: dict[int, list[Rule]] = {}
    for name, add in entries:
        number = known.get(name)
        if number is not None:
            rules.setdefault(number, []).extend(add)
        elif default in (ALLOW, LOG) and not _known_anywhere(name):
            raise NotSupported(f"seccomp: system call {name!r} is not known here, so it can't be denied")
    leaves: dict[int, Leaf] = {}
    for number, found in rules.items():
        narrow = [r for r in found if r[0]]
        wide = next((r for r in found if not r[0]), ((), default))
        leaves[number] = (*narrow, wide) if narrow else wide[1]
    return leaves, default, max(leaves, default=-1) + 1


def _known_anywhere(name: str) -> bool:
    return name in _FOREIGN or any(name in syscalls.numbers(arch) for arch in ("x86_64", "i386", "aarch64"))


def segments(leaves: Mapping[int, Leaf], default: int, newer: int) -> list[tuple[int, Leaf]]:
    """[(first number, leaf)] in order, neighbours with equal leaves joined; the last reaches to the end."""
    beyond = ERRNO | errno.ENOSYS if default & 0x7FFF0000 == ERRNO and newer else default
    out: list[tuple[int, Leaf]] = []

    def put(start: int, leaf: Leaf) -> None:
        if not out or out[-1][1] != leaf:
            out.append((start, leaf))

    at = 0
    for number in sorted(leaves):
        if number > at:
            put(at, default)
        put(number, leaves[number])
        at = number + 1
    put(at, beyond)
    return out


# ---- assembling ----

_LD, _AND, _JA, _JEQ, _JGT, _JGE, _RET = 0x20, 0x54, 0x05, 0x15, 0x25, 0x35, 0x06
_NR, _ARCH, _ARGS = 0, 4, 16  # offsets in struct seccomp_data
_LIMIT = 4096


class _Code:
    """Instructions from the last to the first: BPF jumps forward only, so every target is known when a jump to it is written.
    A label is the count of instructions from its target to the end."""

    def __init__(self) -> None:
        self.reversed: list[tuple[int, int, int, int]] = []
        self._returns: dict[int, int] = {}
        self._bodies: dict[tuple[Rule, ...], int] = {}

    def _emit(self, code: int, k: int, jt: int = 0, jf: int = 0) -> int:
        self.reversed.append((code, jt, jf, k))
        if len(self.reversed) > _LIMIT:
            raise InvalidArgument(f"seccomp profile is too large: more than {_LIMIT} BPF instructions")
        return len(self.reversed)

    def _near(self, label: int) -> int:
        """`label`, or a jump to it written here, when it is too far for a conditional jump (8 bits; two more for what follows)."""
        return label if len(self.reversed) - label <= 250 else self._emit(_JA, len(self.reversed) - label)

    def jump(self, code: int, k: int, yes: int, no: int) -> int:
        yes = self._near(yes)
        no = self._near(no)
        here = len(self.reversed)
        return self._emit(code, k, here - yes, here - no)

    def load(self, offset: int) -> int:
        return self._emit(_LD, offset)

    def ret(self, action: int) -> int:
        label = self._returns.get(action)
        if label is None or len(self.reversed) - label > 200:
            label = self._returns[action] = self._emit(_RET, action)
        return label

    def compare(self, condition: Condition, ok: int, fail: int) -> int:
        """64 bit comparison in 32 bit steps, upper half first."""
        index, op, value, second = condition
        low, high = _ARGS + 8 * index, _ARGS + 8 * index + 4
        if op in ("LT", "LE", "NE"):
            opposite = {"LT": "GE", "LE": "GT", "NE": "EQ"}[op]
            return self.compare((index, opposite, value, second), fail, ok)
        if op == "MASKED_EQ":
            mask, want = value, second
            if want & ~mask:
                return fail
            start = self._masked(low, mask & 0xFFFFFFFF, want & 0xFFFFFFFF, ok, fail)
            return self._masked(high, mask >> 32, want >> 32, start, fail)
        last = self.jump({"EQ": _JEQ, "GE": _JGE, "GT": _JGT}[op], value & 0xFFFFFFFF, ok, fail)
        last = self.load(low)
        last = self.jump(_JEQ, value >> 32, last, fail)
        if op != "EQ":
            last = self.jump(_JGT, value >> 32, ok, last)
        return self.load(high)

    def _masked(self, offset: int, mask: int, want: int, ok: int, fail: int) -> int:
        if not mask:
            return ok
        self.jump(_JEQ, want, ok, fail)
        if mask != 0xFFFFFFFF:
            self._emit(_AND, mask)
        return self.load(offset)

    def leaf(self, leaf: Leaf) -> int:
        if isinstance(leaf, int):
            return self.ret(leaf)
        label = self._bodies.get(leaf)
        if label is None:
            label = self.ret(leaf[-1][1])
            for conditions, action in reversed(leaf[:-1]):
                fail, ok = label, self.ret(action)
                for condition in reversed(conditions):
                    ok = self.compare(condition, ok, fail)
                label = ok
            self._bodies[leaf] = label
        return label

    def tree(self, parts: list[tuple[int, Leaf]]) -> int:
        """Label of a binary search with the number in the accumulator."""
        if len(parts) == 1:
            return self.leaf(parts[0][1])
        middle = len(parts) // 2
        right = self.tree(parts[middle:])
        left = self.tree(parts[:middle])
        return self.jump(_JGE, parts[middle][0], right, left)

    def start_at(self, label: int) -> int:
        """Make `label` the next instruction, for code that falls through."""
        distance = len(self.reversed) - label
        return self._emit(_JA, distance) if distance else label

    def bytes(self) -> bytes:
        return b"".join(struct.pack("=HBBI", *insn) for insn in reversed(self.reversed))


def compile(profile: Mapping[str, Any], arch: str) -> bytes:
    """`struct sock_filter[]` for a native architecture ("x86_64", "aarch64"). Which others it serves, `architectures` says; when that is
    empty, the native one alone. InvalidArgument or NotSupported when the profile can't be done exactly."""
    if arch not in ARCHES:
        raise NotSupported(f"seccomp: no system call table for architecture {arch}")
    names = profile.get("architectures") or []
    code = _Code()
    wrong = code.ret(KILL_PROCESS)
    for i, (name, own_table, audit) in reversed(list(enumerate(ARCHES[arch]))):
        if i and name not in names:
            continue
        root = code.tree(segments(*table(profile, own_table)))
        if own_table == "x86_64":
            # The x32 ABI shares the architecture's number and sets a bit in the call's.
            root = code.jump(_JGE, _X32_BIT, code.ret(ERRNO | errno.ENOSYS), root)
        else:
            root = code.start_at(root)
        right = code.load(_NR)
        wrong = code.jump(_JEQ, audit, right, wrong)
    code.load(_ARCH)
    return code.bytes()
