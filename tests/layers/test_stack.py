# SPDX-License-Identifier: Apache-2.0
"""`Stack`: layers that are laid out side by side are what they are when laid out one after the other, or none of them is."""

from __future__ import annotations

import gzip
import hashlib
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from layer_archives import make_tar

from lamina.errors import ArchiveError, StoreError
from lamina.layers import ingest
from lamina.layers.stack import Incoming, Stack
from lamina.layers.store import LayerStore
from lamina.layers.tar import deflate
from lamina.store import check
from lamina.store.lease import Lease
from lamina.util.slices import Slice

BASE = make_tar(("./", 0o700), ("etc/", 0o750), ("etc/one", b"1"), ("lib", "->usr/lib"), ("usr/", None), ("usr/lib/", None), ("gone", b"x"))
PLAIN = make_tar(("etc/", 0o750), ("etc/two", b"2"), (".wh.gone", b""))
IMPLICIT = make_tar(("etc/three", b"3"))  # its directory has the base's mode
LINKED = make_tar(("copy", "=etc/one"))  # a hard link into the base
THROUGH = make_tar(("lib/so", b"elf"))  # through a link of the base
OPAQUE = make_tar((".wh..wh..opq", b""), ("new", b"n"))  # hides all that is below
STACKS = {
    "plain": [BASE, PLAIN],
    "implicit": [BASE, PLAIN, IMPLICIT],
    "linked": [BASE, LINKED, PLAIN],
    "through": [BASE, THROUGH],
    "opaque": [BASE, OPAQUE, PLAIN],
    "many": [BASE, *(make_tar((f"f{number}", os.urandom(3000))) for number in range(12)), IMPLICIT],
    "twice the same": [BASE, PLAIN, PLAIN],
}


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tree(path: str) -> dict[str, object]:
    """What is in a directory, with modes, the times of files, and overlay's marks."""
    found: dict[str, object] = {}
    for name in sorted([".", *(str(item.relative_to(path)) for item in Path(path).rglob("*"))]):
        full = f"{path}/{name}"
        st = os.lstat(full)
        marks = sorted(os.listxattr(full, follow_symlinks=False))
        data = Path(full).read_bytes() if stat.S_ISREG(st.st_mode) else os.readlink(full) if stat.S_ISLNK(st.st_mode) else b""
        found[name] = (stat.filemode(st.st_mode), st.st_rdev, st.st_mtime_ns if stat.S_ISREG(st.st_mode) else 0, marks, data)
    return found


class Files:
    """Layers as files, each at an offset."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.fds: list[int] = []

    def incoming(self, data: bytes, **more: str) -> Incoming:
        path = self.base / f"blob{len(self.fds)}"
        path.write_bytes(b"before" + data + b"behind")
        self.fds.append(os.open(path, os.O_RDONLY))
        return Incoming(self.fds[-1], 6, len(data), **more)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    found = Files(tmp_path)
    yield found
    for fd in found.fds:
        os.close(fd)


def make(layers: LayerStore, files: Files, tars: list[bytes], lease: Lease, *, packed: bool = False, backwards: bool = True) -> list[str]:
    with Stack(layers.store, layers.driver, [digest(data) for data in tars], lease, workers=3) as stack:
        for place in sorted(range(len(tars)), reverse=backwards):
            data = gzip.compress(tars[place]) if packed else tars[place]
            stack.put(place, files.incoming(data, digest=digest(data)))
        return [layer.chain_id for layer in stack.finish()]


def assert_nothing(layers: LayerStore) -> None:
    store = layers.store
    layers.remove_unused()
    assert store.db.value("SELECT count(*) FROM layers") == 0
    assert os.listdir(store.paths.layers) == os.listdir(store.paths.tmp) == []
    assert check.check(store) == []


@pytest.mark.parametrize("name", STACKS)
def test_side_by_side_gives_what_one_after_the_other_gives(layers: LayerStore, files: Files, name: str) -> None:
    with Lease(layers.store, "test") as lease:
        one_by_one, parent = [], ""
        for data in STACKS[name]:
            source = files.incoming(data)
            parent = ingest.add(layers.store, layers.driver, Slice(source.fd, 6, len(data)), parent, lease).chain_id
            one_by_one.append(parent)
        wanted = {chain: (tree(layers.path(chain)), layers.get(chain).data_key, layers.get(chain).size) for chain in one_by_one}
    assert_nothing(layers)
    for packed in (False, True):
        with Lease(layers.store, "test") as lease:
            chains = make(layers, files, STACKS[name], lease, packed=packed)
            assert chains == one_by_one
            for chain in chains:
                assert (tree(layers.path(chain)), layers.get(chain).data_key, layers.get(chain).size) == wanted[chain]
                layers.verify(chain)
            assert check.check(layers.store, full=True) == []
            assert make(layers, files, STACKS[name], lease) == chains, "all are here now: verified, not made"
        assert_nothing(layers)


def test_a_stack_goes_on_from_what_is_here(layers: LayerStore, files: Files) -> None:
    with Lease(layers.store, "test") as lease:
        make(layers, files, [BASE, PLAIN], lease)
        tars = [BASE, PLAIN, IMPLICIT]
        with Stack(layers.store, layers.driver, [digest(data) for data in tars], lease) as stack:
            assert [stack.is_known(place) for place in range(3)] == [True, True, False]
            stack.put(0, None)
            stack.put(1, None)
            stack.put(2, files.incoming(IMPLICIT))
            top = stack.finish()[-1]
        assert stat.S_IMODE(os.stat(f"{layers.path(top.chain_id)}/etc").st_mode) == 0o750
    assert_nothing(layers)


@pytest.mark.parametrize("bad,text", [("tar", "instead of"), ("blob", "instead of"), ("damaged", "instead of"),
                                      ("missing", "is missing"), ("member", "leads out of the root")])  # fmt: skip
def test_one_bad_layer_and_none_is_made(layers: LayerStore, files: Files, bad: str, text: str) -> None:
    evil = make_tar(("../x", b"y"))
    tars = [BASE, PLAIN, evil if bad == "member" else IMPLICIT]
    with Lease(layers.store, "test") as lease, pytest.raises(ArchiveError, match=text):
        with Stack(layers.store, layers.driver, [digest(data) for data in tars], lease) as stack:
            stack.put(0, files.incoming(BASE))
            stack.put(1, files.incoming(PLAIN))
            packed = gzip.compress(IMPLICIT)
            if bad == "tar":
                stack.put(2, files.incoming(gzip.compress(LINKED)))
            elif bad == "blob":
                stack.put(2, files.incoming(packed, digest=digest(b"other")))
            elif bad == "damaged":
                stack.put(2, files.incoming(packed[:-8] + bytes(8), digest=digest(packed)))
            elif bad == "member":
                stack.put(2, files.incoming(evil))
            stack.finish()
    assert_nothing(layers)


def test_a_worker_that_is_killed_is_told_and_nothing_stays(overlay: LayerStore, files: Files) -> None:
    large = make_tar(("data", os.urandom(1 << 20) * 30))
    with Lease(overlay.store, "test") as lease, pytest.raises(StoreError, match="was killed"):
        with Stack(overlay.store, overlay.driver, [digest(BASE), digest(large)], lease) as stack:
            stack.put(1, files.incoming(large))
            for worker in stack._workers:
                if worker.job is not None:
                    os.kill(worker.pid, signal.SIGKILL)
            stack.put(0, files.incoming(BASE))
            stack.finish()
    assert_nothing(overlay)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_gzip_is_the_same_with_any_number_of_threads_and_pieces() -> None:
    data = os.urandom(100_000) * 12 + b"text " * 200_000
    made = set()
    for workers, step in ((1, 1 << 20), (4, 77_777), (2, len(data))):
        out: list[bytes] = []
        packer = deflate.Gzip(out.append, 6, workers)
        for at in range(0, len(data), step):
            packer.put(memoryview(data)[at : at + step])
        packer.finish()
        made.add(b"".join(out))
    assert len(made) == 1 and gzip.decompress(made.pop()) == data
    empty: list[bytes] = []
    deflate.Gzip(empty.append, 6).finish()
    assert gzip.decompress(b"".join(empty)) == b""
