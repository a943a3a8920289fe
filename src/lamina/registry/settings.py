# SPDX-License-Identifier: Apache-2.0
"""What the user has said of registries: `lamina.toml`'s tables `[registries]`, certificates, proxies. Pure data; the faces read the files.

    [registries]
    default = "docker.io"                 # what a name without a host means
    search = ["docker.io", "quay.io"]     # where such a name is looked for, in this order (without it: the default alone)
    parallel = 5                          # blobs at once
    [registries.short-names]
    tools = "registry.example.com/team/tools"
    [registries.host."docker.io"]
    mirrors = ["https://mirror.example.com"]   # asked first, in this order
    insecure = false                      # true: plain http, and any certificate
    ca = "/etc/ssl/team.pem"
    client-cert = "/etc/ssl/me.pem"
    client-key = "/etc/ssl/me.key"

A mirror is a host of its own: its certificates, credentials and `insecure` stand under its own name (`host."mirror.example.com"`).
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lamina.errors import InvalidArgument
from lamina.spec import reference

from . import origin
from .origin import Origin

PARALLEL = 5


@dataclass(frozen=True)
class Host:
    """One registry or mirror, by the name that references use for it (host[:port])."""

    name: str
    mirrors: tuple[str, ...] = ()
    insecure: bool = False
    ca: str = ""
    client_cert: str = ""
    client_key: str = ""


@dataclass(frozen=True)
class Proxies:
    """URLs as HTTP_PROXY, HTTPS_PROXY and NO_PROXY give them."""

    http: str = ""
    https: str = ""
    no_proxy: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settings:
    default: str = reference.DEFAULT_DOMAIN
    search: tuple[str, ...] = ()
    short_names: dict[str, str] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    parallel: int = PARALLEL
    proxies: Proxies = Proxies()
    ca_file: str = ""  # SSL_CERT_FILE
    certs_d: tuple[str, ...] = ("/etc/lamina/certs.d", "/etc/docker/certs.d")

    def host(self, name: str) -> Host:
        """What is set for a host; as docker, a registry at a loopback address may speak plain http unless something is set."""
        return self.hosts.get(name) or Host(name, insecure=name != reference.DEFAULT_DOMAIN and origin.of_domain(name).is_loopback())

    def candidates(self, text: str) -> list[reference.Reference]:
        """What a name as typed may mean, in the order to try; several only for a short name with a search list."""
        first, slash, _ = text.partition("/")
        if slash and reference.is_domain(first):
            return [reference.parse(text)]
        name, suffix = _split(text)
        if name in self.short_names:
            return [reference.parse(self.short_names[name] + suffix)]
        domains = self.search or (self.default,)
        return [reference.parse(text if domain == reference.DEFAULT_DOMAIN else f"{domain}/{text}") for domain in domains]


def _split(text: str) -> tuple[str, str]:
    """Name and the rest (":tag", "@digest")."""
    for index, char in enumerate(text):
        if char == "@" or (char == ":" and "/" not in text[index:]):
            return text[:index], text[index:]
    return text, ""


_KEYS = {"default", "search", "short-names", "host", "parallel"}
_HOST_KEYS = {"mirrors", "insecure", "ca", "client-cert", "client-key"}


def from_toml(document: dict[str, Any], where: str) -> Settings:
    """The settings of a parsed lamina.toml; other tables are left to others. InvalidArgument names file, key and what is wrong."""
    table = document.get("registries", {})
    _check(isinstance(table, dict), where, "registries", "a table")
    for key in table:
        _check(key in _KEYS, where, f"registries.{key}", f"one of {', '.join(sorted(_KEYS))}")
    hosts: dict[str, Host] = {}
    entries = table.get("host", {})
    _check(isinstance(entries, dict), where, "registries.host", "a table")
    for name, entry in entries.items():
        hosts[name] = _host(name, entry, where)
    default = _domain(table.get("default", reference.DEFAULT_DOMAIN), where, "default")
    search = table.get("search", [])
    _check(isinstance(search, list), where, "registries.search", "a list of hosts")
    short = table.get("short-names", {})
    _check(isinstance(short, dict), where, "registries.short-names", "a table")
    for name, target in short.items():
        _check(isinstance(target, str), where, f"registries.short-names.{name}", "a name with its registry")
        domain = reference.split_domain(target)[0]
        _check(target.startswith(domain + "/"), where, f"registries.short-names.{name}", "a name with its registry")
        reference.parse(target)
    parallel = table.get("parallel", PARALLEL)
    _check(isinstance(parallel, int) and not isinstance(parallel, bool) and 1 <= parallel <= 64, where, "registries.parallel", "1 to 64")
    return Settings(default, tuple(_domain(entry, where, "search") for entry in search), dict(short), hosts, parallel)


def _domain(value: Any, where: str, key: str) -> str:
    _check(isinstance(value, str) and reference.is_domain(value), where, f"registries.{key}", "a registry's host")
    reference.parse(f"{value}/x")
    return str(value)


def _host(name: str, entry: Any, where: str) -> Host:
    label = f'registries.host."{name}"'
    _check(isinstance(entry, dict), where, label, "a table")
    reference.parse(f"{name}/x")
    for key, value in entry.items():
        _check(key in _HOST_KEYS, where, f"{label}.{key}", f"one of {', '.join(sorted(_HOST_KEYS))}")
        if key == "insecure":
            _check(isinstance(value, bool), where, f"{label}.{key}", "true or false")
        elif key == "mirrors":
            _check(isinstance(value, list) and all(isinstance(item, str) for item in value), where, f"{label}.{key}", "a list of URLs")
        else:
            _check(isinstance(value, str) and value.startswith("/"), where, f"{label}.{key}", "an absolute path")
    mirrors = tuple(entry.get("mirrors", []))
    for mirror in mirrors:
        origin.parse(mirror)
    cert, key_file = entry.get("client-cert", ""), entry.get("client-key", "")
    _check(bool(cert) == bool(key_file), where, label, "client-cert and client-key together")
    return Host(name, mirrors, bool(entry.get("insecure", False)), entry.get("ca", ""), cert, key_file)


def _check(good: bool, where: str, key: str, wanted: str) -> None:
    if not good:
        raise InvalidArgument(f"{where}: {key} must be {wanted}")


def endpoints(settings: Settings, domain: str) -> list[tuple[Origin, Host]]:
    """Where a repository of this domain is asked for: its mirrors, then the registry itself (https, or http if it is insecure)."""
    host = settings.host(domain)
    found = []
    for mirror in host.mirrors:
        place = origin.parse(mirror)
        found.append((place, settings.host(place.authority)))
    if host.insecure:
        # As docker: an insecure registry is asked by https first, whatever its certificate, then in plain http.
        found.append((origin.of_domain(domain), host))
        found.append((origin.of_domain(domain, "http"), host))
    else:
        found.append((origin.of_domain(domain), host))
    return found
