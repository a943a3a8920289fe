# SPDX-License-Identifier: Apache-2.0
"""The device controller of cgroup v2: an eBPF program per group, assembled by hand.  [hot]

For `runtime.cgroups`. The program gets `struct bpf_cgroup_dev_ctx {u32 access<<16|type, u32 major, u32 minor}` and returns 1 to allow.
Programs of the parents are asked too (BPF_F_ALLOW_MULTI): a group can only narrow what its parents allow.
"""

from __future__ import annotations

import os
import struct

from lamina.linux._libc import BPF, pointer, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ANY = -1
_BPF_PROG_LOAD, _BPF_PROG_ATTACH, _BPF_PROG_DETACH, _BPF_PROG_GET_FD_BY_ID, _BPF_PROG_QUERY = 5, 8, 9, 13, 16
_PROG_TYPE_CGROUP_DEVICE = 15
_ATTACH_CGROUP_DEVICE = 6
_F_ALLOW_MULTI, _F_REPLACE = 2, 4
_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}

# Opcodes: class | size or operation | source.
_LDX_W = 0x61  # dst = *(u32 *)(src + off)
_MOV64_K, _MOV32_K, _MOV32_X = 0xB7, 0xB4, 0xBC
_AND32_K, _RSH32_K = 0x54, 0x74
_JNE_K, _JEQ_K = 0x55, 0x15
_JNE32_K = 0x56  # compares the low 32 bits only: device numbers above 2^31 would be sign extended by the 64 bit form
_EXIT = 0x95


def _insn(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    return struct.pack("<BBhI", code, src << 4 | dst, off, imm & 0xFFFFFFFF)


def device_program(default_allow: bool, exceptions: Sequence[tuple[tuple[str, int, int], str]]) -> bytes:
    """Instructions for a default and its exceptions ((type, major, minor), access); -1 stands for any number.

    r2 = type, r3 = access asked for, r4 = major, r5 = minor. With default deny an exception must hold all of the access asked for;
    with default allow any of it is enough to deny.
    """
    out = [
        _insn(_LDX_W, 2, 1, 0),
        _insn(_MOV32_X, 3, 2),
        _insn(_RSH32_K, 3, imm=16),
        _insn(_AND32_K, 2, imm=0xFFFF),
        _insn(_LDX_W, 4, 1, 4),
        _insn(_LDX_W, 5, 1, 8),
    ]
    verdict = 0 if default_allow else 1
    for (kind, major, minor), access in exceptions:
        mask = sum(_ACCESS[ch] for ch in access)
        tests = [(_JNE_K, 2, _TYPES[kind])]
        if major != ANY:
            tests.append((_JNE32_K, 4, major))
        if minor != ANY:
            tests.append((_JNE32_K, 5, minor))
        tail = []
        if default_allow:
            tail += [_insn(_MOV32_X, 1, 3), _insn(_AND32_K, 1, imm=mask), _insn(_JEQ_K, 1, off=2)]
        elif mask != 7:
            tail += [_insn(_MOV32_X, 1, 3), _insn(_AND32_K, 1, imm=7 & ~mask), _insn(_JNE_K, 1, off=2)]
        tail += [_insn(_MOV64_K, 0, imm=verdict), _insn(_EXIT)]
        for i, (code, reg, imm) in enumerate(tests):
            out.append(_insn(code, reg, off=len(tests) - i - 1 + len(tail), imm=imm))
        out += tail
    out += [_insn(_MOV64_K, 0, imm=int(default_allow)), _insn(_EXIT)]
    return b"".join(out)


def load_device_program(code: bytes) -> int:
    """An fd of the loaded program. OSError: EPERM without CAP_BPF or CAP_SYS_ADMIN, EINVAL when the kernel has no such programs."""
    insns, licence = bytearray(code), bytearray(b"Apache-2.0\0")
    attr = bytearray(struct.pack("<IIQQ", _PROG_TYPE_CGROUP_DEVICE, len(code) // 8, pointer(insns), pointer(licence)).ljust(120, b"\0"))
    return syscall(BPF, _BPF_PROG_LOAD, attr, len(attr), path="bpf(PROG_LOAD)")


def attached(cgroup_fd: int) -> list[int]:
    """Ids of the device programs attached to this very group."""
    ids = bytearray(4 * 64)
    attr = bytearray(struct.pack("<IIIIQI", cgroup_fd, _ATTACH_CGROUP_DEVICE, 0, 0, pointer(ids), 64).ljust(64, b"\0"))
    syscall(BPF, _BPF_PROG_QUERY, attr, len(attr), path="bpf(PROG_QUERY)")
    count = struct.unpack_from("<I", attr, 24)[0]
    return list(struct.unpack_from(f"<{count}I", ids))


def set_device_program(directory: str, code: bytes) -> None:
    """Make `code` the one device program of the group: the old one is replaced in one step, so that there is no moment without any."""
    group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        program = load_device_program(code)
        try:
            old = [_program_fd(i) for i in attached(group)]
            try:
                if len(old) == 1:
                    _attach(_BPF_PROG_ATTACH, group, program, _F_ALLOW_MULTI | _F_REPLACE, old[0])
                else:
                    _attach(_BPF_PROG_ATTACH, group, program, _F_ALLOW_MULTI)
                    for fd in old:
                        _attach(_BPF_PROG_DETACH, group, fd, 0)
            finally:
                for fd in old:
                    os.close(fd)
        finally:
            os.close(program)
    finally:
        os.close(group)


def _program_fd(program_id: int) -> int:
    attr = bytearray(struct.pack("<III", program_id, 0, 0).ljust(64, b"\0"))
    return syscall(BPF, _BPF_PROG_GET_FD_BY_ID, attr, len(attr), path="bpf(PROG_GET_FD_BY_ID)")


def _attach(command: int, group: int, program: int, flags: int, replace: int = 0) -> None:
    attr = bytearray(struct.pack("<IIIII", group, program, _ATTACH_CGROUP_DEVICE, flags, replace).ljust(64, b"\0"))
    syscall(BPF, command, attr, len(attr), path="bpf(PROG_ATTACH)")
