# SPDX-License-Identifier: Apache-2.0
"""--init: an init of ours is process 1; it reaps, forwards signals, and comes from no file of image or host."""
from __future__ import annotations

import os
import re

from tests.conftest import Lamina

# Two orphans that end at once, left to process 1; then it waits.
ORPHANS = ("sh", "-c", "sh -c 'sleep 0.1 & sleep 0.1 & exec true'; exec sleep 1000")
ZOMBIES = ("sh", "-c", "sleep 0.5; grep -l '^State:.Z' /proc/[0-9]*/status | wc -l")


def test_it_is_process_1_and_reaps(lamina: Lamina, box: str) -> None:
    lamina("run", "-d", "--name", "with", "--init", "box", *ORPHANS).check()
    lamina("run", "-d", "--name", "without", "box", *ORPHANS).check()
    assert lamina("exec", "with", "cat", "/proc/1/cmdline").out == "\0".join(("/sbin/docker-init", "--", *ORPHANS, ""))
    assert "/sbin/docker-init -- sh -c" in lamina("top", "with").out
    assert lamina("exec", "with", *ZOMBIES).out == "0"
    assert lamina("exec", "without", *ZOMBIES).out == "2"


def test_codes_and_errors_are_those_without(lamina: Lamina, box: str) -> None:
    for words in (("sh", "-c", "exit 42"), ("sh", "-c", "kill -9 $$"), ("nosuch",), ("/etc/passwd",), ("true",)):
        plain, init = lamina("run", "--rm", "box", *words), lamina("run", "--rm", "--init", "box", *words)
        code = 137 if "kill -9 $$" in words else plain.returncode  # process 1 can't kill itself: a thing of the pid namespace
        assert (init.returncode, init.stderr) == (code, plain.stderr), words


def test_signals_and_inspect(lamina: Lamina, box: str) -> None:
    lamina("run", "-d", "--name", "one", "--init", "box", "sleep", "1000").check()
    lamina("stop", "one").check()  # sleep has no handler: as process 1 it would wait for SIGKILL
    assert lamina("inspect", "-f", "{{.State.ExitCode}} {{.HostConfig.Init}}", "one").out == "143 true"
    assert lamina("create", "--name", "two", "--init=false", "box", "true").returncode == 0
    assert lamina("inspect", "-f", "{{.HostConfig.Init}}", "two").out == "false"
    lamina("create", "--name", "three", "box", "true").check()
    assert '"Init"' not in lamina("inspect", "three").out
    lamina("start", "one").check()
    lamina("kill", "one").check()
    assert lamina("wait", "one").out == "137"


def test_it_is_no_file_and_cant_be_changed(lamina: Lamina, box: str) -> None:
    script = "ls -l /proc/1/exe; cp /proc/self/exe /proc/1/exe; dd if=/dev/zero of=/proc/1/exe count=1; ls -l /proc/1/fd | wc -l"
    done = lamina("run", "--rm", "--init", "--privileged", "box", "sh", "-c", script)
    assert "-> /memfd:docker-init (deleted)" in done.stdout and done.stdout.split()[-1] == "4"  # total, and 0, 1, 2
    assert len(re.findall(r"Operation not permitted|Text file busy", done.stderr)) == 2, done.stderr
    lamina("run", "--init", "--name", "plain", "box", "true").check()
    assert lamina("diff", "plain").out == ""


def test_another_user_no_new_privileges_and_the_hosts_pids(lamina: Lamina, box: str) -> None:
    script = "grep -E '^(NoNewPrivs|Seccomp|CapEff|Uid):' /proc/$PPID/status"
    flags = ("--rm", "--init", "--user", "1000", "--security-opt", "no-new-privileges", "--read-only")
    out = dict(line.split(":\t") for line in lamina("run", *flags, "box", "sh", "-c", script).out.splitlines())
    assert out["NoNewPrivs"] == "1" and out["Seccomp"] == "2" and int(out["CapEff"], 16) == 0 and out["Uid"].split()[0] == "1000"
    assert lamina("run", "--rm", "--init", "--pid", "host", "box", "sh", "-c", "cat /proc/$PPID/comm; exit 3").stdout == "docker-init\n"


def test_on_a_terminal(lamina: Lamina, box: str) -> None:
    """The command is the terminal's foreground, so Ctrl-C reaches it; the init isn't."""
    look = "read a b c d pgrp sid tty tpgid rest < /proc/self/stat; echo $pgrp $sid $tpgid ready"
    script = f"trap 'echo interrupted; exit 6' INT; {look}; sleep 30"
    master, slave = os.openpty()
    with lamina.start("run", "--rm", "-it", "--init", "box", "sh", "-c", script, stdin=slave, stdout=slave, stderr=slave) as running:
        os.close(slave)
        shown = b""
        while b"ready" not in shown:
            shown += os.read(master, 1000)
        assert b"2 1 2 ready" in shown
        os.write(master, b"\x03")
        while b"interrupted" not in shown:
            shown += os.read(master, 1000)
        assert running.wait(30) == 6
    os.close(master)
