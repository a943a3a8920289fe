# SPDX-License-Identifier: Apache-2.0
"""CVE-2020-15257: the shim's control socket was abstract, so that uid 0 of a container with the host's network could talk to it.

Ours is a file of mode 0600, and both ends ask the kernel who the other one is. The control takes mode and directory away: then the
connection succeeds, and only the second defence, the peer's user, keeps the stranger from being heard.
"""
from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina import errors
from lamina.monitor import client, loop, protocol, server

STRANGER = 65534


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that strangers may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o711)
        yield Path(name)


@pytest.fixture
def session(place: Path) -> Iterator[loop.Session]:
    made = loop.Session({"id": "x"}, own_pidns=True)
    made.server.listen(str(place), "sock")
    yield made
    made.server.close()


def as_stranger(path: Path, session: loop.Session) -> bytes:
    """What another user gets out of the socket: b"refused", b"silence", or the monitor's greeting."""
    done_r, done_w = os.pipe()
    child = os.fork()
    if child == 0:
        answer = b"refused"
        try:
            os.setresgid(STRANGER, STRANGER, STRANGER)
            os.setresuid(STRANGER, STRANGER, STRANGER)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(10)
                sock.connect(str(path))
                sock.sendall(protocol.json_frame(protocol.C_HELLO, {"version": 1}) + protocol.frame(protocol.C_SIGNAL, b"\x09"))
                answer = sock.recv(1000) or b"silence"
        except (ConnectionResetError, BrokenPipeError):
            answer = b"silence"
        except OSError:
            pass
        finally:
            os.write(done_w, answer)
            os._exit(0)
    os.close(done_w)
    while not os.waitpid(child, os.WNOHANG)[0]:
        session._turn(20)
    try:
        return os.read(done_r, 2000)
    finally:
        os.close(done_r)


def test_there_is_no_abstract_socket(session: loop.Session, place: Path) -> None:
    names = [line.split()[7] for line in Path("/proc/net/unix").read_text().splitlines()[1:] if len(line.split()) > 7]
    assert str(place / "sock") in names
    assert not [name for name in names if name.startswith("@") and "lamina" in name]
    assert (place / "sock").stat().st_mode & 0o7777 == 0o600


def test_another_user_is_kept_out_twice(session: loop.Session, place: Path) -> None:
    assert as_stranger(place / "sock", session) == b"refused"
    (place / "sock").chmod(0o666)
    assert as_stranger(place / "sock", session) == b"silence"


def test_control_unasked_the_stranger_is_greeted(session: loop.Session, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "check_peer", lambda sock: None)
    (place / "sock").chmod(0o666)
    assert b'"version"' in as_stranger(place / "sock", session)


def test_a_socket_of_another_user_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        listener.listen()
        monkeypatch.setattr(client.os, "geteuid", lambda: 12345)
        monkeypatch.setattr(protocol, "U32_NATIVE", type("Fake", (), {"unpack_from": staticmethod(lambda raw, at: (54321,))}))
        with pytest.raises(errors.Forbidden):
            client.connect(str(tmp_path))
