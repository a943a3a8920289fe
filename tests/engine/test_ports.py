# SPDX-License-Identifier: Apache-2.0
"""Published ports of real containers: from outside, from this host, from containers; who may have a port, and that nothing stays."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "network"))
import netlab

from lamina.linux import ns
from lamina.store.paths import Names
from tests.conftest import Lamina


class Inside:
    """The network namespace of a container, for netlab."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def run(self, fn: Callable[[], Any]) -> Any:
        return netlab.Box.run(self, fn)  # type: ignore[arg-type]


class UdpEcho:
    """Answers in a namespace with the sender's address and what it sent."""

    def __init__(self, where: Inside, port: int) -> None:
        ready, tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                ns.setns(os.open(f"/proc/{where.pid}/ns/net", os.O_RDONLY), ns.CLONE_NEWNET)
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sock.bind(("0.0.0.0", port))
                os.write(tell, b"x")
                while True:
                    data, peer = sock.recvfrom(65536)
                    sock.sendto(peer[0].encode() + b" " + data, peer)
            finally:
                os._exit(0)
        os.close(tell)
        assert os.read(ready, 1) == b"x"
        os.close(ready)

    def __enter__(self) -> UdpEcho:
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def ask(address: str, port: int, seconds: float = 3) -> str | None:
    """What a TCP server says first; None if there is no connection."""
    try:
        with socket.create_connection((address, port), timeout=seconds) as connection:
            return connection.recv(100).decode() or None
    except OSError:
        return None


def ask_udp(address: str, port: int, source_port: int = 0) -> str | None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        sock.bind(("::" if ":" in address else "0.0.0.0", source_port))
        sock.connect((address, port))
        try:
            sock.send(b"hi")
            return sock.recv(100).decode()
        except OSError:
            return None


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """One that nothing has just now, not of those that the kernel picks."""
    for port in range(20000 + os.getpid() % 5000, 32000):
        try:
            for family in (socket.AF_INET, socket.AF_INET6):
                with socket.socket(family, kind) as sock:
                    sock.bind(("", port))
            return port
        except OSError:
            continue
    raise AssertionError("no free port")


def run(lamina: Lamina, name: str, *flags: str) -> Inside:
    lamina("run", "-d", "--name", name, *flags, "box", "sleep", "600").check()
    return Inside(int(lamina("inspect", "-f", "{{.State.Pid}}", name).out))


def gateway(lamina: Lamina, name: str) -> str:
    return lamina("inspect", "-f", "{{.NetworkSettings.Gateway}}", name).out


def published(lamina: Lamina) -> str:
    table = Names(os.path.realpath(lamina.root), os.path.realpath(lamina.runroot)).table
    return "".join(netlab.tool("nft", "list", "map", "inet", table, name) for name in ("ports", "ports_at"))


@pytest.fixture
def outside() -> Iterator[tuple[netlab.Box, str, str]]:
    """A namespace beyond a cable of its own: (it, this host's address on that cable, its own)."""
    net = f"198.18.{os.getpid() % 250}"
    name = f"lmo{os.urandom(4).hex()}"
    with netlab.Box() as box:
        netlab.connect(box, host_if=name, host_ip=f"{net}.1", box_ip=f"{net}.2")
        yield box, f"{net}.1", f"{net}.2"
        subprocess.run(["ip", "link", "del", name], check=True)


def test_from_everywhere_with_the_source_address(lamina: Lamina, box: str, outside: tuple[netlab.Box, str, str]) -> None:
    world, host, peer = outside
    port = free_port()
    where = run(lamina, "web", "-p", f"{port}:80", "-p", f"127.0.0.1:{port + 1}:80")
    bridge = gateway(lamina, "web")
    with netlab.Server(where, "0.0.0.0", 80):  # type: ignore[arg-type]
        assert world.run(lambda: ask(host, port)) == peer, "the server sees who it is"
        assert world.run(lambda: ask(host, port + 1, 1)) is None, "published on the loopback address only"
        assert ask("127.0.0.1", port) and ask("127.0.0.1", port + 1)
        assert ask("::1", port) == bridge, "IPv6 comes by the relay"
        assert ask("::1", port + 1, 1) is None
        assert ask(host, port) == host
        other = run(lamina, "other")
        assert other.run(lambda: ask(host, port)) == bridge
        assert other.run(lambda: ask(bridge, port)) == bridge
        assert other.run(lambda: ask(bridge, port + 1, 1)) is None
        assert where.run(lambda: ask(host, port)) == bridge, "also the container itself"
    assert f"{port} comment" in published(lamina)
    lamina("rm", "-f", "web").check()
    assert "elements" not in published(lamina)
    assert ask("127.0.0.1", port, 1) is None


def test_other_hosts_port_is_not_caught(lamina: Lamina, box: str, outside: tuple[netlab.Box, str, str]) -> None:
    """Attack 34 (CVE-2025-67499): only what is for this host's own addresses is rewritten (tests/attacks/test_034
    has a neighbour's packets to the loopback address)."""
    world, host, peer = outside
    port = free_port()
    where = run(lamina, "web", "-p", f"{port}:80")
    other = run(lamina, "other")
    with netlab.Server(where, "0.0.0.0", 80), netlab.Server(world, "0.0.0.0", port):  # type: ignore[arg-type]
        assert ask(peer, port) == host, "from this host to another one's port of the same number"
        assert other.run(lambda: ask(peer, port)) == host, "from a container, masqueraded as always"
        assert ask("127.0.0.1", port) == gateway(lamina, "web"), "control: ours is caught"


def test_udp_and_its_stale_connections(lamina: Lamina, box: str, outside: tuple[netlab.Box, str, str]) -> None:
    world, host, peer = outside
    port = free_port(socket.SOCK_DGRAM)
    for name in ("one", "two"):  # the same peer with the same port: the kernel still knows the first container's
        where = run(lamina, name, "-p", f"{port}:53/udp")
        with UdpEcho(where, 53):
            assert world.run(lambda: ask_udp(host, port, 5353)) == f"{peer} hi"
            bridge = gateway(lamina, name)
            assert ask_udp("127.0.0.1", port) == f"{bridge} hi"
            assert ask_udp("::1", port) == f"{bridge} hi"
        lamina("rm", "-f", name).check()
    assert "elements" not in published(lamina)


def test_without_the_table_the_relay_serves(lamina: Lamina, box: str) -> None:
    port = free_port()
    where = run(lamina, "web", "-p", f"{port}:80")
    table = Names(os.path.realpath(lamina.root), os.path.realpath(lamina.runroot)).table
    with netlab.Server(where, "0.0.0.0", 80):  # type: ignore[arg-type]
        subprocess.run(["nft", "delete", "table", "inet", table], check=True)  # as `nft flush ruleset` of a firewall's reload does
        assert ask("127.0.0.1", port) == gateway(lamina, "web")
    assert lamina("rm", "-f", "web").out == "web"


def test_what_is_shown(lamina: Lamina, box: str) -> None:
    port = free_port()
    flags = ("-p", f"{port}:80", "-p", f"127.0.0.1:{port + 1}:81", "--expose", "7000-7001")
    run(lamina, "web", *flags, "-p", "[::1]::82")
    six = lamina("port", "web", "82").out
    assert six.startswith("[::1]:") and int(six.rpartition(":")[2]) >= 1024
    assert lamina("port", "web").out.splitlines() == [
        f"80/tcp -> 0.0.0.0:{port}", f"80/tcp -> [::]:{port}", f"81/tcp -> 127.0.0.1:{port + 1}", f"82/tcp -> {six}",
    ]  # fmt: skip
    assert lamina("port", "web", "80").out.splitlines() == [f"0.0.0.0:{port}", f"[::]:{port}"]
    for asked, text in (
        ("7000", "Error: No public port '7000' published for web"),
        ("80/udp", "Error: No public port '80/udp' published for web"),
        ("x", 'Error: invalid port (x): strconv.ParseUint: parsing "x": invalid syntax'),
    ):
        done = lamina("port", "web", asked)
        assert (done.returncode, done.stderr.strip()) == (1, text)
    shown = json.loads(lamina("inspect", "-f", "{{json .NetworkSettings.Ports}}", "web").out)
    assert shown["80/tcp"] == [{"HostIp": "0.0.0.0", "HostPort": str(port)}, {"HostIp": "::", "HostPort": str(port)}]
    assert shown["7000/tcp"] is None and list(shown) == sorted(shown)
    bare = six.replace("[", "").replace("]", "")  # docker 26.1 brackets IPv6 in `port`, not in `ps`
    assert lamina("ps", "--format", "{{.Ports}}").out == (
        f"7000-7001/tcp, 0.0.0.0:{port}->80/tcp, :::{port}->80/tcp, 127.0.0.1:{port + 1}->81/tcp, {bare}->82/tcp"
    )
    for text, found in ((f"publish={port}", True), ("publish=80", False), ("expose=7000", True), ("expose=80", True),
                        (f"publish={port - 3}-{port}/tcp", True), (f"publish={port}/udp", False)):  # fmt: skip
        assert bool(lamina("ps", "-q", "-f", text).out) == found, text
    assert "error while looking up for publish abc" in lamina("ps", "-f", "publish=abc").stderr
    lamina("stop", "-t", "0", "web").check()
    assert lamina("port", "web").out == "" and lamina("ps", "-a", "--format", "{{.Ports}}").out == ""
    assert lamina("inspect", "-f", "{{json .NetworkSettings.Ports}}", "web").out == "{}"


def test_who_has_a_port(lamina: Lamina, box: str) -> None:
    port = free_port()
    run(lamina, "one", "-p", f"127.0.0.1:{port}:80")
    done = lamina("run", "--name", "two", "-p", f"{port}:80", "box", "true")
    cid = lamina("inspect", "-f", "{{.Id}}", "two").out
    assert done.returncode == 125
    text = f"driver failed programming external connectivity on endpoint two ({cid}): Bind for 0.0.0.0:{port} failed: "
    assert text + "port is already allocated" in done.stderr
    assert lamina("inspect", "-f", "{{.State.Status}}", "two").out == "created"
    assert lamina("rm", "-f", "one").out == "one"
    assert lamina("start", "-a", "two").returncode == 0, "and it can be had again at once"
    with socket.create_server(("0.0.0.0", port)):
        done = lamina("run", "--rm", "-p", f"{port}:80", "box", "true")
    assert done.returncode == 125
    assert f"Error starting userland proxy: listen tcp4 0.0.0.0:{port}: bind: address already in use" in done.stderr
    done = lamina("run", "--rm", "-p", f"198.51.100.77:{port}:80", "box", "true")
    assert f"listen tcp4 198.51.100.77:{port}: bind: cannot assign requested address" in done.stderr
    done = lamina("run", "--rm", "-p", f"{port}:80", "-p", f"{port}:81", "box", "true")
    assert f"Bind for 0.0.0.0:{port} failed: port is already allocated" in done.stderr
    assert "elements" not in published(lamina)
    run(lamina, "held", "-p", f"{port}:80")
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("0.0.0.0", port)).close()
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("::1", port), family=socket.AF_INET6).close()


def test_range_takes_the_first_free_one(lamina: Lamina, box: str) -> None:
    port = free_port()
    for name, got in (("one", port), ("two", port + 1)):
        run(lamina, name, "-p", f"127.0.0.1:{port}-{port + 1}:80")
        assert lamina("port", name, "80").out == f"127.0.0.1:{got}"
    assert "port is already allocated" in lamina("run", "--rm", "-p", f"127.0.0.1:{port}-{port + 1}:80", "box", "true").stderr


@pytest.mark.parametrize("times", [20, pytest.param(200, marks=pytest.mark.all)])
def test_back_to_back(lamina: Lamina, box: str, times: int) -> None:
    port = free_port()
    for _ in range(times):
        lamina("run", "--rm", "-p", f"{port}:80", "box", "true").check()
    assert "elements" not in published(lamina)


def test_parallel_random_ports_are_all_different(lamina: Lamina, box: str) -> None:
    def one(_: int) -> str:
        return lamina("run", "-d", "-P", "--expose", "80", "-p", "127.0.0.1::81/udp", "box", "sleep", "600").out

    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(one, range(8)))
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    seen = []
    for cid in ids:
        ports = json.loads(lamina("inspect", "-f", "{{json .NetworkSettings.Ports}}", cid).out)
        tcp = {entry["HostPort"] for entry in ports["80/tcp"]}
        assert len(ports["80/tcp"]) == 2 and len(tcp) == 1, "IPv4 and IPv6 have the same number"
        seen += [*tcp, ports["81/udp"][0]["HostPort"] + "/udp"]
    assert len(set(seen)) == len(seen) == 16
    assert all(low <= int(text.removesuffix("/udp")) <= high for text in seen)
    lamina("rm", "-f", *ids).check()
    assert "elements" not in published(lamina)


@pytest.mark.parametrize("flags", [(), ("--rm",)])
def test_killed_monitor(lamina: Lamina, box: str, flags: tuple[str, ...]) -> None:
    port = free_port()
    run(lamina, "web", *flags, "-p", f"{port}:80")
    cid = lamina("inspect", "-f", "{{.Id}}", "web").out
    state = json.loads((lamina.root / "containers" / cid / "state.json").read_text())
    os.kill(state["monitor_pid"], signal.SIGKILL)
    end = time.monotonic() + 5
    while (Path("/proc") / str(state["monitor_pid"])).exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert str(port) in published(lamina), "control: it had no chance to tidy up"
    with socket.create_server(("0.0.0.0", port)):
        pass  # free already
    if flags:
        lamina("ps", "-a").check()
        assert "elements" not in published(lamina), "the next command has"
        run(lamina, "web", "-p", f"{port}:80")
    else:
        where = run(lamina, "next", "-p", f"{port}:80")  # replaces what was left, whoever tidies up when
        with netlab.Server(where, "0.0.0.0", 80):  # type: ignore[arg-type]
            assert ask("127.0.0.1", port)
        lamina("rm", "-f", "next").check()
        lamina("start", "web").check()
    assert str(port) in published(lamina)
    lamina("rm", "-f", "web").check()
    assert "elements" not in published(lamina)


def test_after_a_restart(lamina: Lamina, box: str) -> None:
    """Its policy's restart publishes the same port again, for the new process space."""
    port = free_port()
    run(lamina, "web", "--restart", "always", "-p", f"{port}:80")
    cid = lamina("inspect", "-f", "{{.Id}}", "web").out
    file = lamina.root / "containers" / cid / "state.json"
    first = json.loads(file.read_text())
    os.kill(first["pid"], signal.SIGKILL)
    end = time.monotonic() + 30
    while (now := json.loads(file.read_text()))["pid"] in (0, first["pid"]) and time.monotonic() < end:
        time.sleep(0.02)
    assert now["monitor_pid"] == first["monitor_pid"] and now["restart_count"] == 1
    with netlab.Server(Inside(now["pid"]), "0.0.0.0", 80):  # type: ignore[arg-type]
        assert ask("127.0.0.1", port) and ask("::1", port)
    assert f"0.0.0.0:{port}" in lamina("port", "web", "80").out.splitlines()
    lamina("rm", "-f", "web").check()
    assert "elements" not in published(lamina)
    assert ask("127.0.0.1", port, 1) is None


def test_other_networks(lamina: Lamina, box: str) -> None:
    port = free_port()
    done = lamina("run", "--rm", "--network", "host", "-p", f"{port}:80", "box", "true")
    assert (done.returncode, done.stderr) == (0, "WARNING: Published ports are discarded when using host network mode\n")
    lamina("run", "-d", "--name", "alone", "--network", "none", "-p", f"{port}:80", "box", "sleep", "600").check()
    assert lamina("port", "alone").out == "" and lamina("ps", "--format", "{{.Ports}}").out == ""
    assert ask("127.0.0.1", port, 1) is None


@pytest.mark.parametrize("after", ["rm", "start"])
def test_monitor_that_was_killed_while_it_started(lamina: Lamina, box: str, after: str) -> None:
    """Its container is "created" still: by its state nobody would know it as lost."""
    port = free_port()
    run(lamina, "web", "-p", f"{port}:80")
    cid = lamina("inspect", "-f", "{{.Id}}", "web").out
    state = lamina.root / "containers" / cid / "state.json"
    monitor = json.loads(state.read_text())["monitor_pid"]
    os.kill(monitor, signal.SIGKILL)
    state.unlink()
    end = time.monotonic() + 5
    while (Path("/proc") / str(monitor)).exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert str(port) in published(lamina), "control: it had no chance to tidy up"
    assert lamina("inspect", "-f", "{{.State.Status}}", "web").out == "created"
    if after == "start":
        lamina("start", "web").check()
        lamina("stop", "-t", "0", "web").check()
    lamina("rm", "web").check()
    assert "elements" not in published(lamina)
