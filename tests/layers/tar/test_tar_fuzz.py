# SPDX-License-Identifier: Apache-2.0
"""Whatever an archive holds, extracting it ends well or with an error that we mean, and the tree beside the root stays as it was."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.errors import ArchiveError, StoreError
from lamina.layers.tar import header as h
from lamina.layers.tar.extract import extract
from lamina.layers.tar.tarmap import Recorder
from tests.layers.tar.tarmake import END, member, pax, resum

PART = st.sampled_from([b"a", b"b", b"..", b".", b"", b".wh.a", b".wh..wh..opq", b".wh.", b".wh..", b".wh..wh.x", b"\xff", b"x" * 300])
LEAD = st.sampled_from([b"", b"/"])
PATH = st.builds(lambda lead, parts: lead + b"/".join(parts), LEAD, st.lists(PART, min_size=1, max_size=4))
KIND = st.sampled_from([h.REG, h.DIR, h.SYM, h.LINK, h.CHR, h.BLK, h.FIFO, h.GNU_SPARSE, h.CONT, b"?"])
NUMBER = st.sampled_from(
    [b"0", b"1", b"-1", b"65535", b"4294967294", b"4294967295", b"9223372036854775807", b"-9223372036854775807", b"99999999999999999999"]
)
XATTRS = (b"user.a", b"trusted.overlay.opaque", b"system.posix_acl_access", b"system.posix_acl_default", b"security.capability")
KEYS = (b"uid", b"gid", b"mtime", b"size", b"GNU.sparse.size", b"GNU.sparse.map", b"GNU.sparse.name", b"SCHILY.acl.default")
RECORDS = st.dictionaries(
    st.sampled_from(KEYS + tuple(b"SCHILY.xattr." + name for name in XATTRS)),
    NUMBER | st.sampled_from([b"0,1", b"user::rwx", b"../x", b""]),
    max_size=3,
)


@st.composite
def members(draw: st.DrawFn) -> bytes:
    name, link, kind = draw(PATH), draw(PATH), draw(KIND)
    data = draw(st.binary(max_size=600)) if kind == h.REG else b""
    raw = member(name[:100], data, type=kind, linkname=link[:100], mode=draw(st.sampled_from([0, 0o644, 0o7777])))
    if draw(st.booleans()):
        device = draw(st.sampled_from([b"0000000\0", b"0000001\0", b"7777777\0", b"\x80\0\0\0\xff\xff\xff\xff", b"\xff" * 8]))
        raw = resum(raw[:329] + device * 2 + raw[345:512]) + raw[512:]
    records: dict[bytes, bytes] = draw(RECORDS)
    if len(name) > 100:
        records[b"path"] = name
    return (pax(records) if records else b"") + raw


@pytest.mark.parametrize("mode", ["layer-overlay", "layer-apply", "plain"])
@settings(max_examples=250, deadline=None)
@given(st.lists(members(), max_size=6), st.integers(0, 10**6))
def test_any_members_are_extracted_or_refused(mode: str, found: list[bytes], cut: int) -> None:
    data = b"".join(found) + END
    data = data[: cut % (2 * len(data))]
    before = len(os.listdir("/proc/self/fd"))
    with tempfile.TemporaryDirectory() as name:
        os.mkdir(name + "/root")
        root = os.open(name + "/root", os.O_RDONLY)
        with open(name + "/map", "wb") as out, contextlib.suppress(ArchiveError, StoreError):
            extract(io.BytesIO(data), root, mode=mode, recorder=Recorder(out))
        os.close(root)
        assert sorted(os.listdir(name)) == ["map", "root"] and Path(name, "root").is_dir()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_stream_that_breaks_is_not_the_archives_fault(tmp_path: Path) -> None:
    class Breaking:
        def __init__(self) -> None:
            self.data = member(b"f", b"x", size=10000)

        def read(self, size: int = -1) -> bytes:
            if not self.data:
                raise ConnectionResetError(104, "peer went away")
            data, self.data = self.data, b""
            return data

    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(ConnectionResetError):
        extract(Breaking(), fd)
    os.close(fd)
