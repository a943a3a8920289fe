# SPDX-License-Identifier: Apache-2.0
"""--add-host, --dns and its kin, --domainname, --mac-address, the log's limits, and flags that only the command line knows."""
from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import Lamina


def test_names(lamina: Lamina, box: str) -> None:
    flags = ("--add-host", "a:1.2.3.4", "--add-host", "gw=host-gateway", "--dns", "1.1.1.1", "--dns-option", "ndots:2",
             "--dns-search", "x.y", "--domainname", "d.e", "--mac-address", "02:42:00:00:00:05", "-h", "hh")  # fmt: skip
    script = "cat /etc/hosts /etc/resolv.conf /sys/class/net/eth0/address /proc/sys/kernel/domainname; route -n | grep ^0.0.0.0; sleep 1000"
    lamina("run", "-d", "--name", "cc", *flags, "box", "sh", "-c", script).check()
    for start in (1, 2):
        seen = json.loads(lamina("inspect", "cc").out)[0]
        assert seen["NetworkSettings"]["MacAddress"] == "02:42:00:00:00:05"
        address, gateway = seen["NetworkSettings"]["IPAddress"], seen["NetworkSettings"]["Gateway"]
        text = lamina("exec", "cc", "sh", "-c", script.removesuffix("; sleep 1000")).out
        lines = text.splitlines()
        assert f"{address}\thh.d.e hh" in lines and "1.2.3.4\ta" in lines and f"{gateway}\tgw" in lines, start
        at = lines.index("search x.y")
        assert lines[at : at + 5] == ["search x.y", "nameserver 1.1.1.1", "options ndots:2", "02:42:00:00:00:05", "d.e"]
        assert lines[-1].split()[1] == gateway
        lamina("restart", "-t", "0", "cc").check()


def test_host_gateway_without_a_gateway(lamina: Lamina, box: str) -> None:
    done = lamina("run", "--rm", "--network", "none", "--add-host", "a:host-gateway", "box", "true")
    assert done.returncode == 125 and "unable to derive the IP value for host-gateway" in done.stderr


def test_lines_cannot_be_smuggled_in(lamina: Lamina, box: str) -> None:
    for flags in (["--dns-option", "a\nnameserver 6.6.6.6"], ["--domainname", "a\n6.6.6.6 bank"], ["--add-host", "a\n6.6.6.6 b:1.1.1.1"]):
        assert lamina("run", "--rm", "--network", "none", *flags, "box", "true").returncode == 125, flags


def test_log_options(lamina: Lamina, box: str) -> None:
    run = ("run", "--network", "none", "--log-opt", "max-size=10k", "--log-opt", "max-file=2")
    cid = lamina("run", "-d", *run[1:], "box", "seq", "1", "2000").out
    lamina("wait", cid).check()
    files = sorted(path.name for path in (lamina.root / "containers" / cid).glob("log.json*"))
    assert files == ["log.json", "log.json.1"]
    assert lamina("logs", cid).out.splitlines()[-1] == "2000"
    off = lamina("run", "-d", "--network", "none", "--log-driver", "none", "box", "echo", "hi").out
    lamina("wait", off).check()
    assert lamina("logs", off).returncode == 1


def test_streams(lamina: Lamina, box: str, tmp_path: Path) -> None:
    script = ("box", "sh", "-c", "echo out; echo err >&2")
    run = ("run", "--rm", "--network", "none")
    done = lamina(*run, "-a", "stdout", *script)
    assert (done.stdout, done.stderr) == ("out\n", "")
    done = lamina(*run, "-a", "stderr", *script)
    assert (done.stdout, done.stderr) == ("", "err\n")
    assert lamina(*run, "-i", "-a", "stdin", "-a", "stdout", "box", "cat", stdin="typed").out == "typed"
    cid = lamina(*run, "--cidfile", tmp_path / "cid", "-i", "-a", "stdin", "box", "cat", stdin="typed").out
    assert len(cid) == 64 and (tmp_path / "cid").read_text() == cid


def test_detach_keys(lamina: Lamina, box: str) -> None:
    flags = ("-it", "--name", "cc", "--network", "none", "--detach-keys", "x,y")
    done = lamina.pty("run", *flags, "box", "sleep", "1000", typed=b"xy")
    assert done.returncode == 0, done.stdout
    assert lamina("ps", "-q").out


def test_platform(lamina: Lamina, box: str) -> None:
    done = lamina("run", "--rm", "--pull", "never", "--platform", "linux/s390x", "box", "true")
    assert done.returncode == 125 and "does not match the specified platform" in done.stderr
