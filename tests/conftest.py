# SPDX-License-Identifier: Apache-2.0
"""What every test may use: an engine of its own, driven by the real command line, and small trees to make images of.

`lamina` is a callable: `lamina("run", "--rm", "box", "true")` runs bin/lamina of this checkout with a data root and runroot of the test,
and afterwards everything of that engine is gone, or the test fails: mounts, cgroups, interfaces, tables, processes.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
CACHE = Path("/var/cache/lamina-test")
BUSYBOX = Path("/bin/busybox")
os.environ.setdefault("LAMINA_CONFIG", str(REPO / "tests/lamina.toml"))  # no test asks a registry of the world


class Done(subprocess.CompletedProcess[str]):
    """A finished command; `check` and `out` raise with all there is to see unless it exited with 0."""

    def check(self) -> Done:
        assert self.returncode == 0, f"{self.args}\nexit {self.returncode}\n{self.stdout}\n{self.stderr}"
        return self

    @property
    def out(self) -> str:
        return self.check().stdout.strip()


class Lamina:
    """The command line of one engine."""

    def __init__(self, base: Path) -> None:
        self.root, self.runroot = base / "root", base / "run"
        self.prefix = [str(REPO / "bin/lamina"), "--root", str(self.root), "--runroot", str(self.runroot)]

    def __call__(
        self, *args: str | Path, stdin: str | bytes | None = None, timeout: float = 120, env: dict[str, str] | None = None
    ) -> Done:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run([*self.prefix, *map(str, args)], input=data if data is not None else b"",
            capture_output=True, timeout=timeout,
                              env={**os.environ, **(env or {})})  # fmt: skip
        return Done(args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def pty(self, *args: str, typed: bytes = b"", timeout: float = 60) -> Done:
        """The same on a terminal of 80x24 (util-linux's `script`), typing `typed`."""
        import shlex

        line = shlex.join([*self.prefix, *args])
        done = subprocess.run(
            ["script", "-qec", f"stty cols 80 rows 24; {line}", "/dev/null"], input=typed, capture_output=True, timeout=timeout
        )
        return Done(args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def start(self, *args: str, **options: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*self.prefix, *args], **options)  # type: ignore[call-overload,no-any-return]


def traces(lamina: Lamina) -> list[str]:
    """What is left on the host of an engine."""
    from lamina.store.paths import Names

    names = Names(os.path.realpath(lamina.root), os.path.realpath(lamina.runroot))
    left = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if str(lamina.root.parent) in line]
    left += [str(p) for p in Path("/sys/fs/cgroup").glob("*" + names.cgroup)] + [
        str(p) for p in Path("/sys/fs/cgroup").glob(names.cgroup[1:])
    ]
    left += [str(p) for p in Path("/sys/class/net").glob(names.bridge)]
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True).stdout
    left += [line for line in tables.splitlines() if line.split()[-1] == names.table]
    return left


@pytest.fixture
def lamina(tmp_path: Path) -> Iterator[Lamina]:
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes namespaces, mounts, cgroups and a bridge")
    engine = Lamina(tmp_path)
    yield engine
    done = engine("system", "reset", "--force")
    assert done.returncode == 0, done.stderr
    end = time.monotonic() + 5  # a monitor may still be on its way out
    while (left := traces(engine)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not left, f"left behind: {left}"


APPLETS = (
    "sh cat echo ls true false sleep id env hostname mount grep ps kill touch mkdir rm ln cp mv chmod chown stat head tail wc sort dd od "
    "seq printf test tr cut sed awk find sync stty tty date sha256sum nc wget nslookup ping ip ifconfig route uname pwd dirname readlink "
    "mkfifo mknod su whoami timeout yes"
).split()


def busybox_tree(target: Path) -> Path:
    """A root file system of one static busybox."""
    for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "usr/bin", "var"):
        (target / name).mkdir(parents=True, exist_ok=True)
    (target / "tmp").chmod(0o1777)
    shutil.copy2(BUSYBOX, target / "bin/busybox")
    for name in APPLETS:
        if not (target / "bin" / name).exists():
            (target / "bin" / name).symlink_to("busybox")
    (target / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nuser:x:1000:1000::/home/user:/bin/sh\n"
    )
    (target / "etc/group").write_text("root:x:0:\ndaemon:x:1:\nextra:x:50:user\nuser:x:1000:\n")
    (target / "etc/os-release").write_text("ID=box\n")
    return target


@pytest.fixture(scope="session")
def busybox_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not BUSYBOX.exists():
        pytest.skip("needs a static /bin/busybox (package busybox-static)")
    base = tmp_path_factory.mktemp("busybox")
    subprocess.run(["tar", "-C", str(busybox_tree(base / "tree")), "-cf", str(base / "box.tar"), "."], check=True)
    return base / "box.tar"


@pytest.fixture
def box(lamina: Lamina, busybox_tar: Path) -> str:
    """An image `box` of a static busybox in the test's engine; its id."""
    return lamina("import", busybox_tar, "box").out


@pytest.fixture(scope="session")
def debian_tar() -> Path:
    """A bootstrapped minimal Debian tree as a tar; made once and kept, as it takes a minute or two."""
    target = CACHE / "bookworm.tar"
    CACHE.mkdir(parents=True, exist_ok=True)
    import fcntl

    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            if os.geteuid() != 0:
                pytest.skip("needs root: debootstrap makes device nodes")
            tree = CACHE / "tree"
            shutil.rmtree(tree, ignore_errors=True)
            done = subprocess.run([str(REPO / "scripts/debian-tree"), "bookworm", str(tree)], capture_output=True, text=True)
            if done.returncode:
                pytest.fail(done.stdout[-2000:] + done.stderr[-2000:])
            part = target.with_suffix(".part")
            subprocess.run(["tar", "-C", str(tree), "-cf", str(part), "."], check=True)
            part.rename(target)
            shutil.rmtree(tree)
    return target


def make_tar(members: dict[str, bytes | None]) -> bytes:
    """A small honest tar of files (and directories, where the value is None)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            if data is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()
