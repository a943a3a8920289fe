# SPDX-License-Identifier: Apache-2.0
"""The default AppArmor profile of containers: its text, and having the kernel know it.  [hot]

For the engine, which names the profile in config.json; the child applies it on exec (`process.adjust`). Everything here is about hosts
with AppArmor: elsewhere nobody loads this module. Compiling the policy takes apparmor_parser, once per boot and version; where it is
missing there is no profile, as with docker, and `lamina info` says so. A parser that refuses is an error: no silent loss.
"""
from __future__ import annotations

import os

from lamina.errors import StartError
from lamina.linux import caps
from lamina.util.atomic import write_file
from lamina.util.digest import sha256_hex

DEFAULT = "lamina-default"
UNCONFINED = "unconfined"
_SECURITYFS = "/sys/kernel/security/apparmor"
_CONFIG = "/etc/apparmor.d"
_PARSER_PLACES = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")
_MAC_ADMIN = 1 << 33
_TIMEOUT = 60.0

# Grants what a container's own restrictions (capabilities, seccomp, masks, device rules) leave, and denies once more what would lead
# out of it if one of them were lost: mounting, the host's kernel settings, sysfs, and processes of other profiles.
# "deny" wins over every grant, whatever the order. sysfs is open below /sys/fs/cgroup only, which is read-only by its mount.
_TEXT = """\
{abi}profile lamina-default flags=(attach_disconnected, mediate_deleted) {{
  capability,
  network,
  unix,
  file,
  umount,

  signal (receive),
  signal (send) peer=lamina-default,
  ptrace (trace, read, tracedby, readby) peer=lamina-default,

  deny mount,
  deny remount,
  deny pivot_root,

  deny /proc/* wkl,
  deny /proc/[^0-9]*/** wkl,
  deny /proc/{{kcore,kmem,mem,sysrq-trigger}} rwkl,

  deny /sys/* wkl,
  deny /sys/[^f]*/** wkl,
  deny /sys/f[^s]*/** wkl,
  deny /sys/fs/[^c]*/** wkl,
  deny /sys/fs/c[^g]*/** wkl,
  deny /sys/firmware/** rwkl,
  deny /sys/kernel/security/** rwkl,
  deny /sys/devices/virtual/powercap/** rwkl,
}}
"""


def text() -> str:
    """The profile for this host's parser. The pinned ABI keeps newer kernels from refusing what the profile doesn't know of."""
    return _TEXT.format(abi="abi <abi/3.0>,\n" if os.path.exists(_CONFIG + "/abi/3.0") else "")


def enabled() -> bool:
    """Whether this kernel enforces AppArmor, and this process can see it (in most containers it can't)."""
    return os.path.exists(_SECURITYFS + "/profiles")


def loaded(name: str) -> bool:
    """Whether the kernel knows the profile now."""
    try:
        # Directories are called <profile>.<number>.
        return any(entry.rpartition(".")[0] == name for entry in os.listdir(_SECURITYFS + "/policy/profiles"))
    except OSError:
        return False


def parser() -> str:
    """Absolute path of apparmor_parser, "" if the host doesn't have it."""
    for place in _PARSER_PLACES:
        if os.access(f"{place}/apparmor_parser", os.X_OK):
            return f"{place}/apparmor_parser"
    return ""


def why_not() -> str:
    """Why containers get no profile on this host, "" if they do."""
    if not enabled():
        return "the kernel has no AppArmor, or it can't be seen from here"
    if loaded(DEFAULT):
        return ""
    if not parser():
        return "apparmor_parser is not installed"
    if not caps.get()[0] & _MAC_ADMIN:
        return "lamina itself doesn't have CAP_MAC_ADMIN here"
    return ""


def default_profile(cache_dir: str) -> str:
    """The name of the default profile, after the kernel was told it if need be; "" where `why_not` gives a reason. `cache_dir` remembers
    which text this boot's kernel was given. StartError when the parser or the kernel refuses it."""
    if why_not():
        return ""
    wanted = text()
    mark = f"{cache_dir}/apparmor-{sha256_hex(wanted.encode())[:32]}"
    if not (os.path.exists(mark) and loaded(DEFAULT)) and parser() and caps.get()[0] & _MAC_ADMIN:
        _load(wanted)
        write_file(mark, b"", durable=False)
    return DEFAULT  # loaded, maybe in an older text of ours that can't be replaced from here


def _load(wanted: str) -> None:
    from lamina.util import proc  # subprocess and all: once per boot

    done = proc.run([parser(), "--replace", "--skip-cache"], input=wanted.encode(), timeout=_TIMEOUT)
    if done.code != 0:
        said = done.err.decode("utf-8", "replace").strip().replace("\n", "; ")
        raise StartError(f"AppArmor is enabled, but the profile {DEFAULT} could not be loaded: {said or f'exit {done.code}'}")
