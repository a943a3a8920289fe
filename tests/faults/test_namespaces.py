# SPDX-License-Identifier: Apache-2.0
"""Commands from another mount namespace (`unshare -m`, a service with PrivateMounts): everything works from there, on containers that
were started elsewhere, and the other way round. And a namespace that was copied from the host's while a container ran, and so has copies
of its mounts, is in nobody's way."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Lamina

from . import world
from .sweep import settle

if TYPE_CHECKING:
    from collections.abc import Callable

# On a running container c1 with a file /new; None: only that it works.
VERBS: list[tuple[list[str], str | None]] = [
    (["ps", "--format", "{{.Names}}"], "c1"), (["exec", "c1", "cat", "/new"], "new"), (["logs", "c1"], "said"), (["top", "c1"], None),
    (["inspect", "-f", "{{.State.Status}}", "c1"], "running"), (["stats", "--no-stream", "c1"], None), (["port", "c1"], None),
    (["pause", "c1"], "c1"), (["unpause", "c1"], "c1"), (["diff", "c1"], "A /new"), (["cp", "c1:/new", "HERE/out"], None),
    (["cp", "HERE/out", "c1:/tmp/back"], None), (["exec", "c1", "cat", "/tmp/back"], "new"), (["export", "-o", "HERE/tar", "c1"], None),
    (["commit", "c1", "second"], None), (["run", "--rm", "second", "cat", "/new"], "new"), (["history", "-q", "second"], None),
    (["rename", "c1", "c2"], ""), (["update", "-m", "64m", "--memory-swap", "-1", "c2"], None), (["restart", "-t", "0", "c2"], "c2"),
    (["exec", "c2", "cat", "/new"], "new"), (["layer", "tree"], None), (["tag", "second", "third"], ""), (["images", "-q"], None),
    (["volume", "ls"], None), (["events", "--since", "1m", "--until", "0s"], None), (["system", "info"], None),
    (["kill", "c2"], "c2"), (["wait", "c2"], "137"), (["start", "c2"], "c2"), (["stop", "-t", "0", "c2"], "c2"),
    (["export", "-o", "HERE/tar", "c2"], None), (["diff", "c2"], None), (["cp", "c2:/new", "HERE/out"], None), (["start", "c2"], "c2"),
    (["rm", "-f", "-v", "c2"], "c2"), (["rmi", "second", "third"], None), (["system", "check"], None),
]  # fmt: skip


def apart(lamina: Lamina) -> Lamina:
    """The same engine from a mount namespace of each command's own."""
    other = Lamina(lamina.root.parent)
    other.prefix = ["unshare", "-m", *lamina.prefix]
    return other


@pytest.mark.parametrize("where", ["the verbs apart", pytest.param("the start apart", marks=pytest.mark.all)])
def test_every_verb(struck: Lamina, tmp_path: Path, where: str) -> None:
    first, then = (struck, apart(struck)) if where == "the verbs apart" else (apart(struck), struck)
    first("run", "-d", "--name", "c1", "-v", "/data", "box", "sh", "-c", "echo said; echo new > /new; exec sleep 1000").check()
    assert not settle(lambda: [] if first("exec", "c1", "cat", "/new").stdout else ["not yet"])
    for words, wanted in VERBS:
        done = then(*[word.replace("HERE", str(tmp_path)) for word in words])
        assert done.returncode == 0, f"{words}: {done.stderr}"
        assert wanted is None or wanted in done.stdout.splitlines() or done.stdout.strip() == wanted, f"{words}: {done.stdout}"
    assert (tmp_path / "out").read_text() == "new\n"
    assert not settle(lambda: world.wrong(struck))


@pytest.fixture
def holder() -> Iterator[Callable[[], None]]:
    """Makes mount namespaces, each a copy of ours as it is then, that stay until the end."""
    held = []

    def hold() -> None:
        process = subprocess.Popen(["unshare", "-m", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.read(1)
        held.append(process)

    yield hold
    for process in held:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "monitor killed"])
def test_a_copy_of_the_mounts_is_in_nobodys_way(struck: Lamina, holder: Callable[[], None], killed: bool) -> None:
    cid = struck("run", "-d", "--name", "c1", "box", "sleep", "1000").out
    holder()
    struck("exec", "c1", "touch", "/first").check()
    if killed:
        pid = next(path.name.split("-")[0] for path in (struck.runroot / "active").glob(f"*-{cid}"))
        subprocess.run(["kill", "-9", pid], check=True)
    else:
        struck("stop", "-t", "0", "c1").check()
    struck("start", "c1").check()
    holder()
    assert struck("exec", "c1", "ls", "/first").out == "/first"
    assert struck("diff", "c1").out == "A /first"
    struck("commit", "c1", "second").check()
    assert struck("rm", "-f", "c1").out == "c1"
    assert not (struck.root / "containers" / cid).exists() and not (struck.runroot / "rootfs" / cid).exists()
    assert struck("run", "--rm", "second", "ls", "/first").out == "/first"
    struck("rmi", "second").check()
    assert not settle(lambda: world.wrong(struck))
