# SPDX-License-Identifier: Apache-2.0
"""The init of --init: a program of some 700 bytes that is process 1 of a container, reaps what is left to it and forwards signals.

Its source is init_x86_64.s and init_aarch64.s beside this file; CODE holds what they assemble to (a test compares), so that no
assembler, no compiler and no file of an image is needed. It behaves as docker's init (tini): every signal goes to the command; the
command has a process group of its own, which is the terminal's foreground; the end of the command is the end of the container, with
its exit code, or 128 and the number of the signal that ended it.

Why not let our own forked Python stay as process 1: it would keep the engine's memory in the container's pid namespace for the
container's whole life, some MB of it, and /proc/1/exe would be the host's interpreter. This is one page of code and one of stack;
/proc/1/exe leads to a sealed memory file that nobody can write to, and that is no file of the host.

Two ways to start it. `open_program`: our own runtime makes the command's process first, then becomes this program (entry 1); so
everything that can fail is told as without an init. `image(paths=...)`: another runtime executes it as a file, and it makes the process
itself (entry 2).
"""
from __future__ import annotations

import errno
import os
from _struct import pack
from fcntl import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE, fcntl

from lamina.errors import NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_MFD_CLOEXEC, _MFD_ALLOW_SEALING, _MFD_EXEC = 1, 2, 0x10  # the last one since Linux 6.3
_BASE, _HEADERS = 0x400000, 64 + 2 * 56

# machine -> (ELF's number for it, offset of entry 2, instructions as hex)
CODE: dict[str, tuple[int, int, str]] = {
    "x86_64": (62, 0x3d, """
        4881ec9000000031c08b3d010200004889e6ba040000000f0583f80475158b1c24b8030000008b3de40100000f05e90f010000bf7d000000e98d010000488b04
        244c8d6c24184c8d74c4104881ec90000000b80e000000bf02000000488d356e0100004889e241ba080000000f05b89d000000bf24000000be010000000f05b8
        38000000bf1100000031f631d24531d24531c00f0589c385c078980f85a1000000b86d00000031ff31f60f05b8270000000f0589442408b81000000031ffbe10
        540000488d5424080f05b80e000000bf020000004889e631d241ba080000000f0541bf7f0000004c8d252201000041803c2400742db83b0000004c89e74c89ee
        4c89f20f0583f8fe740b83f8ec740641bf7e00000049ffc441807c24ff0075f5ebccb801000000bf02000000488d35b2000000ba2b0000000f054489ffe98800
        0000b89d000000bf0f000000488d35860000000f05b880000000488d3d7000000031f631d241ba080000000f0583f8fc74e385c00f88b9feffff83f811741783
        f81574d183f81674cc89c689dfb83e0000000f05ebbfb83d00000048c7c7ffffffff4889e6ba010000004531d20f0585c07ea239d875df0fb67c24018b042483
        e07f74068db880000000b8e70000000f05ffffffffffffffff646f636b65722d696e697400646f636b65722d696e69743a2074686520636f6d6d616e64206361
        6e27742062652065786563757465640a
    """),
    "aarch64": (183, 0x4c, """
        ff4302d1d411007080024039810640390020012af403002ae1030091820080d2e80780d2010000d41f100071c1000054f30340b9e003142a280780d2010000d4
        46000014a00f80526b000014e00340f9f5630091f66f208bd6420091ff4302d1400080d2e10c0010e2030091030180d2e81080d2010000d4800480d2210080d2
        e81480d2010000d4200280d2010080d2020080d2030080d2040080d2881b80d2010000d4f303002ae0fcff3760050035000080d2010080d2481380d2010000d4
        881580d2010000d4e00b00b9000080d201828ad2e2230091a80380d2010000d4400080d2e1030091020080d2030180d2e81080d2010000d4f80f8052170a0070
        e0024039c0010034e00317aae10315aae20316aaa81b80d2010000d41f080031800000541f50003140000054d80f8052e0164038e0ffff35f2ffff17400080d2
        a1060010620580d2080880d2010000d4e003182a28000014e00180d261050010e81480d2010000d4c0040010010080d2020080d2030180d2281180d2010000d4
        1f10003120ffff54e0f5ff371f440071400100541f54007180feff541f58007140feff54e103002ae003132a281080d2010000d4edffff1700008092e1030091
        220080d2030080d2882080d2010000d41f000071adfcff541f00136be1feff54e10340b9203c0853211800724000005420000211c80b80d2010000d41f2003d5
        ffffffffffffffff646f636b65722d696e697400646f636b65722d696e69743a2074686520636f6d6d616e642063616e27742062652065786563757465640a
    """),
}  # fmt: skip


def image(*, fd: int = -1, paths: Sequence[bytes] = (), machine: str = "") -> bytes:
    """The program as a static ELF file, for this machine unless told otherwise: with `fd` it reads its command's pid there (entry 1),
    else it executes the first of `paths` that it can (entry 2). NotSupported on a machine that there is no code for."""
    machine = machine or os.uname().machine
    if machine not in CODE:
        raise NotSupported(f"--init is not there for {machine}")
    number, alone, text = CODE[machine]
    code = bytes.fromhex(text)
    data = pack("<I", fd) if fd >= 0 else b"".join(path + b"\0" for path in paths) + b"\0"
    entry = _BASE + _HEADERS + (0 if fd >= 0 else alone)
    size = _HEADERS + len(code) + len(data)
    head = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9) + pack("<HHIQQQIHHHHHH", 2, number, 1, entry, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x10000)  # one segment, read and execute
    stack = pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)  # a stack that can't be executed
    return head + load + stack + code + data


def open_program() -> tuple[int, int, int]:
    """(program, told, tell), all close-on-exec: the sealed memory file, and the two ends of the pipe whose reading end it has by number.

    Who is to become it writes the pid of the command's process (4 bytes, native order) to `tell`, lets `told` be inherited, and
    executes `program`. NotSupported where the kernel forbids to execute such a file (sysctl vm.memfd_noexec=2).
    """
    told, tell = os.pipe2(os.O_CLOEXEC)
    program = -1
    try:
        program = _memory_file()
        os.write(program, image(fd=told))
        os.fchmod(program, 0o555)
        fcntl(program, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
    except BaseException:
        for fd in (told, tell, program):
            if fd >= 0:
                os.close(fd)
        raise
    return program, told, tell


def _memory_file() -> int:
    flags = _MFD_CLOEXEC | _MFD_ALLOW_SEALING
    try:
        return os.memfd_create("docker-init", flags | _MFD_EXEC)
    except OSError as e:
        if e.errno == errno.EACCES:
            raise NotSupported("--init can't be done: this kernel's vm.memfd_noexec=2 forbids programs in memory files") from None
        if e.errno != errno.EINVAL:
            raise
    return os.memfd_create("docker-init", flags)
