# SPDX-License-Identifier: Apache-2.0
"""Origins (RFC 6454: scheme, host, port) and what may be said to whom. Pure; the policy of attacks.md 49 in one place.

Credentials belong to an origin. They follow neither a redirect nor a URL that a manifest names.
"""
from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from lamina.errors import InvalidArgument

DEFAULT_PORTS = {"http": 80, "https": 443}
# The registry of docker.io's names answers elsewhere; its credentials have a name of their own in docker's config.json.
DOCKER_HUB_HOST = "registry-1.docker.io"
DOCKER_HUB_KEY = "https://index.docker.io/v1/"


class Origin:
    """scheme "http" or "https", host without brackets in lower case, port."""

    __slots__ = ("scheme", "host", "port")

    def __init__(self, scheme: str, host: str, port: int) -> None:
        self.scheme = scheme
        self.host = host
        self.port = port

    @property
    def authority(self) -> str:
        """host[:port] as a URL has it: without the port that the scheme implies."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}"

    def is_local(self) -> bool:
        """Whether the host is written as this machine or its link: a name that has to be resolved isn't."""
        return is_local_host(self.host)

    def is_loopback(self) -> bool:
        address = _address(self.host)
        return self.host == "localhost" or (address is not None and address.is_loopback)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origin) and (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port)

    def __hash__(self) -> int:
        return hash((self.scheme, self.host, self.port))

    def __repr__(self) -> str:
        return f"Origin({self.url!r})"


def parse(url: str) -> Origin:
    """The origin of an absolute http(s) URL. InvalidArgument for any other, and for one that carries a user or control characters."""
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise InvalidArgument(f"not a URL: {url[:200]!r}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidArgument(f"not a URL: {url[:200]!r}") from None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise InvalidArgument(f"not an http or https URL: {url[:200]!r}")
    if parts.username is not None or parts.password is not None:
        raise InvalidArgument(f"a URL with a user or password is refused: {parts.scheme}://...@{parts.hostname}")
    return Origin(parts.scheme, parts.hostname.lower().rstrip("."), DEFAULT_PORTS[parts.scheme] if port is None else port)


def of_domain(domain: str, scheme: str = "https") -> Origin:
    """Where the registry of a reference's domain answers."""
    return parse(f"{scheme}://{DOCKER_HUB_HOST if domain == 'docker.io' else domain}")


def is_local_host(host: str) -> bool:
    """localhost, and literal loopback, link-local and unspecified addresses in every spelling that a resolver takes."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    if address is None:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    return address.is_loopback or address.is_link_local or address.is_unspecified


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    # inet_aton's forms: 127.1, 0x7f000001, 0177.0.0.1 and 2130706433 are addresses for the resolver as well.
    import socket

    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def may_follow(source: Origin, target: Origin) -> str:
    """Why a redirect from source must not be followed, or "". Never to less than https, never to this machine from elsewhere."""
    if source.scheme == "https" and target.scheme != "https":
        return "it leads from https to http"
    if target.is_local() and not source.is_local():
        return "it leads to an address of this machine or link"
    return ""


def may_ask_for_token(registry: Origin, realm: Origin, *, insecure: bool) -> str:
    """Why the token realm that a registry names must not be asked, or ""."""
    if realm.scheme != "https" and not insecure:
        return "it is not https"
    if realm.is_local() and not registry.is_local():
        return "it is an address of this machine or link"
    return ""
