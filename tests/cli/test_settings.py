# SPDX-License-Identifier: Apache-2.0
"""docker's config.json: which settings mean something, what outweighs them, and what a broken file does (texts of docker 26.1's client)."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lamina.cli.context import Cli
from lamina.cli.main import main
from lamina.errors import InvalidArgument
from tests.cli.fake_engine import ID, IMAGE, Fake, container, image
from tests.conftest import Lamina

Capture = pytest.CaptureFixture[str]
VOLUME = {"Name": "data", "Driver": "local", "Scope": "local", "Mountpoint": "/v", "Labels": None}


def run(directory: Path, settings: object, fake: Fake, *argv: str) -> int:
    (directory / "config.json").write_text(settings if isinstance(settings, str) else json.dumps(settings))
    cli = Cli("/nonexistent/root", "/nonexistent/run", config=str(directory))
    cli.use(fake)
    return main(list(argv), cli)


@pytest.mark.parametrize(
    ("key", "argv", "shown"),
    [
        ("psFormat", ["ps"], "web\n"), ("psFormat", ["ps", "-q"], ID[:12] + "\n"),
        ("psFormat", ["ps", "--format", "{{.ID}}"], ID[:12] + "\n"),
        ("imagesFormat", ["images"], "box\n"), ("imagesFormat", ["images", "-q"], IMAGE[7:19] + "\n"),
        ("volumesFormat", ["volume", "ls"], "data\n"), ("volumesFormat", ["volume", "ls", "-q"], "data\n"),
    ],
)  # fmt: skip
def test_formats_of_lists(key: str, argv: list[str], shown: str, tmp_path: Path, capfd: Capture) -> None:
    fake = Fake({"containers.list": [container()], "images.list": [image()], "volumes.list": [VOLUME]})
    template = {"psFormat": "{{.Names}}", "imagesFormat": "{{.Repository}}", "volumesFormat": "{{.Name}}"}[key]
    assert run(tmp_path, {key: template}, fake, *argv) == 0
    assert capfd.readouterr().out == shown


def test_a_format_with_sizes_asks_for_them(tmp_path: Path) -> None:
    fake = Fake({"containers.list": []})
    assert run(tmp_path, {"psFormat": "{{.Size}}"}, fake, "ps") == 0 and fake.calls[0][2]["size"] is True


def environment(settings: object, tmp_path: Path, *flags: str) -> Any:
    fake = Fake({"containers.create": InvalidArgument("enough")})
    run(tmp_path, settings, fake, "run", *flags, "img")
    return fake.calls[0][1][0]["Env"]


def test_proxies_reach_new_containers(tmp_path: Path) -> None:
    proxies: dict[str, Any] = {"default": {"httpProxy": "http://p:1", "noProxy": "a,b"}}
    assert environment({"proxies": proxies}, tmp_path) == ["HTTP_PROXY=http://p:1", "http_proxy=http://p:1", "NO_PROXY=a,b", "no_proxy=a,b"]
    own = environment({"proxies": proxies}, tmp_path, "-e", "HTTP_PROXY=mine", "-e", "no_proxy=")
    assert own == ["HTTP_PROXY=mine", "no_proxy=", "http_proxy=http://p:1", "NO_PROXY=a,b"]
    proxies["unix:///var/run/docker.sock"] = {"allProxy": "socks://q"}
    assert environment({"proxies": proxies}, tmp_path) == ["ALL_PROXY=socks://q", "all_proxy=socks://q"]
    assert environment({"proxies": {"tcp://elsewhere": {"ftpProxy": "x"}}}, tmp_path) is None


@pytest.mark.parametrize("argv", [["run", "img"], ["exec", "c", "true"], ["start", "-a", "c"], ["attach", "c"]])
def test_keys_to_detach(argv: list[str], tmp_path: Path, capfd: Capture) -> None:
    fake = Fake({})
    assert run(tmp_path, {"detachKeys": "zz"}, fake, *argv) == 1 and not fake.calls
    assert capfd.readouterr().err == "Error response from daemon: Invalid escape keys (zz) provided\n"
    if argv[0] != "run":
        fake = Fake({"containers.inspect": InvalidArgument("enough"), "containers.exec_run": InvalidArgument("enough")})
        assert run(tmp_path, {"detachKeys": "zz"}, fake, argv[0], "--detach-keys", "ctrl-a,x", *argv[1:]) == 1
        assert capfd.readouterr().err == "Error response from daemon: enough\n"


def test_filters_of_every_prune(tmp_path: Path) -> None:
    settings = {"pruneFilters": ["label!=keep", "until=1h", "nonsense"]}
    reports: Any = {"containers": {"ContainersDeleted": None, "SpaceReclaimed": 0}, "images": {"ImagesDeleted": None, "SpaceReclaimed": 0}}
    for kind in ("container", "image"):
        fake = Fake({f"{kind}s.prune": reports[kind + "s"]})
        assert run(tmp_path, settings, fake, kind, "prune", "-f", "--filter", "until=2h") == 0
        assert fake.calls[0][1][0]["until"] == ["2h", "1h"] and fake.calls[0][1][0]["label!"] == ["keep"]
        run(tmp_path, settings, fake, kind, "prune", "-f", "--filter", "label=keep")
        assert "label!" not in fake.calls[1][1][0], "what the command line asks for outweighs the file"


@pytest.mark.parametrize("broken", ["{bad", "[]", '{"psFormat": 3}', '{"proxies": {"default": 1}}', '{"pruneFilters": "x"}', "\0\udcff"])
def test_a_broken_file_is_told_and_left_alone(broken: str, tmp_path: Path, capfd: Capture) -> None:
    (tmp_path / "config.json").write_bytes(broken.encode("utf-8", "surrogateescape"))
    cli = Cli("/nonexistent/root", "/nonexistent/run", config=str(tmp_path))
    cli.use(Fake({"containers.list": [container()]}))
    assert main(["ps", "-q"], cli) == 0
    out, err = capfd.readouterr()
    assert out == ID[:12] + "\n" and (err == "" or err.startswith(f"WARNING: Error loading config file: {tmp_path}/config.json: "))
    cli = Cli("/nonexistent/root", "/nonexistent/run", config=str(tmp_path))
    cli.use(Fake({"containers.list": [container()]}))
    assert main(["ps"], cli) == 0
    assert capfd.readouterr().err.startswith(f"WARNING: Error loading config file: {tmp_path}/config.json: ")


def test_where_the_file_is(lamina: Lamina, tmp_path: Path) -> None:
    """By --config, DOCKER_CONFIG, and in the home directory; a context in it is somebody else's daemon."""
    for place in ("flag", "variable", "home/.docker"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "config.json").write_text(json.dumps({"psFormat": f"table {{{{.ID}}}}\t{place}"}))
    home = {"HOME": str(tmp_path / "home"), "DOCKER_CONFIG": ""}
    variable = {**home, "DOCKER_CONFIG": str(tmp_path / "variable")}
    assert "home/.docker" in lamina("ps", env=home).out and "variable" in lamina("ps", env=variable).out
    lamina.prefix[1:1] = ["--config", str(tmp_path / "flag")]
    assert "flag" in lamina("ps", env=variable).out
    (tmp_path / "flag" / "config.json").write_text('{"currentContext": "far"}')
    done = lamina("ps")
    assert done.returncode == 1 and done.stderr.startswith("currentContext of config.json (far) names a daemon")
    assert lamina("ps", env={"DOCKER_CONTEXT": "default"}).returncode == 0
    lamina.prefix[1:1] = ["-c", "default"]
    assert lamina("ps").returncode == 0
    (tmp_path / "flag" / "config.json").unlink()
