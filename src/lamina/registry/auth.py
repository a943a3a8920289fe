# SPDX-License-Identifier: Apache-2.0
"""Who is given credentials: the registry's own origin (Basic), or the token realm that this origin itself names in a 401 (Bearer).

Source: distribution's token authentication (GET with service and scope) and OAuth2 (POST with a refresh token). A challenge that came
after a redirect is never answered. Tokens are kept per origin, realm, service and scopes, for as long as they are good.
"""
from __future__ import annotations

import json
import threading
import time
from typing import Protocol
from urllib.parse import urlencode, urlsplit

from lamina.errors import Forbidden, InvalidArgument, RegistryError

from . import challenge, origin
from .credentials import Credentials
from .origin import Origin
from .settings import Host
from .transport import Response, Transport

CLIENT_ID = "lamina"
TOKEN_LIMIT = 1 << 20
DEFAULT_LIFE = 60.0  # seconds, where a token does not say how long it is good
MARGIN = 10.0


class Source(Protocol):
    def get(self, host: str) -> Credentials: ...


class NoCredentials:
    """For who wants to ask anonymously."""

    def get(self, host: str) -> Credentials:
        return Credentials()


class Fixed:
    """Credentials for one host alone: what `login` tries before it stores them."""

    def __init__(self, host: str, credentials: Credentials) -> None:
        self._host = host
        self._credentials = credentials

    def get(self, host: str) -> Credentials:
        return self._credentials if host == self._host else Credentials()


class Authorizer:
    """Shared by threads."""

    def __init__(self, transport: Transport, source: Source) -> None:
        self._transport = transport
        self._source = source
        self._lock = threading.RLock()
        # What to say to an origin for these scopes, and until when (time.monotonic).
        self._known: dict[tuple[Origin, frozenset[str]], tuple[str, float]] = {}
        self.identity_token = ""  # of the last token answer that had one: `login` stores it instead of the password

    def known(self, place: Origin, scopes: frozenset[str]) -> str:
        """The Authorization header that served before, or ""."""
        with self._lock:
            value, until = self._known.get((place, scopes), ("", 0.0))
        return value if until > time.monotonic() else ""

    def answer(self, response: Response, place: Origin, host: Host, scopes: frozenset[str], refused: str = "") -> str:
        """The Authorization header for a 401 of `place` itself, or "" if none is to be had.

        refused: the header that this 401 refused; another thread's newer one is taken instead of asking again.
        Raises RegistryError or Forbidden if the realm can't be asked or refuses.
        """
        if response.redirected or response.origin != place:
            return ""
        with self._lock:  # one question for all threads
            newer = self.known(place, scopes)
            if newer and newer != refused:
                return newer
            for offer in challenge.parse(response.all("WWW-Authenticate")):
                if offer.scheme == "bearer":
                    value, life = self._token(offer.params, place, host, scopes)
                elif offer.scheme == "basic":
                    credentials = self._source.get(host.name)
                    if not credentials.username or refused.startswith("Basic "):
                        continue
                    value, life = credentials.basic(), 1e9
                else:
                    continue
                if value and value != refused:
                    self._known[place, scopes] = (value, time.monotonic() + life)
                    return value
        return ""

    def _token(self, params: dict[str, str], place: Origin, host: Host, scopes: frozenset[str]) -> tuple[str, float]:
        realm = params.get("realm", "")
        try:
            target = origin.parse(realm)
            problem = origin.may_ask_for_token(place, target, insecure=host.insecure)
        except InvalidArgument as e:
            problem = e.message
        if problem:
            raise RegistryError(f"{place.authority} names a token server that is not asked ({realm[:200]!r}): {problem}")
        wanted = sorted(scopes | frozenset(params.get("scope", "").split()))
        credentials = self._source.get(host.name)
        if credentials.identity_token:
            fields = [("grant_type", "refresh_token"), ("service", params.get("service", "")), ("client_id", CLIENT_ID),
                      ("scope", " ".join(wanted)), ("refresh_token", credentials.identity_token)]
            response = self._transport.send(
                "POST", realm, host, headers={"Content-Type": "application/x-www-form-urlencoded"}, body=urlencode(fields).encode())
        else:
            query = [("service", params["service"])] if "service" in params else []
            query += [("scope", scope) for scope in wanted]
            if credentials.username:
                query += [("account", credentials.username), ("client_id", CLIENT_ID), ("offline_token", "true")]
            separator = "&" if urlsplit(realm).query else "?"
            response = self._transport.send("GET", realm + separator + urlencode(query) if query else realm, host,
                                            authorization=credentials.basic() if credentials.username else "")
        with response:
            return self._read(response, target, bool(credentials))

    def _read(self, response: Response, realm: Origin, with_credentials: bool) -> tuple[str, float]:
        body = response.read(TOKEN_LIMIT)
        if response.status in (401, 403):
            if with_credentials:
                raise Forbidden("unauthorized: incorrect username or password", hint=f"lamina login; asked: {realm.authority}")
            return "", 0.0
        if response.status != 200:
            raise RegistryError(f"the token server {realm.authority} answered {response.status}")
        try:
            document = json.loads(body)
            token = document.get("token") or document.get("access_token")
            life = document.get("expires_in")
            identity = document.get("refresh_token")
        except (ValueError, AttributeError, RecursionError):
            raise RegistryError(f"the token server {realm.authority} answered something that is no token") from None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
            raise RegistryError(f"the token server {realm.authority} answered something that is no token")
        if isinstance(identity, str) and identity:
            self.identity_token = identity
        seconds = float(life) if isinstance(life, (int, float)) and not isinstance(life, bool) and 0 < life < 1e7 else DEFAULT_LIFE
        return "Bearer " + token, max(seconds - MARGIN, 1.0)
