# SPDX-License-Identifier: Apache-2.0
"""From "root in the right namespaces" to execve: spec.process applied to the calling child, for create and exec alike.

Order matters: session, limits and stdio while privileged; then bounding set, groups, ids; the seccomp filter before capabilities
are gone if there is no no_new_privs (loading needs CAP_SYS_ADMIN), else last of all; capabilities; then only questions that must be
answered as the final user (working directory, args[0]); the death signal after the last change of credentials, which clears it.
"""
from __future__ import annotations

import _signal
import errno
import os
from _struct import pack
from fcntl import F_DUPFD_CLOEXEC, fcntl
from stat import S_ISCHR, S_ISDIR, S_ISFIFO, S_ISREG

from lamina.errors import InvalidArgument, StartError
from lamina.linux import _libc, caps, fs, prctl, rlimit, seccomp, uts

from . import texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
INIT_NAME = b"/sbin/docker-init"  # what `ps` and `top` show of --init, as with docker; there is no such file
_KEYCTL_JOIN_SESSION_KEYRING = 1
_SECCOMP_FLAGS = {"SECCOMP_FILTER_FLAG_TSYNC": 0, "SECCOMP_FILTER_FLAG_LOG": seccomp.FLAG_LOG,
                  "SECCOMP_FILTER_FLAG_SPEC_ALLOW": seccomp.FLAG_SPEC_ALLOW}


class Process:
    """spec.process, checked and turned into numbers before the clone, so that the child has little to do and little to fail at."""

    __slots__ = ("additional_gids", "ambient", "apparmor", "args", "bounding", "console_size", "cwd", "effective", "env", "gid",
                 "inheritable", "limits", "no_new_privs", "oom_score_adj", "path", "permitted", "personality", "seccomp", "seccomp_flags",
                 "terminal", "uid", "umask")

    def __init__(self, process: dict[str, Any], linux: dict[str, Any], *, terminal: bool, program: bytes | None) -> None:
        args = process.get("args")
        if not isinstance(args, list) or not args:
            raise InvalidArgument("no command specified")
        self.args = [os.fsencode(_plain(a, "argument")) for a in args]
        self.env = _environment(process.get("env") or ())
        self.path = os.fsdecode(self.env.get(b"PATH", _DEFAULT_PATH.encode()))
        self.cwd = _plain(process.get("cwd") or "/", "working directory")
        if not self.cwd.startswith("/"):
            raise InvalidArgument(f'the working directory "{self.cwd}" is invalid, it needs to be an absolute path')
        user = process.get("user") or {}
        self.uid, self.gid = int(user.get("uid") or 0), int(user.get("gid") or 0)
        self.additional_gids = [int(g) for g in user.get("additionalGids") or ()]
        for number in (self.uid, self.gid, *self.additional_gids):
            if not 0 <= number < 2**32 - 1:
                raise InvalidArgument(f"invalid user or group id {number}")
        umask = user.get("umask")
        self.umask = 0o022 if umask is None else int(umask)
        sets = process.get("capabilities") or {}
        try:
            masks = {name: caps.mask(sets.get(name) or ()) for name in ("bounding", "effective", "permitted", "inheritable", "ambient")}
        except ValueError as e:
            raise InvalidArgument(str(e))
        self.bounding, self.effective, self.permitted = masks["bounding"], masks["effective"], masks["permitted"]
        self.ambient = masks["ambient"]
        self.inheritable = masks["inheritable"] | self.ambient  # the kernel has no ambient capability that isn't inheritable
        self.no_new_privs = bool(process.get("noNewPrivileges"))
        self.limits = [(str(r["type"]), int(r["soft"]) % 2**64, int(r["hard"]) % 2**64) for r in process.get("rlimits") or ()]
        for name, soft, hard in self.limits:
            if name not in rlimit.NUMBERS or soft > hard:
                raise InvalidArgument(f"invalid resource limit {name} ({soft}, {hard})")
        adj = process.get("oomScoreAdj")
        self.oom_score_adj = None if adj is None else int(adj)
        self.apparmor = process.get("apparmorProfile") or ""
        self.console_size = process.get("consoleSize")
        self.terminal = terminal
        self.seccomp = program
        self.seccomp_flags = 0
        for flag in (linux.get("seccomp") or {}).get("flags") or ():
            if flag not in _SECCOMP_FLAGS:
                raise InvalidArgument(f"seccomp flag {flag!r} is not supported")
            self.seccomp_flags |= _SECCOMP_FLAGS[flag]
        domain = (linux.get("personality") or {}).get("domain")
        self.personality = {None: None, "LINUX": uts.PER_LINUX, "LINUX32": uts.PER_LINUX32}.get(domain, -1)
        if self.personality == -1:
            raise InvalidArgument(f"unknown personality {domain!r}")
        if process.get("selinuxLabel") and os.path.exists("/sys/fs/selinux/enforce"):
            raise InvalidArgument("SELinux labels are not supported yet")


def _plain(text: object, what: str) -> str:
    if not isinstance(text, str) or "\0" in text:
        raise InvalidArgument(f"invalid {what} {text!r}")
    return text


def _environment(entries: Iterable[object]) -> dict[bytes, bytes]:
    """The last of several entries with one name counts; an entry without "=" is nothing and never looked up in our own environment."""
    env = {}
    for entry in entries:
        name, equals, value = _plain(entry, "environment entry").partition("=")
        if equals and name:
            env[os.fsencode(name)] = os.fsencode(value)
    return env


def reset_signals() -> None:
    """All dispositions back to default (Python ignores SIGPIPE, callers may ignore more) and nothing blocked."""
    _signal.set_wakeup_fd(-1)
    for number in _signal.valid_signals():
        if number not in (9, 19) and _signal.getsignal(number) != _signal.SIG_DFL:
            _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def new_keyring() -> None:
    """A session keyring of its own: the caller's keys aren't the container's."""
    try:
        _libc.syscall(_libc.KEYCTL, _KEYCTL_JOIN_SESSION_KEYRING, None, path="session keyring")
    except OSError as e:
        if e.errno not in (errno.ENOSYS, errno.EPERM):  # no keyrings here, or an outer container's filter keeps them from us
            raise


def write_proc(proc: int, path: str, text: str) -> None:
    """Writes below a procfs that we hold by fd and verify: no mount of a container can redirect it (CVE-2025-52881)."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=proc)
    try:
        if fs.magic(fd) != fs.PROC_SUPER_MAGIC:
            raise OSError(errno.ENOTSUP, "not a file of procfs", path)
        os.write(fd, text.encode())
    except OSError as e:
        raise OSError(e.errno, e.strerror, f"/proc/{path}")
    finally:
        os.close(fd)


def adjust(process: Process, proc: int) -> None:
    """What needs procfs, before the root changes: OOM score, LSM label, execution domain."""
    adj = process.oom_score_adj
    if adj is not None:
        with open(os.open("self/oom_score_adj", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc), "rb", 0) as f:
            now = int(f.read())
        try:
            if adj != now:
                write_proc(proc, "self/oom_score_adj", str(adj))
        except PermissionError:
            if adj != 0:  # 0 is everybody's default; below an engine that was given a higher one it can't be had
                raise
    if process.apparmor and process.apparmor != "unconfined":
        try:
            write_proc(proc, "self/attr/apparmor/exec", f"exec {process.apparmor}")
        except FileNotFoundError:
            raise StartError(f'unable to apply apparmor profile "{process.apparmor}": this kernel has no AppArmor')
    if process.personality is not None:
        uts.set_personality(process.personality)


def take_stdio(stdio: Sequence[int] | None, slave: int, null: int) -> None:
    """Puts three fds at 0, 1, 2: the terminal's slave, the given ones, or the null device `null`; the originals are left to cloexec."""
    wanted = [slave] * 3 if slave >= 0 else list(stdio) if stdio is not None else [null] * 3
    # First all out of the way of 0 to 2, so that any order works.
    safe = [fcntl(fd, F_DUPFD_CLOEXEC, 3) if fd < 3 else fd for fd in wanted]
    for number, fd in enumerate(safe):
        os.dup2(fd, number, inheritable=True)


def give_stdio(uid: int) -> None:
    """Makes the user own pipes and terminals at 0 to 2, so that /dev/stdout can be opened again; other files are never touched."""
    for fd in (0, 1, 2):
        st = os.fstat(fd)
        if st.st_uid != uid and (S_ISFIFO(st.st_mode) or (S_ISCHR(st.st_mode) and os.isatty(fd))):
            try:
                os.fchown(fd, uid, -1)
            except OSError as e:
                if e.errno not in (errno.EPERM, errno.EINVAL, errno.EROFS):
                    raise


def enter_cwd(process: Process) -> bool:
    """Changes into the working directory beneath "/"; False if it is forbidden to us yet perhaps not to the final user. A magic link
    (/proc/self/fd/7), or a directory that isn't below the root, is refused (CVE-2024-21626)."""
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = fs.open_beneath(root, process.cwd, os.O_PATH | os.O_DIRECTORY)
        try:
            os.fchdir(fd)
        finally:
            os.close(fd)
    except PermissionError:
        return False
    except OSError as e:
        raise StartError(f'chdir to cwd ("{process.cwd}") set in config.json failed: {texts.reason(e)}')
    finally:
        os.close(root)
    check_cwd()
    return True


def check_cwd() -> None:
    try:
        inside = os.getcwd().startswith("/")
    except OSError:
        inside = False
    if not inside:
        raise StartError("current working directory is outside of container mount namespace root -- possible container breakout detected")


def limit(process: Process) -> None:
    """The resource limits: while raising them is allowed, but late, as few descriptors may be all that the process is to have."""
    for name, soft, hard in process.limits:
        try:
            rlimit.set_(name, soft, hard)
        except OSError as e:
            raise StartError("error setting rlimits for ready process: "
                             f"error setting rlimit type {rlimit.NUMBERS[name]} ({name}): {texts.reason(e)}")


def become(process: Process, last_cap: int) -> None:
    """The final identity, capabilities included. Without no_new_privs the seccomp filter is in force from here on."""
    limit(process)
    caps.limit_bounding(process.bounding, last_cap)
    give_stdio(process.uid)
    there = enter_cwd(process)
    prctl.set_keep_caps(True)
    os.setgroups(process.additional_gids)
    os.setresgid(process.gid, process.gid, process.gid)
    os.setresuid(process.uid, process.uid, process.uid)
    prctl.set_keep_caps(False)
    prctl.set_dumpable(False)
    if process.no_new_privs:
        prctl.set_no_new_privs()
    elif process.seccomp is not None:
        _, permitted, inheritable = caps.get()
        caps.set_(permitted, permitted, inheritable)
        seccomp.load(process.seccomp, process.seccomp_flags)
    try:
        caps.set_(process.effective, process.permitted, process.inheritable)
        if process.ambient:
            caps.set_ambient(process.ambient)
        else:
            prctl.ambient_clear()
    except OSError as e:
        raise StartError(f"unable to apply caps: {texts.reason(e)}")
    if not there and not enter_cwd(process):
        raise StartError(f'chdir to cwd ("{process.cwd}") set in config.json failed: permission denied')
    os.umask(process.umask)


def became(process: Process) -> str:
    """What `become` has done, for `--explain`."""
    return (f"became user {process.uid}:{process.gid} with {process.effective.bit_count()} capabilities, "
            + ("behind a seccomp filter" if process.seccomp is not None else "without a seccomp filter")
            + (", no new privileges" if process.no_new_privs else ""))


def find_program(process: Process) -> str:
    """The path to execute for args[0], looked up as the final user in the container's PATH; raises with runc's texts.

    A name with a slash is taken as it is; else each directory of PATH is asked, and a find that may not be executed is remembered.
    """
    name = os.fsdecode(process.args[0])
    if not name:
        raise texts.lookup_failure(name, None)
    if "/" in name:
        error = _not_executable(name)
        if error is not None:
            raise texts.lookup_failure(name, error)
        return name
    refused: OSError | None = None
    for directory in process.path.split(":"):
        path = f"{directory or '.'}/{name}"
        error = _not_executable(path)
        if error is None:
            return path
        if error.errno == errno.EACCES and os.path.lexists(path):
            refused = error
    raise texts.lookup_failure(name, refused)


def _not_executable(path: str) -> OSError | None:
    try:
        mode = os.stat(path).st_mode
    except OSError as e:
        return e
    if S_ISDIR(mode) or not S_ISREG(mode) or not os.access(path, os.X_OK, effective_ids=True):
        return PermissionError(errno.EACCES, "permission denied", path)
    return None


def execute(process: Process, path: str) -> None:
    """Loads the filter where that comes last, and execs; returns never, raises CommandNotFound or CommandNotExecutable."""
    if process.no_new_privs and process.seccomp is not None:
        seccomp.load(process.seccomp, process.seccomp_flags)
    try:
        os.execve(path, process.args, process.env)
    except OSError as e:
        raise texts.exec_failure(path, e)


def execute_under_init(process: Process, path: str, program: int, told: int, tell: int) -> None:
    """The caller becomes the init `program` (fds: initprogram.open_program), the command is executed in a child of it. Both errors raise,
    each in its process. Signals that come meanwhile wait for the init: they are blocked, and it takes them over blocked."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    prctl.set_child_subreaper(True)  # orphans come to it also where it isn't process 1
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        if process.terminal:
            os.tcsetpgrp(0, os.getpid())  # from the background, which is all right while SIGTTOU is blocked
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        execute(process, path)
    os.write(tell, pack("=i", pid))
    os.set_inheritable(told, True)
    if process.no_new_privs and process.seccomp is not None:
        seccomp.load(process.seccomp, process.seccomp_flags)
    os.execve(program, [INIT_NAME, b"--", *process.args], process.env)
