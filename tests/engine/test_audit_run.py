# SPDX-License-Identifier: Apache-2.0
"""What a container finds inside, where docker 26.1 was asked the same: mounts at /etc, sysctls, hosts, environment, entrypoints."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Lamina

RUN = ("run", "--rm", "--network", "none")


def test_a_volume_at_etc_does_not_hide_the_files_of_the_engine(lamina: Lamina, box: str, tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "own").write_text("mine\n")
    done = lamina(*RUN, "-h", "there", "-v", f"{etc}:/etc", "box", "cat", "/etc/own", "/etc/hostname")
    assert done.out == "mine\nthere"
    assert lamina(*RUN, "-v", "etcvolume:/etc", "box", "grep", "-c", "localhost", "/etc/hosts").out == "2"


def test_read_only_is_for_the_files_of_the_engine_too(lamina: Lamina, box: str) -> None:
    done = lamina(*RUN, "--read-only", "box", "sh", "-c", "echo x > /etc/hosts")
    assert done.returncode == 1 and "Read-only file system" in done.stderr
    assert lamina(*RUN, "box", "sh", "-c", "echo x > /etc/hosts; cat /etc/hosts").out == "x"


def test_low_ports_and_ping_are_for_every_user(lamina: Lamina, box: str) -> None:
    names = "/proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range"
    assert lamina(*RUN, "box", "sh", "-c", f"cat {names}").out.split() == ["0", "0", "2147483647"]
    host = lamina("run", "--rm", "--network", "host", "box", "sh", "-c", f"cat {names}").out.split()
    assert host == " ".join(Path(name).read_text() for name in names.split()).split()


def test_the_network_of_the_host_has_its_hosts_file(lamina: Lamina, box: str) -> None:
    assert lamina("run", "--rm", "--network", "host", "box", "cat", "/etc/hosts").stdout == Path("/etc/hosts").read_text()


def test_order_of_the_environment(lamina: Lamina, busybox_tar: Path) -> None:
    """The request's variables, then what it leaves of the image's; one without a value takes the image's away."""
    lamina("import", "-c", "ENV A=1 B=two C=3", busybox_tar, "box").check()
    lines = lamina(*RUN, "-e", "Z=1", "-e", "A=9", "-e", "C", "box", "env").out.splitlines()
    assert lines[2:-1] == ["Z=1", "A=9", "B=two"]


def test_an_empty_entrypoint_forgets_the_command_too(lamina: Lamina, busybox_tar: Path) -> None:
    lamina("import", "-c", 'ENTRYPOINT ["echo", "a"]', "-c", 'CMD ["b"]', busybox_tar, "box").check()
    assert lamina(*RUN, "box").out == "a b"
    assert lamina(*RUN, "--entrypoint", "", "box", "echo", "c").out == "c"
    done = lamina(*RUN, "--entrypoint", "", "box")
    assert done.returncode == 125 and "no command specified" in done.stderr
    done = lamina(*RUN, "--entrypoint", "echo", "box")
    assert done.stdout == "\n"


def test_an_empty_command_is_looked_up_like_any(lamina: Lamina, box: str) -> None:
    done = lamina(*RUN, "box", "")
    assert done.returncode == 127 and 'exec: "": executable file not found in $PATH' in done.stderr


def test_texts_of_kill_and_start(lamina: Lamina, box: str) -> None:
    cid = lamina("create", "--name", "one", "--network", "none", "box", "nosuch").out
    for argv, text in (
        (["kill", "nosuch"], "cannot kill container: nosuch: No such container: nosuch"),
        (["kill", "one"], f"cannot kill container: one: container {cid} is not running"),
        (["kill", "-s", "FOO", cid[:12]], f"cannot kill container: {cid[:12]}: invalid signal: FOO"),
    ):
        done = lamina(*argv)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"Error response from daemon: {text}\n")
    done = lamina("start", "-a", "one")
    assert done.returncode == 1 and 'exec: "nosuch": executable file not found in $PATH' in done.stderr
