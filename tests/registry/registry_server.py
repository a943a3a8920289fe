# SPDX-License-Identifier: Apache-2.0
"""A registry of our own for tests: OCI distribution's API over HTTP or TLS, with token or basic authentication, and faults on request.

Everything it was asked is in `asked` as (method, path, headers). `hook(handler, method, path)` may answer first and return True.
"""
from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def sha(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class _Server(ThreadingHTTPServer):
    """Ends its connections with itself, and waits for their threads: later tests in this process may have none beside them."""

    daemon_threads = False
    block_on_close = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.open: list[socket.socket] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.append(request)
        super().process_request(request, client_address)

    def server_close(self) -> None:
        for request in self.open:
            try:
                request.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended already
        super().server_close()


class RegistryServer:
    def __init__(self, *, auth: str = "", user: str = "me", password: str = "secret", tls: tuple[str, str] | None = None,
                 host: str = "127.0.0.1") -> None:
        self.auth, self.user, self.password = auth, user, password
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[bytes, str]] = {}
        self.repository_blobs: set[tuple[str, str]] = set()
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.tokens: set[str] = set()
        self.uploads: dict[str, bytearray] = {}
        self.hook: Callable[[Any, str, str], bool] | None = None
        self.realm = ""  # "" is this server's own /token
        self.ranges = True
        self.etag = '"1"'
        self.referrers_api = True
        owner = self

        class Handler(_Handler):
            server_state = owner

        self.server = _Server((host, 0), Handler)
        self.scheme = "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            self.scheme = "https"
        self.port = self.server.server_address[1]
        self.host = f"{host}:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def __enter__(self) -> RegistryServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- what it holds

    def add_blob(self, repository: str, data: bytes) -> dict[str, Any]:
        digest = sha(data)
        self.blobs[digest] = data
        self.repository_blobs.add((repository, digest))
        return {"digest": digest, "size": len(data)}

    def add_manifest(self, repository: str, document: dict[str, Any] | bytes, *names: str, media_type: str = MANIFEST) -> dict[str, Any]:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        for name in (*names, sha(content)):
            self.manifests[repository, name] = (content, media_type)
        return {"mediaType": media_type, "digest": sha(content), "size": len(content)}

    def requests(self, part: str = "") -> list[str]:
        return [f"{method} {path}" for method, path, _ in self.asked if part in path]

    def headers_of(self, part: str, name: str) -> list[str]:
        return [headers.get(name.lower(), "") for _, path, headers in self.asked if part in path]


class _Handler(BaseHTTPRequestHandler):
    server_state: RegistryServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def error(self, status: int, code: str, message: str, **headers: str) -> None:
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self.answer(status, body, Content_Type="application/json", **headers)

    def handle_any(self) -> None:
        state = self.server_state
        state.asked.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}))
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self._chunked() if self.headers.get("Transfer-Encoding") == "chunked" else self.rfile.read(length)
        try:
            if state.hook is not None and state.hook(self, self.command, self.path):
                return
            path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
            if path == "/token":
                return self._token(query)
            if not self._allowed(path):
                return None
            self._v2(path, query)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = handle_any

    def _chunked(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _basic(self) -> bool:
        expected = base64.b64encode(f"{self.server_state.user}:{self.server_state.password}".encode()).decode()
        return self.headers.get("Authorization", "") == f"Basic {expected}"

    def _token(self, query: dict[str, list[str]]) -> None:
        state = self.server_state
        if self.command == "POST":
            form = parse_qs(self.body.decode())
            good = form.get("refresh_token") == ["identity-of-" + state.user]
        else:
            good = self._basic() or (state.auth == "anonymous" and not self.headers.get("Authorization"))
        if not good:
            return self.error(401, "UNAUTHORIZED", "who are you?")
        token = f"token-{len(state.tokens)}"
        state.tokens.add(token)
        self.answer(200, json.dumps({"token": token, "expires_in": 300}).encode(), Content_Type="application/json")

    def _allowed(self, path: str) -> bool:
        state = self.server_state
        header = self.headers.get("Authorization", "")
        if not state.auth or (state.auth == "basic" and self._basic()) or header.removeprefix("Bearer ") in state.tokens:
            return True
        realm = state.realm or f"{state.url}/token"
        challenge = 'Basic realm="here"' if state.auth == "basic" else f'Bearer realm="{realm}",service="tests"'
        self.error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=challenge)
        return False

    def _v2(self, path: str, query: dict[str, list[str]]) -> None:
        state = self.server_state
        if path == "/v2/":
            return self.answer(200, b"{}")
        if path == "/v2/_catalog":
            names = sorted({name for name, _ in state.manifests})
            return self.answer(200, json.dumps({"repositories": names}).encode())
        if match := re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", path):
            return self._manifest(*match.groups())
        if match := re.fullmatch(r"/v2/(.+)/blobs/uploads/([^/]*)", path):
            return self._upload(*match.groups(), query)
        if match := re.fullmatch(r"/v2/(.+)/blobs/([^/]+)", path):
            return self._blob(*match.groups())
        if match := re.fullmatch(r"/v2/(.+)/referrers/([^/]+)", path):
            return self._referrers(*match.groups())
        if match := re.fullmatch(r"/v2/(.+)/tags/list", path):
            return self._tags(match.group(1), query)
        self.error(404, "UNSUPPORTED", "no such thing")

    def _manifest(self, name: str, reference: str) -> None:
        state = self.server_state
        if self.command == "PUT":
            kind = self.headers.get("Content-Type", "")
            state.add_manifest(name, self.body, *([] if ":" in reference else [reference]), media_type=kind)
            return self.answer(201, Docker_Content_Digest=sha(self.body), Location=self.path)
        found = state.manifests.get((name, reference))
        if found is None:
            return self.error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        if self.command == "DELETE":
            del state.manifests[name, reference]
            return self.answer(202)
        content, kind = found
        self.answer(200, content, Content_Type=kind, Docker_Content_Digest=sha(content))

    def _blob(self, name: str, digest: str) -> None:
        state = self.server_state
        data = state.blobs.get(digest)
        if data is None or (name, digest) not in state.repository_blobs:
            return self.error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if start and state.ranges and self.headers.get("If-Range", state.etag) == state.etag and int(start[1]) < len(data):
            at = int(start[1])
            return self.answer(206, data[at:], Content_Range=f"bytes {at}-{len(data) - 1}/{len(data)}", ETag=state.etag)
        self.answer(200, data, ETag=state.etag, Accept_Ranges="bytes")

    def _upload(self, name: str, session: str, query: dict[str, list[str]]) -> None:
        state = self.server_state
        if self.command == "POST":
            source = query.get("from", [""])[0]
            mount = query.get("mount", [""])[0]
            if mount and (source, mount) in state.repository_blobs:
                state.repository_blobs.add((name, mount))
                return self.answer(201, Location=f"/v2/{name}/blobs/{mount}")
            session = f"s{len(state.uploads)}"
            state.uploads[session] = bytearray()
        elif session not in state.uploads:
            return self.error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        else:
            state.uploads[session] += self.body
        data = bytes(state.uploads[session])
        place = f"/v2/{name}/blobs/uploads/{session}"
        if self.command == "PUT":
            digest = query.get("digest", [""])[0]
            if sha(data) != digest:
                return self.error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
            state.add_blob(name, data)
            return self.answer(201, Location=f"/v2/{name}/blobs/{digest}", Docker_Content_Digest=digest)
        self.answer(202, Location=place, Range=f"0-{max(len(data) - 1, 0)}", Docker_Upload_UUID=session)

    def _referrers(self, name: str, digest: str) -> None:
        state = self.server_state
        if not state.referrers_api:
            return self.error(404, "UNSUPPORTED", "not here")
        found = []
        for (repository, reference), (content, kind) in state.manifests.items():
            if repository != name or ":" not in reference:
                continue
            document = json.loads(content)
            if (document.get("subject") or {}).get("digest") == digest:
                entry = {"mediaType": kind, "digest": reference, "size": len(content), "artifactType": document.get("artifactType", "")}
                found.append(entry)
        self.answer(200, json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": found}).encode(), Content_Type=INDEX)

    def _tags(self, name: str, query: dict[str, list[str]]) -> None:
        state = self.server_state
        tags = sorted(reference for repository, reference in state.manifests if repository == name and ":" not in reference)
        if not tags:
            return self.error(404, "NAME_UNKNOWN", "repository name not known to registry")
        last = query.get("last", [""])[0]
        tags = [tag for tag in tags if tag > last]
        page = tags[:2]
        more = {"Link": f'</v2/{name}/tags/list?n=2&last={page[-1]}>; rel="next"'} if len(tags) > 2 else {}
        self.answer(200, json.dumps({"name": name, "tags": page}).encode(), **more)
