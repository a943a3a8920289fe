# SPDX-License-Identifier: Apache-2.0
"""A classic BPF machine as seccomp runs it, and a profile evaluated rule by rule: two independent ways to one verdict."""

from __future__ import annotations

import struct
from typing import Any

AUDIT = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "x32": 0xC000003E, "mips": 0x8}
ACTIONS = {
    "KILL": 0,
    "KILL_THREAD": 0,
    "KILL_PROCESS": 0x80000000,
    "TRAP": 0x30000,
    "ERRNO": 0x50000,
    "TRACE": 0x7FF00000,
    "LOG": 0x7FFC0000,
    "ALLOW": 0x7FFF0000,
}
ENOSYS = 0x50000 | 38


class Machine:
    """Decodes once, runs many."""

    def __init__(self, code: bytes) -> None:
        self.program = list(struct.iter_unpack("=HBBI", code))
        for at, (op, jt, jf, k) in enumerate(self.program):  # what the kernel checks before it takes a filter
            if op & 7 == 5:
                reach = (k,) if op == 5 else (jt, jf)
                assert all(at + 1 + r < len(self.program) for r in reach), f"instruction {at} jumps out of the program"
        assert self.program[-1][0] == 6, "the last instruction must return"

    def run(self, arch: int, nr: int, args: tuple[int, ...]) -> int:
        data = struct.pack("<IIQ6Q", nr & 0xFFFFFFFF, arch, 0, *args)
        pc, acc = 0, 0
        while True:
            op, jt, jf, k = self.program[pc]
            pc += 1
            if op == 0x06:
                return k
            if op == 0x20:
                acc = struct.unpack_from("<I", data, k)[0]
            elif op == 0x54:
                acc &= k
            elif op == 0x05:
                pc += k
            elif op in (0x15, 0x25, 0x35):
                pc += jt if (acc == k if op == 0x15 else acc > k if op == 0x25 else acc >= k) else jf
            else:
                raise AssertionError(f"unknown instruction {op:#x}")


def holds(arg: dict[str, Any], args: tuple[int, ...]) -> bool:
    have, value, second = args[arg["index"]], arg["value"], arg.get("valueTwo", 0)
    return {
        "EQ": have == value,
        "NE": have != value,
        "GE": have >= value,
        "GT": have > value,
        "LE": have <= value,
        "LT": have < value,
        "MASKED_EQ": have & value == second,
    }[arg["op"].removeprefix("SCMP_CMP_")]


def verdict_of(entry: dict[str, Any]) -> int:
    kind = entry["action"].removeprefix("SCMP_ACT_")
    return ACTIONS[kind] | (entry.get("errnoRet", 1) if kind in ("ERRNO", "TRACE") else 0)


def linear(profile: dict[str, Any], numbers: dict[str, int], nr: int, args: tuple[int, ...]) -> int:
    """The verdict by the text of the profile: conditional rules in order, then unconditional ones, then the default."""
    default = verdict_of({"action": profile["defaultAction"], "errnoRet": profile.get("defaultErrnoRet", 1)})
    mine = [e for e in profile["syscalls"] for n in e["names"] if numbers.get(n) == nr]
    for conditional in (True, False):
        for entry in mine:
            conditions = entry.get("args") or []
            if bool(conditions) is not conditional:
                continue
            many = len({c["index"] for c in conditions}) < len(conditions)
            if (any if many else all)(holds(c, args) for c in conditions):
                return verdict_of(entry)
    named = [numbers[n] for e in profile["syscalls"] for n in e["names"] if n in numbers]
    return ENOSYS if named and nr > max(named) and profile["defaultAction"] == "SCMP_ACT_ERRNO" else default
