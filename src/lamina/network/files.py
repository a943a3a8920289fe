# SPDX-License-Identifier: Apache-2.0
"""The contents of /etc/resolv.conf, /etc/hosts and /etc/hostname of a container, as Docker writes them. [hot]

For the engine, which puts them into the bundle. Pure functions of text, but for `host_resolv_conf`, which reads the host's file. What
can't work from inside a namespace (a loopback resolver) is left out, and replaced where nothing is left.
"""
from __future__ import annotations

from _socket import AF_INET6, inet_pton

from lamina.network.model import is_ipv4

RESOLV_CONF = "/etc/resolv.conf"
HOSTS = "/etc/hosts"
_RESOLVED_STUB = "127.0.0.53"
_RESOLVED_UPSTREAM = "/run/systemd/resolve/resolv.conf"
FALLBACK = ("8.8.8.8", "8.8.4.4")
_LIMIT = 1 << 20

_HOSTS = ("127.0.0.1\tlocalhost\n"
          "::1\tlocalhost ip6-localhost ip6-loopback\n"
          "fe00::0\tip6-localnet\n"
          "ff00::0\tip6-mcastprefix\n"
          "ff02::1\tip6-allnodes\n"
          "ff02::2\tip6-allrouters\n")


def nameserver(line: str) -> str:
    """The address on a `nameserver` line, else ""."""
    words = line.split()
    return words[1] if len(words) > 1 and words[0] == "nameserver" and not line[0].isspace() else ""


def nameservers(text: str) -> list[str]:
    return [address for address in map(nameserver, text.splitlines()) if address]


def host_resolv_conf(path: str = RESOLV_CONF, upstream: str = _RESOLVED_UPSTREAM) -> str:
    """The host's file; where systemd-resolved's stub is its only server, the file that names the real ones. "" if there is none."""
    text = _read(path)
    if nameservers(text) == [_RESOLVED_STUB]:
        text = _read(upstream) or text
    return text


def _read(path: str) -> str:
    try:
        with open(path, "rb", 0) as file:
            return file.read(_LIMIT).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""


def is_loopback(address: str) -> bool:
    return (is_ipv4(address) and address.startswith("127.")) or address == "::1"


def _is_ipv6(address: str) -> bool:
    try:
        inet_pton(AF_INET6, address.partition("%")[0])
    except (OSError, ValueError):
        return False
    return True


def resolv_conf(host_text: str, *, ipv6: bool = False, host_network: bool = False) -> tuple[str, list[str]]:
    """(text, warnings) for a container. Search, options and comments stay; loopback servers go, and IPv6 ones where the network has
    none; without any left, Google's, with a warning that says so if there was a loopback one. In the host's network all stays."""
    if host_network:
        return host_text, []
    kept = []
    dropped = ""
    found = False
    for line in host_text.splitlines(keepends=True):
        address = nameserver(line)
        if address and is_loopback(address):
            dropped = dropped or address
            continue
        if address and not ipv6 and _is_ipv6(address):
            continue
        found = found or bool(address)
        kept.append(line)
    text = "".join(kept)
    if found:
        return text, []
    text += "\n" + "".join(f"nameserver {address}\n" for address in FALLBACK)
    if not dropped:
        return text, []
    return text, [f"Local ({dropped}) DNS resolver found in resolv.conf and containers can't use it. "
                  f"Using default external servers : [{' '.join(FALLBACK)}]"]


def custom_resolv_conf(host_text: str, *, dns: list[str], search: list[str], options: list[str]) -> str:
    """`--dns`, `--dns-search` and `--dns-option`: what is given replaces the host's lines of that kind. A search of "." is none."""
    lines = host_text.splitlines()
    servers = dns or nameservers(resolv_conf(host_text)[0])
    domains = search or _last_words(lines, ("search", "domain"))
    flags = options or _last_words(lines, ("options",))
    text = ""
    if domains and domains != ["."]:
        text += "search " + " ".join(domains) + "\n"
    text += "".join(f"nameserver {address}\n" for address in servers)
    if flags:
        text += "options " + " ".join(flags) + "\n"
    return text


def _last_words(lines: list[str], keywords: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    for line in lines:
        words = line.split()
        if words and words[0] in keywords:
            found = words[1:]
    return found


def hosts(hostname: str, *, domainname: str = "", addresses: list[str] | tuple[str, ...] = (),
          extra: list[tuple[str, str]] | tuple[tuple[str, str], ...] = ()) -> str:
    """`addresses`: the container's own (none in mode "none"); `extra`: (name, address) of --add-host. Docker's order: fixed lines, extra,
    own. A host name with a domain in it is also listed without."""
    text = _HOSTS + "".join(f"{address}\t{name}\n" for name, address in extra)
    full = f"{hostname}.{domainname}" if domainname else hostname
    short = full.partition(".")[0]
    names = f"{full} {short}" if short != full else full
    return text + "".join(f"{address}\t{names}\n" for address in addresses)


def host_hosts(path: str = HOSTS) -> str:
    """What a container in the host's network gets: the host's file; the fixed lines if there is none."""
    return _read(path) or _HOSTS


def hostname(name: str) -> str:
    return name + "\n"
