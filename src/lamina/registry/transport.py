# SPDX-License-Identifier: Apache-2.0
"""One HTTP exchange at a time with registries: TLS, proxies, redirects under a policy, retries with back-off, limits on what is read.

`Transport.send` answers with the response of the place where the redirects end. Authorization goes to the first origin alone. Errors of
the connection have docker's shape: `Get "https://host/v2/": reason`.
"""
from __future__ import annotations

import email.utils
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any
from urllib.parse import urljoin

import urllib3
from urllib3.util import Retry, Timeout

from lamina.errors import InvalidArgument, RegistryError

from . import origin
from .origin import Origin
from .settings import Host, Settings

USER_AGENT = "lamina"
CONNECT_TIMEOUT = 15.0
READ_TIMEOUT = 60.0  # without a byte
REDIRECTS = 5
ATTEMPTS = 5
BACK_OFF = 0.5  # seconds, doubled each time
LONGEST_WAIT = 60.0  # of a Retry-After that is honoured
ERROR_BODY = 64 << 10
CHUNK = 1 << 20
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_AGAIN = frozenset((408, 429, 500, 502, 503, 504))

Wait = Callable[[float, str], None]
Body = Any  # bytes, or a file that urllib3 reads


class NoAnswer(RegistryError):
    """Nothing came back: no connection, no TLS. Another endpoint may do better."""


class Response(AbstractContextManager["Response"]):
    """status, headers (any case), where it came from; the body is read once, in pieces, or whole up to a limit."""

    def __init__(self, raw: urllib3.BaseHTTPResponse, url: str, origin_: Origin, redirected: bool, method: str) -> None:
        self._raw = raw
        self.url = url
        self.origin = origin_
        self.redirected = redirected
        self.method = method
        self._ended = method == "HEAD"
        self.status: int = raw.status
        self.headers: Mapping[str, str] = raw.headers

    def all(self, name: str) -> list[str]:
        """Every line of a header that may come several times."""
        return list(self._raw.headers.getlist(name)) if isinstance(self._raw.headers, urllib3.HTTPHeaderDict) else []

    def length(self) -> int | None:
        """Content-Length, if it is there and a number."""
        text = self.headers.get("Content-Length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None

    def chunks(self) -> Iterator[bytes]:
        """The body as it comes, not decoded. RegistryError when the connection breaks, or ends before what was promised."""
        try:
            while data := self._raw.read(CHUNK, decode_content=False):
                yield data
            self._ended = True
        except (urllib3.exceptions.HTTPError, OSError) as e:
            raise RegistryError(f"{_verb(self.method)} {self.url!r}: the connection broke: {_reason(e)}".replace("'", '"')) from None

    def read(self, limit: int) -> bytes:
        """All of the body. RegistryError beyond `limit` bytes."""
        parts, size = [], 0
        for data in self.chunks():
            size += len(data)
            if size > limit:
                raise RegistryError(f'{_verb(self.method)} "{self.url}": more than {limit} bytes came')
            parts.append(data)
        return b"".join(parts)

    def close(self) -> None:
        """Gives the connection back, after a short rest of the body; closes it if there is more to come."""
        rest = self.length()
        if self._ended or (rest is not None and rest <= ERROR_BODY):
            self._raw.drain_conn()
        else:
            self._raw.close()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Transport:
    """Shared by threads. `wait(seconds, why)` sleeps; the faces may show why."""

    def __init__(self, settings: Settings, *, wait: Wait | None = None) -> None:
        self.settings = settings
        self._wait = (lambda seconds, why: time.sleep(seconds)) if wait is None else wait
        self._pools: dict[tuple[Origin, Host], urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def send(self, method: str, url: str, host: Host, *, headers: Mapping[str, str] | None = None, body: Body = None,
             authorization: str = "", retry: bool | None = None) -> Response:
        """Sends it, again where that is safe and may help, and follows redirects of GET and HEAD.

        host: what is set for the registry that is asked. retry: by default for GET and HEAD. RegistryError if there is no answer.
        """
        first = origin.parse(url)
        again = method in ("GET", "HEAD") if retry is None else retry
        attempt = 0
        while True:
            attempt += 1
            last = not again or attempt >= ATTEMPTS
            try:
                response = self._follow(method, url, first, host, dict(headers or {}), body, authorization)
            except _Broken as broken:
                if last or not broken.transient:
                    raise NoAnswer(broken.text, hint=broken.hint) from None
                self._wait(BACK_OFF * 2 ** (attempt - 1), broken.text)
                continue
            if response.status not in _AGAIN or last:
                return response
            pause, why = _pause(response, attempt), f"{first.authority} answered {response.status}"
            if pause > LONGEST_WAIT:
                return response
            response.close()
            self._wait(pause, why)

    # -- one attempt

    def _follow(self, method: str, url: str, first: Origin, host: Host, headers: dict[str, str], body: Body,
                authorization: str) -> Response:
        place, current = first, url
        for _ in range(REDIRECTS + 1):
            sent = dict(headers)
            if authorization and place == first:
                sent["Authorization"] = authorization
            raw = self._once(method, current, place, host if place == first else self.settings.host(place.authority), sent, body)
            target = raw.headers.get("Location", "")
            if raw.status not in _REDIRECTS or method not in ("GET", "HEAD") or not target:
                return Response(raw, current, place, place != first or current != url, method)
            raw.close()
            after = urljoin(current, target)
            try:
                next_place = origin.parse(after)
                problem = origin.may_follow(place, next_place)
            except InvalidArgument as e:
                problem = e.message
            if problem:
                raise RegistryError(f'{_verb(method)} "{current}": its redirect is not followed: {problem}')
            current, place = after, next_place
        raise RegistryError(f'{_verb(method)} "{url}": more than {REDIRECTS} redirects')

    def _once(self, method: str, url: str, place: Origin, host: Host, headers: dict[str, str], body: Body) -> urllib3.BaseHTTPResponse:
        headers.setdefault("User-Agent", USER_AGENT)
        headers.setdefault("Accept-Encoding", "identity")  # a digest is of the bytes as they are
        try:
            return self._pool(place, host).request(
                method, url, headers=headers, body=body, redirect=False, retries=Retry(0, redirect=False, raise_on_status=False),
                preload_content=False, decode_content=False, timeout=Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT))
        except urllib3.exceptions.MaxRetryError as e:
            raise _Broken(method, url, e.reason or e) from None
        except (urllib3.exceptions.HTTPError, OSError) as e:
            raise _Broken(method, url, e) from None

    def _pool(self, place: Origin, host: Host) -> urllib3.PoolManager:
        key = (place, host)
        with self._lock:
            pool = self._pools.get(key)
            if pool is None:
                pool = self._pools[key] = self._make_pool(place, host)
            return pool

    def _make_pool(self, place: Origin, host: Host) -> urllib3.PoolManager:
        options: dict[str, Any] = {"maxsize": self.settings.parallel + 2, "block": False}
        if place.scheme == "https":
            options["ssl_context"] = tls_context(place, host, self.settings)
        proxy = _proxy_for(place, self.settings)
        if proxy:
            try:
                return urllib3.ProxyManager(proxy, proxy_headers=_proxy_headers(proxy), **options)
            except (ValueError, urllib3.exceptions.HTTPError):
                raise InvalidArgument(f"not a proxy's URL: {_without_user(proxy)[:200]}") from None
        return urllib3.PoolManager(**options)


def tls_context(place: Origin, host: Host, settings: Settings) -> ssl.SSLContext:
    """Trust of the system (or SSL_CERT_FILE), of `ca`, and of certs.d/HOST[:PORT]/*.crt; client certificates likewise.

    InvalidArgument names the file that can't be used.
    """
    path = ""
    try:
        path = settings.ca_file
        context = ssl.create_default_context(cafile=path or None)
        if host.insecure:
            # The user has said so; urllib3 would say it again with each request.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        path = host.ca
        if path:
            context.load_verify_locations(path)
        path = host.client_cert
        if path:
            context.load_cert_chain(path, host.client_key)
        for directory in _certs_directories(place, settings):
            for name in sorted(os.listdir(directory)):
                path = f"{directory}/{name}"
                if name.endswith(".crt"):
                    context.load_verify_locations(path)
                elif name.endswith(".cert"):
                    context.load_cert_chain(path, path[:-5] + ".key")
    except (OSError, ssl.SSLError) as e:
        raise InvalidArgument(f"{path}: {e.strerror or e}") from None
    return context


def _certs_directories(place: Origin, settings: Settings) -> list[str]:
    host = f"[{place.host}]" if ":" in place.host else place.host
    names = [f"{host}:{place.port}"] + ([host] if place.port == 443 else [])
    if place.host == origin.DOCKER_HUB_HOST:
        names.append("docker.io")
    return [found for base in settings.certs_d for name in names if os.path.isdir(found := f"{base}/{name}")]


def _proxy_for(place: Origin, settings: Settings) -> str:
    proxy = settings.proxies.https if place.scheme == "https" else settings.proxies.http
    if not proxy or place.is_local():
        return ""
    for entry in settings.proxies.no_proxy:
        if _no_proxy(entry.strip().lower(), place):
            return ""
    return proxy if "://" in proxy else "http://" + proxy


def _no_proxy(entry: str, place: Origin) -> bool:
    """"*", a host and all below it, ".domain", host:port, an address or a network: as the environment variable is read by Go programs."""
    import ipaddress

    if entry == "*":
        return True
    if not entry:
        return False
    try:
        return ipaddress.ip_address(place.host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        pass
    name, colon, port = entry.rpartition(":")
    if colon and port.isdigit():
        if int(port) != place.port:
            return False
        entry = name
    bare = entry.lstrip("*").lstrip(".")
    return (place.host == bare and not entry.startswith((".", "*"))) or place.host.endswith("." + bare)


def _proxy_headers(proxy: str) -> Any:
    auth = urllib3.util.parse_url(proxy).auth
    return urllib3.make_headers(proxy_basic_auth=auth) if auth else None


def _without_user(url: str) -> str:
    scheme, separator, rest = url.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]


def _pause(response: Response, attempt: int) -> float:
    """Seconds: what Retry-After says (a number or a date), else the back-off."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    if text:
        try:
            date: float = email.utils.parsedate_to_datetime(text).timestamp()
            return max(0.0, date - time.time())
        except (ValueError, TypeError, OverflowError):
            pass
    return float(BACK_OFF * 2 ** (attempt - 1))


def _verb(method: str) -> str:
    return method.capitalize()


class _Broken(Exception):
    """No answer: the text as docker's, and whether another try may help."""

    def __init__(self, method: str, url: str, cause: BaseException) -> None:
        super().__init__()
        self.text = f'{_verb(method)} "{url}": {_reason(cause)}'
        tls = _cause(cause, ssl.SSLError)
        self.transient = tls is None and _cause(cause, ConnectionRefusedError) is None and _cause(cause, OSError, "gaierror") is None
        self.hint = ""
        if isinstance(tls, ssl.SSLCertVerificationError):
            self.hint = "give its CA by lamina.toml (ca), certs.d or SSL_CERT_FILE"
        elif tls is not None and "WRONG_VERSION_NUMBER" in str(tls):
            self.hint = "a registry without TLS has to be set insecure in lamina.toml"


def _reason(error: BaseException) -> str:
    """Short words for what went wrong, as Go says them where people know them."""
    tls = _cause(error, ssl.SSLError)
    if isinstance(tls, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: {tls.verify_message}"
    if isinstance(tls, ssl.SSLError):
        text = str(tls)
        return "http: server gave HTTP response to HTTPS client" if "WRONG_VERSION_NUMBER" in text else f"tls: {tls.reason or text}"
    if _cause(error, ConnectionRefusedError) is not None:
        return "connect: connection refused"
    if (name := _cause(error, OSError, "gaierror")) is not None:
        return f"dial tcp: lookup: {name.args[-1] if name.args else 'no such host'}"
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return "timed out waiting for an answer"
    os_error = _cause(error, OSError)
    if isinstance(os_error, OSError) and os_error.strerror:
        return os_error.strerror.lower()
    return str(error.args[-1] if error.args else error)[:200]


def _cause(error: BaseException | None, kind: type[BaseException], name: str = "") -> BaseException | None:
    """The first error of a kind among an error, its arguments, reasons and causes."""
    todo: list[Any] = [error]
    seen: set[int] = set()
    while todo:
        item = todo.pop(0)
        if not isinstance(item, BaseException) or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, kind) and (not name or type(item).__name__ == name):
            return item
        todo += [getattr(item, "reason", None), item.__cause__, item.__context__, *item.args]
    return None
