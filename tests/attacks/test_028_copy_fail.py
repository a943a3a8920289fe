# SPDX-License-Identifier: Apache-2.0
"""Attack 28 (CVE-2026-31431 and its class): kernel interfaces that the default filter keeps out of reach.

Each payload is a real system call in a forked child, once bare (the control: the kernel itself answers something else than the
filter does) and once under the default profile.
"""

from __future__ import annotations

import errno
import os
import platform
import struct

import caged
import pytest

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="call numbers are x86_64's")

AF_ALG, AF_VSOCK, SEQPACKET, STREAM = 38, 40, 5, 1
SOCKET, CLONE, UNSHARE, SETNS, MOUNT, KEYCTL, BPF, OPEN_BY_HANDLE_AT = 41, 56, 272, 308, 165, 250, 321, 304
CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x20000


@pytest.mark.parametrize("family", [AF_ALG, AF_VSOCK], ids=["alg", "vsock"])
@pytest.mark.parametrize("high", [0, 1 << 32], ids=["plain", "high bits set"])
def test_socket_family(family: int, high: int) -> None:
    """The high bits: the kernel cuts the family to an int, so a filter that compares 64 bits would let this one pass."""
    kind = SEQPACKET if family == AF_ALG else STREAM
    bare = caged.run(lambda: caged.syscall(SOCKET, family | high, kind, 0), filtered=False)
    assert bare >= 0 or -bare == errno.EAFNOSUPPORT, caged.name(bare)
    assert caged.run(lambda: caged.syscall(SOCKET, family | high, kind, 0), filtered=True) == -errno.EPERM


def test_other_sockets_work() -> None:
    for family in (1, 2, 10, 16):
        assert caged.run(lambda family=family: caged.syscall(SOCKET, family, 2 if family != 1 else 1, 0), filtered=True) >= 0, family


def gate() -> None:
    if caged.run(lambda: caged.int80(20), filtered=False) <= 0:  # getpid
        pytest.skip("this kernel has no i386 emulation")


@pytest.mark.parametrize("family", [AF_ALG, AF_VSOCK], ids=["alg", "vsock"])
def test_int80_socket(family: int) -> None:
    gate()
    bare = caged.run(lambda: caged.int80(359, family, SEQPACKET, 0), filtered=False)
    assert bare != -errno.EPERM, "the control must not be refused by the kernel itself"
    assert caged.run(lambda: caged.int80(359, family, SEQPACKET, 0), filtered=True) == -errno.EPERM


def test_int80_socketcall() -> None:
    """socketcall(SOCKET, {AF_ALG, ...}): the family lies in memory, so the whole call is taken away."""
    gate()

    def payload(family: int = AF_ALG) -> int:
        return caged.int80(102, 1, caged.low(struct.pack("III", family, SEQPACKET if family == AF_ALG else STREAM, 0)))

    bare = caged.run(payload, filtered=False)
    assert bare >= 0 or -bare == errno.EAFNOSUPPORT, caged.name(bare)
    assert caged.run(payload, filtered=True) == -errno.ENOSYS
    assert caged.run(lambda: payload(1), filtered=True, compat32=True) >= 0, "compat32 gives it back"


def test_int80_getpid_works() -> None:
    gate()
    assert caged.run(lambda: caged.int80(20), filtered=True) > 0


def _clone_newuser() -> int:
    result = caged.syscall(CLONE, CLONE_NEWUSER | 17, 0, 0, 0, 0)
    if result == 0:
        os._exit(0)
    if result > 0:
        os.waitpid(result, 0)
    return result


PAYLOADS = {
    "clone(NEWUSER)": (_clone_newuser, errno.EPERM),
    "clone3": (lambda: caged.syscall(435, bytes(64), 0), errno.ENOSYS),
    "unshare(NEWNS)": (lambda: caged.syscall(UNSHARE, CLONE_NEWNS), errno.EPERM),
    "unshare(NEWUSER)": (lambda: caged.syscall(UNSHARE, CLONE_NEWUSER), errno.EPERM),
    "setns": (lambda: caged.syscall(SETNS, -1, 0), errno.EPERM),
    "mount": (lambda: caged.syscall(MOUNT, b"none", b"/nowhere", b"tmpfs", 0, None), errno.EPERM),
    "fsopen": (lambda: caged.syscall(430, b"no-such-fs", 0), errno.EPERM),
    "keyctl": (lambda: caged.syscall(KEYCTL, 0, -3, 0), errno.EPERM),
    "bpf": (lambda: caged.syscall(BPF, 99, bytes(8), 8), errno.EPERM),
    "open_by_handle_at": (lambda: caged.syscall(OPEN_BY_HANDLE_AT, -1, bytes(64), 0), errno.EPERM),
    "io_uring_setup": (lambda: caged.syscall(425, 0, bytes(120)), errno.EPERM),
    "userfaultfd": (lambda: caged.syscall(323, 0xFFFF), errno.EPERM),
    "perf_event_open": (lambda: caged.syscall(298, bytes(128), -2, -2, -2, 0), errno.EPERM),
    "kexec_load": (lambda: caged.syscall(246, 0, 99, None, 0), errno.EPERM),
    "x32 getpid": (lambda: caged.syscall(0x40000000 + 39), errno.ENOSYS),
}


@pytest.mark.parametrize("what", PAYLOADS)
def test_call_is_refused(what: str) -> None:
    payload, want = PAYLOADS[what]
    bare, caged_result = caged.run(payload, filtered=False), caged.run(payload, filtered=True)
    assert caged_result == -want, caged.name(caged_result)
    if what != "x32 getpid":  # most kernels are built without x32: then both say ENOSYS
        assert bare != caged_result, f"control: the bare kernel says {caged.name(bare)} too"


def test_ordinary_work_goes_on() -> None:
    def payload() -> int:
        pid = os.fork()
        if pid == 0:
            os.execv("/bin/sh", ["sh", "-c", 'x=$(ls / | head -1); test -n "$x"'])
        return -os.waitpid(pid, 0)[1]

    assert caged.run(payload, filtered=True) == 0


def test_filter_is_inherited_and_stays() -> None:
    """A child of a filtered process is filtered, also after exec; a second, laxer filter doesn't lift the first."""

    def payload() -> int:
        caged.seccomp.load(struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000))
        return caged.syscall(SOCKET, AF_ALG, SEQPACKET, 0)

    assert caged.run(payload, filtered=True) == -errno.EPERM
