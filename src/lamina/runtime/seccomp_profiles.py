# SPDX-License-Identifier: Apache-2.0
"""The built-in seccomp profile, and docker's profile files, as OCI `linux.seccomp`.

The list is moby's newest default (moby/profiles, June 2026): what it allows, under which capabilities, with which errno. Stricter in
two places, both to keep AF_ALG (kernel page cache, "Copy Fail") and AF_VSOCK (the hypervisor) out of reach for good:
socket families are compared in the 32 bits that the kernel looks at, since a 64 bit comparison lets 0x100000026 pass as "not AF_ALG";
and i386 `socketcall`, whose arguments a filter can't see, answers ENOSYS, which makes C libraries use `socket` (`compat32` allows it).
Changing anything here changes `profile.VERSION`; a test says so.
"""
from __future__ import annotations

from lamina.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

_ENOSYS = 38

_ALWAYS = """
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime clock_adjtime64
    clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect
    copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
    epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark
    fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr
    fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait
    futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups
    getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32
    getrlimit get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid getuid32 getxattr
    getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents
    io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule landlock_create_ruleset
    landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr listxattrat llistxattr _llseek lremovexattr
    lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock
    mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
    mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep
    newfstatat _newselect open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll
    ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead
    readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat
    renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
    rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam
    sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity
    sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send
    sendfile sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer
    setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list
    setsid setsockopt set_thread_area set_tid_address setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack
    signalfd signalfd4 sigprocmask sigreturn socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync
    sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
    timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64
    ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write
    writev
"""

# Allowed with the capability only.
BY_CAPABILITY = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules "
    "lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns "
    "syslog umount umount2 unshare",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module init_module finit_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}

_BY_ARCH = {
    "x86_64": "arch_prctl modify_ldt",
    "aarch64": "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
}
_ARCHITECTURES = {"x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]}
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)  # LINUX, LINUX32, each with UNAME26, and "tell me"
_AF_ALG, _AF_VSOCK = 38, 40
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET: none of them without CAP_SYS_ADMIN.
_CLONE_NEW = 0x7E020000
_PTRACE_SINCE = (4, 8)  # older kernels let ptrace change a call after seccomp saw it


def _entry(names: str, action: str, **more: object) -> dict[str, Any]:
    return {"names": names.split(), "action": "SCMP_ACT_" + action, **more}


def _arg(index: int, op: str, value: int, second: int = 0) -> dict[str, Any]:
    return {"index": index, "value": value, "valueTwo": second, "op": "SCMP_CMP_" + op}


def default_profile(caps: Iterable[str], arch: str, kernel: tuple[int, int], *, compat32: bool = False) -> dict[str, Any]:
    """OCI `linux.seccomp` for a process that may have `caps` ("CAP_..." names), on `arch` ("x86_64", "aarch64")."""
    has = frozenset(caps)
    calls = [_entry(_ALWAYS, "ALLOW")]
    if kernel >= _PTRACE_SINCE:
        calls.append(_entry("process_vm_readv process_vm_writev ptrace", "ALLOW"))
    for family in (_AF_ALG, _AF_VSOCK):
        calls.append(_entry("socket", "ERRNO", errnoRet=1, args=[_arg(0, "MASKED_EQ", 0xFFFFFFFF, family)]))
    calls.append(_entry("socket", "ALLOW"))
    calls.append(_entry("socketcall", "ALLOW") if compat32 else _entry("socketcall", "ERRNO", errnoRet=_ENOSYS))
    calls += [_entry("personality", "ALLOW", args=[_arg(0, "EQ", value)]) for value in _PERSONALITIES]
    if arch in _BY_ARCH:
        calls.append(_entry(_BY_ARCH[arch], "ALLOW"))
    calls += [_entry(names, "ALLOW") for cap, names in BY_CAPABILITY.items() if cap in has]
    if "CAP_SYS_ADMIN" not in has:
        calls.append(_entry("clone", "ALLOW", args=[_arg(0, "MASKED_EQ", _CLONE_NEW, 0)]))
        calls.append(_entry("clone3", "ERRNO", errnoRet=_ENOSYS))  # its flags lie in memory, out of a filter's sight
    return {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": _ARCHITECTURES.get(arch, []), "syscalls": calls}


# docker's and Go's names of architectures, as profile files use them.
_GO_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}
_NATIVE = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}


def resolve(profile: Mapping[str, Any], caps: Iterable[str], arch: str, kernel: tuple[int, int]) -> dict[str, Any]:
    """A docker profile file (archMap, includes, excludes) as OCI `linux.seccomp` for these capabilities, architecture and kernel."""
    has, go_arch = frozenset(caps), _GO_ARCH.get(arch, arch)
    if profile.get("architectures") and profile.get("archMap"):
        raise InvalidArgument(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'"
        )
    out: dict[str, Any] = {"defaultAction": profile.get("defaultAction", "")}
    for key in ("defaultErrnoRet", "flags", "listenerPath", "listenerMetadata", "architectures"):
        if profile.get(key):
            out[key] = profile[key]
    for entry in profile.get("archMap") or ():
        if entry.get("architecture") == _NATIVE.get(arch):
            out["architectures"] = [entry["architecture"], *(entry.get("subArchitectures") or ())]
    calls = []
    for i, entry in enumerate(profile.get("syscalls") or ()):
        if not isinstance(entry, dict):
            raise InvalidArgument(f"seccomp syscalls[{i}]: not an object")
        if entry.get("name") and entry.get("names"):
            raise InvalidArgument("both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'")
        if _applies(entry, has, go_arch, kernel):
            calls.append({k: v for k, v in entry.items() if k in ("names", "name", "action", "errnoRet", "args") and v is not None})
    out["syscalls"] = calls
    return out


def _applies(entry: Mapping[str, Any], caps: frozenset[str], arch: str, kernel: tuple[int, int]) -> bool:
    """As docker: any of `excludes` drops the entry; of `includes`, one architecture, the kernel and all capabilities must fit."""
    no, yes = entry.get("excludes") or {}, entry.get("includes") or {}
    if arch in (no.get("arches") or ()) or any(c in caps for c in no.get("caps") or ()):
        return False
    if no.get("minKernel") and kernel >= parse_kernel(no["minKernel"]):
        return False
    if yes.get("arches") and arch not in yes["arches"]:
        return False
    if yes.get("minKernel") and kernel < parse_kernel(yes["minKernel"]):
        return False
    return all(c in caps for c in yes.get("caps") or ())


def parse_kernel(release: str) -> tuple[int, int]:
    """(major, minor) of "6.18.44-x" or "4.8"."""
    major, _, rest = release.partition(".")
    digits = ""
    for ch in rest:
        if not ch.isdigit():
            break
        digits += ch
    if not major.isdigit() or not digits:
        raise InvalidArgument(f"invalid kernel version {release!r}, expected X.Y")
    return int(major), int(digits)
