# SPDX-License-Identifier: Apache-2.0
"""What makes one full tree of another, as an OCI layer: for drivers without an upper directory.

The list of changes is docker's (changes.py); each becomes a member or a whiteout, read beneath the new tree by descriptor.
"""

from __future__ import annotations

import os
import stat

from .beneath import Beneath
from .changes import changes_tree
from .names import split
from .output import Output, Write
from .pack import Packed, Packer


def pack_diff(old_fd: int, new_fd: int, write: Write | None) -> Packed:
    """The layer that makes the new tree of the old one: the changed entries, and whiteouts for the removed ones."""
    found = changes_tree(old_fd, new_fd)
    with Output(write) as out, Beneath(new_fd, _nothing_is_made) as dirs:
        packer = Packer(out, None, overlay=True)
        for kind, path in found:
            real = path[1:]
            parent, name = split(real)
            if kind == "D":
                packer.whiteout(real)
                continue
            dir_fd = dirs.open(parent) if parent else new_fd
            st = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
            if stat.S_ISDIR(st.st_mode):
                packer.directory(dirs.open(real), st, real, name, None)
            elif stat.S_ISREG(st.st_mode):
                packer.file(dir_fd, name, real, None)
            else:
                packer.other(dir_fd, name, real, None)
        done = packer.end()
        done.digest, done.size = f"sha256:{out.finish()}", out.size
    return done


def _nothing_is_made(real: bytes, fd: int) -> None:
    raise AssertionError(real)
