# SPDX-License-Identifier: Apache-2.0
"""Blobs and manifests up, and searching."""
from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from lamina.errors import Forbidden, NotSupported, RegistryError
from lamina.registry import search, upload
from lamina.registry.auth import Fixed
from lamina.registry.client import Registry, Repository
from lamina.registry.credentials import Credentials
from lamina.registry.settings import Host
from lamina.spec.reference import parse

from .registry_server import MANIFEST, RegistryServer, sha

Client = Callable[..., Registry]
DATA = b"0123456789abcdef" * 200_000


def target(client: Client, server: RegistryServer, name: str = "team/app", **more: Any) -> Repository:
    source = Fixed(server.host, Credentials("me", "secret"))
    return client(source=source, **more).repository(parse(f"{server.host}/{name}"), push=True)


@pytest.mark.parametrize("auth", ["", "basic", "token"])
def test_in_one_piece(client: Client, auth: str) -> None:
    with RegistryServer(auth=auth) as server:
        seen: list[int] = []
        done = upload.push(target(client, server), sha(DATA), len(DATA), io.BytesIO(DATA), seen.append)
        assert (done.digest, done.how, server.blobs[sha(DATA)] == DATA) == (sha(DATA), "pushed", True)
        assert max(seen) == len(DATA)


def test_sent_again_where_the_token_ran_out(client: Client) -> None:
    with RegistryServer(auth="token") as server:
        repository = target(client, server)
        assert repository.has_blob(sha(DATA)) is None

        def forget(handler: Any, method: str, path: str) -> bool:
            if method == "PUT":
                server.tokens.clear()
                server.tokens.add("none")
                server.hook = None
            return False

        server.hook = forget
        upload.push(repository, sha(DATA), len(DATA), io.BytesIO(DATA))
        assert server.blobs[sha(DATA)] == DATA


def test_as_a_stream(client: Client) -> None:
    with RegistryServer(auth="token") as server:
        done = upload.push_stream(target(client, server), (DATA[at:at + 65536] for at in range(0, len(DATA), 65536)))
        assert (done.digest, done.size, server.blobs[done.digest] == DATA) == (sha(DATA), len(DATA), True)


def test_mounted_from_a_neighbour(client: Client) -> None:
    with RegistryServer(auth="token") as server:
        server.add_blob("team/base", DATA)
        repository = target(client, server)
        assert upload.mount(repository, sha(DATA), "team/base")
        assert repository.has_blob(sha(DATA)) == len(DATA)
        assert not upload.mount(repository, sha(b"none"), "team/base")
        assert any("scope=repository%3Ateam%2Fbase%3Apull" in line for line in server.requests("/token"))
        assert server.requests("uploads/s")[-1].startswith("DELETE ")


def test_a_registry_that_refuses(client: Client) -> None:
    with RegistryServer() as server:
        server.hook = lambda handler, method, path: method == "PUT" and (handler.error(400, "DIGEST_INVALID", "not that") or True)
        with pytest.raises(RegistryError, match="digest invalid: not that"):
            upload.push(target(client, server), sha(DATA), len(DATA), io.BytesIO(DATA))
        server.hook = lambda handler, method, path: method == "POST" and (handler.error(403, "DENIED", "read only") or True)
        with pytest.raises(Forbidden, match="read only"):
            upload.push(target(client, server), sha(DATA), len(DATA), io.BytesIO(DATA))


def test_a_place_for_the_upload_elsewhere_gets_no_password(client: Client, tls: tuple[str, str, str]) -> None:
    ca, cert, key = tls
    with RegistryServer() as storage, RegistryServer(auth="basic") as server, RegistryServer(auth="basic", tls=(cert, key)) as secure:
        storage.uploads["x"] = bytearray()

        def elsewhere(handler: Any, method: str, path: str) -> bool:
            if method != "POST":
                return False
            handler.answer(202, Location=f"{storage.url}/v2/team/app/blobs/uploads/x")
            return True

        server.hook = secure.hook = elsewhere
        upload.push(target(client, server), sha(DATA), len(DATA), io.BytesIO(DATA))
        assert storage.headers_of("uploads", "authorization") == [""]
        count = len(storage.asked)
        with pytest.raises(RegistryError, match="from https to http"):
            host = Host(secure.host, ca=ca)
            upload.push(target(lambda **more: client(host, **more), secure), sha(DATA), len(DATA), io.BytesIO(DATA))
        assert len(storage.asked) == count


def test_manifests_are_put_as_they_are(client: Client) -> None:
    with RegistryServer() as server:
        content = json.dumps({"schemaVersion": 2, "note": "as it is"}, indent=3).encode()
        repository = target(client, server)
        assert repository.put_manifest("1.0", content, MANIFEST) == sha(content)
        assert server.manifests["team/app", "1.0"] == (content, MANIFEST)
        repository.delete_manifest(sha(content))
        assert ("team/app", sha(content)) not in server.manifests


def test_a_mirror_is_not_written_to(client: Client) -> None:
    with RegistryServer() as server, RegistryServer() as mirror:
        repository = target(lambda **more: client(Host(server.host, mirrors=(mirror.url,), insecure=True), **more), server)
        upload.push(repository, sha(DATA), len(DATA), io.BytesIO(DATA))
        assert mirror.asked == []


def test_search_in_docker_ios_index(client: Client) -> None:
    answer = {"results": [{"name": "ubuntu", "description": "An OS", "star_count": 7, "is_official": True}, {"name": 3}, "x"]}
    with RegistryServer() as server:
        server.hook = lambda handler, method, path: path.startswith("/v1/search") and (
            handler.answer(200, json.dumps(answer).encode()) or True)
        registry = client(Host("index.docker.io", mirrors=(server.url,)))
        rows = search.search(registry, "ubuntu", 5)
        assert rows == [{"name": "ubuntu", "description": "An OS", "star_count": 7, "is_official": True, "is_automated": False}]
        assert server.requests("search") == ["GET /v1/search?q=ubuntu&n=5"]
        server.hook = lambda handler, method, path: handler.answer(500) or True
        with pytest.raises(NotSupported):
            search.search(client(Host("index.docker.io", mirrors=(server.url,))), "ubuntu", 5)


def test_search_elsewhere_is_in_the_catalog(client: Client) -> None:
    with RegistryServer(auth="token") as server:
        for name in ("team/app", "team/base", "other"):
            server.add_manifest(name, {}, "1")
        registry = client(source=Fixed(server.host, Credentials("me", "secret")))
        names = [row["name"] for row in search.search(registry, f"{server.host}/team", 25)]
        assert names == [f"{server.host}/team/app", f"{server.host}/team/base"]
        assert len(search.search(registry, f"{server.host}/team", 1)) == 1
        assert any("scope=registry%3Acatalog" in line for line in server.requests("/token"))
