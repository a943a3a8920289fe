# SPDX-License-Identifier: Apache-2.0
"""What the user has said of registries, read for the engine: lamina.toml, config.json's credentials, proxies and CA of the environment."""
from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import Any

from lamina.errors import InvalidArgument, LaminaError
from lamina.registry import settings as registry_settings
from lamina.registry.credentials import CredentialStore
from lamina.registry.settings import Proxies, Settings

from .context import Cli, CliError

SYSTEM = "/etc/lamina/lamina.toml"
# What a credential helper needs to find its keychain.
PASSED = ("HOME", "USER", "LOGNAME", "PATH", "LANG", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME",
          "XDG_DATA_HOME", "DBUS_SESSION_BUS_ADDRESS", "GNUPGHOME", "GPG_TTY", "PASSWORD_STORE_DIR", "SSH_AUTH_SOCK")


def settings_file() -> str:
    """LAMINA_CONFIG; else an ordinary user's own; else the system's. "" where there is none."""
    named = os.environ.get("LAMINA_CONFIG")
    if named:
        return named
    own = os.path.join(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "lamina/lamina.toml")
    for path in (own, SYSTEM) if os.geteuid() else (SYSTEM,):
        if os.path.exists(path):
            return path
    return ""


def settings() -> Settings:
    """InvalidArgument names the file and what is wrong in it."""
    path = settings_file()
    found = registry_settings.from_toml(_toml(path), path) if path else Settings()
    env = os.environ

    def proxy(name: str) -> str:
        return env.get(name.upper()) or env.get(name) or ""

    return replace(found, proxies=Proxies(proxy("http_proxy"), proxy("https_proxy"), tuple(proxy("no_proxy").split(","))),
                   ca_file=env.get("SSL_CERT_FILE", ""))


def _toml(path: str) -> dict[str, Any]:
    import tomllib

    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise LaminaError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{path}: {error}") from None


def credentials(cli: Cli) -> CredentialStore:
    """Those of docker's config.json (--config, DOCKER_CONFIG, ~/.docker) and its helpers."""
    if not cli.config:
        raise CliError("there is no directory for credentials: give one by --config or DOCKER_CONFIG")
    env = {name: os.environ[name] for name in PASSED if name in os.environ}
    return CredentialStore(os.path.join(cli.config, "config.json"), lambda program: shutil.which(program) or "", env)


def registries(cli: Cli, source: Any = None) -> Any:
    """The engine's registries, with all of that (or other credentials). Rate limits and other long waits are told on stderr."""
    try:
        from lamina.engine.registries import Registries
    except ModuleNotFoundError as error:
        if error.name != "urllib3":
            raise
        raise CliError("registries need the Python package urllib3, version 2 or newer, which isn't installed") from None
    return Registries(cli.engine, settings(), source or credentials(cli), wait=waiting(cli))


def waiting(cli: Cli) -> Any:
    import time

    def wait(seconds: float, why: str) -> None:
        if seconds >= 2:
            cli.err(f"{why}: waiting {seconds:.0f} seconds")
        time.sleep(seconds)

    return wait
