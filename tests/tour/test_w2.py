# SPDX-License-Identifier: Apache-2.0
"""docs/tour/w2.md: from image to container, on disk; and what the host sees of a container's mounts (W5.3)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Lamina

PLACES = {
    "dev/pts": "dir", "dev/shm": "dir", "proc": "dir", "sys": "dir", ".dockerenv": "file", "etc/resolv.conf": "file", "etc/hosts": "file",
    "etc/hostname": "file", "dev/console": "file", "etc/mtab": "/proc/mounts",
}  # fmt: skip


def unions(lamina: Lamina, pid: int | str = "self") -> dict[str, dict[str, list[str]]]:
    """The overlay mounts of this engine that a process sees: mount point -> option -> its values."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in Path(f"/proc/{pid}/mounts").read_text().splitlines():
        _, target, kind, options, *_ = line.split(" ")
        if kind == "overlay" and str(lamina.root) in options:
            values = found.setdefault(target, {})
            for option in options.split(","):
                key, _, value = option.partition("=")
                # before Linux 6.7 one lowerdir= has them all
                values.setdefault(key.rstrip("+"), []).extend(value.split(":") if key == "lowerdir" else [value])
    return found


def until_unmounted(lamina: Lamina) -> None:
    """The exit code is told first, then the monitor unmounts."""
    end = time.monotonic() + 20
    while unions(lamina):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_w2(lamina: Lamina, box: str) -> None:
    # 1. images
    assert lamina("images").out.splitlines()[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]

    # 2. create: written down, with an empty read-write layer; nothing runs, nothing is mounted
    cid = lamina("create", "-i", "-t", "--name", "web", "box", "sh").out
    bundle = lamina.root / "containers" / cid
    assert sorted(str(path.relative_to(bundle)) for path in bundle.rglob("*")) == ["rw", "rw/diff", "rw/work"]
    assert lamina("ps", "-q").out == "" and not unions(lamina)

    # 3. the init layer: all places are there, what the image has already isn't there twice, and none ever shows
    upper, init, base = map(Path, lamina("layer", "path", "web").out.split())
    assert upper == bundle / "rw/diff" and init.parent.name == "init-" + base.parent.name
    for place, kind in PLACES.items():
        here = init / place if os.path.lexists(init / place) else base / place
        if kind.startswith("/"):
            assert here == init / place and os.readlink(here) == kind
        elif kind == "dir":
            assert here.is_dir() and not here.is_symlink()
        else:
            assert here.is_file() and here.stat().st_size == 0
    assert not (init / "proc").exists() and (base / "proc").exists()
    assert not (init / ".dockerinit").exists(), "that was the old init binary"
    assert lamina("diff", "web").out == ""
    graph = json.loads(lamina("inspect", "-f", "{{json .GraphDriver.Data}}", "web").out)
    assert graph == {"LowerDir": f"{init}:{base}", "UpperDir": str(upper), "WorkDir": str(bundle / "rw/work"),
                     "MergedDir": str(lamina.runroot / "rootfs" / cid)}  # fmt: skip
    assert [line.split()[-1] for line in lamina("layer", "tree", "web").out.splitlines()] == ["box:latest", "(read-write)"]

    # 4. start: the union, then the real files over their places
    lamina("start", "web").check()
    merged = Path(graph["MergedDir"])
    pid = lamina("inspect", "-f", "{{.State.Pid}}", "web").out
    bound = {line.split(" ")[4]: line.split(" ")[3] for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()}
    for name in ("hosts", "hostname", "resolv.conf"):
        assert bound[f"/etc/{name}"].endswith(f"/{cid}/{name}")
    assert lamina("exec", "web", "hostname").out == cid[:12] == (bundle / "hostname").read_text().strip()

    # 5. W5.3: the host's mount names lower, upper and work; merged and upper show a write at once
    assert unions(lamina).keys() == {str(merged)}
    seen = unions(lamina)[str(merged)]
    assert seen["lowerdir"] == [str(init), str(base)] and seen["upperdir"] == [str(upper)] and seen["workdir"] == [graph["WorkDir"]]
    listed = subprocess.run(["mount"], capture_output=True, text=True).stdout
    assert any(line.startswith(f"overlay on {merged} type overlay") and str(upper) in line for line in listed.splitlines())
    lamina("exec", "web", "sh", "-c", "echo inside > /tmp/testfile").check()
    assert (merged / "tmp/testfile").read_text() == (upper / "tmp/testfile").read_text() == "inside\n"
    (merged / "tmp/testfile").write_text("from the host\n")
    assert lamina("exec", "web", "cat", "/tmp/testfile").out == (upper / "tmp/testfile").read_text().strip() == "from the host"
    assert lamina("mount", "web").out == str(merged)

    # stopped: no mount but by `mount`, at the same place
    lamina("stop", "-t", "0", "web").check()
    until_unmounted(lamina)
    assert lamina("mount", "web").out == lamina("mount", "web").out == str(merged)
    assert unions(lamina).keys() == {str(merged)} and lamina("mount").out.split()[-2:] == [cid[:12], str(merged)]
    assert {"bin", "dev", "proc", ".dockerenv", "tmp"} <= {path.name for path in merged.iterdir()}
    (merged / "root/note").write_text("note\n")
    assert lamina("umount", "web").out == "web" and not unions(lamina) and not merged.exists()
    changes = ["C /root", "A /root/note", "C /tmp", "A /tmp/testfile"]
    assert [line for line in lamina("diff", "web").out.splitlines() if ".ash_history" not in line] == changes

    # nor does an image that is made of it have any place of the init layer
    lamina("commit", "web", "noted").check()
    top = Path(lamina("layer", "path", "noted").out.split()[0])
    assert sorted(path.name for path in top.iterdir()) == ["root", "tmp"]
    view = Path(lamina("image", "mount", "noted").out)
    assert (view / "root/note").read_text() == "note\n" and not (view / ".dockerenv").exists()
    with pytest.raises(OSError, match="Read-only"):
        (view / "more").touch()
    lamina("image", "umount", "noted").check()


def test_a_mount_goes_with_the_next_start_with_rm_and_never_while_it_runs(lamina: Lamina, box: str) -> None:
    lamina("create", "--name", "one", "box", "sleep", "1000").check()
    path = lamina("mount", "one").out
    (Path(path) / "made").write_text("by the host\n")
    assert lamina("export", "one").returncode == 0, "what looks in uses the union that is there"
    lamina("start", "one").check()
    assert len(unions(lamina)) == 1 and lamina("exec", "one", "cat", "/made").out == "by the host"
    refused = lamina("umount", "one")
    assert refused.returncode == 1 and "is running, and needs its union" in refused.stderr and len(unions(lamina)) == 1
    lamina("kill", "one").check()
    until_unmounted(lamina)
    assert not lamina("mount").out.splitlines()[1:]
    refused = lamina("umount", "one")
    assert refused.returncode == 1 and "container one is not mounted" in refused.stderr
    lamina("mount", "one").check()
    lamina("rm", "one").check()
    assert not unions(lamina) and not os.path.exists(path) and lamina("mount").out.split() == ["CONTAINER", "ID", "PATH"]
    refused = lamina("mount", "box")
    assert refused.returncode == 1 and "`image mount` mounts an image" in refused.stderr
    assert "no problems" in lamina("system", "check").out


def test_a_container_sees_the_names_of_layers_and_cant_open_one(lamina: Lamina, box: str) -> None:
    lamina("run", "-d", "--name", "other", "box", "sleep", "1000").check()
    look = "sed -n 's/.*overlay \\(.*\\)/\\1/p' /proc/mounts | tr ',:' '\\n\\n' | sed -n 's/.*=\\(\\/.*\\)/\\1/p'"
    for more in ((), ("--privileged",)):
        lamina("run", "-d", *more, "--name", "inside", "box", "sleep", "1000").check()
        names = lamina("exec", "inside", "sh", "-c", look).out.split()
        merged = lamina("mount", "inside").out
        assert len(names) >= 4 and all(os.path.isdir(name) for name in names), "the control: on the host they are there"
        asked = [*names, merged, lamina("mount", "other").out, str(lamina.root), "/proc/1/root" + names[0], "/etc"]
        ask = 'for name; do ls "$name" >/dev/null 2>&1 && echo "$name"; done; true'
        opened = lamina("exec", "inside", "sh", "-c", ask, "sh", *asked).out
        assert opened == "/etc", "only what the control names can be opened inside"
        # nor is another container's union mounted in there, or its own one a second time
        pid = lamina("inspect", "-f", "{{.State.Pid}}", "inside").out
        assert unions(lamina, pid).keys() == {"/"}
        lamina("rm", "-f", "inside").check()


def kill_and_ask(lamina: Lamina, ask: Callable[[], object]) -> None:
    """SIGKILL for the monitor of `one`; its union is still mounted until the next command."""
    state = json.loads(next((lamina.root / "containers").glob("*/state.json")).read_text())
    os.kill(state["monitor_pid"], signal.SIGKILL)
    ask()


def test_the_union_of_a_killed_monitor_goes_with_the_next_command_wherever_that_runs(lamina: Lamina, box: str) -> None:
    """Also from a mount namespace that has only a copy of it: to remove the mount point detaches what any namespace has mounted there."""
    elsewhere = ["unshare", "-m", "--propagation", "private", *lamina.prefix]
    lamina("run", "-d", "--name", "one", "box", "sleep", "1000").check()
    kill_and_ask(lamina, lambda: subprocess.run([*elsewhere, "ps", "-a"], check=True, capture_output=True))
    assert not unions(lamina) and not os.listdir(lamina.runroot / "rootfs")
    lamina("start", "one").check()
    assert len(unions(lamina)) == 1
    kill_and_ask(lamina, lambda: lamina("mount", "one").check())
    assert len(unions(lamina)) == 1, "that of `mount`"
    lamina("umount", "one").check()


def test_in_another_mount_namespace_the_way_leads_through_the_monitor(lamina: Lamina, box: str) -> None:
    """A container started where the host doesn't see its mount; a namespace made after the start keeps a copy, and holds nothing up."""
    elsewhere = ["unshare", "-m", "--propagation", "private"]
    command = ["run", "-d", "--name", "one", "box", "sleep", "1000"]
    done = subprocess.run([*elsewhere, *lamina.prefix, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not unions(lamina)
    path = Path(lamina("mount", "one").out)
    assert path.parts[1] == "proc" and (path / "etc/os-release").read_text() == "ID=box\n"
    lamina("rm", "-f", "one").check()

    lamina("run", "-d", "--name", "two", "box", "sleep", "1000").check()
    with subprocess.Popen([*elsewhere, "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        holder.stdout.readline()
        assert len(unions(lamina, holder.pid)) == 1, "the control: the copy is there"
        lamina("rm", "-f", "two").check()
        assert not unions(lamina, holder.pid) and not os.listdir(lamina.runroot / "rootfs")
        holder.stdin.close()


def test_where_the_hosts_mounts_are_shared_nothing_leaks_and_nothing_stays(lamina: Lamina, box: str) -> None:
    """systemd makes / shared: a mount is copied into every namespace that is a peer or a slave, and has to go from there as well."""
    script = r"""
        set -e
        mount --make-rshared /
        mkfifo "$0"
        unshare -m --propagation slave cat "$0" &
        slave=$!
        exec 9>"$0"    # returns when the slave has opened it
        look() { grep -c " overlay .*$root" "/proc/$1/mounts" || true; }
        "$@" run -d --name one box sleep 1000 >/dev/null
        "$@" run -d --name two box sleep 1000 >/dev/null
        pid=$("$@" inspect -f '{{.State.Pid}}' one)
        echo "$(look self) $(look $slave) $(look $pid) $(grep -c 'shared:\|master:' /proc/$pid/mountinfo || true)"
        "$@" rm -f one >/dev/null
        monitor=$(sed -n 's/.*"monitor_pid":\([0-9]*\).*/\1/p' "$root"/containers/*/state.json)
        echo "$(look self) $(look $slave)"
        kill -9 $monitor
        "$@" ps -a >/dev/null
        echo "$(look self) $(look $slave)"
        "$@" rm two >/dev/null
    """
    fifo = lamina.root.parent / "fifo"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, str(fifo), *lamina.prefix], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "root": str(lamina.root)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["2 2 1 0", "1 1", "0 0"], done.stdout + done.stderr
