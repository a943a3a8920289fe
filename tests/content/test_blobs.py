# SPDX-License-Identifier: Apache-2.0
"""Blobs go in verified or not at all."""
from __future__ import annotations

import os
from pathlib import Path

import pytest

from lamina.content.blobs import BlobStore
from lamina.errors import ArchiveError, Conflict, InvalidArgument, NotFound
from lamina.store.check import check
from lamina.store.lease import Lease
from lamina.store.open import Store
from lamina.util.digest import digest_of

DATA = b"some layer" * 1000
DIGEST = digest_of(DATA)


@pytest.fixture
def blobs(store: Store) -> BlobStore:
    return BlobStore(store)


def nothing(blobs: BlobStore) -> bool:
    files = os.listdir(blobs.store.paths.tmp) + os.listdir(blobs.store.paths.blobs)
    return not files and not blobs.store.db.execute("SELECT 1 FROM blobs")


def test_ingest(blobs: BlobStore) -> None:
    with blobs.writer(DIGEST, len(DATA)) as writer:
        writer.write(DATA[:5])
        assert nothing(blobs) is False and os.listdir(blobs.store.paths.blobs) == []
        writer.write(DATA[5:])
        assert writer.commit(media_type="m", origin="docker.io/x") == DIGEST
    blob = blobs.find(DIGEST)
    assert blob is not None and (blob.size, blob.media_type, blob.origin, blob.diff_id, blob.kept) == (len(DATA), "m", "docker.io/x",
        None, True)
    assert os.stat(blobs.store.paths.blob(DIGEST)).st_mode & 0o777 == 0o400
    with blobs.open(DIGEST) as file:
        assert file.read() == DATA
    assert blobs.read(DIGEST) == DATA and list(blobs.walk()) == [(DIGEST, len(DATA))] and os.listdir(blobs.store.paths.tmp) == []
    assert check(blobs.store, full=True) == []


@pytest.mark.parametrize(("digest", "size", "data"), [
    (DIGEST, len(DATA), DATA[:-1]), (DIGEST, len(DATA), DATA[:-1] + b"X"), (DIGEST, len(DATA) + 1, DATA), (None, 3, b"ab"),
        (digest_of(b""), None, b"x")])
def test_what_is_not_as_promised_leaves_nothing(blobs: BlobStore, digest: str | None, size: int | None, data: bytes) -> None:
    with pytest.raises(ArchiveError), blobs.writer(digest, size) as writer:
        writer.write(data)
        writer.commit()
    assert nothing(blobs)


def test_more_than_promised_stops_at_once(blobs: BlobStore) -> None:
    with pytest.raises(ArchiveError, match="longer"), blobs.writer(DIGEST, 4) as writer:
        writer.write(b"12345")
    assert nothing(blobs)


def test_left_without_commit(blobs: BlobStore) -> None:
    with blobs.writer() as writer:
        writer.write(b"x")
    assert nothing(blobs)


@pytest.mark.parametrize("digest", ["../../etc/passwd", "sha256:..", "sha512:" + "a" * 128, "sha256:" + "A" * 64])
def test_digests_are_checked_before_use(blobs: BlobStore, digest: str) -> None:
    for call in (blobs.writer, blobs.open, blobs.find, blobs.remove, blobs.drop_bytes, blobs.verify):
        with pytest.raises(InvalidArgument):
            call(digest)
    assert nothing(blobs)


def test_twice_is_once(blobs: BlobStore) -> None:
    assert blobs.put(DATA) == blobs.put(DATA, media_type="m") == DIGEST
    blob = blobs.find(DIGEST)
    assert blob is not None and blob.media_type == "m"


def test_a_record_outlives_its_bytes(blobs: BlobStore) -> None:
    diff = digest_of(b"diff")
    blobs.put(DATA, media_type="m")
    blobs.record(DIGEST, len(DATA), diff_id=diff)
    assert [b.digest for b in blobs.with_diff_id(diff)] == [DIGEST]
    assert blobs.drop_bytes(DIGEST) and not blobs.drop_bytes(DIGEST)
    blob = blobs.find(DIGEST)
    assert blob is not None and not blob.kept and blob.diff_id == diff and blob.media_type == "m"
    with pytest.raises(NotFound):
        blobs.open(DIGEST)
    assert check(blobs.store, full=True) == []
    blobs.put(DATA)
    assert blobs.read(DIGEST) == DATA


def test_a_damaged_file_is_not_handed_out_as_whole(blobs: BlobStore) -> None:
    blobs.put(DATA)
    path = Path(blobs.store.paths.blob(DIGEST))
    path.chmod(0o600)
    path.write_bytes(DATA[:-1] + b"X")
    for call in (blobs.read, blobs.verify):
        with pytest.raises(ArchiveError, match="instead of"):
            call(DIGEST)


def test_removal_asks_the_living(blobs: BlobStore) -> None:
    blobs.put(DATA)
    with Lease(blobs.store, "push") as lease:
        lease.add("blob", DIGEST)
        with pytest.raises(Conflict, match="in use by: push"):
            blobs.remove(DIGEST)
        assert not blobs.drop_bytes(DIGEST)
    assert blobs.remove(DIGEST) and not blobs.remove(DIGEST)
    assert nothing(blobs) and os.listdir(blobs.store.paths.trash) == []
