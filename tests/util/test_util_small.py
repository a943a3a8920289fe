# SPDX-License-Identifier: Apache-2.0
"""util: JSON, times, ids, digests, atomic files, locks, identity, programs."""
from __future__ import annotations

import datetime
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import ArchiveError, InvalidArgument, LaminaError
from lamina.util import atomic, digest, fastjson, identity, ids, proc, times
from lamina.util.lock import FileLock

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2**70, 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), inner, max_size=4),
        max_leaves=20)


@given(VALUES)
def test_json_agrees_with_the_library(value: object) -> None:
    assert fastjson.loads(fastjson.dumps(value)) == value
    assert json.loads(fastjson.dump_bytes(value)) == value
    assert fastjson.loads(json.dumps(value, indent=3)) == value
    assert fastjson.dumps(value, sort_keys=True) == json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@pytest.mark.parametrize("text", ["", " ", "{", "[1,]", "nul", "NaN", "Infinity", "-Infinity", '{"a":1} x', "\ufeff{}", "'a'", '"\n"',
    "[" * 100_000, "1" * 5000,
                                  b"\xff", '{"a" 1}'])
def test_what_is_not_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        fastjson.loads(text)


def test_what_cannot_be_json_is_a_value_error() -> None:
    loop: list[object] = []
    loop.append(loop)
    for value in (float("nan"), {1, 2}, b"x", loop, {(1, 2): 3}):
        with pytest.raises(ValueError):
            fastjson.dumps(value)
    with pytest.raises(ValueError):
        fastjson.dump_bytes("\ud800")


def test_json_without_the_accelerators() -> None:
    scan, encode = fastjson._portable()
    assert scan('{"a":[1]}', 0) == ({"a": [1]}, 9)
    assert encode({"b": 1, "a": "é"}, True) == '{"a":"é","b":1}'


def test_hot_modules_import_nothing_that_costs() -> None:
    source = str(Path(__file__).resolve().parents[2] / "src")
    code = (f"import sys; sys.path.insert(0, {source!r}); "
            "from lamina.util import fastjson, ids, times, atomic, lock, digest, identity; "
            "from lamina.store import open, db, lease, events, removal, trash;"
            "from lamina.containers import store, state; print(*sys.modules)")
    out = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    costly = {"json", "re", "enum", "typing", "dataclasses", "sqlite3", "datetime", "collections", "functools", "contextlib", "hashlib",
        "logging",
              "subprocess", "threading", "pathlib", "tempfile", "shutil", "signal", "socket", "ctypes", "argparse"}
    unwanted = costly & set(out)
    assert not unwanted


@given(st.integers(-62_135_596_800 * 10**9 + 1, 253_402_300_799 * 10**9).filter(bool))
def test_times_survive(ns: int) -> None:
    text = times.rfc3339nano(ns)
    assert times.parse_rfc3339(text) == ns
    assert not text[:-1].endswith("0") or "." not in text
    whole = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=ns // 10**9)
    assert text.startswith(whole.isoformat()[:19])


def test_time_texts() -> None:
    assert times.rfc3339nano(1_795_246_153_123_456_789) == "2026-11-21T07:29:13.123456789Z"
    assert times.rfc3339nano(1_500_000_000_120_000_000) == "2017-07-14T02:40:00.12Z"
    assert times.rfc3339nano(0) == times.rfc3339nano(None) == "0001-01-01T00:00:00Z"
    assert times.parse_rfc3339("0001-01-01T00:00:00Z") == 0
    assert times.parse_rfc3339("2017-07-14T04:40:00.1234567899+02:00") == 1_500_000_000_123_456_789


@pytest.mark.parametrize("text", ["", "2026", "2026-11-21", "2026-11-21T07:29:13", "2026-13-21T07:29:13Z", "2026-02-29T00:00:00Z",
    "2026-11-21T25:00:00Z",
                                  "2026-11-21T07:29:13.Z", "2026-11-21T07:29:13+1", "２026-11-21T07:29:13Z", "2026-11-21T07:29:13Zx",
                                      "2026-00-10T00:00:00Z"])
def test_bad_times(text: str) -> None:
    with pytest.raises(ValueError):
        times.parse_rfc3339(text)


def test_ids() -> None:
    one = ids.new_id()
    assert ids.is_id(one) and ids.short(one) == one[:12] and ids.short("sha256:" + one) == one[:12]
    for bad in ("", one[:-1], one + "0", one.upper() if one.upper() != one else "G" * 64, "../" + one[3:], one[:-1] + "\n",
        one[:-1] + "\u0661"):
        assert not ids.is_id(bad)


def test_names_are_free_and_fit_containers() -> None:
    from lamina.containers.store import check_name

    asked: list[str] = []

    def taken(name: str) -> bool:
        asked.append(name)
        return len(asked) < 9

    name = ids.new_name(taken)
    assert name == asked[-1] and name[-1].isdigit() and "_" in name
    for one in asked:
        check_name(one)


@pytest.mark.parametrize("text", ["sha256:" + "a" * 63, "sha256:" + "A" * 64, "sha256:" + "a" * 65, "sha512:" + "a" * 128, "a" * 64,
    "sha256", ":", "",
                                  "../../x:" + "a" * 64, "sha256:../../../../etc/passwd", "sha256:" + "a" * 63 + "/",
                                      "sha256:" + "a" * 63 + "\n",
                                  "sha256:" + "٣" * 64, "md5:" + "a" * 64, "SHA256:" + "a" * 64])
def test_bad_digests_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        digest.check_digest(text)


def test_sha512_is_refused_in_so_many_words() -> None:
    with pytest.raises(InvalidArgument, match="unsupported digest algorithm sha512"):
        digest.check_digest("sha512:" + "a" * 128)


@given(st.binary(max_size=200_000))
def test_hashes_agree(data: bytes) -> None:
    import hashlib

    assert digest.sha256_hex(data) == hashlib.sha256(data).hexdigest()
    sink: list[bytes] = []
    writer = digest.HashingWriter(sink.append)
    writer.write(data)
    assert (writer.digest, writer.size, b"".join(sink)) == (digest.digest_of(data), len(data), data)


def test_verifying_reader() -> None:
    good = digest.digest_of(b"hello")
    reader = digest.VerifyingReader(io.BytesIO(b"hello"), good, 5)
    assert reader.read(3) == b"hel" and not reader.verified
    reader.drain()
    assert reader.verified
    for data, name, size in ((b"hellO", good, 5), (b"hell", good, 5), (b"hello!", good, 5), (b"hello", good, 4), (b"", good, None)):
        with pytest.raises(ArchiveError):
            digest.VerifyingReader(io.BytesIO(data), name, size).drain()


def test_write_file_is_whole_and_private(tmp_path: Path) -> None:
    target = tmp_path / "f"
    target.symlink_to(tmp_path / "victim")
    atomic.write_file(str(target), b"one")
    assert not target.is_symlink() and target.read_bytes() == b"one" and target.stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "victim").exists()
    atomic.write_file(str(target), b"two", 0o644, durable=False)
    assert target.stat().st_mode & 0o777 == 0o644 and target.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["f"]


def test_write_file_leaves_nothing_when_it_fails(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").touch()
    with pytest.raises(OSError):
        atomic.write_file(str(tmp_path / "d"), b"data")  # a directory can't be replaced
    assert os.listdir(tmp_path) == ["d"]


def test_read_file_is_bounded_and_follows_nothing(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 200_000)
    assert atomic.read_file(str(tmp_path / "f")) == b"x" * 200_000
    with pytest.raises(OSError, match="too large"):
        atomic.read_file(str(tmp_path / "f"), 100_000)
    (tmp_path / "l").symlink_to("f")
    with pytest.raises(OSError):
        atomic.read_file(str(tmp_path / "l"))


def test_locks_exclude_and_share(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with FileLock(path):
        assert not FileLock(path).try_acquire()
        assert not FileLock(path, shared=True).try_acquire()
    with FileLock(path, shared=True), FileLock(path, shared=True):
        assert not FileLock(path).try_acquire()
    free = FileLock(path)
    assert free.try_acquire() and free.held
    free.release()
    free.release()


def test_a_lock_is_never_taken_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError):
        FileLock(str(tmp_path / "lock")).acquire()
    assert not (tmp_path / "victim").exists()


def test_identity_of_processes() -> None:
    child = subprocess.Popen(["/bin/sleep", "60"])
    try:
        start = identity.start_time(child.pid)
        assert identity.is_alive(child.pid, start, identity.boot_id())
        assert not identity.is_alive(child.pid, start + 1, identity.boot_id())
        assert not identity.is_alive(child.pid, start, "another-boot")
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not identity.is_alive(child.pid, start, identity.boot_id()), "a zombie is not alive"
    finally:
        child.kill()
        child.wait()
    assert not identity.is_alive(child.pid, start, identity.boot_id())
    assert not identity.is_alive(0, 0, identity.boot_id())
    assert identity.my_start_time() == identity.start_time(os.getpid())


def test_a_process_may_be_called_anything(tmp_path: Path) -> None:
    program = tmp_path / ") S 1 2 (3"
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen([str(program), "60"])
    try:
        ticks = os.sysconf("SC_CLK_TCK")
        boot = float(Path("/proc/uptime").read_text().split()[0])
        assert abs(identity.start_time(child.pid) / ticks - boot) < 60
    finally:
        child.kill()
        child.wait()


def test_programs() -> None:
    done = proc.run(["/bin/sh", "-c", "cat; echo err >&2; exit 3"], input=b"in")
    assert (done.code, done.out, done.err) == (3, b"in", b"err\n")
    assert proc.run(["/bin/cat"]).out == b""
    assert b"HOME" not in proc.run(["/usr/bin/env"]).out
    with pytest.raises(ValueError):
        proc.run(["sh"])
    with pytest.raises(OSError):
        proc.run(["/nonexistent"])
    with pytest.raises(LaminaError, match="killed"):
        proc.run(["/bin/sleep", "60"], timeout=0.1)
