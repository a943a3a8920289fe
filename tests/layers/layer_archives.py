# SPDX-License-Identifier: Apache-2.0
"""Small archives, written by Python's own tarfile: not by the code under test."""

from __future__ import annotations

import io
import tarfile


def make_tar(*members: tuple[str, object], mode: str = "w") -> bytes:
    """("dir/", None) a directory; ("a", b"x") a file; ("l", "->target") a link; ("h", "=target") a hard link; ("d/", 0o700) with a mode."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for name, what in members:
            info = tarfile.TarInfo(name.rstrip("/") or "./")
            info.mtime = 1_500_000_000
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, what if isinstance(what, int) else 0o755
                archive.addfile(info)
            elif isinstance(what, str):
                info.type = tarfile.SYMTYPE if what.startswith("->") else tarfile.LNKTYPE
                info.linkname = what.lstrip("->=")
                archive.addfile(info)
            else:
                data = what if isinstance(what, bytes) else b""
                info.size, info.mode = len(data), 0o644
                archive.addfile(info, io.BytesIO(data))
    return out.getvalue()
