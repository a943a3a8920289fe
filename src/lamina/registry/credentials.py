# SPDX-License-Identifier: Apache-2.0
"""Docker's config.json as a store of credentials: `auths`, `credsStore`, `credHelpers` and the helper programs' protocol.

A helper `docker-credential-NAME` gets the server's name on stdin and answers JSON {"ServerURL","Username","Secret"}; the user "<token>"
means that the secret is an identity (refresh) token. A helper that fails is an error, never a reason to go on with another user's or
another registry's credentials (CVE-2021-41092). Secrets appear in no text, argument or repr.
"""
from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Callable
from typing import Any

from lamina.errors import InvalidArgument, LaminaError, NotFound
from lamina.util.atomic import write_file
from lamina.util.proc import run

from .origin import DOCKER_HUB_HOST, DOCKER_HUB_KEY

TOKEN_USER = "<token>"
HELPER_TIMEOUT = 60.0
_HELPER_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_NOT_FOUND = "credentials not found in native keychain"


class Credentials:
    """username and password, or an identity token (then both are "")."""

    __slots__ = ("username", "password", "identity_token")

    def __init__(self, username: str = "", password: str = "", identity_token: str = "") -> None:
        self.username = username
        self.password = password
        self.identity_token = identity_token

    def __bool__(self) -> bool:
        return bool(self.username or self.identity_token)

    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    def __repr__(self) -> str:
        return f"Credentials({'for ' + self.username if self.username else 'token' if self.identity_token else 'none'})"


def key_of(host: str) -> str:
    """The name under which config.json holds a registry's credentials."""
    return DOCKER_HUB_KEY if host in ("docker.io", "index.docker.io", DOCKER_HUB_HOST) else host


class CredentialStore:
    """Over one config.json. `find_program` gives the absolute path of a helper program, or "" (the faces know the user's PATH);
    `env` is what helpers get as environment (HOME, and what their keychains need)."""

    def __init__(self, path: str, find_program: Callable[[str], str], env: dict[str, str]) -> None:
        self.path = path
        self._find_program = find_program
        self._env = env

    def get(self, host: str) -> Credentials:
        """Those of a registry (host[:port], or docker.io); empty if there are none."""
        document = self._read()
        key = key_of(host)
        helper = self._helper(document, host, key)
        if helper:
            return self._ask_helper(helper, key)
        auths = document.get("auths") or {}
        entry = auths.get(key)
        if entry is None:
            entry = next((value for name, value in auths.items() if _bare(name) == _bare(key)), None)
        return _from_entry(entry, key, self.path)

    def put(self, host: str, credentials: Credentials) -> str:
        """Stores them; the name of the helper that has them now, or "" if they are in config.json (in base64, as docker warns)."""
        document = self._read()
        key = key_of(host)
        helper = self._helper(document, host, key)
        auths = document.setdefault("auths", {})
        if helper:
            user = credentials.username if not credentials.identity_token else TOKEN_USER
            secret = credentials.identity_token or credentials.password
            self._run_helper(helper, "store", json.dumps({"ServerURL": key, "Username": user, "Secret": secret}))
            auths[key] = {}
        elif credentials.identity_token:
            auths[key] = {"auth": _encode(credentials.username, ""), "identitytoken": credentials.identity_token}
        else:
            auths[key] = {"auth": _encode(credentials.username, credentials.password)}
        self._write(document)
        return helper

    def erase(self, host: str) -> bool:
        """Forgets them; False if there were none in config.json."""
        document = self._read()
        key = key_of(host)
        helper = self._helper(document, host, key)
        if helper:
            self._run_helper(helper, "erase", key)
        auths = document.get("auths") or {}
        names = [name for name in auths if name == key or _bare(name) == _bare(key)]
        for name in names:
            del auths[name]
        if names:
            self._write(document)
        return bool(names)

    def hosts(self) -> list[str]:
        """Names with an entry in config.json."""
        return sorted(self._read().get("auths") or {})

    # -- config.json

    def _read(self) -> dict[str, Any]:
        try:
            with open(self.path, "rb") as file:
                document = json.loads(file.read())
        except FileNotFoundError:
            return {}
        except OSError as e:
            raise LaminaError(f"{self.path}: {e.strerror}") from None
        except (ValueError, RecursionError) as e:
            raise InvalidArgument(f"{self.path} is not valid JSON: {str(e)[:200]}") from None
        if not isinstance(document, dict) or not isinstance(document.get("auths") if document.get("auths") is not None else {}, dict):
            raise InvalidArgument(f"{self.path}: not a config.json of docker")
        return document

    def _write(self, document: dict[str, Any]) -> None:
        """Everything else in the file stays as it was. Mode 0600: it may hold passwords."""
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        # Through a symbolic link, as people who keep their settings in a repository have it.
        target = os.path.realpath(self.path)
        write_file(target, (json.dumps(document, indent="\t", ensure_ascii=False) + "\n").encode())

    # -- helpers

    @staticmethod
    def _helper(document: dict[str, Any], host: str, key: str) -> str:
        helpers = document.get("credHelpers") or {}
        name = (helpers.get(key) or helpers.get(host) if isinstance(helpers, dict) else "") or document.get("credsStore") or ""
        if name and (not isinstance(name, str) or not _HELPER_NAME.issuperset(name)):
            raise InvalidArgument(f"not a name of a credential helper: {str(name)[:80]!r}")
        return str(name)

    def _ask_helper(self, helper: str, key: str) -> Credentials:
        try:
            answer = json.loads(self._run_helper(helper, "get", key))
            user, secret = answer["Username"], answer["Secret"]
        except NotFound:
            return Credentials()
        except (ValueError, TypeError, KeyError):
            raise LaminaError(f"docker-credential-{helper}: an answer for {key} that is not its protocol's") from None
        if not isinstance(user, str) or not isinstance(secret, str):
            raise LaminaError(f"docker-credential-{helper}: an answer for {key} that is not its protocol's")
        return Credentials(identity_token=secret) if user == TOKEN_USER else Credentials(user, secret)

    def _run_helper(self, helper: str, action: str, data: str) -> bytes:
        program = f"docker-credential-{helper}"
        path = self._find_program(program)
        if not path:
            raise LaminaError(f"{program} is named in {self.path} and not in PATH", hint="install it, or take it out of config.json")
        done = run([path, action], input=data.encode(), env=self._env, timeout=HELPER_TIMEOUT)
        if done.code:
            # Shown only for errors, and then its first line alone: it may hold anything.
            said = done.out.decode(errors="replace").strip().partition("\n")[0][:200]
            if action == "get" and _NOT_FOUND in said:
                raise NotFound(said)
            raise LaminaError(f"error getting credentials - {program} {action} exited {done.code}: {said}")
        return done.out


def _bare(name: str) -> str:
    """config.json's older entries are URLs: the host is what counts."""
    name = name.removeprefix("https://").removeprefix("http://")
    return name.partition("/")[0]


def _encode(username: str, password: str) -> str:
    return base64.b64encode(f"{username}:{password}".encode()).decode()


def _from_entry(entry: Any, key: str, path: str) -> Credentials:
    if not isinstance(entry, dict):
        return Credentials()
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Credentials(identity_token=token)
    username, password = entry.get("username"), entry.get("password")
    if isinstance(username, str) and username and isinstance(password, str):
        return Credentials(username, password)
    auth = entry.get("auth")
    if not isinstance(auth, str) or not auth:
        return Credentials()
    try:
        text = base64.b64decode(auth, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidArgument(f"{path}: the auth of {key} is not base64") from None
    username, colon, password = text.partition(":")
    if not colon:
        raise InvalidArgument(f"{path}: the auth of {key} has no user and password")
    return Credentials(username, password.strip("\0"))
