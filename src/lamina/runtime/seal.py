# SPDX-License-Identifier: Apache-2.0
"""Makes this process run from a read-only copy of its interpreter's mount, so that no container can write to the interpreter.  [hot]

An image whose program is a link to /proc/self/exe (or a script with `#!/proc/self/exe`) makes the kernel run *our* executable inside the
container, with the container's libraries; these open /proc/self/exe and write to it as soon as nobody runs it any more (CVE-2019-5736).
The engine's containers can't: a monitor runs the same file as long as any of them lives, and the kernel refuses ETXTBSY. `lamina-runtime`
leaves no process behind, so it starts itself once more, from a detached, read-only mount of that one file: then it is EROFS for ever.
"""
from __future__ import annotations

import os

from lamina.linux import mount as m

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VERBS = frozenset(("create", "run", "exec"))  # those that start a process in a container


def is_sealed() -> bool:
    """Whether our executable lies on a mount that is read-only."""
    return bool(os.statvfs("/proc/self/exe").f_flag & os.ST_RDONLY)


def seal(argv: Sequence[str], environ: Mapping[bytes, bytes]) -> None:
    """Returns at once when sealed, else starts the interpreter anew with its own command line `argv`.

    OSError if that can't be done: then nothing must be run.
    """
    if is_sealed():
        return
    exe = os.open("/proc/self/exe", os.O_PATH | os.O_CLOEXEC)
    tree = m.open_tree(exe, "", m.OPEN_TREE_CLONE | m.AT_EMPTY_PATH)
    os.close(exe)
    m.mount_setattr(tree, "", 0, m.MOUNT_ATTR_RDONLY)
    os.execve(tree, list(argv), environ)
