# SPDX-License-Identifier: Apache-2.0
"""The client settings of docker's config.json, for who has one: detachKeys, the formats of lists, pruneFilters, proxies, currentContext.

The file is in --config, DOCKER_CONFIG or ~/.docker. One that can't be read or isn't what it should be is warned about and left
alone, as docker does. Loaded only when the file is there.
"""
from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .context import Cli

TEXTS = ("currentContext", "detachKeys", "imagesFormat", "psFormat", "statsFormat", "volumesFormat")
# Docker looks up proxies by its daemon's address: that of its own default one is the nearest to no daemon.
HOST = "unix:///var/run/docker.sock"
PROXIES = {"httpProxy": "HTTP_PROXY", "httpsProxy": "HTTPS_PROXY", "noProxy": "NO_PROXY", "ftpProxy": "FTP_PROXY", "allProxy": "ALL_PROXY"}


def load(cli: Cli, path: str) -> dict[str, Any]:
    """What of the file means something here; {} after a warning."""
    try:
        with open(path, "rb") as file:
            data = file.read()
        found = json.loads(data) if data.strip() else {}
        check(found)
    except OSError as e:
        reason = e.strerror or ""
        return warned(cli, path, f"open {path}: {reason[:1].lower()}{reason[1:]}")
    except (ValueError, RecursionError) as e:
        return warned(cli, path, str(e))
    assert isinstance(found, dict)
    return found


def warned(cli: Cli, path: str, reason: str) -> dict[str, Any]:
    cli.warn(f"Error loading config file: {path}: {reason}")
    return {}


def check(found: Any) -> None:
    if not isinstance(found, dict):
        raise ValueError("it isn't a JSON object")
    for key in TEXTS:
        if not isinstance(found.get(key, ""), str):
            raise ValueError(f"{key} must be a string")
    filters = found.get("pruneFilters") or []
    if not isinstance(filters, list) or not all(isinstance(one, str) for one in filters):
        raise ValueError("pruneFilters must be a list of strings")
    proxies = found.get("proxies") or {}
    if not isinstance(proxies, dict) or not all(isinstance(one, dict) for one in proxies.values()):
        raise ValueError("proxies must be objects by host")
    if not all(isinstance(one.get(key, ""), str) for one in proxies.values() for key in PROXIES):
        raise ValueError("what proxies has must be strings")


def proxy_environment(settings: dict[str, Any], given: list[str]) -> list[str]:
    """`-e` as given, and the proxies' variables that it doesn't name, in capitals and small letters."""
    known = settings.get("proxies") or {}
    proxies = known.get(HOST) or known.get("default") or {}
    names = {text.partition("=")[0] for text in given}
    added = [
        f"{name}={proxies[key]}"
        for key, upper in PROXIES.items() if proxies.get(key)
        for name in (upper, upper.lower()) if name not in names
    ]  # fmt: skip
    return given + added


def prune_filters(settings: dict[str, Any], filters: dict[str, list[str]]) -> dict[str, list[str]]:
    """The filters of the command line, and pruneFilters; a label that the one asks for outweighs its opposite of the other."""
    merged = {name: list(values) for name, values in filters.items()}
    for text in settings.get("pruneFilters") or ():
        name, sign, value = text.partition("=")
        opposite = {"label": "label!", "label!": "label"}.get(name, "")
        if sign and value not in filters.get(opposite, ()):
            merged.setdefault(name, []).append(value)
    return merged
