# SPDX-License-Identifier: Apache-2.0
"""`login` and `logout`: docker's config.json and credential helpers. A password is never in an error, an argument of ours or a log."""
from __future__ import annotations

import os
import sys

from lamina.cli.context import Cli, CliError, add_site_packages
from lamina.cli.flags import Opts, Verb
from lamina.util import steps

PASSWORD_LIMIT = 64 << 10  # an identity token may be long


def login(cli: Cli, opts: Opts, args: list[str]) -> int:
    user, password = opts["username"], opts["password"]
    if "password" in opts.changed:
        cli.err("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
        if opts["password-stdin"]:
            raise CliError("--password and --password-stdin are mutually exclusive")
    if opts["password-stdin"]:
        if not user:
            raise CliError("Must provide --username with --password-stdin")
        password = from_stdin()
    add_site_packages()  # urllib3
    from lamina.cli.registries import credentials, registries, settings
    from lamina.registry.auth import Fixed
    from lamina.registry.credentials import Credentials

    domain = domain_of(args[0] if args else settings().default)
    store = credentials(cli)
    known = store.get(domain)
    if not user and not password and known:
        cli.out("Authenticating with existing credentials...")
        given = known
    else:
        given = Credentials(*ask(cli, domain, user, password, known.username))
    token = registries(cli, Fixed(domain, given)).login(domain)
    kept = Credentials(given.username, identity_token=token) if token else given
    helper = store.put(domain, kept) if given is not known or token else "nothing to write"
    if not helper:
        cli.err(f"WARNING! Your password will be stored unencrypted in {store.path}.\n"
                "Configure a credential helper to remove this warning (credsStore or credHelpers in that file).\n")
    cli.out("Login Succeeded")
    return 0


def from_stdin() -> str:
    data = sys.stdin.buffer.read(PASSWORD_LIMIT + 1)
    if len(data) > PASSWORD_LIMIT:
        raise CliError(f"the password is longer than {PASSWORD_LIMIT} bytes")
    return data.decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")


def ask(cli: Cli, domain: str, user: str, password: str, known: str) -> tuple[str, str]:
    """What wasn't given; without a terminal there is nobody to ask."""
    if not (user and password) and not cli.is_tty(0):
        raise CliError("Error: Cannot perform an interactive login from a non TTY device")
    if not user:
        cli.out(f"Username{f' ({known})' if known else ''}: ", end="")
        cli.flush()
        user = line().strip() or known
        if not user:
            raise CliError("Error: Non-null Username Required")
    if not password:
        import getpass

        try:
            password = getpass.getpass("Password: ")
        except EOFError:
            password = ""
        if not password:
            raise CliError("Error: Password Required")
    return user, password


def line() -> str:
    """Typed on stdin up to its end, and not a byte of what follows, which the next prompt is to get."""
    data = b""
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        data += byte
    return data.decode("utf-8", "surrogateescape")


def logout(cli: Cli, opts: Opts, args: list[str]) -> int:
    from lamina.cli.registries import credentials, settings
    from lamina.registry.credentials import key_of

    domain = domain_of(args[0] if args else settings().default)
    store = credentials(cli)
    cli.out(f"Removing login credentials for {key_of(domain)}")
    erased = store.erase(domain)
    if steps.tell is not None:
        done = f"took the credentials of {domain} out of" if erased else f"found no credentials of {domain} in"
        steps.tell(f"{done} {store.path}")
    return 0


def domain_of(text: str) -> str:
    """The host[:port] of a server as typed: scheme and path are of no account."""
    from lamina.spec import reference

    bare = text.removeprefix("https://").removeprefix("http://").partition("/")[0]
    domain = reference.DEFAULT_DOMAIN if bare in ("index.docker.io", "registry-1.docker.io") else bare
    reference.parse(f"{domain}/x")  # InvalidArgument for what is no host
    if not reference.is_domain(domain):
        raise CliError(f"{text[:200]!r} is not a registry's host")
    return domain


VERBS = {
    "login": Verb(
        login, "[OPTIONS] [SERVER]", 0, 1,
        (("password", "p", "string", ""), ("password-stdin", "", "bool", False), ("username", "u", "string", "")),
    ),
    "logout": Verb(logout, "[SERVER]", 0, 1),
}  # fmt: skip
