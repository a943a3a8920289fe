# SPDX-License-Identifier: Apache-2.0
"""docker's config.json and its helper programs: read, written, and never mixed up."""
from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from lamina.errors import InvalidArgument, LaminaError
from lamina.registry.credentials import Credentials, CredentialStore

HELPER = """#!/bin/sh
# Keeps one secret per server in files beside itself.
dir=$(dirname "$0")
case $1 in
get) read -r server; name=$(printf %s "$server" | tr -c 'a-zA-Z0-9\\n' _)
  if [ -e "$dir/broken" ]; then echo "the keychain is locked: $(cat "$dir/broken")"; exit 1; fi
  [ -e "$dir/$name" ] || { echo "credentials not found in native keychain"; exit 1; }
  cat "$dir/$name";;
store) data=$(cat); server=$(printf %s "$data" | sed 's/.*"ServerURL": "\\([^"]*\\)".*/\\1/')
  name=$(printf %s "$server" | tr -c 'a-zA-Z0-9\\n' _)
  printf %s "$data" >"$dir/$name";;
erase) read -r server; rm -f "$dir/$(printf %s "$server" | tr -c 'a-zA-Z0-9\\n' _)";;
esac
"""


@pytest.fixture
def helper(tmp_path: Path) -> Path:
    program = tmp_path / "bin" / "docker-credential-files"
    program.parent.mkdir()
    program.write_text(HELPER)
    program.chmod(0o755)
    return program


def store(tmp_path: Path, document: Any = None) -> CredentialStore:
    path = tmp_path / "docker" / "config.json"
    if document is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(document if isinstance(document, str) else json.dumps(document))

    def find(name: str) -> str:
        program = tmp_path / "bin" / name
        return str(program) if program.exists() else ""

    return CredentialStore(str(path), find, {"PATH": os.environ["PATH"]})


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(("name", "host"), [
    ("a.example", "a.example"), ("https://a.example", "a.example"), ("https://a.example/v2/", "a.example"),
    ("a.example:5000", "a.example:5000"),
    ("https://index.docker.io/v1/", "docker.io"), ("index.docker.io", "docker.io")])
def test_names_of_registries(tmp_path: Path, name: str, host: str) -> None:
    found = store(tmp_path, {"auths": {name: {"auth": encoded("me:pass:word")}}}).get(host)
    assert (found.username, found.password) == ("me", "pass:word")


def test_a_registry_gets_no_other_ones(tmp_path: Path) -> None:
    config = store(tmp_path, {"auths": {"a.example": {"auth": encoded("me:secret")}}})
    for host in ("b.example", "a.example:5000", "docker.io", "evil-a.example", "a.example.evil"):
        assert not config.get(host)


def test_there_and_back(tmp_path: Path) -> None:
    config = store(tmp_path, {"psFormat": "x", "auths": {"old.example": {"auth": encoded("a:b")}}})
    assert config.put("docker.io", Credentials("me", "sécret")) == ""
    config.put("t.example", Credentials(identity_token="token"))
    written = json.loads((tmp_path / "docker/config.json").read_text())
    assert written["psFormat"] == "x" and set(written["auths"]) == {"old.example", "https://index.docker.io/v1/", "t.example"}
    assert stat.S_IMODE((tmp_path / "docker/config.json").stat().st_mode) == 0o600
    assert config.get("docker.io").password == "sécret"
    assert config.get("t.example").identity_token == "token"
    assert config.erase("docker.io") and not config.erase("docker.io")
    assert not config.get("docker.io") and config.get("old.example")


def test_no_file_is_no_credentials(tmp_path: Path) -> None:
    config = store(tmp_path)
    assert not config.get("docker.io") and not config.erase("x.example") and config.hosts() == []
    assert not (tmp_path / "docker").exists()


@pytest.mark.parametrize("document", ["{", "[]", '{"auths": []}', '{"auths": {"a.example": {"auth": "%%%"}}}',
                                      '{"auths": {"a.example": {"auth": "bm9jb2xvbg=="}}}',
                                      '{"credsStore": "../../evil"}', '{"credsStore": 1}'])
def test_what_is_no_config_json(tmp_path: Path, document: str) -> None:
    with pytest.raises(InvalidArgument):
        store(tmp_path, document).get("a.example")
    assert (tmp_path / "docker/config.json").read_text() == document


@pytest.mark.parametrize("document", [{"credsStore": "files"}, {"credHelpers": {"a.example": "files"}}])
def test_a_helper_has_them(tmp_path: Path, helper: Path, document: dict[str, Any]) -> None:
    config = store(tmp_path, document)
    assert not config.get("a.example")
    assert config.put("a.example", Credentials("me", "secret")) == "files"
    assert "secret" not in (tmp_path / "docker/config.json").read_text()
    assert config.get("a.example").password == "secret"
    config.put("a.example", Credentials(identity_token="tok"))
    assert config.get("a.example").identity_token == "tok"
    config.erase("a.example")
    assert not config.get("a.example")


def test_a_helper_that_fails_is_an_error_and_nothing_else_is_tried(tmp_path: Path, helper: Path) -> None:
    """CVE-2021-41092. Control: without the helper the same file answers."""
    auths = {"a.example": {"auth": encoded("me:secret")}}
    (helper.parent / "broken").write_text("please unlock")
    with pytest.raises(LaminaError, match="docker-credential-files get exited 1: the keychain is locked"):
        store(tmp_path, {"credsStore": "files", "auths": auths}).get("a.example")
    with pytest.raises(LaminaError, match="docker-credential-gone is named in"):
        store(tmp_path, {"credsStore": "gone", "auths": auths}).get("a.example")
    assert store(tmp_path, {"auths": auths}).get("a.example").password == "secret"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    config = store(tmp_path, {})
    real = tmp_path / "dotfiles.json"
    (tmp_path / "docker/config.json").rename(real)
    (tmp_path / "docker/config.json").symlink_to(real)
    config.put("a.example", Credentials("me", "secret"))
    assert (tmp_path / "docker/config.json").is_symlink() and "a.example" in real.read_text()
