# SPDX-License-Identifier: Apache-2.0
"""Attack 1 (CVE-2019-5736): a container's program is a link to /proc/self/exe, so the engine's interpreter runs inside and is overwritten.

Everything here runs on a *copy* of the interpreter, which is what would be damaged.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Lamina, busybox_tree
from tests.runtime.oci import Bundle

REPO = Path(__file__).resolve().parents[2]
# Inside: keeps an fd of the interpreter, becomes a shell, and tries to write through that fd, for 2 seconds.
SHELL = (
    'n=0; while [ $n -lt 100 ]; do if (echo OWNED > "/proc/self/fd/$FD") 2>/tmp/why; then echo fired > /tmp/result; exit; fi; '
    "n=$((n+1)); sleep 0.02; done; mv /tmp/why /tmp/result"
)
PAYLOAD = (
    "import os; fd = os.open('/proc/self/exe', os.O_RDONLY); os.set_inheritable(fd, True); os.environ['FD'] = str(fd); "
    f"os.execv('/bin/sh', ['sh', '-c', {SHELL!r}])"
)
EVIL = ["/bin/evil", "-I", "-S", "-c", PAYLOAD]


def needed() -> list[str]:
    """Host directories that the interpreter needs to start, for the container; a real attacker brings his own libraries."""
    lib = Path(os.__file__).parents[1]
    found = {str(lib.resolve())}
    for line in subprocess.run(["ldd", sys.executable], capture_output=True, text=True).stdout.split():
        if line.startswith("/"):
            found |= {os.path.dirname(line), str(Path(line).resolve().parent)}
    return sorted(found)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    target = tmp_path / "copy" / Path(os.path.realpath(sys.executable)).name
    target.parent.mkdir()
    shutil.copy2(os.path.realpath(sys.executable), target)
    return target


@pytest.fixture
def evil(tmp_path: Path) -> Iterator[Bundle]:
    bundle = Bundle(tmp_path)
    (bundle.rootfs / "bin/evil").symlink_to("/proc/self/exe")
    bundle.spec["process"]["args"] = EVIL
    bundle.spec["root"]["readonly"] = False
    for path in needed():
        bundle.spec["mounts"].append({"destination": path, "type": "bind", "source": path, "options": ["rbind", "ro"]})
    yield bundle
    bundle.close()


def result(root: Path) -> str:
    end = time.monotonic() + 8
    while not (root / "tmp/result").exists():
        assert time.monotonic() < end, "the payload didn't run"
        time.sleep(0.02)
    time.sleep(0.05)
    return (root / "tmp/result").read_text()


def runtime(copy: Path, bundle: Bundle, *, sealed: bool) -> None:
    """create and start, after which no process of ours is left; `sealed` as the product does it, or with that step left out."""
    start = str(REPO / "src/lamina/__main__.py")
    if not sealed:
        driver = copy.parent / "driver.py"
        enter = "from lamina.runtime.cli import main\nsys.exit(main(sys.argv[1:]))\n"
        driver.write_text(f"import sys; sys.path.append({str(REPO / 'src')!r})\n{enter}")
        start = str(driver)
    bundle.write("c1")
    for verb in (["create", "--bundle", str(bundle.path), "c1"], ["start", "c1"]):
        command = [str(copy), "-I", "-S", "-X", "lamina.face=runtime", start, "--root", str(bundle.state_root), *verb]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30)
        assert done.returncode == 0


def test_the_interpreter_of_the_runtime_stays_as_it_is(copy: Path, evil: Bundle) -> None:
    before = copy.read_bytes()
    runtime(copy, evil, sealed=True)
    assert "Read-only file system" in result(evil.rootfs)
    assert copy.read_bytes() == before


def test_control_unsealed_it_is_overwritten(copy: Path, evil: Bundle) -> None:
    runtime(copy, evil, sealed=False)
    assert result(evil.rootfs) == "fired\n"
    assert copy.read_bytes() == b"OWNED\n"


def test_exec_into_such_a_container(copy: Path, evil: Bundle) -> None:
    """The process that joins is sealed as well. (A link to /proc/self/exe isn't found there: it is looked up from outside its /proc.)"""
    script = evil.rootfs / "bin/script"
    script.write_text(f"#!/proc/self/exe -IS\n{PAYLOAD}\n")
    script.chmod(0o755)
    evil.spec["process"]["args"] = ["sleep", "60"]
    runtime(copy, evil, sealed=True)
    before = copy.read_bytes()
    command = [str(copy), "-I", "-S", "-X", "lamina.face=runtime", str(REPO / "src/lamina/__main__.py"), "--root", str(evil.state_root)]
    err = copy.parent / "err"
    with err.open("wb") as file:
        command += ["exec", "--detach", "c1", "/bin/script"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=30)
    assert done.returncode == 0, err.read_text()
    assert "Read-only file system" in result(evil.rootfs)
    assert copy.read_bytes() == before


def test_the_engine_holds_its_interpreter_busy(lamina: Lamina, copy: Path, tmp_path: Path) -> None:
    """A monitor runs the file as long as any container lives, and no container outlives its monitor (test_lost_monitor)."""
    tree = busybox_tree(tmp_path / "tree")
    (tree / "bin/evil").symlink_to("/proc/self/exe")
    subprocess.run(["tar", "-C", str(tree), "-cf", str(tmp_path / "evil.tar"), "."], check=True)
    lamina.prefix[:1] = [str(copy), "-I", "-S", "-X", "lamina.face=cli", str(REPO / "src/lamina/__main__.py")]
    lamina("import", tmp_path / "evil.tar", "evil").check()
    before = copy.read_bytes()
    out = tmp_path / "out"
    out.mkdir()
    (out / "tmp").mkdir()
    binds = [word for path in needed() for word in ("-v", f"{path}:{path}:ro")]
    lamina("run", "-d", "--name", "evil", "--network", "none", "-v", f"{out}/tmp:/tmp", *binds, "evil", *EVIL).check()
    assert "Text file busy" in result(out)
    assert copy.read_bytes() == before
