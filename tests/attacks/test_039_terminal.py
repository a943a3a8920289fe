# SPDX-License-Identifier: Apache-2.0
"""Attack 39: escape sequences and bidi controls in names, labels, commands and errors act on the user's terminal."""
from __future__ import annotations

import os
import pty

import pytest

from lamina.cli.context import Cli
from lamina.cli.main import main
from lamina.cli.term import sanitise
from lamina.errors import NotFound
from tests.cli.fake_engine import Fake, container, image

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202etxt.exe\u2066\r\x00"
BAD = (b"\x1b", b"\x07", b"\xc2\x9b", b"\xe2\x80\xae", b"\xe2\x81\xa6", b"\x00")


def on_terminal(fake: Fake, *argv: str) -> bytes:
    """What the terminal gets from stdout and stderr of one command."""
    leader, follower = pty.openpty()
    kept = os.dup(1), os.dup(2)
    try:
        os.dup2(follower, 1)
        os.dup2(follower, 2)
        cli = Cli("/nonexistent", "/nonexistent")
        cli.use(fake)
        main(list(argv), cli)
    finally:
        for fd, old in zip((1, 2), kept, strict=True):
            os.dup2(old, fd)
            os.close(old)
        os.close(follower)
    seen = b""
    try:
        while data := os.read(leader, 65536):
            seen += data
    except OSError:  # the follower is closed
        pass
    os.close(leader)
    return seen


CASES = [
    (["ps"], {"containers.list": [container(Names=["/" + EVIL], Command=EVIL, Status=EVIL, Image=EVIL)]}),
    (["ps", "--no-trunc", "--format", "{{.Labels}} {{.Label \"a\"}} {{.Command}}"], {"containers.list": [container(Labels={"a": EVIL})]}),
    (["ps", "--format", "table {{.Names}}\\t{{.Labels}}"], {"containers.list": [container(Names=["/" + EVIL], Labels={EVIL: EVIL})]}),
    (["images"], {"images.list": [image(RepoTags=[f"{EVIL}:1"])]}),
    (["history", "x"], {"images.history": [{"Id": "<missing>", "Created": 1, "CreatedBy": EVIL, "Size": 0, "Comment": EVIL}]}),
    (["inspect", "x"], {"containers.inspect": {"Id": "x", "Config": {"Labels": {EVIL: EVIL}}}}),
    (["inspect", "-f", "{{.Config.Labels}}", "x"], {"containers.inspect": {"Id": "x", "Config": {"Labels": {EVIL: EVIL}}}}),
    (["diff", "x"], {"containers.diff": [{"Kind": 1, "Path": "/" + EVIL}]}),
    (["rm", "x"], {"containers.remove": NotFound(f"No such container: {EVIL}")}),
    (["layer", "path", "x"], {"layers.path": ["/" + EVIL]}),
]


@pytest.mark.parametrize(("argv", "answers"), CASES, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_nothing_reaches_a_terminal_raw(argv: list[str], answers: dict[str, object]) -> None:
    seen = on_terminal(Fake(answers), *argv)
    assert b"owned" in seen, "the text itself is shown"
    assert not [code for code in BAD if code in seen]


def test_control_without_a_terminal_the_bytes_are_exact(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    cli = Cli("/nonexistent", "/nonexistent")
    cli.use(Fake({"containers.diff": [{"Kind": 1, "Path": "/" + EVIL}]}))
    main(["diff", "x"], cli)
    assert capfdbinary.readouterr().out == b"A /" + EVIL.encode() + b"\n"


def test_sanitise() -> None:
    assert sanitise("plain \u00e9 \u4e2d\u6587") == "plain \u00e9 \u4e2d\u6587"
    assert sanitise("a\x1b[1m\u202e\udcff\t", keep="\t") == "a\\x1b[1m\\u202e\\xff\t"
    assert sanitise(sanitise(EVIL)) == sanitise(EVIL)
