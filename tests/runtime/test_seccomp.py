# SPDX-License-Identifier: Apache-2.0
"""The seccomp compiler against a rule-by-rule evaluation, the default profile's content, and the cache of filters."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from bpf_machine import AUDIT, Machine, linear
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.errors import InvalidArgument, NotSupported
from lamina.linux.syscalls import numbers
from lamina.runtime import profile, seccomp, seccomp_profiles

ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x50001, 0x50026, 0x80000000
DOCKER_CAPS = frozenset(
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID CAP_SETUID CAP_SETFCAP CAP_SETPCAP "
    "CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE".split()
)
ALL_CAPS = DOCKER_CAPS | profile.RELEVANT
ARGS = [
    (0, 0, 0, 0, 0, 0),
    (8, 8, 0, 0, 0, 0),
    (37, 0, 0, 0, 0, 0),
    (38, 5, 0, 0, 0, 0),
    (39, 0, 0, 0, 0, 0),
    (40, 1, 0, 0, 0, 0),
    (41, 0, 0, 0, 0, 0),
    (0x20000, 0, 0, 0, 0, 0),
    (0x20008, 0, 0, 0, 0, 0),
    (0xFFFFFFFF, 0, 0, 0, 0, 0),
    (0x1_00000026, 0, 0, 0, 0, 0),
    (0x1_00000028, 0, 0, 0, 0, 0),
    (0x10000000, 0x10000000, 0, 0, 0, 0),
    (0x20000, 0x11, 0, 0, 0, 0),
    (0x3D0F00, 0, 0, 0, 0, 0),
    (0xFFFFFFFF_FFFFFFFF,) * 6,
    (1 << 63, 1, 2, 3, 4, 5),
]


def default(caps: frozenset[str] = DOCKER_CAPS, arch: str = "x86_64", **more: Any) -> dict[str, Any]:
    return seccomp_profiles.default_profile(caps, arch, (6, 18), **more)


@pytest.mark.parametrize("caps", [frozenset(), DOCKER_CAPS, ALL_CAPS], ids=["none", "docker", "all"])
@pytest.mark.parametrize(("native", "table"), [("x86_64", "x86_64"), ("x86_64", "i386"), ("aarch64", "aarch64")])
def test_tree_equals_rules(caps: frozenset[str], native: str, table: str) -> None:
    p = default(caps, native)
    machine, known = Machine(seccomp.compile(p, native)), numbers(table)
    for nr in [*range(max(known.values()) + 40), 1023, 0x3FFFFFFF]:
        for args in ARGS:
            assert machine.run(AUDIT[table], nr, args) == linear(p, known, nr, args), (nr, args)


_arg = st.fixed_dictionaries(
    {
        "index": st.integers(0, 5),
        "op": st.sampled_from(["SCMP_CMP_" + o for o in ("EQ", "NE", "GE", "GT", "LE", "LT", "MASKED_EQ")]),
        "value": st.one_of(
            st.integers(0, 3), st.sampled_from([1 << 31, 1 << 32, (1 << 32) + 1, (1 << 64) - 1]), st.integers(0, (1 << 64) - 1)
        ),
        "valueTwo": st.integers(0, 3),
    }
)
_entry = st.fixed_dictionaries(
    {
        "names": st.lists(
            st.sampled_from(["read", "write", "open", "socket", "clone", "ioctl", "prctl", "futex", "mseal"]), min_size=1, max_size=3
        ),
        "action": st.sampled_from(["SCMP_ACT_" + a for a in ("ALLOW", "ERRNO", "KILL_PROCESS", "LOG", "TRAP")]),
        "args": st.lists(_arg, max_size=3),
    }
)


@settings(max_examples=150, deadline=None)
@given(
    entries=st.lists(_entry, max_size=12),
    default_action=st.sampled_from(["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL"]),
    values=st.lists(
        st.one_of(st.integers(0, 3), st.sampled_from([1 << 31, 1 << 32, (1 << 32) + 1, (1 << 64) - 1])), min_size=6, max_size=6
    ),
)
def test_any_profile_compiles_to_its_meaning(entries: list[dict[str, Any]], default_action: str, values: list[int]) -> None:
    p = {"defaultAction": default_action, "syscalls": entries}
    machine, known = Machine(seccomp.compile(p, "x86_64")), numbers("x86_64")
    for name in ("read", "write", "open", "close", "socket", "clone", "ioctl", "prctl", "futex", "mseal", "file_setattr"):
        assert machine.run(AUDIT["x86_64"], known[name], tuple(values)) == linear(p, known, known[name], tuple(values)), name


def test_large_profile_needs_long_jumps() -> None:
    """Conditional jumps reach 255 instructions; this profile is far longer between its root and its leaves."""
    names = sorted(numbers("x86_64"), key=numbers("x86_64").__getitem__)[:330]
    entries = [
        {"names": [n], "action": "SCMP_ACT_ERRNO", "errnoRet": i % 100 + 1, "args": [{"index": i % 6, "value": i, "op": "SCMP_CMP_GT"}]}
        for i, n in enumerate(names)
    ]
    p = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": entries}
    code = seccomp.compile(p, "x86_64")
    machine, known = Machine(code), numbers("x86_64")
    assert len(code) // 8 > 1500
    for nr in range(340):
        for args in ((0,) * 6, (400,) * 6):
            assert machine.run(AUDIT["x86_64"], nr, args) == linear(p, known, nr, args)


def verdicts(p: dict[str, Any], table: str = "x86_64", native: str = "x86_64") -> Any:
    machine, known = Machine(seccomp.compile(p, native)), numbers(table)
    return lambda name, *args: machine.run(AUDIT[table], known[name], (*args, *(0,) * (6 - len(args))))


def test_default_profile_denies() -> None:
    v = verdicts(default())
    for name in (
        "keyctl",
        "add_key",
        "request_key",
        "bpf",
        "userfaultfd",
        "perf_event_open",
        "kexec_load",
        "mount",
        "umount2",
        "move_mount",
        "fsopen",
        "open_tree",
        "unshare",
        "setns",
        "open_by_handle_at",
        "io_uring_setup",
        "io_uring_enter",
        "init_module",
        "reboot",
        "swapon",
        "pivot_root",
        "settimeofday",
        "quotactl",
        "lookup_dcookie",
        "get_mempolicy",
        "acct",
        "nfsservctl",
        "iopl",
    ):
        assert v(name) == EPERM, name
    assert v("clone", 0x10000000) == EPERM and v("clone", 0x20000) == EPERM and v("clone", 0x3D0F00) == ALLOW
    assert v("clone3") == ENOSYS
    assert v("personality", 8) == ALLOW and v("personality", 0x40000) == EPERM and v("personality", 0x1_00000008) == EPERM
    assert v("ptrace") == ALLOW
    assert v("read") == ALLOW
    old = seccomp_profiles.default_profile(DOCKER_CAPS, "x86_64", (4, 7))
    assert verdicts(old)("ptrace") == EPERM


@pytest.mark.parametrize("table", ["x86_64", "i386"])
def test_socket_families(table: str) -> None:
    v = verdicts(default(), table)
    for family, want in ((1, ALLOW), (2, ALLOW), (10, ALLOW), (16, ALLOW), (37, ALLOW), (38, EPERM), (39, ALLOW), (40, EPERM), (41, ALLOW)):
        assert v("socket", family) == want, family
        assert v("socket", family | 0x7_00000000) == want, f"{family}: the kernel looks at the low 32 bits only"


def test_moby_wording_lets_wide_families_pass() -> None:
    """The control for the masked comparison: the same rule in moby's own words misses 0x100000026."""
    moby = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": n, "op": "SCMP_CMP_" + op}]}
            for n, op in ((38, "LT"), (39, "EQ"), (40, "GT"))
        ],
    }
    v = verdicts(moby)
    assert v("socket", 38) == EPERM and v("socket", 0x1_00000026) == ALLOW


def test_socketcall() -> None:
    assert verdicts(default(), "i386")("socketcall", 1) == ENOSYS
    assert verdicts(default(compat32=True), "i386")("socketcall", 1) == ALLOW


def test_x32_and_foreign_architectures() -> None:
    machine = Machine(seccomp.compile(default(), "x86_64"))
    for nr in (0x40000000, 0x40000001, 0x40000000 + 520, 0xFFFFFFFF):
        assert machine.run(AUDIT["x32"], nr, (0,) * 6) == ENOSYS
    assert machine.run(AUDIT["mips"], 1, (0,) * 6) == KILL
    native_only = Machine(seccomp.compile({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]}, "x86_64"))
    assert native_only.run(AUDIT["i386"], 1, (0,) * 6) == KILL and native_only.run(AUDIT["x86_64"], 1, (0,) * 6) == ALLOW


def test_capabilities_open_their_calls() -> None:
    for cap, names in seccomp_profiles.BY_CAPABILITY.items():
        assert cap in profile.RELEVANT
        without, with_it = verdicts(default()), verdicts(default(DOCKER_CAPS | {cap}))
        for name in names.split():
            if name in numbers("x86_64"):
                assert with_it(name) == ALLOW, name
                if cap != "CAP_SYS_CHROOT":
                    assert without(name) != ALLOW or name in ("clone", "ptrace", "process_vm_readv", "process_vm_writev"), name
    assert set(seccomp_profiles.BY_CAPABILITY) == set(profile.RELEVANT)


def test_calls_newer_than_the_profile_say_enosys() -> None:
    v = verdicts(default())
    assert v("removexattrat") == ALLOW and v("file_setattr") == ENOSYS


@pytest.mark.parametrize(
    ("bad", "error", "word"),
    [
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, NotSupported, "NOTIFY"),
        ({"defaultAction": "ALLOW"}, InvalidArgument, "unknown seccomp action"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}, NotSupported, "listenerPath"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ERRNO"}]}, InvalidArgument, "names"),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096}]},
            InvalidArgument,
            "4096",
        ),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]}, NotSupported, "NOTIFY"),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO"}]},
            NotSupported,
            "no_such_call",
        ),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}],
            },
            InvalidArgument,
            "index",
        ),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}]}],
            },
            InvalidArgument,
            "64 bit",
        ),
    ],
)
def test_what_cant_be_done_is_an_error(bad: dict[str, Any], error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        seccomp.compile(bad, "x86_64")


def test_flags() -> None:
    assert seccomp.flags_of({"flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]}) == 6
    with pytest.raises(NotSupported, match="WAIT_KILLABLE"):
        seccomp.flags_of({"flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]})


def test_docker_profile_files() -> None:
    file = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64"]}},
        ],
    }

    def allowed(caps: set[str], arch: str, kernel: tuple[int, int]) -> str:
        return " ".join(n for e in seccomp_profiles.resolve(file, caps, arch, kernel)["syscalls"] for n in e["names"])

    assert allowed(set(), "x86_64", (6, 1)) == "read clone ptrace arch_prctl"
    assert allowed({"CAP_SYS_ADMIN"}, "x86_64", (4, 4)) == "read mount arch_prctl"
    assert allowed(set(), "aarch64", (6, 1)) == "read clone ptrace"
    assert verdicts(seccomp_profiles.resolve(file, (), "x86_64", (6, 1)), "i386")("read") == ALLOW
    with pytest.raises(InvalidArgument, match="archMap"):
        seccomp_profiles.resolve({**file, "architectures": ["SCMP_ARCH_X86_64"]}, (), "x86_64", (6, 1))


def test_version_names_profile_and_compiler() -> None:
    digest = hashlib.sha256()
    for arch in ("x86_64", "aarch64"):
        for caps in [(), tuple(profile.RELEVANT), *((c,) for c in sorted(profile.RELEVANT))]:
            for kernel in ((4, 4), (6, 1)):
                for compat32 in (False, True):
                    digest.update(seccomp.compile(seccomp_profiles.default_profile(caps, arch, kernel, compat32=compat32), arch))
    assert digest.hexdigest()[:16] == profile.VERSION, (
        "the filter changed: old cached ones must not be used any more; set profile.VERSION to the value on the left"
    )


class TestCache:
    CAPS = ("CAP_SYS_CHROOT", "CAP_KILL")

    def get(self, cache: Path, **more: Any) -> bytes:
        return profile.default_bpf(self.CAPS, str(cache), **more)

    def test_is_used(self, tmp_path: Path) -> None:
        want = self.get(tmp_path)
        path = profile.default_path(self.CAPS, str(tmp_path))
        assert os.stat(path).st_mode & 0o777 == 0o600
        forged = want[:8] * (len(want) // 8)
        profile.save(path, forged)  # a file that is ours and whole is believed: so the second call did read it
        assert self.get(tmp_path) == forged

    @pytest.mark.parametrize("how", ["flipped", "short", "long", "empty", "readable", "link", "hardlink", "fifo", "owner"])
    def test_what_cant_be_believed_is_made_anew(self, tmp_path: Path, how: str) -> None:
        want = self.get(tmp_path)
        path = Path(profile.default_path(self.CAPS, str(tmp_path)))
        data = path.read_bytes()
        other = tmp_path / "other"
        if how == "flipped":
            path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        elif how in ("short", "long", "empty"):
            path.write_bytes({"short": data[:-8], "long": data + bytes(8), "empty": b""}[how])
        elif how == "readable":
            path.chmod(0o644)
        elif how == "owner":
            os.chown(path, 1000, 1000)
        elif how == "hardlink":
            os.link(path, other)
        else:
            path.rename(other)
            if how == "link":
                path.symlink_to(other)
            else:
                os.mkfifo(path, 0o600)
        assert profile.load(str(path)) is None
        assert self.get(tmp_path) == want
        assert profile.load(str(path)) == want

    def test_key(self, tmp_path: Path) -> None:
        paths = {
            profile.default_path(c, "/c", kernel=k, arch=a, compat32=b)
            for c in ((), ("CAP_BPF",))
            for k in ("6.1", "6.2")
            for a in ("x86_64", "aarch64")
            for b in (False, True)
        }
        assert len(paths) == 16
        assert profile.default_path(("CAP_KILL",), "/c") == profile.default_path(("CAP_CHOWN",), "/c"), (
            "capabilities without influence share a filter"
        )

    def test_an_unwritable_cache_is_no_error(self) -> None:
        assert self.get(Path("/proc/nowhere"))

    def test_hit_loads_neither_compiler_nor_tables(self, tmp_path: Path) -> None:
        self.get(tmp_path)
        script = (
            f"import sys; sys.path.insert(0, {str(Path(profile.__file__).parents[2])!r}); from lamina.runtime import profile;"
            f"profile.default_bpf({self.CAPS!r}, {str(tmp_path)!r}); print(*sorted(m for m in sys.modules if m.startswith('lamina')))"
        )
        pid_out, pid_in = os.pipe()
        child = os.posix_spawn(
            sys.executable, [sys.executable, "-I", "-S", "-c", script], {}, file_actions=[(os.POSIX_SPAWN_DUP2, pid_in, 1)]
        )
        os.close(pid_in)
        with os.fdopen(pid_out) as f:
            loaded = f.read().split()
        assert os.waitpid(child, 0)[1] == 0
        assert "lamina.runtime.profile" in loaded
        assert not {"lamina.runtime.seccomp", "lamina.runtime.seccomp_profiles", "lamina.linux.syscalls"} & set(loaded)
