# SPDX-License-Identifier: Apache-2.0
"""Device rules: the OCI list brought to one normal form that both cgroup versions can state exactly.  [hot]

Normal form: a default (allow or deny all) and exceptions {(type, major, minor): access}. The v1 controller silently ignores a rule
that cuts a hole into a wider one of the other sense; here that is an error, since a restriction would be lost.
"""

from __future__ import annotations

from lamina.errors import InvalidArgument, NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

ANY = -1
Key = tuple[str, int, int]


def _rule(allow: bool, kind: str, major: int, minor: int, access: str) -> dict[str, object]:
    return {"allow": allow, "type": kind, "major": major, "minor": minor, "access": access}


# What every container may use, whatever its list says (runtime-spec's default devices; runc's list): making nodes is harmless, using
# them is not; 136:* are pty slaves, 5:2 is ptmx.
DEFAULT_ALLOW: tuple[dict[str, object], ...] = (
    _rule(True, "c", ANY, ANY, "m"),
    _rule(True, "b", ANY, ANY, "m"),
    _rule(True, "c", 1, 3, "rwm"),
    _rule(True, "c", 1, 5, "rwm"),
    _rule(True, "c", 1, 7, "rwm"),
    _rule(True, "c", 1, 8, "rwm"),
    _rule(True, "c", 1, 9, "rwm"),
    _rule(True, "c", 5, 0, "rwm"),
    _rule(True, "c", 5, 2, "rwm"),
    _rule(True, "c", 136, ANY, "rwm"),
)


class DeviceRules:
    """The normal form. `default_allow` with no exceptions is "no restriction"."""

    __slots__ = ("default_allow", "exceptions")

    def __init__(self, default_allow: bool = False) -> None:
        self.default_allow = default_allow
        self.exceptions: dict[Key, str] = {}

    @classmethod
    def parse(cls, rules: Sequence[dict[str, Any]]) -> DeviceRules:
        """From OCI `linux.resources.devices`, in its order, starting from "deny all"."""
        self = cls()
        for rule in rules:
            self._add(rule)
        return self

    def _add(self, rule: dict[str, Any]) -> None:
        if not isinstance(rule, dict) or not isinstance(rule.get("allow"), bool):
            raise InvalidArgument(f"device rule {rule!r}: `allow` must be true or false")
        allow: bool = rule["allow"]
        kind = rule.get("type") or "a"
        access = rule.get("access") or "rwm"
        if kind == "u":
            kind = "c"  # "unbuffered character device": the same to the kernel
        if kind not in ("a", "b", "c") or not isinstance(access, str) or any(ch not in "rwm" for ch in access):
            raise InvalidArgument(f"device rule {show(allow, (str(kind), ANY, ANY), str(access))}: bad type or access")
        major, minor = _number(rule.get("major")), _number(rule.get("minor"))
        access = "".join(ch for ch in "rwm" if ch in access)
        if kind == "a":
            if (major, minor, access) != (ANY, ANY, "rwm"):
                raise NotSupported(
                    f"device rule {show(allow, (kind, major, minor), access)}: type a stands for all devices and all access only"
                )
            self.default_allow, self.exceptions = allow, {}
        elif allow == self.default_allow:
            self._narrow((kind, major, minor), access, allow)
        else:
            key = (kind, major, minor)
            has = self.exceptions.get(key, "")
            self.exceptions[key] = "".join(ch for ch in "rwm" if ch in has or ch in access)

    def _narrow(self, key: Key, access: str, allow: bool) -> None:
        """Take `access` of `key` out of the exceptions: whole entries below it, never a hole in a wider one."""
        for other in list(self.exceptions):
            if not _overlap(key, other):
                continue
            left = "".join(ch for ch in self.exceptions[other] if ch not in access)
            if left == self.exceptions[other]:
                continue
            if not _covers(key, other):
                raise NotSupported(
                    f"device rule {show(allow, key, access)} can't be applied: a wider rule "
                    f"({show(not allow, other, self.exceptions[other])}) stands before it"
                )
            if left:
                self.exceptions[other] = left
            else:
                del self.exceptions[other]

    def allows(self, kind: str, major: int, minor: int, access: str) -> bool:
        """What the kernel answers to one open or mknod: an exception must cover the device and all (to deny: any) of the access."""
        for key, has in self.exceptions.items():
            if _covers(key, (kind, major, minor)):
                if not self.default_allow and all(ch in has for ch in access):
                    return True
                if self.default_allow and any(ch in has for ch in access):
                    return False
        return self.default_allow

    def v1_writes(self) -> list[tuple[str, str]]:
        """(file, line) in order."""
        first, second = ("devices.allow", "devices.deny") if self.default_allow else ("devices.deny", "devices.allow")
        writes = [(first, "a")]
        for (kind, major, minor), access in self.exceptions.items():
            writes.append((second, f"{kind} {_star(major)}:{_star(minor)} {access}"))
        return writes


def show(allow: bool, key: Key, access: str) -> str:
    return f"{'allow' if allow else 'deny'} {key[0]} {_star(key[1])}:{_star(key[2])} {access}"


def _star(n: int) -> str:
    return "*" if n == ANY else str(n)


def _number(value: object) -> int:
    if value is None:
        return ANY
    if not isinstance(value, int) or isinstance(value, bool) or value < ANY or value > 0xFFFFFFFF:
        raise InvalidArgument(f"device number {value!r}: not between 0 and 4294967295 (or -1 for all)")
    return value


def _covers(wide: Key, narrow: Key) -> bool:
    return wide[0] == narrow[0] and wide[1] in (ANY, narrow[1]) and wide[2] in (ANY, narrow[2])


def _overlap(a: Key, b: Key) -> bool:
    return a[0] == b[0] and (a[1] == b[1] or ANY in (a[1], b[1])) and (a[2] == b[2] or ANY in (a[2], b[2]))
