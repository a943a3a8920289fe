# SPDX-License-Identifier: Apache-2.0
"""The client against a registry of our own: what it reads, what it believes, whom it tells what (attacks.md 46-49)."""
from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from lamina.errors import ArchiveError, Forbidden, InvalidArgument, NotFound, RegistryError
from lamina.registry.auth import Fixed
from lamina.registry.client import Registry, Repository
from lamina.registry.credentials import Credentials
from lamina.registry.settings import Host, Proxies
from lamina.spec.reference import parse

from .conftest import Waits
from .registry_server import MANIFEST, RegistryServer, sha

Client = Callable[..., Registry]


def repository(registry: Registry, server: RegistryServer, name: str = "team/app", *, push: bool = False) -> Repository:
    return registry.repository(parse(f"{server.host}/{name}"), push=push)


def serve(**options: Any) -> tuple[RegistryServer, dict[str, Any]]:
    server = RegistryServer(**options)
    blob = server.add_blob("team/app", b"layer" * 1000)
    server.add_manifest("team/app", {"schemaVersion": 2, "layers": [blob]}, "1.0", "1.1", "2.0", "latest")
    return server, blob


def with_user(server: RegistryServer, password: str = "secret") -> Fixed:
    return Fixed(server.host, Credentials("me", password))


# -- reading

def test_a_manifest_comes_as_it_is(client: Client) -> None:
    server, _ = serve()
    with server:
        fetched = repository(client(), server).manifest("1.0")
        assert (sha(fetched.content), fetched.media_type) == (fetched.digest, MANIFEST)
        again = repository(client(), server).manifest(fetched.digest)
        assert again.content == fetched.content
        assert repository(client(), server).manifest_digest("1.0") == fetched.digest
        assert repository(client(), server).manifest_digest("nope") == ""


def test_what_is_not_there(client: Client) -> None:
    server, _ = serve()
    with server, pytest.raises(NotFound, match="^manifest for .*/team/app:nope not found: manifest unknown: manifest unknown$"):
        repository(client(), server).manifest("nope")


def test_a_manifest_with_another_digest_is_refused(client: Client) -> None:
    server, _ = serve()
    with server:
        wrong = sha(b"something else")
        server.manifests["team/app", wrong] = (b'{"schemaVersion":2}', MANIFEST)
        with pytest.raises(ArchiveError, match="has digest"):
            repository(client(), server).manifest(wrong)
        server.hook = lambda handler, method, path: "lied" in path and (handler.answer(
            200, b"{}", Content_Type=MANIFEST, Docker_Content_Digest=wrong) or True)
        with pytest.raises(ArchiveError, match="its registry says"):
            repository(client(), server).manifest("lied")


def test_a_manifest_without_end_is_not_read_to_its_end(client: Client) -> None:
    server, _ = serve()

    def endless(handler: Any, method: str, path: str) -> bool:
        if "/manifests/" not in path:
            return False
        handler.send_response(200)
        handler.send_header("Content-Type", MANIFEST)
        handler.end_headers()
        handler.close_connection = True
        for _ in range(64):
            handler.wfile.write(b" " * (1 << 20))
        return True

    with server:
        server.hook = endless
        with pytest.raises(RegistryError, match="more than 4194304 bytes"):
            repository(client(), server).manifest("1.0")


def test_schema_1_is_refused_by_name(client: Client) -> None:
    server, _ = serve()
    with server:
        server.add_manifest("team/app", b"{}", "old", media_type="application/vnd.docker.distribution.manifest.v1+prettyjws")
        with pytest.raises(ArchiveError, match="schema 1"):
            repository(client(), server).manifest("old")


@pytest.mark.parametrize("reference", ["../../x", "a/b", "sha256:abc", "sha512:" + "0" * 128, "x\ny", "-", ""])
def test_references_that_would_be_another_path(client: Client, reference: str) -> None:
    server, _ = serve()
    with server:
        with pytest.raises(InvalidArgument):
            repository(client(), server).manifest(reference)
        assert server.asked == []


def test_tags_over_several_pages_and_no_further(client: Client) -> None:
    server, _ = serve()
    with server:
        assert repository(client(), server).tags() == ["1.0", "1.1", "2.0", "latest"]
        server.hook = lambda handler, method, path: "/tags/" in path and (handler.answer(200, b'{"tags":["a","b\\n","../x"]}') or True)
        assert repository(client(), server).tags() == ["a"]
        server.hook = lambda handler, method, path: "/tags/" in path and (handler.answer(
            200, b'{"tags":[]}', Link=f'<{path}>; rel="next"') or True)
        with pytest.raises(RegistryError, match="no end"):
            repository(client(), server).tags()
        server.hook = lambda handler, method, path: "/tags/" in path and (handler.answer(
            200, b'{"tags":[]}', Link='<https://elsewhere.example/v2/x>; rel="next"') or True)
        with pytest.raises(RegistryError, match="another host"):
            repository(client(), server).tags()


@pytest.mark.parametrize("by_api", [True, False])
def test_referrers(client: Client, by_api: bool) -> None:
    server, _ = serve()
    with server:
        server.referrers_api = by_api
        subject = repository(client(), server).manifest("1.0").digest
        document = {"schemaVersion": 2, "artifactType": "application/x.sbom", "subject": {"digest": subject}}
        entry = server.add_manifest("team/app", document)
        if not by_api:
            index = {"schemaVersion": 2, "manifests": [{**entry, "artifactType": "application/x.sbom"}]}
            server.add_manifest("team/app", index, subject.replace(":", "-"), media_type="application/vnd.oci.image.index.v1+json")
        found = repository(client(), server).referrers(subject)
        assert [item["digest"] for item in found] == [entry["digest"]]
        assert repository(client(), server).referrers(subject, "application/other") == []
        assert repository(client(), server).referrers(sha(b"x")) == []


def test_blobs_whole_and_from_the_middle(client: Client) -> None:
    server, blob = serve()
    with server:
        repo = repository(client(), server)
        assert repo.has_blob(blob["digest"]) == blob["size"]
        assert repo.has_blob(sha(b"none")) is None
        with repo.blob(blob["digest"]) as response:
            whole = response.read(1 << 20)
        with repo.blob(blob["digest"], 1000, '"1"') as response:
            assert (response.status, response.read(1 << 20)) == (206, whole[1000:])
        with repo.blob(blob["digest"], 1000, '"other"') as response:
            assert (response.status, response.read(1 << 20)) == (200, whole)


# -- authentication

def test_anonymous_by_token(client: Client) -> None:
    server, _ = serve(auth="anonymous")
    with server:
        repo = repository(client(), server)
        repo.manifest("1.0")
        repo.manifest("1.1")
        assert len(server.requests("/token")) == 1
        assert "scope=repository%3Ateam%2Fapp%3Apull" in server.requests("/token")[0]


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_user_and_password(client: Client, auth: str) -> None:
    server, _ = serve(auth=auth)
    with server:
        repository(client(source=with_user(server)), server).manifest("1.0")
        with pytest.raises(Forbidden, match="unauthorized: incorrect username or password|pull access denied"):
            repository(client(source=with_user(server, "wrong")), server).manifest("1.0")
        with pytest.raises(Forbidden, match="pull access denied for .*, repository does not exist or may require 'docker login'"):
            repository(client(), server).manifest("1.0")


def test_an_identity_token_is_posted(client: Client) -> None:
    server, _ = serve(auth="token")
    with server:
        source = Fixed(server.host, Credentials(identity_token="identity-of-me"))
        repository(client(source=source), server).manifest("1.0")
        assert any(line.startswith("POST /token") for line in server.requests("/token"))


def test_a_token_that_ran_out_is_asked_for_again(client: Client) -> None:
    server, _ = serve(auth="token")
    with server:
        repo = repository(client(source=with_user(server)), server)
        repo.manifest("1.0")
        server.tokens.clear()
        server.tokens.add("other")
        repo.manifest("1.0")
        assert len(server.requests("/token")) == 2


def test_nothing_of_the_secrets_is_in_an_error(client: Client) -> None:
    server, _ = serve(auth="token")
    with server:
        with pytest.raises(Forbidden) as caught:
            repository(client(source=with_user(server, "hunter2")), server).manifest("1.0")
        assert "hunter2" not in str(caught.value) + caught.value.hint + repr(with_user(server, "hunter2").get(server.host))


def test_a_foreign_realm_over_http_gets_nothing(client: Client, tls: tuple[str, str, str]) -> None:
    """A registry with TLS names a token server without: neither asked nor told. Control: the same realm with TLS is asked."""
    ca, cert, key = tls
    thief, _ = serve(auth="token")
    server, _ = serve(auth="token", tls=(cert, key))
    with server, thief:
        host = Host(server.host, ca=ca)
        server.realm = f"{thief.url}/token"
        with pytest.raises(RegistryError, match="is not asked.*not https"):
            repository(client(host, source=with_user(server)), server).manifest("1.0")
        assert thief.asked == []
        server.realm = ""
        repository(client(host, source=with_user(server)), server).manifest("1.0")


def test_a_challenge_after_a_redirect_gets_nothing(client: Client) -> None:
    """A redirect leads to another origin, which asks for a password. Control: the registry itself gets it."""
    thief, _ = serve(auth="basic")
    server, blob = serve(auth="basic")
    with server, thief:
        registry = client(source=with_user(server))
        repo = repository(registry, server)
        repo.manifest("1.0")
        server.hook = lambda handler, method, path: "/blobs/" in path and (handler.answer(307, Location=thief.url + path) or True)
        with pytest.raises(Forbidden):
            repo.blob(blob["digest"])
        assert thief.headers_of("/blobs/", "authorization") == [""]
        assert [value[:6] for value in server.headers_of("/blobs/", "authorization")] == ["Basic "]


def test_a_redirect_to_another_origin_is_followed_without_authorization(client: Client) -> None:
    """Storage elsewhere, as most registries have it."""
    storage, blob = serve()
    server, _ = serve(auth="token")
    with server, storage:
        server.hook = lambda handler, method, path: "/blobs/" in path and "token" in handler.headers.get("Authorization", "") and (
            handler.answer(307, Location=storage.url + path) or True)
        with repository(client(source=with_user(server)), server).blob(blob["digest"]) as response:
            assert sha(response.read(1 << 20)) == blob["digest"]
        assert storage.headers_of("/blobs/", "authorization") == [""]


def test_redirects_that_are_not_followed(client: Client, tls: tuple[str, str, str]) -> None:
    ca, cert, key = tls
    plain, blob = serve()
    server, _ = serve(tls=(cert, key))
    with server, plain:
        for target, why in ((plain.url, "from https to http"), ("file:///etc/passwd", "not an http"), ("https://u:p@a.example", "user")):
            server.hook = lambda handler, method, path, target=target: "/blobs/" in path and (  # type: ignore[misc]
                handler.answer(302, Location=target + path) or True)
            with pytest.raises(RegistryError, match=why):
                repository(client(Host(server.host, ca=ca)), server).blob(blob["digest"])
        server.hook = lambda handler, method, path: "/blobs/" in path and (handler.answer(302, Location=path) or True)
        with pytest.raises(RegistryError, match="more than 5 redirects"):
            repository(client(Host(server.host, ca=ca)), server).blob(blob["digest"])
        assert plain.asked == []


# -- connections

def test_tls_by_a_ca_of_its_own(client: Client, tls: tuple[str, str, str], tmp_path: Any) -> None:
    ca, cert, key = tls
    server, _ = serve(tls=(cert, key))
    with server:
        with pytest.raises(RegistryError, match='^Get "https://.*": tls: failed to verify certificate') as caught:
            repository(client(Host(server.host)), server).manifest("1.0")
        assert "lamina.toml" in caught.value.hint
        repository(client(Host(server.host, ca=ca)), server).manifest("1.0")
        repository(client(Host(server.host, insecure=True)), server).manifest("1.0")
        repository(client(Host(server.host), ca_file=ca), server).manifest("1.0")
        directory = tmp_path / server.host
        directory.mkdir()
        (directory / "ca.crt").write_bytes(open(ca, "rb").read())
        registry = client(Host(server.host))
        object.__setattr__(registry.settings, "certs_d", (str(tmp_path),))
        repository(registry, server).manifest("1.0")


def test_client_certificates_are_shown(client: Client, tls: tuple[str, str, str]) -> None:
    import ssl

    ca, cert, key = tls
    server, _ = serve(tls=(cert, key))
    with server:
        context = server.server.socket.context  # type: ignore[attr-defined]
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(ca)
        with pytest.raises(RegistryError):
            repository(client(Host(server.host, ca=ca)), server).manifest("1.0")
        repository(client(Host(server.host, ca=ca, client_cert=cert, client_key=key)), server).manifest("1.0")


def test_a_ca_that_is_not_there_is_named(client: Client) -> None:
    server, _ = serve()
    with server, pytest.raises(InvalidArgument, match="/nowhere/ca.pem"):
        repository(client(Host(server.host, ca="/nowhere/ca.pem")), server).manifest("1.0")


def test_refused_and_unknown_hosts(client: Client) -> None:
    server, _ = serve()
    server.close()
    with pytest.raises(RegistryError, match=r'^Get "https?://127.0.0.1:\d+/v2/team/app/manifests/1.0": connect: connection refused$'):
        repository(client(), server).manifest("1.0")
    with pytest.raises(RegistryError, match='^Get "https://no-such-host.invalid/v2/a/manifests/b": dial tcp: lookup'):
        client().repository(parse("no-such-host.invalid/a")).manifest("b")


def test_a_registry_without_tls_that_is_not_insecure(client: Client) -> None:
    server, _ = serve()
    with server, pytest.raises(RegistryError, match="server gave HTTP response to HTTPS client") as caught:
        repository(client(Host(server.host)), server).manifest("1.0")
    assert "insecure" in caught.value.hint


def test_busy_registries_are_asked_again(client: Client, waits: Waits) -> None:
    server, _ = serve()
    answers = [(429, {"Retry-After": "7"}), (503, {}), (500, {})]

    def busy(handler: Any, method: str, path: str) -> bool:
        if not answers:
            return False
        status, headers = answers.pop(0)
        handler.answer(status, b"", **headers)
        return True

    with server:
        server.hook = busy
        repository(client(), server).manifest("1.0")
    assert [seconds for seconds, _ in waits] == [7.0, 1.0, 2.0]
    assert "answered 429" in waits[0][1]


def test_a_rate_limit_that_is_too_long_is_told(client: Client, waits: Waits) -> None:
    server, _ = serve()
    with server:
        server.hook = lambda handler, method, path: handler.error(429, "TOOMANYREQUESTS", "pull rate limit", Retry_After="3600") or True
        with pytest.raises(RegistryError, match="^toomanyrequests: toomanyrequests: pull rate limit$") as caught:
            repository(client(), server).manifest("1.0")
    assert "3600" in caught.value.hint and not waits


def test_a_mirror_is_asked_first_and_with_its_own_credentials(client: Client) -> None:
    mirror, _ = serve(auth="basic")
    server, _ = serve(auth="basic")
    with server, mirror:
        hosts = (Host(server.host, mirrors=(mirror.url,), insecure=True), Host(mirror.host, insecure=True))
        registry = client(*hosts, source=with_user(server))
        repository(registry, server).manifest("1.0")
        assert mirror.headers_of("/manifests/", "authorization") == [""], "the registry's password went to a mirror"
        registry = client(*hosts, source=with_user(mirror))
        count = len(server.asked)
        repository(registry, server).manifest("1.0")
        assert len(server.asked) == count


def test_proxies_and_who_goes_without(client: Client) -> None:
    proxy, _ = serve()
    with proxy:
        through = Proxies(http=proxy.url, no_proxy=("direct.example",))
        registry = client(Host("far.example", insecure=True), Host("direct.example", insecure=True), proxies=through)
        proxy.hook = lambda handler, method, path: path.startswith("http://far.example/") and (
            handler.answer(200, b"{}", Content_Type=MANIFEST) or True)
        registry.transport.send("GET", "http://far.example/v2/a/manifests/b", Host("far.example", insecure=True)).close()
        assert proxy.requests("far.example") == ["GET http://far.example/v2/a/manifests/b"]
        with pytest.raises(RegistryError):
            registry.transport.send("GET", "http://direct.example/x", Host("direct.example"), retry=False)
        assert proxy.requests("direct.example") == []


def test_strange_answers_are_errors_of_ours(client: Client) -> None:
    server, _ = serve(auth="token")
    with server:
        for body in (b"", b"[]", b'{"token": 1}', b'{"token": "a\\nb"}', b"[" * 100_000, json.dumps({"token": ""}).encode()):
            server.hook = lambda handler, method, path, body=body: path.startswith("/token") and (  # type: ignore[misc]
                handler.answer(200, body) or True)
            with pytest.raises(RegistryError, match="no token"):
                repository(client(source=with_user(server)), server).manifest("1.0")
