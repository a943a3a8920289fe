# SPDX-License-Identifier: Apache-2.0
"""Against the real server, Debian's docker-registry, with TLS and basic authentication, by the command line."""
from __future__ import annotations

from pathlib import Path

from tests.conftest import Lamina

from .docker_registry import docker_registry

Tls = tuple[str, str, str]


def test_tls_and_basic_authentication(lamina: Lamina, box: str, tls: Tls, tmp_path: Path) -> None:
    settings = tmp_path / "lamina.toml"
    env = {"LAMINA_CONFIG": str(settings), "DOCKER_CONFIG": str(tmp_path / "docker")}
    with docker_registry(tmp_path / "registry", tls, auth=True) as host:
        ref = f"{host}/team/box"
        settings.write_text(f'[registries.host."{host}"]\ninsecure = false\n')
        lamina("tag", "box", ref).check()
        unknown = lamina("push", ref, env=env)
        assert unknown.returncode == 1 and "tls: failed to verify certificate" in unknown.stderr and "give its CA by" in unknown.stderr
        settings.write_text(f'[registries.host."{host}"]\nca = "{tls[0]}"\n')
        denied = lamina("push", ref, env=env)
        assert denied.returncode == 1 and f"lamina login {host}" in denied.stderr
        wrong = lamina("login", "-u", "me", "--password-stdin", host, stdin="wrong", env=env)
        assert wrong.returncode == 1 and "unauthorized" in wrong.stderr
        lamina("login", "-u", "me", "--password-stdin", host, stdin="secret", env=env).check()
        digest = lamina("push", ref, env=env).check().stdout.partition("digest: ")[2].split()[0]
        lamina("tag", "box", f"{host}/team/other:2").check()
        assert "Mounted from team/box" in lamina("push", f"{host}/team/other:2", env=env).check().stdout
        assert lamina("tags", f"{host}/team/other", env=env).out == "2"
        assert lamina("search", "--format", "{{.Name}}", f"{host}/team", env=env).out.split() == [f"{host}/team/box", f"{host}/team/other"]
        lamina("rmi", "-f", box).check()
        done = lamina("run", "--rm", "--network", "none", f"{ref}@{digest}", "echo", "back", env=env)
        assert done.out == "back" and f"Status: Downloaded newer image for {ref}@{digest}" in done.stderr
        assert lamina("images", "-q", "--no-trunc").out == box
        trusted = {**env, "LAMINA_CONFIG": str(Path(__file__).parents[1] / "lamina.toml"), "SSL_CERT_FILE": tls[0]}
        assert lamina("pull", "-q", f"{host}/team/other:2", env=trusted).out == f"{host}/team/other:2"
    assert lamina("system", "check").out == "no problems found"
