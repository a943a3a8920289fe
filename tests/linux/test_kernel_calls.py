# SPDX-License-Identifier: Apache-2.0
"""The wrappers against the real kernel: mounts and namespaces in children of our own, capabilities, fds, ptys."""
from __future__ import annotations

import errno
import os
import struct
import termios
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lamina.linux import caps, fds, mount, ns, oldoverlay, prctl, rlimit, seccomp, tty


def in_child(body: Callable[[], object], flags: int = ns.CLONE_NEWNS) -> None:
    """Runs `body` in a forked child with own namespaces; its exception becomes ours."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if flags:
                ns.unshare(flags)
            if flags & ns.CLONE_NEWNS:
                mount.mount(None, "/", None, mount.MS_REC | mount.MS_PRIVATE)
            body()
        except BaseException as e:
            import traceback
            os.write(w, "".join(traceback.format_exception(e)).encode()[-4000:])
        finally:
            os._exit(0)
    os.close(w)
    with os.fdopen(r, "rb") as f:
        said = f.read().decode()
    os.waitpid(pid, 0)
    assert said == "", said


def test_errors_name_the_path_and_keep_the_number() -> None:
    with pytest.raises(FileNotFoundError) as e:
        mount.umount("/no/such/mount")
    assert e.value.filename == "/no/such/mount"
    with pytest.raises(ValueError):
        mount.umount("a\0b")


def test_an_overlay_of_401_layers(tmp_path: Path) -> None:
    lowers = []
    for i in range(401):
        layer = tmp_path / f"layer:{i:03},x"
        layer.mkdir()
        (layer / f"f{i}").write_text(str(i))
        (layer / "same").write_text(str(i))
        lowers.append(str(layer))
    upper, work, target = tmp_path / "up", tmp_path / "work", tmp_path / "target"
    for p in (upper, work, target):
        p.mkdir()

    def body() -> None:
        fd = mount.overlay(lowers, str(upper), str(work), volatile=True)
        mount.attach(fd, str(target))
        os.close(fd)
        assert (target / "same").read_text() == "0", "the first lower is the top"
        assert len(list(target.iterdir())) == 402
        (target / "new").write_text("n")
        entry = [m for m in mount.mountinfo() if m.target == str(target)][-1]
        assert entry.fstype == "overlay" and entry.source == "overlay"
        mount.umount(str(target))

    in_child(body)
    assert (upper / "new").read_text() == "n"


def test_a_read_only_view_and_its_limits(tmp_path: Path) -> None:
    for name in ("a", "b", "t"):
        (tmp_path / name).mkdir()

    def body() -> None:
        fd = mount.overlay([str(tmp_path / "a"), str(tmp_path / "b")], None, None, readonly=True)
        target = os.open(tmp_path / "t", os.O_PATH)
        mount.attach(fd, target)
        with pytest.raises(OSError) as e:
            (tmp_path / "t/x").write_text("")
        assert e.value.errno == errno.EROFS

    in_child(body)
    with pytest.raises(OSError, match="two lower"):
        mount.overlay([str(tmp_path / "a")], None, None)


def test_a_failed_mount_tells_the_kernels_reason(tmp_path: Path) -> None:
    with pytest.raises(OSError) as e:
        mount.new_mount("tmpfs", ["size=banana"])
    assert "size" in str(e.value)


def test_mountinfo_undoes_octal(tmp_path: Path) -> None:
    target = tmp_path / "a b\\c\td"
    target.mkdir()

    def body() -> None:
        fd = mount.new_mount("tmpfs", ["size=4k"], source="my source", attrs=mount.MOUNT_ATTR_NODEV)
        mount.attach(fd, str(target))
        found = [m for m in mount.mountinfo() if m.target == str(target)]
        assert len(found) == 1 and found[0].source == "my source" and "nodev" in found[0].options

    in_child(body)


def test_clone_of_a_tree_made_read_only_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "src/sub").mkdir(parents=True)
    (tmp_path / "dst").mkdir()

    def body() -> None:
        sub = mount.new_mount("tmpfs")
        mount.attach(sub, str(tmp_path / "src/sub"))
        tree = mount.open_tree(mount.AT_FDCWD, str(tmp_path / "src"), mount.OPEN_TREE_CLONE | mount.AT_RECURSIVE)
        mount.mount_setattr(tree, "", mount.AT_RECURSIVE, mount.MOUNT_ATTR_RDONLY, 0, mount.MS_PRIVATE)
        mount.attach(tree, str(tmp_path / "dst"))
        for path in ("dst/x", "dst/sub/x"):
            with pytest.raises(OSError):
                (tmp_path / path).write_text("")
        (tmp_path / "src/sub/x").write_text("")

    in_child(body)


def test_clone3_gives_a_pidfd_and_new_namespaces() -> None:
    def body() -> None:
        r, w = os.pipe()
        pid, pidfd = ns.clone3(ns.CLONE_NEWPID | ns.CLONE_NEWNET | ns.CLONE_NEWUTS | ns.CLONE_NEWIPC | ns.CLONE_NEWNS)
        if pid == 0:
            os.write(w, b"%d %d" % (os.getpid(), pidfd))
            os._exit(7)
        assert os.read(r, 100) == b"1 -1"
        assert not os.get_inheritable(pidfd)
        done = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        assert done is not None and done.si_status == 7

    in_child(body, 0)


def test_clone3_refuses_a_process_with_threads() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        with pytest.raises(OSError) as e:
            ns.clone3(0)
        assert e.value.errno == errno.EDEADLK
    finally:
        stop.set()
        thread.join()


def test_a_process_is_pid_and_start_time() -> None:
    pid = os.fork()
    if pid == 0:
        import time
        time.sleep(60)
        os._exit(0)
    started = ns.start_time(pid)
    with pytest.raises(ProcessLookupError):
        ns.open_process(pid, started + 1)
    pidfd = ns.open_process(pid, started)
    ns.pidfd_send_signal(pidfd, 9)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == 9
    with pytest.raises(ProcessLookupError):
        ns.start_time(pid)
    os.close(pidfd)
    assert len(ns.boot_id()) == 36


def test_capabilities_by_name_and_sets() -> None:
    assert caps.mask(["CAP_CHOWN", "CAP_SYS_ADMIN"]) == 1 | 1 << 21
    assert caps.names(caps.mask(caps.NAMES)) == list(caps.NAMES)
    assert caps.NUMBERS["CAP_CHECKPOINT_RESTORE"] == 40
    with pytest.raises(ValueError, match="CAP_NONE"):
        caps.mask(["CAP_NONE"])
    text = Path("/proc/self/status").read_text()
    assert caps.get()[0] == int(text.split("CapEff:\t")[1][:16], 16)
    assert caps.last_cap() == int(Path("/proc/sys/kernel/cap_last_cap").read_text())

    def body() -> None:
        keep = caps.mask(["CAP_KILL", "CAP_SETPCAP"])
        caps.limit_bounding(keep, caps.last_cap())
        assert caps.bounding() == keep
        caps.set_(keep, keep, keep)
        caps.set_ambient(1 << caps.NUMBERS["CAP_KILL"])
        assert caps.get() == (keep, keep, keep)
        assert "CapAmb:\t%016x" % (1 << caps.NUMBERS["CAP_KILL"]) in Path("/proc/self/status").read_text()

    in_child(body, 0)


@pytest.mark.parametrize("fallback", [False, True])
def test_close_range(fallback: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if fallback:
        def missing(*_: object, **__: object) -> int:
            raise OSError(errno.ENOSYS, "no close_range")
        monkeypatch.setattr(fds, "syscall", missing)

    def body() -> None:
        low = os.open("/", os.O_RDONLY)
        high = os.dup2(low, 300)
        os.set_inheritable(high, True)
        fds.close_range(high, cloexec=True)
        assert not os.get_inheritable(high)
        fds.close_range(low + 1)
        os.fstat(low)
        with pytest.raises(OSError):
            os.fstat(high)

    in_child(body, 0)


def test_fds_travel_and_a_cut_message_is_an_error() -> None:
    a, b = fds.socketpair()
    r, w = os.pipe()
    fds.send_fds(a, b"two", [r, w])
    data, got = fds.recv_fds(b, 100)
    assert data == b"two" and len(got) == 2 and not os.get_inheritable(got[0])
    os.write(got[1], b"x")
    assert os.read(r, 1) == b"x"
    before = len(os.listdir("/proc/self/fd"))
    fds.send_fds(a, b"more", [r, w, r, w, r, w])
    with pytest.raises(OSError, match="cut"):
        fds.recv_fds(b, 100, 1)
    assert len(os.listdir("/proc/self/fd")) == before
    for fd in (r, w, *got):
        os.close(fd)
    a.close()
    assert fds.recv_fds(b, 10) == (b"", [])
    b.close()


def test_a_pty_with_size_and_raw_mode() -> None:
    master, slave, number = tty.openpty()
    assert os.ttyname(slave) == f"/dev/pts/{number}"
    tty.set_winsize(master, 33, 77)
    assert tty.get_winsize(slave) == (33, 77)
    before = termios.tcgetattr(slave)
    saved = tty.set_raw(slave)
    os.write(master, b"a\x03\n")
    assert os.read(slave, 10) == b"a\x03\n"
    tty.restore(slave, saved)
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def test_a_seccomp_filter_denies() -> None:
    nr = {"x86_64": 83, "aarch64": 34}[os.uname().machine]  # mkdir, mkdirat
    code = ((0x20, 0, 0, 0), (0x15, 0, 1, nr), (6, 0, 0, 0x50000 | 99), (6, 0, 0, 0x7FFF0000))
    program = b"".join(struct.pack("=HBBI", *i) for i in code)

    def body() -> None:
        prctl.set_no_new_privs()
        seccomp.load(program)
        with pytest.raises(OSError) as e:
            os.mkdir("/nonexistent/x")
        assert e.value.errno == 99

    in_child(body, 0)
    with pytest.raises(OSError):
        seccomp.load(b"1234")


def test_limits_by_name() -> None:
    soft, hard = rlimit.get("RLIMIT_NOFILE")

    def body() -> None:
        rlimit.set_("RLIMIT_NOFILE", 99, 100)
        assert rlimit.get("RLIMIT_NOFILE") == (99, 100)
        rlimit.set_("RLIMIT_CORE", 0, rlimit.get("RLIMIT_CORE")[1])

    in_child(body, 0)
    assert rlimit.get("RLIMIT_NOFILE") == (soft, hard)


def test_unions_about_a_page_of_options(tmp_path: Path) -> None:
    """4096 bytes is what kernels before 6.5 take: whichever option is the one too many, the union is the same."""
    lowers = [str(tmp_path / f"{i:02}".ljust(100 - len(str(tmp_path)), "x")) for i in range(50)]
    for i, lower in enumerate(lowers):
        os.mkdir(lower)
        Path(lower, f"f{i}").write_text("")
    for name in ("up", "work"):
        (tmp_path / name).mkdir()

    def body() -> None:
        for count in range(2, len(lowers)):
            fd = mount.overlay(lowers[:count], str(tmp_path / "up"), str(tmp_path / "work"), volatile=False)
            assert len(os.listdir(f"/proc/self/fd/{fd}")) == count
            os.close(fd)

    in_child(body)


@pytest.mark.parametrize(("count", "odd", "chroot"), [(20, "", False), (401, ":x,", False), (20, "", True)])
def test_a_union_of_many_layers_on_kernels_before_6_7(tmp_path: Path, count: int, odd: str, chroot: bool) -> None:
    """What `overlay` does where lowerdir+ is missing: with full paths for `mount` to show, or by descriptors; nothing else has changed."""
    lowers = [str(tmp_path / f"layer{odd}{i:03}") for i in range(count)]
    for i, lower in enumerate(lowers):
        os.mkdir(lower)
        Path(lower, "same").write_text(str(i))
        Path(lower, f"f{i}").write_text("")
    for name in ("up", "work", "target"):
        (tmp_path / name).mkdir()

    def body() -> None:
        if chroot:
            os.mkdir(tmp_path / "proc")
            mount.mount("proc", str(tmp_path / "proc"), "proc")
            os.chroot(tmp_path)
        base = "" if chroot else str(tmp_path)
        below = [lower.removeprefix(str(tmp_path)) if chroot else lower for lower in lowers]
        os.chdir(base + "/up")
        top = os.stat("/")
        before, namespace = len(os.listdir("/proc/self/fd")), os.readlink("/proc/self/ns/mnt")
        fd = oldoverlay.union(below, base + "/up", base + "/work", ["index=off"], "overlay")
        assert len(os.listdir("/proc/self/fd")) == before + 1 and os.readlink("/proc/self/ns/mnt") == namespace
        assert os.path.samefile(".", base + "/up") and os.path.samestat(os.stat("/"), top)
        mount.attach(fd, base + "/target")
        os.close(fd)
        assert Path(base + "/target/same").read_text() == "0" and len(os.listdir(base + "/target")) == count + 1
        Path(base + "/target/new").write_text("n")
        shown = Path("/proc/self/mounts").read_text()
        assert (f"lowerdir={below[0]}:" in shown) == (not odd and not chroot)

    in_child(body)
    assert (tmp_path / "up/new").read_text() == "n"
