# SPDX-License-Identifier: Apache-2.0
"""Private network namespaces for tests: one stands for the host, others for containers and for the world outside.

`in_host(fn)` runs a function in a forked child with an empty namespace of its own, so that nothing of the real host is touched.
"""
from __future__ import annotations

import os
import pickle
import subprocess
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from lamina.linux import ns, rtnetlink
from lamina.linux.netlink import Netlink
from lamina.store import paths, schema
from lamina.store.db import DB

T = TypeVar("T")


class Names(paths.Names):
    """With a random id."""

    __slots__ = ()

    def __init__(self) -> None:
        self.bridge = self.table = "lm-" + os.urandom(4).hex()
        self.cgroup = "/" + self.table


def fork_run(fn: Callable[[], T]) -> T:
    """Run in a forked child; its return value (pickled) or an AssertionError with its traceback."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reader)
            try:
                answer = pickle.dumps((True, fn()))
            except BaseException:
                answer = pickle.dumps((False, traceback.format_exc()))
            with os.fdopen(writer, "wb") as out:
                out.write(answer)
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as source:
        raw = source.read()
    os.waitpid(pid, 0)
    if not raw:
        raise AssertionError("the forked test died")
    fine, value = pickle.loads(raw)
    if not fine:
        raise AssertionError(value)
    return value  # type: ignore[no-any-return]


def in_host(fn: Callable[[], T]) -> T:
    """Run with an empty network namespace (lo is up)."""
    def body() -> T:
        ns.unshare(ns.CLONE_NEWNET)
        with Netlink() as route:
            route.call([rtnetlink.set_link(1, up=True)])
        return fn()
    return fork_run(body)


class Box:
    """A process that only holds a network namespace. It dies with its parent's pipe end, so never outlives a test."""

    def __init__(self) -> None:
        ready, tell = os.pipe()
        hold, self._keep = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._keep)
                ns.unshare(ns.CLONE_NEWNET)
                os.write(tell, b"x")
                os.read(hold, 1)
            finally:
                os._exit(0)
        os.close(tell)
        os.close(hold)
        os.set_inheritable(self._keep, False)
        assert os.read(ready, 1) == b"x"
        os.close(ready)

    def __enter__(self) -> Box:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._keep)
        os.waitpid(self.pid, 0)

    def run(self, fn: Callable[[], T]) -> T:
        """Run a function inside."""
        def body() -> T:
            fd = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
            ns.setns(fd, ns.CLONE_NEWNET)
            os.close(fd)
            return fn()
        return fork_run(body)


def connect(box: Box, *, host_if: str, host_ip: str, box_ip: str, mtu: int = 1500, default: bool = False) -> None:
    """A cable between the current namespace and a box (/24), the box's end `up0`; `default`: the host's default route leads there."""
    fd = os.open(f"/proc/{box.pid}/ns/net", os.O_RDONLY)
    try:
        with Netlink() as route:
            route.call([rtnetlink.new_veth(host_if, peer="up0", peer_netns_fd=fd, mtu=mtu)])
            index = rtnetlink.get_index(route, host_if)
            route.call([rtnetlink.add_address(index, host_ip, 24)])
    finally:
        os.close(fd)

    def inside() -> None:
        with Netlink() as route:
            index = rtnetlink.get_index(route, "up0")
            route.call([rtnetlink.set_link(1, up=True), rtnetlink.set_link(index, up=True), rtnetlink.add_address(index, box_ip, 24)])
    box.run(inside)
    if default:
        with Netlink() as route:
            route.call([rtnetlink.add_route("0.0.0.0", 0, gateway=box_ip, index=rtnetlink.get_index(route, host_if))])


def new_db(directory: str) -> DB:
    db = DB(os.path.join(directory, "net.db"))
    with db.write():
        schema.create(db)
    return db


def tool(*argv: str) -> str:
    """Output of an oracle program (ip, nft, iptables)."""
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
    return done.stdout


def route_test(box: Box, address: str, port: int, seconds: float = 2.0) -> Any:
    """(own address as seen by the server, greeting) of a TCP connection from inside a box; None if it does not come about."""
    def body() -> Any:
        import socket
        try:
            with socket.create_connection((address, port), timeout=seconds) as connection:
                return connection.recv(100).decode()
        except OSError:
            return None
    return box.run(body)


class Server:
    """A TCP server in a box (or, without one, in the current namespace) that tells each client the address that it sees."""

    def __init__(self, box: Box | None, address: str, port: int) -> None:
        import socket
        ready, tell = os.pipe()
        hold, self._keep = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._keep)
                if box is not None:
                    ns.setns(os.open(f"/proc/{box.pid}/ns/net", os.O_RDONLY), ns.CLONE_NEWNET)
                import select
                listener = socket.create_server((address, port))
                os.write(tell, b"x")
                while True:
                    readable, _w, _x = select.select([listener.fileno(), hold], [], [])
                    if hold in readable:
                        break
                    connection, peer = listener.accept()
                    connection.sendall(peer[0].encode())
                    connection.close()
            finally:
                os._exit(0)
        os.close(tell)
        os.close(hold)
        assert os.read(ready, 1) == b"x"
        os.close(ready)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._keep)
        os.waitpid(self.pid, 0)
