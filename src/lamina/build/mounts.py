# SPDX-License-Identifier: Apache-2.0
"""RUN --mount=type=bind|cache|tmpfs|secret|ssh,... and --device=NAME[,required] (Dockerfile reference, "RUN --mount").

`parse_mount` is called twice: when the file is read, without `expand`, for what can be known then (`from` takes no variables, as it
decides which stages are built); and when the instruction is met, with `expand`, for all of it.
"""
from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass

from lamina.errors import InvalidArgument
from lamina.util.sizes import parse_bytes

from .suggest import mean

TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARING = ("shared", "private", "locked")
KEYS = ("type", "from", "source", "target", "readonly", "id", "sharing", "required", "size", "mode", "uid", "gid", "src", "dst",
        "destination", "ro", "rw", "readwrite", "env")
TRUE, FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
MAX_ID = (1 << 32) - 1


@dataclass(slots=True)
class Mount:
    type: str = "bind"
    source_stage: str = ""  # `from`
    source: str = ""
    target: str = ""
    readonly: bool = True
    size: int = 0  # bytes of a tmpfs; 0: no limit
    id: str = ""
    sharing: str = ""
    required: bool = False
    env: str | None = None  # of a secret: the variable; "": named as the secret
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


@dataclass(slots=True)
class Device:
    name: str = ""
    required: bool = False


def fields(text: str) -> list[str]:
    """Of one comma-separated record."""
    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as e:
        raise InvalidArgument(f"failed to parse csv mounts: {e}") from None


def parse_bool(key: str, value: str) -> bool:
    if value in TRUE or value in FALSE:
        return value in TRUE
    raise InvalidArgument(f"invalid value for {key}: {value}")


def number(key: str, value: str, base: int) -> int:
    if value.isascii() and value.isdigit() and not set(value) - set("01234567" if base == 8 else "0123456789"):
        found = int(value, base) if len(value) < 20 else MAX_ID + 1
        if found <= MAX_ID:
            return found
    raise InvalidArgument(f"invalid value {value} for {key}")


def parse_mount(text: str, expand: Callable[[str], str] | None = None) -> Mount:
    """InvalidArgument in BuildKit's words."""
    mount = Mount()
    readonly: bool | None = None
    for field in fields(text):
        key, sign, value = field.partition("=")
        key = key.lower()
        if expand is None:
            if key == "from" and sign:
                if 0 <= value.find("$") < len(value) - 1:
                    raise InvalidArgument("'from' doesn't support variable expansion, define alias stage instead")
                mount.source_stage = value
            continue
        if not sign:
            if key in ("readonly", "ro", "readwrite", "rw"):
                readonly = key[:5] == "reado" or key == "ro"
                continue
            if key != "required":
                raise InvalidArgument(f"invalid field '{field}' must be a key=value pair")
            value = "true"
        value = expand(value)
        if key in ("readonly", "ro", "readwrite", "rw"):
            readonly = parse_bool(key, value) == (key in ("readonly", "ro"))
        else:
            _set(mount, key, value, field)
    if expand is not None:
        mount.readonly = mount.type not in ("cache", "tmpfs") if readonly is None else readonly
        _whole(mount)
    return mount


def _set(mount: Mount, key: str, value: str, field: str) -> None:
    if key == "type":
        if value.lower() not in TYPES:
            raise InvalidArgument(mean(f'unsupported mount type "{value}"', value, TYPES))
        mount.type = value.lower()
    elif key == "from":
        mount.source_stage = value
    elif key in ("source", "src"):
        mount.source = value
    elif key in ("target", "dst", "destination"):
        mount.target = value
    elif key == "required" and mount.type in ("secret", "ssh"):
        mount.required = parse_bool(key, value)
    elif key == "size" and mount.type == "tmpfs":
        try:
            mount.size = parse_bytes(value)
        except ValueError:
            raise InvalidArgument(f"invalid value for {key}: {value}") from None
    elif key in ("required", "size"):
        raise InvalidArgument(f"unexpected key '{key}' for mount type '{mount.type}'")
    elif key == "id":
        mount.id = value
    elif key == "sharing":
        if value.lower() not in SHARING:
            raise InvalidArgument(mean(f'unsupported sharing value "{value}"', value, SHARING))
        mount.sharing = value.lower()
    elif key == "mode":
        mount.mode = number(key, value, 8)
    elif key == "uid":
        mount.uid = number(key, value, 10)
    elif key == "gid":
        mount.gid = number(key, value, 10)
    elif key == "env":
        mount.env = value
    else:
        raise InvalidArgument(mean(f"unexpected key '{key}' in '{field}'", key, KEYS))


def _whole(mount: Mount) -> None:
    """What can't be together."""
    if mount.type not in ("secret", "ssh", "cache"):
        for key, value in (("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)):
            if value is not None:
                raise InvalidArgument(f'{key} not allowed for "{mount.type}" type mounts')
    if mount.type == "secret":
        if mount.source_stage:
            raise InvalidArgument("secret mount should not have a from")
        if mount.sharing:
            raise InvalidArgument("secret mount should not define sharing")
        if not (mount.source or mount.target or mount.id):
            raise InvalidArgument("invalid secret mount. one of source, target required")
        if mount.source and mount.id:
            raise InvalidArgument("both source and id can't be set")
    if mount.sharing and mount.type != "cache":
        raise InvalidArgument(f"invalid cache sharing set for {mount.type} mount")


def parse_device(text: str) -> Device:
    device = Device()
    for field in fields(text):
        key, sign, value = field.partition("=")
        key = key.lower()
        if key == "required":
            device.required = parse_bool(key, value) if sign else True
        elif key == "name" and sign:
            if device.name:
                raise InvalidArgument(f"device name already set to {device.name}")
            device.name = value
        elif not device.name:
            device.name = field
        elif not sign:
            raise InvalidArgument(f"invalid field '{field}' must be a key=value pair")
        else:
            raise InvalidArgument(mean(f"unexpected key '{key}' in '{field}'", key, ("name", "required")))
    return device
