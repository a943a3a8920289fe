# SPDX-License-Identifier: Apache-2.0
"""`search`: docker.io has an index of its own (v1); other registries have at most a catalog (OCI's extension `_catalog`), filtered here."""
from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from lamina.errors import NotSupported
from lamina.spec import document
from lamina.spec.reference import DEFAULT_DOMAIN, is_domain, parse

from . import origin
from .client import CATALOG_LIMIT, Registry

INDEX_HOST = "index.docker.io"
MAX_RESULTS = 100
_SCOPE = frozenset(("registry:catalog:*",))


def search(registry: Registry, term: str, limit: int) -> list[dict[str, Any]]:
    """[{"name","description","star_count","is_official","is_automated"}] (Docker Engine API, ImageSearch), at most `limit`.

    The term may name a registry: "quay.io/tool".
    """
    first, slash, rest = term.partition("/")
    named = bool(slash) and is_domain(first)
    domain, words = (first, rest) if named else (registry.settings.default, term)
    if domain == DEFAULT_DOMAIN:
        return _index(registry, words, limit)
    return _catalog(registry, domain, words, limit)


def _index(registry: Registry, words: str, limit: int) -> list[dict[str, Any]]:
    host = registry.settings.host(INDEX_HOST)
    # A mirror that stands in for the index (tests, closed networks) is set under its name.
    place = origin.parse(host.mirrors[0]) if host.mirrors else origin.of_domain(INDEX_HOST)
    host = registry.settings.host(place.authority) if host.mirrors else host
    query = urlencode({"q": words, "n": limit})
    with registry.send("GET", place, host, f"/v1/search?{query}", frozenset()) as response:
        if response.status != 200:
            raise NotSupported(f"{place.authority} answered {response.status} to a search")
        found = document.parse(response.read(CATALOG_LIMIT), "search results", CATALOG_LIMIT).get("results") or []
    rows = []
    for entry in found if isinstance(found, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            stars = entry.get("star_count")
            rows.append({
                "name": entry["name"], "description": str(entry.get("description") or ""),
                "star_count": stars if isinstance(stars, int) else 0, "is_official": entry.get("is_official") is True,
                "is_automated": entry.get("is_automated") is True})
    return rows[:limit]


def _catalog(registry: Registry, domain: str, words: str, limit: int) -> list[dict[str, Any]]:
    repository = registry.repository(parse(f"{domain}/{words.lower() or 'x'}"))
    names: list[str] = []
    for page in repository.pages("/v2/_catalog", scopes=_SCOPE):
        listed = page.get("repositories") or []
        names += [name for name in listed if isinstance(name, str) and words.lower() in name]
        if len(names) >= limit:
            break
    return [{"name": f"{domain}/{name}", "description": "", "star_count": 0, "is_official": False, "is_automated": False}
            for name in names[:limit]]
