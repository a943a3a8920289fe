# SPDX-License-Identifier: Apache-2.0
"""`push`, `tags` and `search` by the command line, and what is pulled again from what was pushed."""
from __future__ import annotations

import json
import os
import pty
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Lamina, make_tar

from .published import publish
from .registry_server import RegistryServer

TREE = make_tar({"etc": None, "etc/base": b"below"})


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with RegistryServer() as made:
        yield made


def made(lamina: Lamina, name: str) -> str:
    return lamina("import", "-", name, stdin=TREE).out


def pushed(server: RegistryServer) -> list[str]:
    return [line for line in server.requests("/blobs/uploads/") if line.startswith("PUT")]


def state(text: str) -> list[str]:
    """States of the one layer."""
    return [line.split(": ")[1] for line in text.splitlines() if line[:12].isalnum() and line[12:14] == ": "]


def test_lines_as_dockers(lamina: Lamina, server: RegistryServer) -> None:
    ref = f"{server.host}/team/app"
    image = made(lamina, ref)
    done = lamina("push", ref).check()
    lines = done.stdout.splitlines()
    digest = json.loads(lamina("image", "inspect", ref).out)[0]["RepoDigests"][0].partition("@")[2]
    size = len(server.manifests["team/app", "latest"][0])
    assert lines[:2] == ["Using default tag: latest", f"The push refers to repository [{ref}]"]
    assert lines[-1] == f"latest: digest: {digest} size: {size}"
    assert state(done.stdout) == ["Preparing", "Pushed"] and len(pushed(server)) == 2  # layer and config
    manifest = json.loads(server.manifests["team/app", digest][0])
    assert manifest["config"]["digest"] == image and manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    server.asked.clear()
    again = lamina("push", f"{ref}:latest").check()
    assert state(again.stdout) == ["Preparing", "Layer already exists"] and not pushed(server)
    assert again.stdout.splitlines()[-1] == lines[-1]
    lamina("tag", ref, f"{server.host}/team/other:2").check()
    mounted = lamina("push", f"{server.host}/team/other:2").check()
    assert state(mounted.stdout) == ["Preparing", "Mounted from team/app"] and f"2: digest: {digest}" in mounted.stdout
    assert lamina("push", "-q", f"{server.host}/team/other:2").out == f"{server.host}/team/other:2"
    assert lamina("tags", f"{server.host}/team/other").out == "2"
    assert json.loads(lamina("manifest", "inspect", ref).out) == manifest
    here, there = (json.loads(lamina("image", "inspect", *words, ref).out)[0] for words in ([], ["--remote"]))
    assert there["Size"] == manifest["layers"][0]["size"] and here["RepoDigests"][0] in there["RepoDigests"]
    for key in ("Id", "Config", "Architecture", "Os", "RootFS", "Created", "Comment"):
        assert there[key] == here[key], key
    none = lamina("manifest", "inspect", f"{ref}:nosuch")
    assert none.returncode == 1 and f"manifest for {ref}:nosuch not found" in none.stderr


def test_the_same_image_and_digest_come_back(lamina: Lamina, server: RegistryServer) -> None:
    """Also what was compressed by another: its bytes are fetched from where they came from."""
    entry = publish(server, "theirs", "latest", [TREE, make_tar({"own": b"x" * 4000})])
    lamina("pull", "-q", f"{server.host}/theirs").check()
    with RegistryServer() as target:
        ref = f"{target.host}/ours:1"
        lamina("tag", f"{server.host}/theirs", ref).check()
        assert f"1: digest: {entry['digest']}" in lamina("push", "--preserve-digests", ref).check().stdout
        assert target.manifests["ours", "1"] == server.manifests["theirs", "latest"]
        image = lamina("images", "-q", "--no-trunc", ref).out
        lamina("rmi", "-f", image).check()
        assert lamina("pull", "-q", ref).out == ref and lamina("images", "-q", "--no-trunc", ref).out == image


def test_a_digest_that_cannot_stay(lamina: Lamina, server: RegistryServer) -> None:
    publish(server, "theirs", "latest", [TREE])
    lamina("pull", "-q", f"{server.host}/theirs").check()
    server.manifests.clear()
    server.blobs.clear()
    with RegistryServer() as target:
        ref = f"{target.host}/ours:1"
        lamina("tag", f"{server.host}/theirs", ref).check()
        kept = lamina("push", "--preserve-digests", ref)
        assert kept.returncode == 1 and "can't be kept" in kept.stderr and ("ours", "1") not in target.manifests
        lamina("push", ref).check()
        lamina("push", "--compression", "none", ref).check()
        layer = json.loads(target.manifests["ours", "1"][0])["layers"][0]
        assert layer["mediaType"].endswith(".tar") and target.blobs[layer["digest"]] == TREE
        wrong = lamina("push", "--compression", "lzma", ref)
        assert wrong.returncode == 1 and "is none of gzip, zstd, none" in wrong.stderr


def test_all_tags_and_what_is_not_there(lamina: Lamina, server: RegistryServer) -> None:
    ref = f"{server.host}/team/app"
    for tag in ("1", "2"):
        made(lamina, f"{ref}:{tag}")
    lines = lamina("push", "-a", ref).check().stdout.splitlines()
    assert [line[:10] for line in lines if " size: " in line] == ["1: digest:", "2: digest:"]
    for words, text in ((["push", ref], f"tag does not exist: {ref}:latest"), (["push", f"{server.host}/no"],
                        f"An image does not exist locally with the tag: {server.host}/no"),
                        (["push", "-a", f"{ref}:1"], "tag can't be used with --all-tags/-a"),
                        (["push", f"{ref}@sha256:{'a' * 64}"], "cannot push a digest reference")):  # fmt: skip
        done = lamina(*words)
        assert done.returncode == 1 and text in done.stderr


def test_refused_uploads_are_told(lamina: Lamina, server: RegistryServer) -> None:
    ref = f"{server.host}/team/app"
    made(lamina, ref)

    def hook(handler: Any, method: str, path: str) -> bool:
        if method != "PUT" or "/blobs/" not in path:
            return False
        handler.error(403, "DENIED", "not yours\x1b[31m")
        return True

    server.hook = hook
    done = lamina("push", ref)
    assert done.returncode == 1 and "denied: not yours [31m" in done.stderr and "\x1b" not in done.stderr
    assert ("team/app", "latest") not in server.manifests
    server.hook = None
    lamina("push", ref).check()


def test_search(lamina: Lamina, server: RegistryServer, tmp_path: Path) -> None:
    for name in ("team/app", "team/tool", "other"):
        publish(server, name, "latest", [TREE])
    table = lamina("search", f"{server.host}/team").out.splitlines()
    assert table[0].split() == ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]
    assert [line.split()[0] for line in table[1:]] == [f"{server.host}/team/app", f"{server.host}/team/tool"]
    assert lamina("search", "--limit", "1", "--format", "{{.Name}}", f"{server.host}/team").out == f"{server.host}/team/app"
    assert lamina("search", "-f", "is-official=true", "--format", "{{.Name}}", f"{server.host}/team").out == ""
    for words, text in ((["--limit", "101"], "outside the range of [1, 100]"), (["-f", "foo=1"], "invalid filter 'foo'"),
                        (["-f", "stars=x"], "invalid filter 'stars=x'")):
        done = lamina("search", *words, f"{server.host}/x")
        assert done.returncode == 1 and text in done.stderr
    settings = tmp_path / "lamina.toml"  # the index of docker.io, by a server that stands in for it
    settings.write_text(f'[registries.host."index.docker.io"]\nmirrors = ["{server.url}"]\n'
                        f'[registries.host."{server.host}"]\ninsecure = true\n')

    def hook(handler: Any, method: str, path: str) -> bool:
        if not path.startswith("/v1/search"):
            return False
        rows = [{"name": "busybox", "description": "Busybox base\nimage. " * 5, "star_count": 7, "is_official": True},
                {"name": "who/box", "description": None, "star_count": 2, "is_official": False}]
        handler.answer(200, json.dumps({"results": rows}).encode())
        return True

    server.hook = hook
    env = {"LAMINA_CONFIG": str(settings)}
    first = lamina("search", "box", env=env).out.splitlines()[1]
    assert first.split()[0] == "busybox" and first.endswith("7         [OK]") and "\u2026" in first
    assert lamina("search", "-f", "stars=5", "--format", "{{.Name}} {{.StarCount}}", "box", env=env).out == "busybox 7"
    assert "Busybox base image. Busybox base image. Busybox base image." in lamina("search", "--no-trunc", "box", env=env).out


# -- login


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_login_push_pull_logout(lamina: Lamina, tmp_path: Path, auth: str) -> None:
    env = {"DOCKER_CONFIG": str(tmp_path / "docker")}
    file = tmp_path / "docker/config.json"
    with RegistryServer(auth=auth) as server:
        made(lamina, f"{server.host}/app")
        denied = lamina("push", f"{server.host}/app", env=env)
        assert denied.returncode == 1 and f"lamina login {server.host}" in denied.stderr
        wrong = lamina("login", "-u", "me", "--password-stdin", server.host, stdin="guess-1234", env=env)
        assert wrong.returncode == 1 and "unauthorized: incorrect username or password" in wrong.stderr
        assert "guess-1234" not in wrong.stdout + wrong.stderr and not file.exists()
        good = lamina("login", "-u", "me", "--password-stdin", server.host, stdin="secret\n", env=env).check()
        assert good.stdout == "Login Succeeded\n" and f"stored unencrypted in {file}" in good.stderr
        assert file.stat().st_mode & 0o777 == 0o600 and server.host in json.loads(file.read_text())["auths"]
        again = lamina("login", server.host, env=env).check()
        assert again.stdout == "Authenticating with existing credentials...\nLogin Succeeded\n" and again.stderr == ""
        lamina("push", f"{server.host}/app", env=env).check()
        lamina("rmi", f"{server.host}/app").check()
        lamina("pull", f"{server.host}/app", env=env).check()
        assert lamina("logout", server.host, env=env).out == f"Removing login credentials for {server.host}"
        assert lamina("pull", f"{server.host}/app", env=env).returncode == 1 and json.loads(file.read_text()) == {"auths": {}}


def answered(argv: list[str], answers: list[tuple[str, str]]) -> str:
    """All that a terminal shows of a command, which is given an answer to each question when it comes."""
    pid, master = pty.fork()
    if not pid:
        os.execv(argv[0], argv)
    seen = ""
    while select.select([master], [], [], 30)[0]:
        try:
            data = os.read(master, 4096)
        except OSError:
            break  # the other end is closed
        seen += data.decode()
        if answers and seen.endswith(answers[0][0]):
            os.write(master, answers.pop(0)[1].encode() + b"\n")
    os.close(master)
    os.waitpid(pid, 0)
    return seen


def test_login_asks_without_echo(lamina: Lamina, tmp_path: Path) -> None:
    with RegistryServer(auth="basic") as server:
        seen = answered([*lamina.prefix, "--config", str(tmp_path), "login", server.host], [("Username: ", "me"), ("Password: ", "secret")])
        assert "Login Succeeded" in seen and "secret" not in seen and "me\r\n" in seen
        assert json.loads((tmp_path / "config.json").read_text())["auths"][server.host]["auth"]


def test_login_refuses(lamina: Lamina, tmp_path: Path) -> None:
    for words, text in (
        (["-u", "me"], "Error: Cannot perform an interactive login from a non TTY device"),
        (["--password-stdin"], "Must provide --username with --password-stdin"),
        (["-u", "me", "-p", "x", "--password-stdin"], "--password and --password-stdin are mutually exclusive"),
        (["-u", "me", "-p", "x", "no host"], "invalid reference format"),
        (["-u", "me", "-p", "x", "127.0.0.1:1"], 'Get "http://127.0.0.1:1/v2/": connect: connection refused'),
    ):
        done = lamina("--config", str(tmp_path), "login", *words)
        assert done.returncode == 1 and text in done.stderr, done.stderr
    assert not list(tmp_path.glob("config.json"))


def test_a_credential_helper_keeps_it(lamina: Lamina, tmp_path: Path) -> None:
    helper = tmp_path / "docker-credential-test"
    helper.write_text(f"""#!/bin/sh
cd {tmp_path}
case $1 in
    store) cat > kept;;
    get) cat kept 2>/dev/null || {{ echo "credentials not found in native keychain"; exit 1; }};;
    erase) rm -f kept;;
esac
""")
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text('{"credsStore": "test"}')
    path = subprocess.run(["sh", "-c", "echo $PATH"], capture_output=True, text=True).stdout.strip()
    env = {"PATH": f"{tmp_path}:{path}"}
    with RegistryServer(auth="basic") as server:
        done = lamina("--config", str(tmp_path), "login", "-u", "me", "--password-stdin", server.host, stdin="secret", env=env).check()
        assert done.stderr == "" and json.loads((tmp_path / "kept").read_text())["Secret"] == "secret"
        made(lamina, f"{server.host}/app")
        lamina("--config", str(tmp_path), "push", f"{server.host}/app", env=env).check()
        lamina("--config", str(tmp_path), "logout", server.host, env=env).check()
    assert not (tmp_path / "kept").exists() and "secret" not in (tmp_path / "config.json").read_text()
