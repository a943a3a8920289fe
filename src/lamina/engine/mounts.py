# SPDX-License-Identifier: Apache-2.0
"""What `-v` and an image's VOLUME mean: binds, named and anonymous volumes, as mount points of a container. [hot]

A mount point is the API's `MountPoint`: {Type, Name?, Source, Destination, Driver?, Mode, RW, Propagation}. It is settled at
create and kept in the container's record, so that start, inspect and commit see the same.
"""

from __future__ import annotations

import os

from lamina.errors import InvalidArgument, NotSupported

from .config import check_target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CONSISTENCY = ("cached", "consistent", "delegated")  # docker's words for hosts that aren't Linux; all are consistent here
PROPAGATION = ("private", "rprivate", "slave", "rslave", "shared", "rshared")


def parse_bind(text: str) -> dict[str, Any]:
    """`SOURCE:TARGET[:MODE]` or `TARGET`, docker's texts. A source that begins with `/` is a host path, else a volume's name."""
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise InvalidArgument(f"invalid volume specification: '{text}'")
    if len(parts) == 1:
        return {"Type": "volume", "Name": "", "Destination": check_target(parts[0]), "Mode": "", "RW": True, "Propagation": ""}
    source, wrong = parts[0], f"invalid volume specification: '{text}': "
    try:
        target = check_target(parts[1])
    except InvalidArgument as e:
        kind = "bind" if source.startswith("/") else "volume"
        raise InvalidArgument(f'{wrong}invalid mount config for type "{kind}": {e.message}') from None
    mode = parts[2] if len(parts) == 3 else ""
    writable, propagation = parse_mode(mode, text)
    if source.startswith("/"):
        return {"Type": "bind", "Source": os.path.normpath(source), "Destination": target, "Mode": mode, "RW": writable,
                "Propagation": propagation or "rprivate"}  # fmt: skip
    if source.startswith((".", "~")):
        raise InvalidArgument(f"{wrong}\"{source}\" is neither a path from / nor a volume name")
    if propagation:
        raise InvalidArgument(f"{wrong}propagation is for binds of host paths only")
    return {"Type": "volume", "Name": source, "Destination": target, "Mode": mode or "z", "RW": writable, "Propagation": ""}


def parse_mode(mode: str, text: str) -> tuple[bool, str]:
    """(writable, propagation) of the comma-separated mode of a bind."""
    writable, propagation, seen = True, "", set()
    for word in mode.split(",") if mode else []:
        kind = "rw" if word in ("rw", "ro") else "propagation" if word in PROPAGATION else "consistency" if word in CONSISTENCY else word
        if kind in seen:
            raise InvalidArgument(f"invalid mode: {mode}")
        seen.add(kind)
        if word == "ro":
            writable = False
        elif word in PROPAGATION:
            propagation = word
        elif word in ("z", "Z"):
            if os.path.exists("/sys/fs/selinux/enforce"):
                raise NotSupported(f"mode {word} of volume '{text}': relabelling for SELinux is not supported yet")
        elif word == "nocopy" or word in CONSISTENCY:
            pass  # nocopy is told apart by the caller, who looks at Mode
        elif word != "rw":
            raise InvalidArgument(f"invalid mode: {mode}")
    return writable, propagation


def points(binds: list[str] | None, declared: dict[str, Any] | None) -> list[dict[str, Any]]:
    """All mount points of a container: its binds, and an anonymous volume for each declared path that no bind covers."""
    found: dict[str, dict[str, Any]] = {}
    for text in binds or []:
        point = parse_bind(text)
        if point["Destination"] in found:
            raise InvalidArgument(f"Duplicate mount point: {point['Destination']}")
        found[point["Destination"]] = point
    for path in declared or {}:
        target = check_target(path)
        if target not in found:
            found[target] = {"Type": "volume", "Name": "", "Destination": target, "Mode": "", "RW": True, "Propagation": ""}
    return [found[target] for target in sorted(found)]


def ensure_bind_source(path: str) -> None:
    """docker makes a missing source of `-v` as a directory of root's."""
    try:
        os.stat(path)
    except FileNotFoundError:
        try:
            os.makedirs(path, 0o755, exist_ok=True)
        except OSError as e:
            raise InvalidArgument(f"error while creating mount source path '{path}': {e.strerror}") from None
    except OSError as e:
        raise InvalidArgument(f"mount source path '{path}': {e.strerror}") from None


def check_propagation(point: dict[str, Any]) -> None:
    """Mounts can only be handed on between a container and the host where the source's own mount does so; docker's texts."""
    wanted = point["Propagation"].removeprefix("r")
    if wanted not in ("shared", "slave"):
        return
    from lamina.linux.mount import mountinfo

    path, host = os.path.realpath(point["Source"]), None
    for entry in mountinfo():
        if (path + "/").startswith(entry.target.rstrip("/") + "/") and (host is None or len(entry.target) >= len(host.target)):
            host = entry
    tags = {tag.partition(":")[0] for tag in host.propagation} if host else set()
    if not tags & ({"shared"} if wanted == "shared" else {"shared", "master"}):
        kind = "a shared" if wanted == "shared" else "a shared or slave"
        raise InvalidArgument(f"path {point['Source']} is mounted on {host.target if host else '/'} but it is not {kind} mount")


def oci(point: dict[str, Any]) -> dict[str, Any]:
    """The OCI runtime mount of one mount point."""
    if "Options" in point:
        kind = "tmpfs" if point["Type"] == "tmpfs" else "bind"
        return {"destination": point["Destination"], "type": kind, "source": point["Source"] or kind, "options": point["Options"]}
    options = ["rbind" if point["Type"] == "bind" else "bind", "rw" if point["RW"] else "ro"]
    options.append(point["Propagation"] or "rprivate")
    return {"destination": point["Destination"], "type": "bind", "source": point["Source"], "options": options}
