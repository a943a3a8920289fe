# SPDX-License-Identifier: Apache-2.0
"""The database: transactions, forks, many writers, kill -9 in the middle."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lamina.errors import StoreError
from lamina.store.check import check
from lamina.store.db import DB, IntegrityError
from lamina.store.open import Store

SOURCE = str(Path(__file__).resolve().parents[2] / "src")


def python(code: str, *argv: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {SOURCE!r})\n" + code, *argv],
        stdout=subprocess.PIPE)


def test_commit_and_rollback(store: Store) -> None:
    with store.db.write() as db:
        db.execute("INSERT INTO meta VALUES ('a', '1')")
    with pytest.raises(KeyError), store.db.write() as db:
        db.execute("INSERT INTO meta VALUES ('b', '2')")
        raise KeyError
    assert store.db.execute("SELECT key FROM meta WHERE key IN ('a', 'b')") == [("a",)]
    assert not store.db.in_transaction


def test_nesting_is_an_error(store: Store) -> None:
    with store.db.write(), pytest.raises(AssertionError, match="inside"):
        store.db.write()
    with store.db.write() as db:  # and the first one has ended properly
        db.execute("INSERT INTO meta VALUES ('a', '1')")


def test_unique_errors_pass_and_others_are_explained(store: Store) -> None:
    with pytest.raises(IntegrityError), store.db.write() as db:
        db.execute("INSERT INTO meta VALUES ('layout', '9')")
    with pytest.raises(StoreError, match="no such table"):
        store.db.execute("SELECT 1 FROM elsewhere")


@pytest.mark.parametrize("durable", [True, False])
def test_what_durable_means(store: Store, durable: bool) -> None:
    with store.db.write(durable=durable) as db:
        assert db.value("PRAGMA synchronous") == (2 if durable else 1)


@pytest.mark.parametrize("lazy", [True, False])
def test_closing(store: Store, lazy: bool) -> None:
    with store.db.write() as db:
        db.execute("INSERT INTO meta VALUES ('a', '1')")
    store.close(lazy=lazy)
    assert os.path.exists(store.paths.database + "-wal") is lazy
    assert not store.db.is_open
    assert store.db.value("SELECT value FROM meta WHERE key='a'") == "1"  # opens again


def test_tidy_writes_a_grown_log_back(store: Store) -> None:
    for i in range(20):
        with store.db.write(durable=False) as db:
            db.execute("INSERT INTO meta VALUES (?, ?)", (str(i), "x" * 5000))
    assert not store.db.tidy(limit=1 << 30)
    assert store.db.tidy(limit=1000)
    assert os.path.getsize(store.paths.database + "-wal") == 0
    assert store.db.value("SELECT count(*) FROM meta") == 21


def test_a_connection_never_crosses_a_fork(store: Store) -> None:
    store.db.value("SELECT 1")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            store.db.value("SELECT 1")
        except AssertionError:
            store.db.close()  # harmless: it's the parent's
            code = 0 if DB(store.paths.database).value("SELECT 1") == 1 else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert store.db.value("SELECT count(*) FROM meta") == 1


def test_eight_writers_lose_nothing(store: Store) -> None:
    code = """
from lamina.store.db import DB
for i in range(25):
    db = DB(sys.argv[1])
    with db.write(durable=i % 2 == 0):
        n = int(db.value("SELECT value FROM meta WHERE key='n'") or 0)
        db.execute("INSERT OR REPLACE INTO meta VALUES ('n', ?)", (str(n + 1),))
    db.close(lazy=i % 3 == 0)
"""
    children = [python(code, store.paths.database) for _ in range(8)]
    assert [child.wait() for child in children] == [0] * 8
    assert store.db.value("SELECT value FROM meta WHERE key='n'") == "200"
    assert store.db.execute("PRAGMA integrity_check") == [("ok",)]


KILLED = """
import os
from lamina.store.open import Store
from lamina.containers.store import ContainerStore, Record
from lamina.content.blobs import BlobStore
from lamina.volumes.store import VolumeStore
from lamina.util.ids import new_id
store = Store.open(sys.argv[1], sys.argv[2])
containers, blobs, volumes = ContainerStore(store), BlobStore(store), VolumeStore(store)
fatal = int(sys.argv[3])
count = 0
for name in ("mkdir", "rename", "unlink", "rmdir", "fsync", "fchmod"):
    def wrap(real):
        def call(*a, **k):
            global count
            count += 1
            if count == fatal:
                os.kill(os.getpid(), 9)
            return real(*a, **k)
        return call
    setattr(os, name, wrap(getattr(os, name)))
for i in range(2):
    blob = blobs.put(b"blob %d" % i)
    volume = volumes.create("vol%d" % i)
    cid = new_id()
    containers.insert(Record(cid, "name%d" % i), volumes=["vol%d" % i])
    open(store.paths.container_config(cid), "w").close()
    anonymous = volumes.create()
    with store.db.write() as db:
        volumes.use(db, cid, anonymous.name)
    containers.remove(cid, anonymous_volumes=True)
    volumes.remove("vol%d" % i)
    blobs.remove(blob)
print("end", count)
"""


def test_killed_at_every_step_the_store_is_sound_again(tmp_path: Path) -> None:
    """kill -9 before each call that changes the disk; the next command repairs all of it without guessing."""
    root, run = str(tmp_path / "root"), str(tmp_path / "run")
    Store.open(root, run).close()
    done = python(KILLED, root, run, "0")
    out = done.communicate()[0].split()
    assert done.returncode == 0 and out[0] == b"end"
    steps = int(out[1])
    assert steps > 30
    for fatal in range(1, steps // 2 + 2):
        child = python(KILLED, root, run, str(fatal))
        child.wait()
        assert child.returncode == -signal.SIGKILL
        with Store.open(root, run) as store:
            from lamina.containers.store import ContainerStore
            from lamina.store.check import repair
            from lamina.volumes.store import VolumeStore

            assert all(problem.repairable for problem in check(store)), check(store)
            assert repair(store)[1] == []
            for record in ContainerStore(store).list():
                assert ContainerStore(store).remove(record.id, anonymous_volumes=True)
            for volume in VolumeStore(store).list():
                VolumeStore(store).remove(volume.name)
            assert check(store, full=True) == []
            left = [name for part in ("containers", "volumes", "tmp", "trash") for name in os.listdir(f"{root}/{part}")]
            assert left == []
