# SPDX-License-Identifier: Apache-2.0
"""The fingerprint of legacy iptables' rules, in a network namespace of its own: it changes with the rules, and with nothing else."""
from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src"
CODE = """
import os, subprocess, sys, _socket
sys.path.append(sys.argv[1])
from lamina.linux import xtables
def rule(*words):
    subprocess.run(["iptables-legacy", "-w", *words], check=True)
rule("-A", "INPUT", "-p", "udp", "-m", "comment", "--comment", "counted", "-j", "ACCEPT")
first = xtables.fingerprint()
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", 0))
sock.sendto(b"x", sock.getsockname())
sock.recv(1)
listing = subprocess.run(["iptables-legacy", "-w", "-nvL", "INPUT"], capture_output=True, text=True).stdout
assert " 1 " in listing.splitlines()[2], listing  # it was counted
assert xtables.fingerprint() == first
rule("-P", "FORWARD", "DROP")
second = xtables.fingerprint()
rule("-A", "FORWARD", "-s", "10.9.9.9", "-j", "DROP")
third = xtables.fingerprint()
rule("-R", "FORWARD", "1", "-s", "10.9.9.8", "-j", "DROP")
fourth = xtables.fingerprint()
assert len({first, second, third, fourth}) == 4
print("done")
"""


@pytest.mark.skipif(not shutil.which("iptables-legacy") or not shutil.which("unshare"), reason="needs iptables-legacy and unshare")
def test_fingerprint() -> None:
    done = subprocess.run(["unshare", "--net", sys.executable, "-I", "-c", CODE, str(SRC)], capture_output=True, text=True, timeout=60)
    assert done.stdout == "done\n", done.stderr
