# SPDX-License-Identifier: Apache-2.0
"""Tables, --format and the texts around them, over a fake engine."""
from __future__ import annotations

import json
import os
from typing import Any

import pytest

from lamina.cli.verbs.layers import draw
from lamina.errors import Conflict, NotFound
from tests.cli.fake_engine import ID, IMAGE, Fake, container, image, missing, run

Capture = pytest.CaptureFixture[str]


def test_ps_table(capfd: Capture) -> None:
    assert run(Fake({"containers.list": [container()]}), "ps") == 0
    assert capfd.readouterr().out == (
        "CONTAINER ID   IMAGE     COMMAND                  CREATED       STATUS       PORTS     NAMES\n"
        "94177be01b3d   box:1     \"sh -c 'while true; \u2026\"   2 hours ago   Up 2 hours             web\n"
    )


def test_ps_without_containers_is_a_header(capfd: Capture) -> None:
    run(Fake({"containers.list": []}), "ps", "-a")
    assert capfd.readouterr().out == "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n"


def test_ps_flags_reach_the_engine(capfd: Capture) -> None:
    fake = Fake({"containers.list": []})
    run(fake, "container", "ls", "-n3", "-sf", "status=exited", "--filter=name=a", "-f", "name=b")
    assert fake.calls == [
        ("containers.list", (), {"all": True, "limit": 3, "size": True, "filters": {"status": ["exited"], "name": ["a", "b"]}})
    ]


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (["-q"], "94177be01b3d\n"),
        (["-q", "--no-trunc"], ID + "\n"),
        (["--format", "{{.ID}} {{.Names}} {{.Labels}} {{.Label \"a\"}}"], "94177be01b3d web a=1,b=2 1\n"),
        (["--format", "table {{.ID}}\\t{{.Names}}"], "CONTAINER ID   NAMES\n94177be01b3d   web\n"),
        (["--format", "table {{upper .Names}}\\t{{.Size}}"], "NAMES     SIZE\nWEB       1.98kB (virtual 1.98MB)\n"),
        (["--no-trunc", "--format", "{{.Command}}"], "\"sh -c 'while true; do sleep 1; done'\"\n"),
        (["--format", "{{.Networks}}|{{.Ports}}|{{.State}}|{{.RunningFor}}"], "bridge||running|2 hours ago\n"),
    ],
)
def test_ps_formats(capfd: Capture, argv: list[str], wanted: str) -> None:
    assert run(Fake({"containers.list": [container()]}), "ps", *argv) == 0
    assert capfd.readouterr().out == wanted


def test_ps_json(capfd: Capture) -> None:
    run(Fake({"containers.list": [container(Command="a <b>")]}), "ps", "--format", "json")
    line = capfd.readouterr().out
    assert "\\u003cb\\u003e" in line and line.count("\n") == 1
    assert json.loads(line)["Command"] == '"a <b>"' and list(json.loads(line)) == sorted(json.loads(line))


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.Foo}}", "failed to execute template: template: :1:2: executing \"\""
         " at <.Foo>: can't evaluate field Foo in type *formatter.ContainerContext"),
        ("{{.ID", "failed to parse template: template: :1: unclosed action"),
        ("{{foo .ID}}", 'failed to parse template: template: :1: function "foo" not defined'),
    ],
)
def test_bad_formats(capfd: Capture, template: str, text: str) -> None:
    assert run(Fake({"containers.list": [container()]}), "ps", "--format", template) == 1
    assert capfd.readouterr().err == f"{text}\n"


def test_image_column_follows_docker(capfd: Capture) -> None:
    rows = [
        container(Image=IMAGE), container(Image="5e7dffd975c0"), container(Image=""), container(Image="a:1@sha256:" + "0" * 64),
    ]  # fmt: skip
    run(Fake({"containers.list": rows}), "ps", "--format", "{{.Image}}")
    assert capfd.readouterr().out == "5e7dffd975c0\n5e7dffd975c0\n<no image>\na:1\n"


def test_images_table(capfd: Capture) -> None:
    rows = [image(RepoTags=["box:1", "host:5000/a/b:latest"]), image(RepoTags=[])]
    assert run(Fake({"images.list": rows}), "images") == 0
    assert capfd.readouterr().out == (
        "REPOSITORY      TAG       IMAGE ID       CREATED              SIZE\n"
        "box             1         5e7dffd975c0   About a minute ago   1.98MB\n"
        "host:5000/a/b   latest    5e7dffd975c0   About a minute ago   1.98MB\n"
        "<none>          <none>    5e7dffd975c0   About a minute ago   1.98MB\n"
    )


def test_images_with_digests_and_reference(capfd: Capture) -> None:
    digest = "sha256:" + "a" * 64
    fake = Fake({"images.list": [image(RepoDigests=[f"box@{digest}", "other@sha256:" + "b" * 64])]})
    run(fake, "images", "--digests", "--no-trunc", "-a", "box:*")
    head, row = capfd.readouterr().out.splitlines()
    assert head.split() == ["REPOSITORY", "TAG", "DIGEST", "IMAGE", "ID", "CREATED", "SIZE"]
    assert row.split()[:4] == ["box", "1", digest, IMAGE]
    assert fake.calls[0][2] == {"all": True, "filters": {"reference": ["box:*"]}}


def test_history(capfd: Capture) -> None:
    entries = [
        {"Id": IMAGE, "Created": 1763712075, "CreatedBy": "sh -c a\tvery long instruction of a build", "Size": 198254, "Comment": "c"},
        {"Id": "<missing>", "Created": 1763712075, "CreatedBy": "", "Size": 0, "Comment": ""},
    ]
    run(Fake({"images.history": entries}), "history", "-H=false", "--no-trunc", "x")
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].split() == ["IMAGE", "CREATED", "AT", "CREATED", "BY", "SIZE", "COMMENT"]
    assert lines[1].startswith(IMAGE) and "a very long instruction of a build" in lines[1] and lines[1].endswith("198254    c")
    assert lines[2].startswith("<missing>")
    run(Fake({"images.history": entries}), "history", "-q", "x")
    assert capfd.readouterr().out == "5e7dffd975c0\n<missing>\n"


def test_names_are_printed_as_typed_and_errors_come_last(capfd: Capture) -> None:
    def remove(ref: str, **_: Any) -> Any:
        return missing(ref) if ref == "no" else None

    assert run(Fake({"containers.remove": remove}), "rm", "a", "no", "941") == 1
    out, err = capfd.readouterr()
    assert (out, err) == ("a\n941\n", "Error response from daemon: No such container: no\n")
    assert run(Fake({"containers.remove": remove}), "rm", "-f", "no") == 0


def test_start_names_what_failed(capfd: Capture) -> None:
    assert run(Fake({"containers.start": missing}), "start", "x", "y") == 1
    assert capfd.readouterr().err.splitlines()[-1] == "Error: failed to start containers: x, y"


def test_rmi_prints_each_step(capfd: Capture) -> None:
    steps = [{"Untagged": "box:1"}, {"Deleted": IMAGE}]
    assert run(Fake({"images.remove": steps}), "rmi", "box:1") == 0
    assert capfd.readouterr().out == f"Untagged: box:1\nDeleted: {IMAGE}\n"
    assert run(Fake({"images.remove": NotFound("No such image: x:latest")}), "rmi", "x") == 1
    assert run(Fake({"images.remove": Conflict("conflict: unable to remove", hint="use -f")}), "rmi", "x") == 1
    assert capfd.readouterr().err.endswith("conflict: unable to remove\nHint: use -f\n")


def test_inspect(capfd: Capture) -> None:
    found = {"Id": ID, "Config": {"Labels": {"b": 1, "a": 2}, "Env": None}, "State": {"Pid": 7}}

    def look(ref: str, **_: Any) -> Any:
        return found if ref == "web" else missing(ref)

    gone = {"images.inspect": NotFound("No such image: x"), "volumes.inspect": NotFound("get x: no such volume")}
    fake = Fake({"containers.inspect": look, **gone})
    assert run(fake, "inspect", "web", "x") == 1
    out, err = capfd.readouterr()
    assert out == json.dumps([found], indent=4) + "\n" and err == "Error: No such object: x\n"
    assert run(fake, "inspect", "-f", "{{.ID}} {{.State.Pid}} {{json .Config.Labels}} {{.Config.Labels.zz}} {{.Config.Env}}", "web") == 0
    assert capfd.readouterr().out == f'{ID} 7 {{"a":2,"b":1}} <no value> []\n'
    assert run(fake, "inspect", "-f", "{{.Foo}}", "web") == 1
    assert capfd.readouterr() == ("\n", 'template parsing error: template: :1:2: executing "" at <.Foo>: map has no entry for key "Foo"\n')
    assert run(fake, "inspect", "-f", "{{.Foo", "web") == 64
    assert run(fake, "container", "inspect", "x") == 1
    assert capfd.readouterr()[0] == "[]\n"


def test_logs_options(capfd: Capture) -> None:
    fake = Fake({"containers.logs": [("stdout", b"a\xff\n"), ("stderr", b"b\n")]})
    assert run(fake, "logs", "-t", "-n", "5", "--since", "1970-01-01T00:00:01.5Z", "--until", "2.25", "web") == 0
    options = fake.calls[0][2]
    assert (options["since"], options["until"], options["tail"], options["timestamps"]) == (1_500_000_000, 2_250_000_000, 5, True)
    assert run(fake, "logs", "--since", "foo", "web") == 1
    assert capfd.readouterr().err.endswith('invalid value for "since": failed to parse value as time or duration: "foo"\n')


def test_prune_asks_first(capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake({"images.prune": {"ImagesDeleted": [{"Deleted": IMAGE}], "SpaceReclaimed": 1982548}})
    monkeypatch.setattr(os, "read", lambda fd, n: b"")
    assert run(fake, "image", "prune") == 0 and not fake.calls
    assert capfd.readouterr().out == "WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] "
    assert run(fake, "image", "prune", "-a", "-f", "--filter", "until=1h") == 0
    assert fake.calls[0][1] == ({"until": ["1h"], "dangling": ["false"]},)
    assert capfd.readouterr().out == f"Deleted Images:\ndeleted: {IMAGE}\n\nTotal reclaimed space: 1.983MB\n"


def test_layer_tree_drawing() -> None:
    def row(n: str, depth: int, *top_of: str) -> dict[str, Any]:
        return {"ChainId": "sha256:" + n * 64, "Depth": depth, "Size": 1000, "Images": [], "TopOf": list(top_of)}

    layers = [row("a", 0), row("b", 1), row("c", 2, "x:1"), row("d", 1, "y:1", "y:2"), row("e", 0, "z:1")]
    assert draw(layers, ascii_only=True, trunc=True) == [
        "aaaaaaaaaaaa  1kB",
        "|- bbbbbbbbbbbb  1kB",
        "|  `- cccccccccccc  1kB  x:1",
        "`- dddddddddddd  1kB  y:1, y:2",
        "eeeeeeeeeeee  1kB  z:1",
    ]
