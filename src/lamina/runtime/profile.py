# SPDX-License-Identifier: Apache-2.0
"""The default seccomp filter as bytes, from a cache of compiled ones.  [hot]

Compiling takes some 30 ms with its tables; the hot path reads a file of 2 KiB instead. The cache may be deleted at any time. A file in
it is believed only if it is ours alone (owner, mode, no link) and its checksum holds; anything else is compiled anew and replaced.
"""
from __future__ import annotations

import os
import stat
from posix import uname

from lamina.util.atomic import write_file
from lamina.util.digest import sha256_hex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# Names the profile and the compiler; a test computes it from both, so that no change is forgotten.
VERSION = "0f730b9ec3847d44"
# The capabilities that the profile asks about: others don't change the filter.
RELEVANT = frozenset((
    "CAP_BPF", "CAP_DAC_READ_SEARCH", "CAP_PERFMON", "CAP_SYSLOG", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_CHROOT", "CAP_SYS_MODULE",
    "CAP_SYS_NICE", "CAP_SYS_PACCT", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG",
))  # fmt: skip
_MAGIC = b"lamina-seccomp 1\n"
_MAX = 4096 * 8


def default_path(caps: Iterable[str], cache_dir: str, *, kernel: str = "", arch: str = "", compat32: bool = False) -> str:
    """Where the filter for these circumstances is or would be."""
    has = sorted(RELEVANT.intersection(caps))
    system = uname()
    text = "\n".join((VERSION, arch or system.machine, kernel or system.release, str(compat32), *has))
    return f"{cache_dir}/seccomp-{sha256_hex(text.encode())[:32]}.bpf"


def default_bpf(caps: Iterable[str], cache_dir: str | None, *, kernel: str = "", arch: str = "", compat32: bool = False) -> bytes:
    """`struct sock_filter[]` of the default profile for a process that may have `caps` ("CAP_..." names). `kernel` and `arch` default to
    this machine's. `cache_dir` must exist and be ours; None compiles each time, and so, in effect, does one that can't be written."""
    system = uname()
    kernel, arch = kernel or system.release, arch or system.machine
    has = RELEVANT.intersection(caps)
    path = None if cache_dir is None else default_path(has, cache_dir, kernel=kernel, arch=arch, compat32=compat32)
    if path is not None and (code := load(path)) is not None:
        return code
    from lamina.runtime import seccomp, seccomp_profiles

    code = seccomp.compile(seccomp_profiles.default_profile(has, arch, seccomp_profiles.parse_kernel(kernel), compat32=compat32), arch)
    if path is not None:
        try:
            save(path, code)
        except OSError:
            pass  # a cache: the next one compiles again
    return code


def save(path: str, code: bytes) -> None:
    """Write filter bytes for `load`: 0600, at once."""
    write_file(path, _MAGIC + sha256_hex(code).encode() + b"\n" + code, 0o600, durable=False)


def load(path: str) -> bytes | None:
    """The filter bytes in a file that `save` wrote, or None when there is none that can be believed."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        st = os.fstat(fd)
        if not stat.S_ISREG(st.st_mode) or st.st_uid != os.geteuid() or st.st_mode & 0o177 or st.st_nlink != 1:
            return None
        data = os.read(fd, _MAX + 256)
    finally:
        os.close(fd)
    head = len(_MAGIC) + 65
    code = data[head:]
    if len(data) != st.st_size or not data.startswith(_MAGIC) or not code or len(code) % 8 or len(code) > _MAX:
        return None
    return code if data[len(_MAGIC):head] == sha256_hex(code).encode() + b"\n" else None
