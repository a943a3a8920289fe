# SPDX-License-Identifier: Apache-2.0
"""A container seen from inside: namespaces, rights, mounts, files, terminal, errors."""
from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from box import drain, finish, make_root, make_spec, run, sh

from lamina.errors import CommandNotExecutable, CommandNotFound, InvalidArgument, NotSupported, StartError
from lamina.linux import mount, ns
from lamina.runtime import create, defaults, exec, handshake, plan, texts
from lamina.runtime.cgroups.cgroup import Cgroup
from lamina.runtime.profile import default_bpf


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    fds = len(os.listdir("/proc/self/fd"))
    yield make_root(tmp_path / "root")
    assert len(os.listdir("/proc/self/fd")) == fds, "an fd leaked"
    assert not [m for m in mount.mountinfo() if str(tmp_path) in m.target], "a mount leaked to the host"


def test_namespaces_are_new_and_pid_is_1(root: Path) -> None:
    out = sh(root, "echo $$; for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done; hostname")
    lines = out.split("\n")
    assert lines[0] == "1" and lines[7] == "box"
    for name, inside in zip(("mnt", "pid", "net", "ipc", "uts", "cgroup"), lines[1:7], strict=True):
        assert inside.startswith(name) and inside != os.readlink(f"/proc/self/ns/{name}")


def test_rights_are_dockers_default(root: Path) -> None:
    code, out = run(root, make_spec("grep", "-E", "^(Cap|NoNew|Seccomp:|Groups|Umask|SigIgn|SigBlk)", "/proc/self/status"))
    assert code == 0
    status = dict(line.split(":\t") for line in out.strip().split("\n"))
    assert status["CapInh"] == status["CapAmb"] == "0000000000000000"
    assert status["CapBnd"] == status["CapEff"] == status["CapPrm"] == "00000000a80425fb"
    assert status["NoNewPrivs"] == "0" and status["Umask"] == "0022"
    assert status["SigIgn"] == status["SigBlk"] == "0000000000000000"


@pytest.mark.parametrize("nnp", [False, True])
def test_seccomp_filter_is_in_force(root: Path, nnp: bool) -> None:
    spec = make_spec("sh", "-c", "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status; mount -t tmpfs x /tmp", noNewPrivileges=nnp)
    code, out = run(root, spec, seccomp=default_bpf(defaults.CAPABILITIES, None))
    assert code != 0 and f"NoNewPrivs:\t{int(nnp)}" in out and "Seccomp:\t2" in out


def test_only_stdio_is_open_and_the_cwd_is_made(root: Path) -> None:
    leak = os.open("/", os.O_RDONLY)
    os.set_inheritable(leak, True)
    code, out = run(root, make_spec("sh", "-c", "ls /proc/$$/fd; pwd", cwd="/a/new/dir"))
    os.close(leak)
    assert (code, out.split()) == (0, ["0", "1", "2", "/a/new/dir"])


def test_mounts_masks_and_devices(root: Path) -> None:
    out = sh(root, """cat /proc/mounts; echo ==; ls -l /proc/keys | cut -c1-10 2>/dev/null || ls -l /proc/keys; echo x >/dev/null;
        readlink /dev/ptmx /dev/fd /dev/stdin; ls /dev/pts; touch /sys/x 2>&1; touch /proc/sys/kernel/x 2>&1;
        cat /proc/keys /proc/timer_list; echo y > /proc/sys/kernel/hostname; true""")
    mounts = {line.split()[1]: line.split() for line in out.split("==")[0].strip().split("\n")}
    assert mounts["/proc"][3] == "rw,nosuid,nodev,noexec,relatime"
    assert mounts["/dev"][3].removesuffix(",inode64") == "rw,nosuid,size=65536k,mode=755"
    assert mounts["/dev/pts"][3] == "rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666"
    assert mounts["/sys"][3].startswith("ro,nosuid,nodev,noexec") and mounts["/sys/fs/cgroup"][3].startswith("ro,")
    assert mounts["/dev/shm"][3].startswith("rw,nosuid,nodev,noexec,relatime,size=65536k")
    for path in defaults.READONLY_PATHS:
        if os.path.exists(path):
            assert mounts[path][3].startswith("ro,"), path
    for path in defaults.MASKED_PATHS:
        if os.path.exists(path):
            assert mounts[path][2] == "tmpfs" and mounts[path][3].startswith("ro"), path
    assert out.count("Read-only file system") >= 2
    assert not [m for m in mounts if str(root) in m]


def test_read_only_root_binds_and_propagation(root: Path, tmp_path: Path) -> None:
    (tmp_path / "src/sub").mkdir(parents=True)
    (tmp_path / "file").write_text("content")
    spec = make_spec("sh", "-c", "touch /x; touch /v/a; touch /r/b; cat /f /v/a", mounts=[
        {"destination": "/v", "type": "bind", "source": str(tmp_path / "src"), "options": ["rbind", "rw"]},
        {"destination": "/r", "type": "bind", "source": str(tmp_path / "src"), "options": ["rbind", "rro"]},
        {"destination": "/f", "type": "bind", "source": str(tmp_path / "file"), "options": ["bind", "ro"]}])
    spec["root"]["readonly"] = True
    _, out = run(root, spec)
    assert out.count("Read-only file system") == 2 and out.endswith("content")
    assert (tmp_path / "src/a").exists() and not (tmp_path / "src/b").exists()
    assert "bind" in plan.parse(spec)[-1].describe() and "(ro)" in plan.parse(spec)[-1].describe()


def test_a_terminal_of_the_containers_own(root: Path) -> None:
    spec = make_spec("sh", "-c", "tty; stty size; echo to >/dev/console; test -t 2 && echo yes", consoleSize={"height": 30, "width": 90})
    code, out = finish(lambda _: create.create(spec, rootfs=str(root), terminal=True))
    assert (code, out.split()) == (0, ["/dev/pts/0", "30", "90", "to", "yes"])


ERRORS = [
    ("foo", CommandNotFound, 'exec: "foo": executable file not found in $PATH: unknown'),
    ("", CommandNotFound, 'exec: "": executable file not found in $PATH: unknown'),
    ("/x", CommandNotFound, 'exec: "/x": stat /x: no such file or directory: unknown'),
    ("/etc/passwd", CommandNotExecutable, 'exec: "/etc/passwd": permission denied: unknown'),
    ("/etc", CommandNotExecutable, 'exec: "/etc": permission denied: unknown'),
    ("/garbage", CommandNotExecutable, "exec /garbage: exec format error: unknown"),
    ("/script", CommandNotFound, "exec /script: no such file or directory: unknown"),
]


@pytest.mark.parametrize(("command", "kind", "text"), ERRORS, ids=[e[0] or "empty" for e in ERRORS])
def test_commands_that_cannot_be_executed(root: Path, command: str, kind: type[StartError], text: str) -> None:
    for name, content in (("garbage", "x"), ("script", "#!/no/such\n")):
        (root / name).write_text(content)
        (root / name).chmod(0o755)
    with pytest.raises(kind) as e:
        run(root, make_spec(command))
    assert e.value.message == texts.CREATE + text
    assert texts.core(e.value.message) == "unable to start container process: " + text.removesuffix(": unknown")


def test_user_groups_limits_and_stdio_owner(root: Path) -> None:
    spec = make_spec("sh", "-c", "id; ulimit -n; echo again >/dev/stdout; grep CapEff /proc/self/status; pwd",
                     user={"uid": 1000, "gid": 1000, "additionalGids": [1000, 44]},
                     rlimits=[{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}])
    code, out = run(root, spec)
    assert code == 0, out
    assert "uid=1000(u) gid=1000(u) groups=44(extra),1000(u)" in out and "\n77\nagain\n" in out and "CapEff:\t0000000000000000" in out


@pytest.mark.parametrize(("change", "error"), [
    ({"linux": {"namespaces": [{"type": "pid"}]}}, InvalidArgument),
    ({"linux": {"namespaces": [{"type": "mount"}, {"type": "user"}]}}, NotSupported),
    ({"process": {"args": []}}, InvalidArgument),
    ({"process": {"args": ["true"], "cwd": "x"}}, InvalidArgument),
    ({"process": {"args": ["true"], "capabilities": {"bounding": ["CAP_X"]}}}, InvalidArgument),
    ({"mounts": [{"destination": "/", "type": "tmpfs"}]}, InvalidArgument),
])
def test_what_is_asked_wrongly_is_refused_before_the_clone(root: Path, change: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        create.create({**make_spec("true"), **change}, rootfs=str(root))


@pytest.mark.parametrize("key", ["kernel.core_pattern", "vm.swappiness", "net.ipv4/../../kernel.x", "net.=", "kernel"])
def test_a_sysctl_of_the_host_is_refused(root: Path, key: str) -> None:
    spec = make_spec("true")
    spec["linux"]["sysctl"] = {key: "1"}
    with pytest.raises(InvalidArgument, match="sysctl"):
        create.create(spec, rootfs=str(root))


def test_a_missing_bind_source_is_told(root: Path) -> None:
    with pytest.raises(StartError, match="error mounting"):
        run(root, make_spec("true", mounts=[{"destination": "/v", "type": "bind", "source": "/no/such", "options": ["rbind"]}]))


def test_nothing_can_be_imported_in_the_child(root: Path) -> None:
    """After the pivot the paths of our modules lead to files of the image: an import would run its code as the host's root."""
    def hook() -> None:
        import colorsys
        raise AssertionError(colorsys)

    sys.modules.pop("colorsys", None)
    with pytest.raises(StartError, match="ModuleNotFoundError"):
        run(root, make_spec("true"), before_pivot=hook)


def test_init_dies_with_its_parent(root: Path) -> None:
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        made = create.create(make_spec("sleep", "1000"), rootfs=str(root))
        made.wait_ready()
        made.start()
        os.write(w, b"%d %d" % (made.pid, made.start_time))
        time.sleep(1000)
    os.close(w)
    inner, started = map(int, os.read(r, 100).split())
    os.close(r)
    pidfd = ns.open_process(inner, started)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    import select
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(20000), "the container outlived its monitor"
    os.close(pidfd)


def test_exec_joins_everything(root: Path) -> None:
    group = Cgroup.create(f"/lm-test-{os.getpid()}", {})
    spec = make_spec("sleep", "1000")
    init = create.create(spec, rootfs=str(root), cgroup=group)
    try:
        init.wait_ready()
        init.start()

        def go(*args: str, terminal: bool = False, **process: Any) -> tuple[int, str]:
            wanted, bpf = {**spec["process"], "args": list(args), **process}, default_bpf(defaults.CAPABILITIES, None)
            return finish(lambda stdio: exec.exec_process(init.pid, wanted, spec=spec, cgroup_paths=group.paths, terminal=terminal,
                                                          stdio=None if terminal else stdio, seccomp=bpf))

        code, out = go("sh", "-c", "for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done; readlink /proc/1/ns/pid; "
                                   "cat /proc/self/cgroup; grep -E 'Cap|Seccomp:' /proc/self/status; ls /proc/$$/fd; exit 7")
        assert code == 7
        for name in ("mnt", "pid", "net", "ipc", "uts", "cgroup"):
            assert os.readlink(f"/proc/{init.pid}/ns/{name}") in out
        assert "CapInh:\t0000000000000000" in out and "CapEff:\t00000000a80425fb" in out and "Seccomp:\t2" in out
        assert out.split("\n")[-4:] == ["0", "1", "2", ""]
        out = go("sh", "-c", "tty; stty size", terminal=True, consoleSize={"height": 11, "width": 22})[1]
        assert out.split() == ["/dev/pts/0", "11", "22"]
        assert "uid=1000(u)" in go("id", user={"uid": 1000, "gid": 1000}, noNewPrivileges=True)[1]
        with pytest.raises(CommandNotFound) as e:
            go("foo")
        assert e.value.message == 'OCI runtime exec failed: exec failed: unable to start container process: ' \
                                  'exec: "foo": executable file not found in $PATH: unknown'
        with pytest.raises(StartError, match=r'chdir to cwd \("/nono"\) set in config.json failed: no such file or directory'):
            go("true", cwd="/nono")
        for fd in range(3, 21):  # attack 3, on exec
            with pytest.raises(StartError, match="chdir to cwd"):
                go("true", cwd=f"/proc/self/fd/{fd}")
    finally:
        group.kill()
        init.abort()
        group.remove()
    with pytest.raises(StartError, match="stopped"):
        exec.exec_process(2**22 - 1, spec["process"], spec=spec)


def test_a_root_that_stands_in_a_chroot(root: Path, tmp_path: Path) -> None:
    """The engine runs in a chroot whose root is no mount point: pivot_root alone refuses that."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            (tmp_path / "root/proc").mkdir()
            ns.unshare(ns.CLONE_NEWNS)
            mount.mount(None, "/", None, mount.MS_REC | mount.MS_PRIVATE)
            mount.mount("/proc", str(tmp_path / "root/proc"), None, mount.MS_BIND)
            inner = make_root(tmp_path / "root/inner")
            os.chroot(tmp_path / "root")
            os.chdir("/")
            made = create.create(make_spec("sh", "-c", "ls /; cat /proc/mounts | wc -l"), rootfs="/inner", stdio=(w, w, w))
            made.wait_ready()
            made.start()
            os.waitid(os.P_PIDFD, made.pidfd, os.WEXITED)
            assert inner
        except BaseException as e:
            os.write(w, repr(e).encode())
        finally:
            os._exit(0)
    os.close(w)
    out = drain(r)
    os.waitpid(pid, 0)
    assert "busybox" not in out and "inner" not in out and out.startswith("bin\n"), out


def test_a_child_notices_that_its_parent_died_after_the_start() -> None:
    """PDEATHSIG set too late is never sent; what the parent sent before its end must not be taken for its life."""
    from lamina.linux import fds

    for sent in (b"", handshake.START):
        parent, child = fds.socketpair()
        if sent:
            parent.send(sent)
        assert handshake.parent_is_there(child)
        parent.close()
        assert not handshake.parent_is_there(child)
        child.close()
