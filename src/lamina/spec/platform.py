# SPDX-License-Identifier: Apache-2.0
"""[hot] Platforms: os/architecture[/variant], as OCI writes them and users type them.

`parse` takes all that docker's --platform takes ("arm64", "linux/arm/v7", "linux"), `host` is this machine, `Platform.format`
is the normal form. Only Linux images can be run; any OS can be named, so that the refusal can say which one it was.
"""
from __future__ import annotations

import os

from lamina.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Names of machines (uname -m, Debian, Go), all mapped to Go's GOARCH and variant.
ARCHITECTURES = {
    "amd64": ("amd64", ""), "x86_64": ("amd64", ""), "x86-64": ("amd64", ""),
    "386": ("386", ""), "i386": ("386", ""), "i486": ("386", ""), "i586": ("386", ""), "i686": ("386", ""),
    "arm64": ("arm64", ""), "aarch64": ("arm64", ""),
    "arm": ("arm", "v7"), "armhf": ("arm", "v7"), "armv7l": ("arm", "v7"), "armel": ("arm", "v6"), "armv6l": ("arm", "v6"),
    "armv5l": ("arm", "v5"),
    "ppc64le": ("ppc64le", ""), "ppc64el": ("ppc64le", ""), "s390x": ("s390x", ""), "riscv64": ("riscv64", ""),
    "mips": ("mips", ""), "mipsle": ("mipsle", ""), "mips64": ("mips64", ""), "mips64le": ("mips64le", ""),
    "loong64": ("loong64", ""), "loongarch64": ("loong64", ""), "wasm": ("wasm", ""),
}
SYSTEMS = frozenset(("linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris", "illumos", "android", "wasip1", "js"))
ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-.")


class Platform:
    __slots__ = ("os", "architecture", "variant")

    def __init__(self, os_name: str, architecture: str, variant: str = "") -> None:
        self.os = os_name
        self.architecture = architecture
        self.variant = variant

    def format(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Platform) and self.format() == other.format()

    def __hash__(self) -> int:
        return hash(self.format())

    def __repr__(self) -> str:
        return f"Platform({self.format()!r})"


def host() -> Platform:
    """The platform that this kernel runs natively."""
    machine = os.uname().machine
    architecture, variant = ARCHITECTURES.get(machine, (machine, ""))
    return Platform("linux", architecture, variant)


def parse(text: str) -> Platform:
    """What a user gave as platform; missing parts are the host's. Raises InvalidArgument."""
    parts = text.lower().split("/")
    if len(parts) > 3:
        raise InvalidArgument(f'"{text}": cannot parse platform specifier: invalid argument')
    if not text:
        raise InvalidArgument(f'"{text}": unknown operating system or architecture: invalid argument')
    for part in parts:
        if not part.strip("._-") or frozenset(part) - ALLOWED:
            raise InvalidArgument(f'"{part}" is an invalid component of "{text}": platform specifier component must match '
                                  '"^[A-Za-z0-9_.-]+$": invalid argument')
    native = host()
    if len(parts) == 1:
        word = parts[0]
        if word in SYSTEMS:
            return Platform(word, native.architecture, native.variant)
        if word in ARCHITECTURES:
            return Platform("linux", *ARCHITECTURES[word])
        raise InvalidArgument(f'"{text}": unknown operating system or architecture: invalid argument')
    system = "darwin" if parts[0] == "macos" else parts[0]
    architecture, variant = ARCHITECTURES.get(parts[1], (parts[1], ""))
    if len(parts) == 3:
        variant = parts[2] if parts[2].startswith("v") or not parts[2].isdigit() else "v" + parts[2]
    if architecture == "arm64" and variant == "v8":
        variant = ""  # v8 is what arm64 means anyway: one platform, one spelling
    return Platform(system, architecture, variant)


def choices(wanted: Platform) -> list[Platform]:
    """The platforms whose images run where `wanted` was asked for, best first: lesser variants of arm and amd64 run on greater ones."""
    system, architecture, variant = wanted.os, wanted.architecture, wanted.variant
    if architecture == "arm":
        newest = int(variant[1:]) if variant[1:].isdigit() else 7
        found = [Platform(system, architecture, f"v{number}") for number in range(newest, 4, -1)]
        return found + [Platform(system, architecture)] if newest >= 7 else found
    if architecture == "amd64":
        newest = int(variant[1:]) if variant[1:].isdigit() else 1
        return [*(Platform(system, architecture, f"v{number}") for number in range(newest, 1, -1)), Platform(system, architecture),
                Platform(system, architecture, "v1")]
    if architecture == "arm64" and variant[1:].isdigit():
        found = [Platform(system, architecture, f"v{number}") for number in range(int(variant[1:]), 8, -1)]
        return [*found, Platform(system, architecture)]
    return [wanted] if variant else [wanted, *(Platform(system, architecture, f"v{number}") for number in range(1, 10))]


def best(wanted: Platform, offered: Sequence[Platform | None]) -> int:
    """Which of `offered` to take for `wanted`: its place, -1 if none will do."""
    for choice in choices(wanted):
        for place, platform in enumerate(offered):
            if platform == choice:
                return place
    return -1
