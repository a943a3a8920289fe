# SPDX-License-Identifier: Apache-2.0
"""docs/tour/w1.md: from a bootstrapped tree to an image, to a container, to the next image."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.conftest import Lamina


def test_w1(lamina: Lamina, debian_tar: Path) -> None:
    # 1. tar | import prints the new image's id and nothing else
    with open(debian_tar, "rb") as tar:
        done = subprocess.run([*lamina.prefix, "import", "-", "debian"], stdin=tar, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", done.stdout)
    image = done.stdout.strip()

    # 2. its files can be looked at on the host
    usual = {
        "bin",
        "boot",
        "dev",
        "etc",
        "home",
        "lib",
        "media",
        "mnt",
        "opt",
        "proc",
        "root",
        "run",
        "sbin",
        "srv",
        "sys",
        "tmp",
        "usr",
        "var",
    }
    assert usual <= {p.name for p in Path(lamina("layer", "path", "debian").out).iterdir()}
    mounted = Path(lamina("image", "mount", "debian").out)
    assert usual <= {p.name for p in mounted.iterdir()}
    lamina("image", "umount", "debian").check()
    assert not mounted.exists()

    # 3. a root prompt whose host name is the short id, another one on every run
    prompts = []
    for _ in range(2):
        session = lamina.pty("run", "-i", "-t", "debian", "/usr/bin/env", "bash", typed=b"hostname\nexit\n")
        assert session.returncode == 0, session.stdout
        found = re.search(r"root@([0-9a-f]{12}):/#", session.stdout)
        assert found and session.stdout.count(found[1]) >= 2, "prompt and hostname name the same"
        prompts.append(found[1])
    assert prompts[0] != prompts[1]
    assert sorted(lamina("ps", "-aq").out.split()) == sorted(prompts), "exit leaves a stopped container behind"

    # 4. software over the network
    install = "export DEBIAN_FRONTEND=noninteractive; apt-get update -q && apt-get install -q -y --no-install-recommends git"
    lamina("run", "--name", "work", "debian", "bash", "-c", install, timeout=600).check()
    cid = lamina("ps", "-aq", "--filter", "name=work").out

    # 5. a new layer with what changed, on top of the first; the next container sees the union
    committed = lamina("commit", cid, "debian_and_git").out
    assert re.fullmatch("sha256:[0-9a-f]{64}", committed)
    top, base = lamina("layer", "path", "debian_and_git").out.split()
    assert Path(base) == Path(lamina("layer", "path", "debian").out)
    changed = {p.name for p in Path(top).iterdir()}
    assert {"etc", "usr", "var"} <= changed and not {"boot", "srv", "media", "proc", "sys"} & changed
    assert not (Path(top) / ".dockerenv").exists() and not (Path(top) / "etc/resolv.conf").exists()
    assert "git version" in lamina("run", "--rm", "debian_and_git", "git", "--version").out
    assert lamina("run", "--rm", "debian", "git", "--version").returncode == 127
    assert lamina("inspect", "--format", "{{.Parent}}", "debian_and_git").out == image
    assert "no problems" in lamina("system", "check").out


def test_a_loopback_resolver_is_replaced_with_a_warning(lamina: Lamina, box: str) -> None:
    """W1.3: in a mount namespace whose /etc/resolv.conf names a loopback server."""
    script = 'echo "nameserver 127.0.0.1" > "$1"; mount --bind "$1" /etc/resolv.conf; shift; exec "$@"'
    fake = lamina.root.parent / "resolv.conf"
    done = subprocess.run(["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", str(fake), *lamina.prefix,
                           "run", "--rm", "box", "cat", "/etc/resolv.conf"], capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "nameserver 8.8.8.8\nnameserver 8.8.4.4\n" in done.stdout
    assert done.stderr.startswith("WARNING: Local (127.0.0.1) DNS resolver found in resolv.conf and containers can't use it.")
