# SPDX-License-Identifier: Apache-2.0
"""Rows of containers: names, look-ups in docker's order, races, removal, `--rm` rows that nobody sees."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lamina.containers import state as states
from lamina.containers.state import State
from lamina.containers.store import ContainerStore, Record, check_name
from lamina.errors import Conflict, InvalidArgument, NotFound, StoreError
from lamina.store import removal
from lamina.store.open import Store
from lamina.util import identity
from lamina.util.ids import new_id
from lamina.volumes.store import VolumeStore

SOURCE = str(Path(__file__).resolve().parents[2] / "src")


@pytest.fixture
def containers(store: Store) -> ContainerStore:
    return ContainerStore(store)


def ended(containers: ContainerStore, cid: str) -> None:
    states.save(containers.store.paths.container_state(cid), State("exited", exit_code=1))


def test_insert_and_look_up(containers: ContainerStore) -> None:
    record = Record("ab" + "0" * 62, "box", image_ref="x", config={"Config": {"Cmd": ["é"]}})
    containers.insert(record)
    for ref in (record.id, "box", "/box", record.id[:12], "a"):
        got = containers.get(ref)
        assert (got.id, got.name, got.config, got.created_ns) == (record.id, "box", {"Config": {"Cmd": ["é"]}}, record.created_ns)
    assert os.listdir(containers.store.paths.container(record.id)) == []
    assert containers.state(record.id).status == "created"


def test_a_made_up_name_gives_way(containers: ContainerStore) -> None:
    """Two commands make up the same name at once. Control: a name that somebody chose is a conflict."""
    containers.insert(Record("aa" + "0" * 62, "keen_noether"))
    second = Record("ab" + "0" * 62, "keen_noether")
    with pytest.raises(Conflict):
        containers.insert(second)
    containers.insert(second, made_up=True)
    assert second.name != "keen_noether" and containers.get(second.name).id == second.id


@pytest.mark.parametrize("ref", ["nope", "b" * 64, "ABC", "a" * 65, "../x", "a%", "a_"])
def test_no_such_container(containers: ContainerStore, ref: str) -> None:
    containers.insert(Record("ab" + "0" * 62, "box"))
    with pytest.raises(NotFound) as refused:
        containers.get(ref)
    assert refused.value.message == f"No such container: {ref}"


def test_an_empty_reference(containers: ContainerStore) -> None:
    with pytest.raises(InvalidArgument):
        containers.get("")


def test_order_full_id_then_name_then_prefix(containers: ContainerStore) -> None:
    a, b = "aa" + "0" * 62, "ab" + "0" * 62
    containers.insert(Record(a, "box"))
    containers.insert(Record(b, "aa"))  # named as a's prefix
    containers.insert(Record("cc" + "0" * 62, a))  # named as a's full id
    assert containers.get("aa").id == b
    assert containers.get(a).id == a
    assert containers.get("aa0").id == a
    with pytest.raises(InvalidArgument) as refused:
        containers.get("a")
    assert refused.value.message == "multiple IDs found with provided prefix: a"


@pytest.mark.parametrize("name", ["", "/", "x", "-ab", ".ab", "_ab", "a b", "a/b", "//ab", "ab\n", "é12", "a:b"])
def test_bad_names(containers: ContainerStore, name: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        containers.insert(Record(new_id(), name))
    assert refused.value.message == f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    assert check_name("/a-b_c.D9") == "a-b_c.D9"


def test_a_taken_name(containers: ContainerStore) -> None:
    first = Record(new_id(), "box")
    containers.insert(first)
    with pytest.raises(Conflict) as refused:
        containers.insert(Record(new_id(), "box"))
    assert refused.value.message == (f'Conflict. The container name "/box" is already in use by container "{first.id}". '
                                     "You have to remove (or rename) that container to be able to reuse that name.")
    other = Record(new_id(), "other")
    containers.insert(other)
    with pytest.raises(Conflict, match='"/box" is already in use'):
        containers.rename("other", "box")
    assert containers.rename("other", "third").id == other.id == containers.get("third").id
    with pytest.raises(NotFound):
        containers.get("other")
    with pytest.raises(InvalidArgument, match="same name"):
        containers.rename("third", "/third")
    assert set(os.listdir(containers.store.paths.containers)) == {first.id, other.id}


def test_of_many_that_want_a_name_one_gets_it(containers: ContainerStore) -> None:
    code = f"""import sys; sys.path.insert(0, {SOURCE!r})
from lamina.store.open import Store
from lamina.containers.store import ContainerStore, Record
from lamina.errors import Conflict
from lamina.util.ids import new_id
try:
    ContainerStore(Store.open(sys.argv[1], sys.argv[2])).insert(Record(new_id(), "wanted"))
except Conflict:
    sys.exit(9)
"""
    paths = containers.store.paths
    children = [subprocess.Popen([sys.executable, "-I", "-S", "-c", code, paths.root, paths.runroot]) for _ in range(6)]
    assert sorted(child.wait() for child in children) == [0, 9, 9, 9, 9, 9]
    assert len(os.listdir(paths.containers)) == 1


def test_references_are_checked_in_the_same_transaction(containers: ContainerStore) -> None:
    with pytest.raises(NotFound, match="No such image: x"):
        containers.insert(Record(new_id(), "box", image_id="sha256:none", image_ref="x"))
    with pytest.raises(NotFound, match="no such volume"):
        containers.insert(Record(new_id(), "box"), volumes=["none"])
    assert containers.list() == [] and os.listdir(containers.store.paths.containers) == []


def test_removal_frees_everything_at_once(containers: ContainerStore) -> None:
    volumes = VolumeStore(containers.store)
    kept, own, shared = volumes.create("kept"), volumes.create(), volumes.create()
    record, other = Record(new_id(), "box"), Record(new_id(), "other")
    containers.insert(record, volumes=[kept.name, own.name, shared.name])
    containers.insert(other, volumes=[shared.name])
    with containers.store.db.write() as db:
        db.execute("INSERT INTO endpoints VALUES ('net', ?, '10.0.0.2', 'mac')", (record.id,))
    (Path(containers.store.paths.container(record.id)) / "config.json").touch()
    assert containers.delete(record.id, anonymous_volumes=True)
    assert not containers.delete(record.id)
    containers.insert(Record(new_id(), "box"))  # the name is free before the files are gone
    assert containers.store.db.execute("SELECT 1 FROM endpoints") == []
    assert volumes.used_by("kept") == [] and volumes.find(own.name) is None and volumes.find(shared.name) is not None
    containers.discard(record.id)
    assert containers.reap() == [] and removal.pending(containers.store.db) == []
    assert not os.path.exists(containers.store.paths.container(record.id)) and not os.path.exists(own.mountpoint)
    assert os.path.exists(kept.mountpoint) and os.path.exists(shared.mountpoint)


def test_an_ended_rm_container_is_seen_by_nobody_and_reaped(containers: ContainerStore) -> None:
    record = Record("ab" + "0" * 62, "box", auto_remove=True)
    containers.insert(record)
    assert [r.id for r in containers.list()] == [record.id], "created, not started yet"
    ended(containers, record.id)
    assert containers.list() == []
    assert [containers.find(ref) for ref in ("box", "ab", record.id)] == [None] * 3
    assert [r.id for r in containers.over()] == [record.id]
    assert containers.reap() == [] and containers.over() == []
    assert not os.path.exists(containers.store.paths.container(record.id))


def test_the_name_of_an_ended_rm_container_is_free(containers: ContainerStore) -> None:
    old, new = Record(new_id(), "box", auto_remove=True), Record(new_id(), "box")
    containers.insert(old)
    ended(containers, old.id)
    containers.insert(new)
    assert containers.get("box").id == new.id and not os.path.exists(containers.store.paths.container(old.id))


def test_a_name_is_a_prefix_again_when_its_holder_has_ended(containers: ContainerStore) -> None:
    old, other = Record("ff" + "0" * 62, "ab", auto_remove=True), Record("ab" + "0" * 62, "box")
    containers.insert(old)
    containers.insert(other)
    ended(containers, old.id)
    assert containers.get("ab").id == other.id


def test_a_bundle_that_the_monitor_deleted_is_an_end(containers: ContainerStore) -> None:
    record = Record(new_id(), "box", auto_remove=True)
    containers.insert(record)
    os.rmdir(containers.store.paths.container(record.id))
    assert containers.list() == [] and containers.reap() == []
    assert containers.store.db.value("SELECT count(*) FROM containers") == 0


def test_list_is_newest_first(containers: ContainerStore) -> None:
    for i, name in enumerate(("old", "mid", "new")):
        containers.insert(Record(new_id(), name, created_ns=i + 1))
    assert [r.name for r in containers.list()] == ["new", "mid", "old"]


# -- state.json
def running(pid: int, **more: object) -> State:
    return State("running", pid=pid, monitor_pid=pid, monitor_start_time=identity.start_time(pid), boot_id=identity.boot_id(), started_at=5,
                 **more)  # type: ignore[arg-type]


def test_state_survives(tmp_path: Path) -> None:
    path = str(tmp_path / "state.json")
    states.save(path, running(os.getpid(), oom_killed=True, error="é"))
    got = states.load_file(path)
    assert got.status == "running" and got.live and got.oom_killed and got.error == "é" and got.pid == os.getpid()


@pytest.mark.parametrize("change", [{"boot_id": "another"}, {"monitor_start_time": 1}, {"monitor_pid": 2**22 + 1}, {"monitor_pid": 0}])
@pytest.mark.parametrize("status", ["running", "paused", "restarting"])
def test_a_live_state_without_its_monitor_is_the_end(tmp_path: Path, change: dict[str, object], status: str) -> None:
    path = str(tmp_path / "state.json")
    state = running(os.getpid())
    state.status = status
    for key, value in change.items():
        setattr(state, key, value)
    states.save(path, state)
    got = states.load_file(path)
    assert (got.status, got.exit_code, got.error, got.pid) == ("exited", 137, "monitor lost", 0)
    assert got.started_at == 5 and got.finished_at == os.stat(path).st_mtime_ns


def test_the_last_word_of_a_monitor_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "state.json")
    states.save(path, running(os.getpid()))

    def dies(pid: int, start: int, boot: str) -> bool:
        states.save(path, State("exited", exit_code=4))  # written between our reading and our look
        return False

    monkeypatch.setattr(states, "is_alive", dies)
    assert (states.load_file(path).status, states.load_file(path).exit_code) == ("exited", 4)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"status":"happy"}', '{"status":"exited","exit_code":"1"}',
    '{"status":"exited","oom_killed":1}'])
def test_a_damaged_state_names_its_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(StoreError, match="state.json: damaged"):
        states.load_file(str(tmp_path / "state.json"))
