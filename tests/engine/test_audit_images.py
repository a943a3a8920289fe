# SPDX-License-Identifier: Apache-2.0
"""Images, names, volumes and options, where docker 26.1 was given the same command lines; and `system adopt`, `-l`, `--config`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import Lamina

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["import", "TAR", "sha256:x"], "Error response from daemon: refusing to create an ambiguous tag using digest algorithm as name"),
        (["tag", "box", "sha256"], "Error response from daemon: refusing to create an ambiguous tag using digest algorithm as name"),
        (["import", "TAR", f"a@{DIGEST}"], "Error response from daemon: cannot import digest reference"),
        (["tag", "box", f"a@{DIGEST}"], "refusing to create a tag with a digest reference"),
        (["commit", "none", f"a@{DIGEST}"], "refusing to create a tag with a digest reference"),
        (["history", "UPPER"], "Error response from daemon: invalid reference format: repository name (library/UPPER) must be lowercase"),
        (["import", "-c", "Foo bar", "TAR"], "Error response from daemon: Foo is not a valid change command"),
        (["import", "--platform", "linux/amd64/v1/x", "TAR"],
         'Error response from daemon: "linux/amd64/v1/x": cannot parse platform specifier: invalid argument'),
        (["import", "http://127.0.0.1:1/x"], "Downloading from http://127.0.0.1:1/x\n"
         "Error response from daemon: failed to download http://127.0.0.1:1/x: connection refused"),
        (["images", "--filter", "until=bad"], 'Error response from daemon: failed to parse value as time or duration: "bad"'),
    ],
)  # fmt: skip
def test_refusals_of_names_and_changes(lamina: Lamina, box: str, busybox_tar: Path, argv: list[str], text: str) -> None:
    done = lamina(*[str(busybox_tar) if word == "TAR" else word for word in argv])
    assert (done.returncode, done.stdout, done.stderr) == (1, "", text + "\n")
    assert lamina("images", "-aq").out == box[7:19]


def test_templates_may_name_what_the_json_leaves_out(lamina: Lamina, box: str) -> None:
    assert lamina("inspect", "-f", "{{.Os}}/{{.Variant}}|{{.OsVersion}}|", "box").out == "linux/||"
    cid = lamina("create", "box", "true").out
    template = "{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}} {{len .Config.ExposedPorts}} {{.Config.StopSignal}}."
    assert lamina("inspect", "-f", template, cid).out == "none 0 ."
    done = lamina("inspect", "-f", "{{.Nosuch}}", cid)
    assert done.returncode == 1 and 'map has no entry for key "Nosuch"' in done.stderr


def test_modes_of_volumes(lamina: Lamina, box: str, tmp_path: Path) -> None:
    for mode in ("cached", "delegated", "consistent,ro"):
        assert lamina("run", "--rm", "--network", "none", "-v", f"{tmp_path}:/x:{mode}", "box", "true").check()
    for mode in ("foo", "ro,ro", "cached,delegated"):
        done = lamina("run", "--rm", "-v", f"{tmp_path}:/x:{mode}", "box", "true")
        assert done.returncode == 125 and f"Error response from daemon: invalid mode: {mode}." in done.stderr


def test_propagation_needs_a_source_that_propagates(lamina: Lamina, box: str, tmp_path: Path) -> None:
    from lamina.linux import mount

    source = tmp_path / "source"
    source.mkdir()
    mount.mount("tmpfs", str(source), "tmpfs")
    try:
        mount.mount("none", str(source), "", mount.MS_PRIVATE)
        for mode, kind in (("rshared", "a shared"), ("slave", "a shared or slave")):
            done = lamina("run", "--rm", "-v", f"{source}:/x:{mode}", "box", "true")
            assert done.returncode == 125 and f"path {source} is mounted on {source} but it is not {kind} mount" in done.stderr
        mount.mount("none", str(source), "", mount.MS_SHARED)
        done = lamina("run", "--rm", "--network", "none", "-v", f"{source}:/x:rshared", "box", "grep", " /x ", "/proc/self/mountinfo")
        assert " shared:" in done.out
    finally:
        mount.umount(str(source))


def test_a_filled_volume_has_the_time_of_its_directory(lamina: Lamina, tmp_path: Path) -> None:
    from tests.conftest import busybox_tree

    tree = busybox_tree(tmp_path / "tree")
    os.utime(tree / "tmp", (1_000_000_000, 1_000_000_000))
    import subprocess

    subprocess.run(["tar", "-C", str(tree), "-cf", str(tmp_path / "box.tar"), "."], check=True)
    lamina("import", tmp_path / "box.tar", "box").check()
    assert lamina("run", "--rm", "--network", "none", "-v", "some:/tmp", "box", "stat", "-c", "%Y %a", "/tmp").out == "1000000000 1777"


def test_a_moved_root_is_adopted_with_its_volumes(lamina: Lamina, box: str, tmp_path: Path) -> None:
    cid = lamina("create", "--network", "none", "-v", "some:/x", "box", "sh", "-c", "echo kept >> /x/f; cat /x/f").out
    assert lamina("start", "-a", cid).out == "kept"
    moved = Lamina(tmp_path / "else")
    moved.root.parent.mkdir()
    in_use = lamina.prefix[0]
    assert Lamina(tmp_path / "else").prefix[0] == in_use
    lamina.root.rename(moved.root)
    done = moved("ps", "-a")
    assert done.returncode == 1 and "Hint: " in done.stderr and "lamina system adopt" in done.stderr
    assert moved("system", "adopt").check().stdout == ""
    assert moved("start", "-a", cid).out == "kept\nkept"
    assert moved("system", "check").out == "no problems found"
    assert moved("system", "reset", "--force").returncode == 0


def test_adopt_refuses_what_is_in_use_and_what_is_no_root(lamina: Lamina, box: str, tmp_path: Path) -> None:
    other = [lamina.prefix[0], "--root", str(lamina.root), "--runroot", str(tmp_path / "otherrun")]
    import subprocess

    done = subprocess.run([*other, "system", "adopt"], capture_output=True, text=True)
    assert done.returncode == 1 and "containers may be running from it" in done.stderr
    assert lamina("images", "-q").out
    done = subprocess.run([lamina.prefix[0], "--root", str(tmp_path / "none"), "--runroot", str(tmp_path / "r"), "system", "adopt"],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 1 and "not a lamina data root" in done.stderr and not (tmp_path / "none").exists()
    assert "Take over a data root" in lamina("system", "adopt", "--help").out


def test_global_options_do_what_they_say_or_are_refused(lamina: Lamina, box: str) -> None:
    def run(*words: str) -> tuple[int, str]:
        import subprocess

        done = subprocess.run([lamina.prefix[0], *words, *lamina.prefix[1:], "inspect", "--type", "image", "-s", "-f", "x", "box"],
                              capture_output=True, text=True)  # fmt: skip
        return done.returncode, done.stderr

    assert run() == (0, "WARNING: --size ignored for image\n")
    assert run("-l", "warn") == run()
    assert run("-l", "error") == run("--log-level", "fatal") == (0, "")
    assert run("--config", "/etc/docker") == run()
    code, text = run("--tlsverify")
    assert code == 125 and text.startswith("unsupported flag: --tlsverify")
    done = lamina("--log-level", "debug", "inspect", "nosuch")
    assert done.returncode == 1
    done = lamina("-l", "debug", "history", "nosuch")
    assert "Traceback" in done.stderr and done.stderr.endswith("No such image: nosuch:latest\n")


def test_a_group_alone_explains_itself_on_stderr(lamina: Lamina) -> None:
    done = lamina("image")
    assert done.returncode == 0 and done.stdout == "" and done.stderr.startswith("\nUsage:  lamina image COMMAND")


def test_templates_of_ps_and_of_what_is_nil(lamina: Lamina, box: str) -> None:
    lamina("create", "--name", "one", "box", "true").check()
    assert lamina("inspect", "-f", "{{.State.Health}} {{json .Config.Healthcheck}}", "one").out == "<nil> null"
    done = lamina("inspect", "-f", "{{.State.Health.Status}}", "one")
    assert done.returncode == 1 and 'executing "" at <.State.Health.Status>: map has no entry for key "Health"' in done.stderr
    done = lamina("ps", "-a", "--format", "{{.Foo}}")
    assert done.stderr.startswith("failed to execute template: ") and lamina("ps", "--format", "{{").returncode == 1
    assert lamina("inspect", "-f", "{{.HostConfig.DeviceRequests}} {{.HostConfig.BlkioWeightDevice}}", "one").out == "[] []"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("health=x", "unrecognized filter value for health: x"),
        ("is-task=x", "invalid filter 'is-task=[x]'"),
        ("exited=x", "invalid filter 'exited=x': strconv.Atoi: parsing \"x\": invalid syntax"),
    ],
)
def test_filters_of_ps(lamina: Lamina, box: str, value: str, text: str) -> None:
    done = lamina("ps", "-a", "-f", value)
    assert (done.returncode, done.stderr) == (1, f"Error response from daemon: {text}\n")
    assert lamina("ps", "-a", "-f", "name=[").check().stdout.count("\n") == 1


def test_names_of_labels(lamina: Lamina, box: str) -> None:
    done = lamina("create", "-l", "a b=c", "box", "true")
    assert done.returncode == 125 and "label 'a b' contains whitespaces" in done.stderr
    assert lamina("create", "-l", "a=b c", "box", "true").out


def test_what_is_not_set_is_null(lamina: Lamina, box: str) -> None:
    cid = lamina("create", "box", "true").out
    template = "{{json .Config.Env}} {{json .Config.Volumes}} {{json .Config.Labels}} {{.Config.Env}} {{.Config.Volumes}}"
    assert lamina("inspect", "-f", template, cid).out == "null null {} [] map[]"
    lamina("commit", cid, "made").check()
    assert lamina("inspect", "-f", "{{json .Config.Env}} {{json .Config.Volumes}}", "made").out == "null null"


def test_a_network_needs_a_name(lamina: Lamina, box: str) -> None:
    done = lamina("run", "--network", "", "box", "true")
    assert (done.returncode, done.stderr) == (125, "lamina: no name set for network.\nSee 'lamina run --help'.\n")
