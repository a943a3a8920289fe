# SPDX-License-Identifier: Apache-2.0
"""[hot] Image references: `[domain/]path[:tag][@digest]`, grammar and normalization of the distribution reference format.

For everybody who takes a name from a user. A `Reference` always holds the full form (docker.io/library/ubuntu); `familiar()`
gives back what people type. Parsing is by hand, character class by character class: `re` alone would cost the hot path 3 ms.
The texts of errors are docker's, since clients and scripts match on them. ASCII only: no homoglyph, newline or space gets through
(attacks 47 and 52).
"""
from __future__ import annotations

from lamina.errors import InvalidArgument

DEFAULT_DOMAIN = "docker.io"
LEGACY_DOMAIN = "index.docker.io"
OFFICIAL = "library"
DEFAULT_TAG = "latest"
MAX_NAME = 255
MAX_TAG = 128

LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
ALNUM = LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
HEX = frozenset("0123456789abcdef")
HEX_ANY = HEX | frozenset("ABCDEF")
DIGITS = frozenset("0123456789")
DIGEST_HEX = {"sha256": 64, "sha384": 96, "sha512": 128}

BAD_FORMAT = "invalid reference format"
BAD_CASE = "invalid reference format: repository name ({}) must be lowercase"


class Reference:
    """One parsed name in full form. `tag` and `digest` are "" where the text had none."""

    __slots__ = ("domain", "path", "tag", "digest")

    def __init__(self, domain: str, path: str, tag: str = "", digest: str = "") -> None:
        self.domain = domain
        self.path = path
        self.tag = tag
        self.digest = digest

    @property
    def name(self) -> str:
        """The repository in full form, e.g. "docker.io/library/ubuntu": what the store keeps."""
        return self.domain + "/" + self.path

    @property
    def familiar_name(self) -> str:
        return familiar_name(self.name)

    def familiar(self) -> str:
        """What people type and read: "ubuntu:22.04", "quay.io/a/b@sha256:..."."""
        return self.familiar_name + self._suffix()

    def full(self) -> str:
        return self.name + self._suffix()

    def with_default_tag(self) -> Reference:
        """A name without tag and digest means :latest."""
        if self.tag or self.digest:
            return self
        return Reference(self.domain, self.path, DEFAULT_TAG)

    def _suffix(self) -> str:
        return (":" + self.tag if self.tag else "") + ("@" + self.digest if self.digest else "")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and self.full() == other.full()

    def __hash__(self) -> int:
        return hash(self.full())

    def __repr__(self) -> str:
        return f"Reference({self.full()!r})"


def familiar_name(full: str) -> str:
    """A repository in full form as people write it; what isn't in full form comes back unchanged."""
    prefix = DEFAULT_DOMAIN + "/"
    if not full.startswith(prefix):
        return full
    path = full[len(prefix):]
    official = OFFICIAL + "/"
    if not path.startswith(official):
        # docker.io/a.b/c must not become a.b/c, a name on the host a.b.
        return full if is_domain(path.partition("/")[0]) else path
    short = path[len(official):]
    # library/library and library/localhost/x would read back as something else: then the path stays whole.
    if "/" in short or is_domain(short):
        return path
    return short


def parse(text: str) -> Reference:
    """Parse and normalize a name as docker's ParseNormalizedNamed does.

    Raises InvalidArgument with docker's text. A bare 64 hex name is refused, since it reads as an image id.
    """
    if len(text) == 64 and not frozenset(text) - HEX:
        raise InvalidArgument(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, rest = split_domain(text)
    name, tag, digest = _split_suffix(rest)
    if name != name.lower() and name.isascii():
        # Said only where case alone is at fault, so that other defects keep their own text.
        if _is_path(name.lower()):
            raise InvalidArgument(BAD_CASE.format(name))
        raise InvalidArgument(BAD_FORMAT)
    if not _is_path(name) or not _is_host(domain):
        raise InvalidArgument(BAD_FORMAT)
    if tag is not None and not is_tag(tag):
        raise InvalidArgument(BAD_FORMAT)
    if digest is not None:
        check_reference_digest(digest)
    if len(domain) + 1 + len(name) > MAX_NAME:
        raise InvalidArgument(f"repository name must not be more than {MAX_NAME} characters")
    return Reference(domain, name, tag or "", digest or "")


def parse_repository(text: str) -> Reference:
    """As `parse`, for a name that is to be given to an image (tag, commit, import): no digest, and no name that would read as one."""
    ref = parse(text)
    if ref.digest:
        raise InvalidArgument("refusing to create a tag with a digest reference")
    if ref.familiar_name == "sha256":
        raise InvalidArgument("refusing to create an ambiguous tag using digest algorithm as name")
    return ref


def split_domain(text: str) -> tuple[str, str]:
    """Domain and remainder in full form: the first part is a domain when it looks like a host, else docker.io is meant."""
    first, slash, rest = text.partition("/")
    if not slash or not is_domain(first):
        domain, rest = DEFAULT_DOMAIN, text
    else:
        domain = first
    if domain == LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in rest:
        rest = OFFICIAL + "/" + rest
    return domain, rest


def is_domain(part: str) -> bool:
    """Whether the first component of a name is taken for a host: it has a dot, a port, an upper-case letter, or is localhost."""
    return "." in part or ":" in part or part == "localhost" or part.lower() != part


def is_tag(tag: str) -> bool:
    """`[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`"""
    if not 0 < len(tag) <= MAX_TAG or tag[0] in ".-":
        return False
    return not frozenset(tag) - ALNUM - frozenset("_.-")


def is_hex_id(text: str) -> bool:
    """Whether the text can be (the start of) an image id in hex."""
    return 0 < len(text) <= 64 and not frozenset(text) - HEX


def check_reference_digest(digest: str) -> None:
    """A digest in a reference: known algorithm, exact length, lower-case hex; docker's texts."""
    algorithm, colon, value = digest.partition(":")
    if not colon or not value or not _is_algorithm(algorithm) or frozenset(value) - HEX_ANY or len(value) < 32:
        raise InvalidArgument(BAD_FORMAT)
    length = DIGEST_HEX.get(algorithm)
    if length is None:
        raise InvalidArgument("unsupported digest algorithm")
    if len(value) != length:
        raise InvalidArgument("invalid checksum digest length")
    if frozenset(value) - HEX:
        raise InvalidArgument("invalid checksum digest format")


def _split_suffix(rest: str) -> tuple[str, str | None, str | None]:
    """name, tag, digest of a remainder without domain; a ':' after the last '/' starts the tag."""
    rest, at, digest = rest.partition("@")
    last = rest.rfind("/")
    colon = rest.find(":", last + 1)
    if colon < 0:
        return rest, None, digest if at else None
    return rest[:colon], rest[colon + 1:], digest if at else None


def _is_path(path: str) -> bool:
    for part in path.split("/"):
        if not _is_component(part):
            return False
    return True


def _is_component(part: str) -> bool:
    """Runs of [a-z0-9], separated by one '.', one or two '_', or any number of '-'."""
    if not part or part[0] not in LOWER or part[-1] not in LOWER:
        return False
    separator = ""
    for char in part:
        if char in LOWER:
            if separator and separator not in (".", "_", "__") and separator.strip("-"):
                return False
            separator = ""
        elif char in "._-":
            separator += char
        else:
            return False
    return True


def _is_host(domain: str) -> bool:
    """host[:port] with DNS-like labels, or [IPv6][:port]."""
    if domain.startswith("["):
        host, bracket, port = domain[1:].partition("]")
        if not bracket or not host or frozenset(host) - HEX_ANY - {":"}:
            return False
        return not port or (port[0] == ":" and _is_port(port[1:]))
    host, colon, port = domain.partition(":")
    if colon and not _is_port(port):
        return False
    for label in host.split("."):
        if not label or label[0] == "-" or label[-1] == "-" or frozenset(label) - ALNUM - {"-"}:
            return False
    return True


def _is_port(port: str) -> bool:
    return bool(port) and not frozenset(port) - DIGITS


def _is_algorithm(name: str) -> bool:
    """`[A-Za-z][A-Za-z0-9]*([-_+.][A-Za-z][A-Za-z0-9]*)*`"""
    for separator in "_+.":
        name = name.replace(separator, "-")
    for part in name.split("-"):
        if not part or part[0] in DIGITS or frozenset(part) - ALNUM:
            return False
    return True
