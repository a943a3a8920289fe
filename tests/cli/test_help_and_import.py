# SPDX-License-Identifier: Apache-2.0
"""--help of every verb, what `import URL` may read, and which file `export -o` may leave."""
from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.cli.helptexts import HIDDEN, IN_OUT, SHORTS
from lamina.cli.main import load
from lamina.cli.registry import GROUPS, TOP
from lamina.errors import NotFound
from tests.cli.fake_engine import IMAGE, Fake, run
from tests.conftest import REPO

Capture = pytest.CaptureFixture[str]
COMMANDS = [([word], target) for word, target in TOP.items()]
COMMANDS += [([group, word], target) for group, words in GROUPS.items() for word, (_, target) in words.items()]


@pytest.mark.parametrize(("words", "target"), COMMANDS, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_every_verb_explains_itself(words: list[str], target: str, capfd: Capture) -> None:
    fake = Fake({})
    assert run(fake, *words, "--help") == 0 and not fake.calls
    text = capfd.readouterr().out
    assert SHORTS[target] in text and "Usage:  lamina " in text
    assert text.startswith(IN_OUT[target] + "\n\nUsage:")
    for name, short, *_ in load(target).flags:
        assert name in HIDDEN.get(target, ()) or (f"-{short}, --{name}" if short else f"      --{name}") in text
    assert all(len(line) <= 80 for line in text.partition("Options:")[2].splitlines())


def test_no_text_is_left_over() -> None:
    targets = {target for _, target in COMMANDS}
    assert set(SHORTS) == targets == set(IN_OUT)


WALKS = REPO.parent / "shared" / "walkthroughs.md"


def test_help_opens_with_the_line_of_the_walk_through() -> None:
    """W4's table of definitions: verb -> in and out."""
    if not WALKS.exists():
        pytest.skip("needs ../shared/walkthroughs.md, which lies beside the repository")
    rows = [line.strip("| \n").split(" | ") for line in WALKS.read_text().splitlines() if line.startswith("| ")]
    table = {row[0]: row[1] for row in rows if len(row) == 2}
    for verb in ("create", "start", "run", "stop", "kill", "rm", "commit", "exec", "history"):
        assert IN_OUT[TOP[verb]] == table[verb]
    others = (("pause", "pause / unpause"), ("images", "images / images -a"), ("rmi", "rmi"), ("inspect", "inspect"), ("ps", "ps / ps -a"))
    for verb, row in others:
        words, help_ = re.findall(r"[\w-]+", table[row]), IN_OUT[TOP[verb]]
        assert sum(word in help_ for word in words) > 0.7 * len(words), (verb, table[row])


def test_top_and_groups(capfd: Capture) -> None:
    assert run(Fake({})) == 0 and run(Fake({}), "--help") == 0 and run(Fake({}), "help") == 0
    out = capfd.readouterr().out
    assert out.count("Management Commands:") == 3 and "  volume " in out
    assert run(Fake({}), "image") == 0 and run(Fake({}), "image", "nosuch") == 1
    assert capfd.readouterr().err.startswith("\nUsage:  lamina image COMMAND\n")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path[4:])
            self.end_headers()
        elif self.path == "/data":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"the archive")
        else:
            self.send_error(404)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_import_from_a_url(site: str, capfd: Capture) -> None:
    read: list[bytes] = []

    def take(stream: object, **options: object) -> str:
        read.append(stream.read())  # type: ignore[attr-defined]
        return IMAGE

    fake = Fake({"images.import_": take})
    assert run(fake, "import", "-m", "why", "-c", "CMD x", f"{site}/to//data", "name:tag") == 0
    assert read == [b"the archive"] and capfd.readouterr().out == IMAGE + "\n"
    options = fake.calls[0][2]
    assert (options["repository"], options["message"], options["changes"]) == ("name:tag", "why", ["CMD x"])


@pytest.mark.parametrize("path", ["/to/file:///etc/passwd", "/to/ftp://127.0.0.1/x", "/missing"])
def test_import_refuses_what_is_no_archive_on_the_web(site: str, path: str, capfd: Capture) -> None:
    fake = Fake({"images.import_": IMAGE})
    assert run(fake, "import", site + path) == 1 and not fake.calls
    assert "failed to download" in capfd.readouterr().err


def test_export_leaves_the_whole_or_nothing(tmp_path: Path, capfd: Capture) -> None:
    def write(ref: str, put: object) -> object:
        put(b"tar")  # type: ignore[operator]
        return None if ref == "web" else NotFound(f"No such container: {ref}")

    fake = Fake({"containers.export": write})
    target = tmp_path / "out.tar"
    assert run(fake, "export", "no", "-o", str(target)) == 1 and not list(tmp_path.iterdir())
    assert run(fake, "export", "web", "-o", str(target)) == 0 and target.read_bytes() == b"tar"
    assert run(fake, "export", "web", "-o", str(tmp_path / "no" / "x")) == 1 and run(fake, "export", "web", "-o", str(tmp_path)) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["out.tar"]
    assert "invalid output path" in capfd.readouterr().err
    assert run(fake, "export", "web") == 0 and capfd.readouterr().out == "tar"


def test_another_daemon_is_refused(capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    from lamina.cli.main import main

    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2375")
    assert main(["ps"]) == 1 and "DOCKER_HOST (tcp://elsewhere:2375)" in capfd.readouterr().err
    monkeypatch.delenv("DOCKER_HOST")
    assert main(["-H", "unix:///x", "ps"]) == 1 and "-H/--host (unix:///x)" in capfd.readouterr().err
    assert main(["--context", "x", "ps"]) == 1 and "-c/--context (x)" in capfd.readouterr().err


def test_our_own_faults_are_readable(capfd: Capture) -> None:
    def broken(**_: object) -> object:
        raise RuntimeError("what happened")

    assert run(Fake({"containers.list": broken}), "ps") == 1
    assert capfd.readouterr().err == "lamina ps: internal error: RuntimeError: what happened (lamina --debug ps ... shows where)\n"
    assert run(Fake({"containers.list": broken}), "--debug", "ps") == 1
    assert "Traceback" in capfd.readouterr().err

    def full(**_: object) -> object:
        raise OSError(28, "No space left on device", "/data/x")

    assert run(Fake({"containers.list": full}), "ps") == 1
    assert capfd.readouterr().err == "Error: no space left on device, writing /data/x\n"
