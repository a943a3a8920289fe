# SPDX-License-Identifier: Apache-2.0
"""Blobs up (OCI distribution 1.1, Pushing Blobs): mounted from a neighbour, in one piece where the size is known, else as a stream.

The place for an upload comes from the registry and may be elsewhere; Authorization stays at the registry's origin.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO
from urllib.parse import urlencode, urljoin, urlsplit

from lamina.errors import RegistryError
from lamina.util.digest import PREFIX, check_digest, new_sha256

from . import origin
from .client import Repository
from .transport import CHUNK, Response

Progress = Callable[[int], None]


class Uploaded:
    """What the registry has now. how: "exists", "mounted" or "pushed"."""

    __slots__ = ("digest", "size", "how")

    def __init__(self, digest: str, size: int, how: str) -> None:
        self.digest = digest
        self.size = size
        self.how = how


def mount(repository: Repository, digest: str, source: str) -> bool:
    """Whether the registry took the blob over from another of its repositories (its path), without a byte sent."""
    query = urlencode({"mount": check_digest(digest), "from": source})
    with repository.ask("POST", f"{_uploads(repository)}?{query}", more_scopes=(f"repository:{source}:pull",)) as response:
        if response.status == 201:
            return True
        if response.status == 202:
            _cancel(repository, response)
            return False
        if response.status in (401, 403, 404, 405):
            return False  # it may not be read there: then it's pushed
        raise repository.error(response, digest)


def push(repository: Repository, digest: str, size: int, body: IO[bytes], progress: Progress | None = None) -> Uploaded:
    """A blob whose digest and size are known: POST, then one PUT of all of it."""
    place = _with_query(_begin(repository), {"digest": check_digest(digest)})
    stream = _Counted(body, progress)
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
    with repository.ask("PUT", place, headers=headers, body=stream) as response:
        if response.status != 201:
            raise repository.error(response, digest)
    return Uploaded(digest, size, "pushed")


def push_stream(repository: Repository, chunks: Iterator[bytes], progress: Progress | None = None) -> Uploaded:
    """A blob that is being made: a PATCH of its bytes as they come, then the PUT that names its digest. Not repeatable."""
    place = _begin(repository)
    digest, size = new_sha256(), 0

    def counted() -> Iterator[bytes]:
        nonlocal size
        for data in chunks:
            digest.update(data)
            size += len(data)
            if progress is not None:
                progress(size)
            yield data

    headers = {"Content-Type": "application/octet-stream", "Transfer-Encoding": "chunked"}
    with repository.ask("PATCH", place, headers=headers, body=counted()) as response:
        if response.status not in (202, 204):
            raise repository.error(response, "")
        place = _location(response, place)
    name = PREFIX + digest.hexdigest()
    with repository.ask("PUT", _with_query(place, {"digest": name}), headers={"Content-Length": "0"}) as response:
        if response.status != 201:
            raise repository.error(response, name)
    return Uploaded(name, size, "pushed")


def _uploads(repository: Repository) -> str:
    return f"/v2/{repository.name.path}/blobs/uploads/"


def _begin(repository: Repository) -> str:
    with repository.ask("POST", _uploads(repository), headers={"Content-Length": "0"}) as response:
        if response.status != 202:
            raise repository.error(response, "")
        return _location(response, response.url)


def _location(response: Response, base: str) -> str:
    """Where the upload goes on. Under the same rules as a redirect: neither to less than https nor, from elsewhere, to this machine."""
    target = response.headers.get("Location", "")
    if not target:
        raise RegistryError(f"{response.origin.authority} gives no place for an upload")
    place = urljoin(base, target)
    # Registries behind a proxy that ends TLS name themselves by http: their own host is asked as before.
    own, named = response.origin, origin.parse(place)
    plain_port = 80 if own.port == 443 else own.port
    if (own.scheme, named.scheme, named.host) == ("https", "http", own.host) and named.port in (own.port, plain_port):
        parts = urlsplit(place)
        place, named = own.url + parts.path + ("?" + parts.query if parts.query else ""), own
    problem = origin.may_follow(own, named)
    if problem:
        raise RegistryError(f"{response.origin.authority} names a place for an upload that isn't used: {problem}")
    return place


def _cancel(repository: Repository, response: Response) -> None:
    """An upload that the registry began instead of mounting: it isn't needed. Failing to say so harms nobody."""
    try:
        with repository.ask("DELETE", _location(response, response.url)):
            pass
    except RegistryError:
        pass


def _with_query(url: str, fields: dict[str, str]) -> str:
    return url + ("&" if urlsplit(url).query else "?") + urlencode(fields)


class _Counted:
    """A file that tells how far it was read; seeking back (a repeated request) starts the count anew."""

    def __init__(self, body: IO[bytes], progress: Progress | None) -> None:
        self._body = body
        self._progress = progress
        self._start = body.tell()
        self._done = 0

    def read(self, size: int = -1) -> bytes:
        data = self._body.read(CHUNK if size < 0 else size)
        self._done += len(data)
        if self._progress is not None:
            self._progress(self._done)
        return data

    def seek(self, offset: int) -> int:
        """Only back to the beginning."""
        assert offset == 0
        self._done = 0
        return self._body.seek(self._start)

    def tell(self) -> int:
        return 0 if self._done == 0 else self._done
