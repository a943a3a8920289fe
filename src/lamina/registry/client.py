# SPDX-License-Identifier: Apache-2.0
"""A repository on a registry, as OCI distribution 1.1 and Docker's v2 API offer it: manifests, blobs, tags, referrers.

`Registry` is what all repositories of one command share; `Repository` speaks of one name, by its mirrors first (reading only). What is
read is at most as long as it should be and has the digest that was asked for, or it is an ArchiveError.
"""
from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode, urljoin

from lamina.errors import ArchiveError, Forbidden, InvalidArgument, LaminaError, NotFound, RegistryError
from lamina.spec import document, mediatype
from lamina.spec.reference import Reference, is_tag
from lamina.util.digest import check_digest, sha256_hex

from . import origin
from .auth import Authorizer, NoCredentials, Source
from .origin import Origin
from .settings import Host, Settings, endpoints
from .transport import ERROR_BODY, NoAnswer, Response, Transport, Wait

ACCEPTED = ", ".join((mediatype.OCI_INDEX, mediatype.DOCKER_LIST, mediatype.OCI_MANIFEST, mediatype.DOCKER_MANIFEST))
SCHEMA_1 = frozenset(("application/vnd.docker.distribution.manifest.v1+json", "application/vnd.docker.distribution.manifest.v1+prettyjws"))
CATALOG_LIMIT = 8 << 20  # bytes of one page
PAGES = 10_000


class Fetched:
    """A manifest as it came: exact bytes, their digest, the media type the registry gave."""

    __slots__ = ("content", "digest", "media_type")

    def __init__(self, content: bytes, digest: str, media_type: str) -> None:
        self.content = content
        self.digest = digest
        self.media_type = media_type


class Registry:
    """Connections, tokens and settings of one command. Shared by threads."""

    def __init__(self, settings: Settings, source: Source | None = None, *, wait: Wait | None = None) -> None:
        self.settings = settings
        self.transport = Transport(settings, wait=wait)
        self.authorizer = Authorizer(self.transport, source or NoCredentials())

    def repository(self, name: Reference, *, push: bool = False) -> Repository:
        return Repository(self, name, push=push)

    def send(self, method: str, place: Origin, host: Host, path: str, scopes: frozenset[str], **more: Any) -> Response:
        """A request below /v2/ of one endpoint (or to a URL of its own that it gave); a 401 is answered once."""
        url = path if path.startswith(("http://", "https://")) else place.url + path
        # A place for the upload elsewhere than at the registry gets no word of it.
        own = origin.parse(url) == place
        header = self.authorizer.known(place, scopes) if own else ""
        response = self.transport.send(method, url, host, authorization=header, **more)
        if response.status != 401 or not own:
            return response
        body = more.get("body")
        if body is not None and not isinstance(body, bytes) and not hasattr(body, "seek"):
            return response  # a stream can't be sent twice
        answer = self.authorizer.answer(response, place, host, scopes, refused=header)
        if not answer:
            return response
        response.close()
        if body is not None and not isinstance(body, bytes):
            body.seek(0)
        return self.transport.send(method, url, host, authorization=answer, **more)

    def ping(self, domain: str) -> None:
        """GET /v2/ of the registry itself with credentials, as `login` does. Forbidden if they are refused."""
        places = [entry for entry in endpoints(self.settings, domain) if entry[1].name == domain]
        for place, host in places:
            try:
                with self.send("GET", place, host, "/v2/", frozenset()) as response:
                    if response.status == 200:
                        return
                    if response.status in (401, 403):
                        raise Forbidden("unauthorized: incorrect username or password")
                    raise RegistryError(f'Get "{place.url}/v2/": answered {response.status}')
            except NoAnswer:
                if (place, host) == places[-1]:
                    raise


class Repository:
    """One repository of a registry: `name.domain` says where, `name.path` what."""

    def __init__(self, registry: Registry, name: Reference, *, push: bool = False) -> None:
        self.registry = registry
        self.name = name
        self.scopes = frozenset((f"repository:{name.path}:{'pull,push' if push else 'pull'}",))
        every = endpoints(registry.settings, name.domain)
        # Only the registry itself is written to.
        self._places = [entry for entry in every if entry[1].name == name.domain] if push else every
        self._chosen: tuple[Origin, Host] | None = None

    @property
    def endpoint(self) -> tuple[Origin, Host]:
        """Where the last answer came from."""
        return self._chosen or self._places[0]

    # -- manifests

    def manifest(self, reference: str) -> Fetched:
        """By tag or digest. NotFound, Forbidden, RegistryError; ArchiveError if it isn't what its digest says."""
        path = f"/v2/{self.name.path}/manifests/{_checked(reference)}"
        with self.ask("GET", path, headers={"Accept": ACCEPTED}) as response:
            if response.status != 200:
                raise self.error(response, reference)
            kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
            if kind in SCHEMA_1:
                raise ArchiveError(f"{self.name.familiar_name}:{reference} is a manifest of schema 1, which isn't read",
                                   hint="push the image again with a client of 2017 or later")
            content = response.read(document.MANIFEST_LIMIT)
        digest = "sha256:" + sha256_hex(content)
        if ":" in reference and digest != reference:
            raise ArchiveError(f"manifest of {self.name.familiar_name} has digest {digest} instead of {reference}")
        told = response.headers.get("Docker-Content-Digest", "")
        if told.startswith("sha256:") and told != digest:
            raise ArchiveError(f"manifest of {self.name.familiar_name} has digest {digest}, its registry says {told}")
        return Fetched(content, digest, kind)

    def manifest_digest(self, reference: str) -> str:
        """The digest that a tag has now, by HEAD; "" if the registry doesn't have it."""
        path = f"/v2/{self.name.path}/manifests/{_checked(reference)}"
        with self.ask("HEAD", path, headers={"Accept": ACCEPTED}) as response:
            if response.status == 404:
                return ""
            if response.status != 200:
                raise self.error(response, reference)
            told = response.headers.get("Docker-Content-Digest", "")
        return check_digest(told) if told else self.manifest(reference).digest

    def put_manifest(self, reference: str, content: bytes, media_type: str) -> str:
        """Its digest. The registry's own errors (a blob it doesn't have) come as RegistryError."""
        path = f"/v2/{self.name.path}/manifests/{_checked(reference)}"
        with self.ask("PUT", path, headers={"Content-Type": media_type}, body=content, retry=True) as response:
            if response.status not in (200, 201, 202):
                raise self.error(response, reference)
        return "sha256:" + sha256_hex(content)

    def delete_manifest(self, reference: str) -> None:
        path = f"/v2/{self.name.path}/manifests/{_checked(reference)}"
        with self.ask("DELETE", path) as response:
            if response.status not in (200, 202):
                raise self.error(response, reference)

    # -- blobs

    def has_blob(self, digest: str) -> int | None:
        """Its size, or None."""
        with self.ask("HEAD", f"/v2/{self.name.path}/blobs/{check_digest(digest)}") as response:
            if response.status == 404:
                return None
            if response.status != 200:
                raise self.error(response, digest)
            return response.length() or 0

    def blob(self, digest: str, start: int = 0, validator: str = "") -> Response:
        """The body of a blob from byte `start`; 206 if the server took the range, else 200 and all of it. The caller verifies and closes.

        validator: the ETag of the bytes before `start`; a server whose bytes have changed sends all of them (If-Range).
        """
        headers = {}
        if start:
            headers["Range"] = f"bytes={start}-"
            if validator:
                headers["If-Range"] = validator
        response = self.ask("GET", f"/v2/{self.name.path}/blobs/{check_digest(digest)}", headers=headers)
        if response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            return response
        if response.status == 200:
            return response
        with response:
            if response.status in (206, 416):
                raise RegistryError(f"{self.endpoint[0].authority}: another range came than was asked for", hint="range")
            raise self.error(response, digest)

    # -- lists

    def tags(self) -> list[str]:
        """All, in the registry's order."""
        found: list[str] = []
        for page in self.pages(f"/v2/{self.name.path}/tags/list"):
            tags = page.get("tags") or []
            if not isinstance(tags, list):
                raise ArchiveError(f"{self.endpoint[0].authority}: a list of tags that is none")
            # A tag that isn't one can't be asked for.
            found += [tag for tag in tags if isinstance(tag, str) and is_tag(tag)]
        return found

    def referrers(self, digest: str, artifact_type: str = "") -> list[dict[str, Any]]:
        """Descriptors of what refers to a manifest: by the API, or where a registry has none, by the tag sha256-HEX (OCI 1.1)."""
        query = "?" + urlencode({"artifactType": artifact_type}) if artifact_type else ""
        path = f"/v2/{self.name.path}/referrers/{check_digest(digest)}{query}"
        with self.ask("GET", path, headers={"Accept": mediatype.OCI_INDEX}) as response:
            kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
            if response.status == 200 and kind == mediatype.OCI_INDEX:
                content = response.read(document.MANIFEST_LIMIT)
            elif response.status in (200, 404, 405):
                content = b""
            else:
                raise self.error(response, digest)
        if not content:
            try:
                content = self.manifest(digest.replace(":", "-")).content
            except NotFound:
                return []
        entries = document.parse(content, "index of referrers", document.MANIFEST_LIMIT).get("manifests") or []
        return [entry for entry in entries if isinstance(entry, dict)
                and (not artifact_type or entry.get("artifactType") == artifact_type)]

    def pages(self, path: str, scopes: frozenset[str] | None = None) -> Iterator[dict[str, Any]]:
        """The documents of a list, along its Link headers (RFC 5988), on the same origin only."""
        seen: set[str] = set()
        while path not in seen and len(seen) < PAGES:
            seen.add(path)
            with self.ask("GET", path, scopes=scopes) as response:
                if response.status != 200:
                    raise self.error(response, "")
                link = response.headers.get("Link", "")
                yield document.parse(response.read(CATALOG_LIMIT), "list of a registry", CATALOG_LIMIT)
            target = link.partition("<")[2].partition(">")[0]
            if not target or 'rel="next"' not in link:
                return
            place = self.endpoint[0]
            after = urljoin(place.url + path, target)
            if origin.parse(after) != place:
                raise RegistryError(f"{place.authority}: its list goes on at another host, which is not followed")
            path = after[len(place.url):]
        raise RegistryError(f"{self.endpoint[0].authority}: its list has no end")

    # -- asking

    def ask(self, method: str, path: str, *, scopes: frozenset[str] | None = None, more_scopes: tuple[str, ...] = (),
            **more: Any) -> Response:
        """Of the place that answered before, or of each in turn: a mirror that fails or hasn't got it gives way to the next."""
        scopes = (self.scopes if scopes is None else scopes) | frozenset(more_scopes)
        if self._chosen is not None:
            return self.registry.send(method, *self._chosen, path, scopes, **more)
        for index, (place, host) in enumerate(self._places):
            last = index == len(self._places) - 1
            try:
                response = self.registry.send(method, place, host, path, scopes, **more)
            except NoAnswer:
                if last:
                    raise
                continue
            except (RegistryError, Forbidden):
                if host.name == self.name.domain:
                    raise
                continue
            if response.status >= 400 and not last and host.name != self.name.domain:
                response.close()
                continue
            if response.status < 400 or host.name == self.name.domain:
                self._chosen = (place, host)
            return response
        raise AssertionError("no endpoint")

    def error(self, response: Response, what: str) -> LaminaError:
        """The registry's answer as an error with docker's text."""
        said = registry_message(response)
        name = self.name.familiar_name
        if response.status in (401, 403):
            return Forbidden(
                f"pull access denied for {name}, repository does not exist or may require 'docker login'"
                + (f": {said}" if said else ": denied: requested access to the resource is denied"),
                hint=f"lamina login {self.name.domain}" if self.name.domain != "docker.io" else "lamina login")
        if response.status == 404:
            kind = "manifest" if "/manifests/" in response.url else "blob" if "/blobs/" in response.url else "repository"
            joined = f"{name}@{what}" if ":" in what else f"{name}:{what}" if what else name
            return NotFound(f"{kind} for {joined} not found: {said or f'{kind} unknown'}")
        if response.status == 429:
            return RegistryError(f"toomanyrequests: {said or f'{response.origin.authority} asks to wait'}", hint=_retry_hint(response))
        return RegistryError(f'{response.method.capitalize()} "{response.url}": answered {response.status}{": " + said if said else ""}')


def registry_message(response: Response) -> str:
    """"code: message" of the errors in a registry's answer (OCI distribution, Error Codes), made harmless; "" if there is none."""
    try:
        errors = json.loads(response.read(ERROR_BODY)).get("errors")
        parts = [f"{str(e.get('code', '')).lower().replace('_', ' ')}: {e.get('message', '')}" for e in errors[:3]]
    except (ValueError, AttributeError, TypeError, RecursionError, LaminaError):
        return ""
    return "".join(char if char.isprintable() else " " for char in ", ".join(parts))[:500]


def _retry_hint(response: Response) -> str:
    after = response.headers.get("Retry-After", "")
    return f"it says to wait {after} seconds" if after.isdigit() else ""


def _checked(reference: str) -> str:
    """A tag or digest as part of a path."""
    if ":" in reference:
        return check_digest(reference)
    if not is_tag(reference):
        raise InvalidArgument(f"invalid tag {reference[:128]!r}")
    return quote(reference, safe="")
