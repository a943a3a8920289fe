# SPDX-License-Identifier: Apache-2.0
"""The relay against servers on the loopback: whole streams, half-closes, bounded memory, UDP peers; driven as the monitor's loop does."""
from __future__ import annotations

import hashlib
import os
import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from lamina.monitor import relay as module
from lamina.monitor.relay import Relay
from lamina.network import holding


class Driver:
    """A loop in a thread."""

    def __init__(self, wanted: list[tuple[int, int, str, int, int]]) -> None:
        self.held = holding.hold(wanted, "no-table")
        self.relay = Relay(self.held, "127.0.0.1")
        self.waiting = 0
        self.stop = False
        self.thread = threading.Thread(target=self.loop, daemon=True)
        self.thread.start()

    def loop(self) -> None:
        while not self.stop:
            want: dict[int, int] = {}
            self.relay.expire()
            self.relay.interest(want)
            poller = select.poll()
            for fd, mask in want.items():
                assert mask
                poller.register(fd, mask)
            for fd, event in poller.poll(20):
                self.relay.handle(fd, event)
            self.waiting = max([self.waiting, *(len(half.out) for half in self.relay.halves.values())])

    def close(self) -> None:
        self.stop = True
        self.thread.join()
        self.relay.close()


def server(family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> tuple[socket.socket, int]:
    sock = socket.socket(family, kind)
    sock.bind(("127.0.0.1", 0))
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return sock, sock.getsockname()[1]


@pytest.fixture
def tcp() -> Iterator[tuple[Driver, socket.socket, int]]:
    sock, port = server()
    driver = Driver([(6, port, "127.0.0.1", 0, 0)])
    yield driver, sock, driver.held[0].port
    driver.close()
    sock.close()


def test_both_directions_and_half_close(tcp: tuple[Driver, socket.socket, int]) -> None:
    driver, listener, port = tcp
    data, answer = os.urandom(3_000_000), os.urandom(2_000_000)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        inner, _ = listener.accept()
        sender = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
        sender.start()
        with inner, inner.makefile("rb") as stream:
            assert hashlib.sha256(stream.read()).digest() == hashlib.sha256(data).digest()
            inner.sendall(answer)  # after the client's end: a half-closed connection still answers
        sender.join()
        with client.makefile("rb") as stream:
            assert stream.read() == answer
    end = time.monotonic() + 5
    while driver.relay.halves and time.monotonic() < end:
        time.sleep(0.01)
    assert not driver.relay.halves, "nothing is kept of it"


def test_a_reader_that_stops_stops_the_sender(tcp: tuple[Driver, socket.socket, int]) -> None:
    driver, listener, port = tcp
    with socket.create_connection(("127.0.0.1", port), timeout=1) as client:
        inner, _ = listener.accept()
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 1 << 28:
                sent += client.send(bytes(1 << 16))
        assert driver.waiting <= module.WINDOW
        inner.settimeout(5)
        got = 0
        while got < sent:
            got += len(inner.recv(1 << 20))
        inner.close()


def test_nobody_listens_inside() -> None:
    sock, port = server()
    sock.close()
    driver = Driver([(6, port, "127.0.0.1", 0, 0)])
    try:
        with socket.create_connection(("127.0.0.1", driver.held[0].port), timeout=5) as client:
            assert client.recv(1) == b""
    finally:
        driver.close()


def test_the_end_hands_on_what_was_said(tcp: tuple[Driver, socket.socket, int]) -> None:
    driver, listener, port = tcp
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        inner, _ = listener.accept()
        driver.stop = True
        driver.thread.join()
        inner.sendall(b"last words")
        inner.close()
        time.sleep(0.05)
        driver.relay.close()
        assert client.recv(100) == b"last words" and client.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_connections_are_bounded(tcp: tuple[Driver, socket.socket, int], monkeypatch: pytest.MonkeyPatch) -> None:
    driver, _listener, port = tcp
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 4)
    clients = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(8)]
    time.sleep(0.2)
    assert len(driver.relay.halves) == 8, "four pairs; the others wait in the kernel's queue"
    for client in clients:
        client.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::"])
def test_udp_peers_and_the_address_that_answers(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FLOWS", 3)
    inner, port = server(kind=socket.SOCK_DGRAM)
    inner.settimeout(5)
    driver = Driver([(17, port, address, 0, 0)])
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    clients = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(5)]
    try:
        for number, client in enumerate(clients):
            client.settimeout(5)
            client.connect(("::1" if ":" in address else address, driver.held[0].port))  # connected: another's answer isn't taken
            for _ in range(2):
                client.send(b"from %d" % number)
                data, peer = inner.recvfrom(100)
                inner.sendto(data + b" back", peer)
                assert client.recv(100) == b"from %d back" % number
        assert len(driver.relay.flows) == len(driver.relay.flow_of) == 3
        monkeypatch.setattr(module, "FLOW_IDLE", 0.0)
        time.sleep(0.1)
        assert not driver.relay.flows and not driver.relay.flow_of and driver.relay.timeout() is None
    finally:
        driver.close()
        inner.close()
        for client in clients:
            client.close()
