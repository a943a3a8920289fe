# SPDX-License-Identifier: Apache-2.0
"""`--mount`, `--tmpfs` and `--volumes-from`: checked with docker's texts, turned into the mount points that `mounts` knows.

Loaded only for containers that use one of them. A mount point of a `--mount` has three more keys than the API's: "Given" (its source
must exist already), "Labels" of a volume that may be new, and "Options", those of its OCI mount.
"""

from __future__ import annotations

import os

from lamina.errors import InvalidArgument, NotSupported

from .config import check_target
from .mounts import CONSISTENCY, PROPAGATION, parse_mode
from .mounts import points as plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lamina.containers.store import ContainerStore

TMPFS_FLAGS = frozenset((
    "defaults", "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async", "dirsync", "atime", "noatime", "diratime",
    "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime",
))  # fmt: skip
TMPFS_VALUES = frozenset(("mode", "uid", "gid", "size", "nr_blocks", "nr_inodes", "mpol"))


def points(host: dict[str, Any], declared: dict[str, Any] | None, records: ContainerStore) -> list[dict[str, Any]]:
    """All mount points: other containers' first, which binds and mounts of this one's own replace; then what the image declares."""
    own = plain(host["Binds"], None)
    taken = {point["Destination"] for point in own}
    for mount in tmpfs(host.get("Tmpfs") or {}):
        if mount["destination"] in taken:
            raise InvalidArgument(f"Duplicate mount point: {mount['destination']}")
        taken.add(mount["destination"])
    for entry in host.get("Mounts") or []:
        point = given(entry)
        if point["Destination"] in taken:
            raise InvalidArgument(f"Duplicate mount point: {point['Destination']}")
        taken.add(point["Destination"])
        own.append(point)
    for point in others(host["VolumesFrom"] or [], records):
        if point["Destination"] not in taken:
            taken.add(point["Destination"])
            own.append(point)
    left: dict[str, Any] = {path: {} for path in declared or {} if check_target(path) not in taken}
    return sorted([*own, *plain(None, left)], key=lambda point: str(point["Destination"]))


def others(given: list[str], records: ContainerStore) -> list[dict[str, Any]]:
    """The volumes and binds of other containers; the last one wins where two have the same mount point."""
    found: dict[str, dict[str, Any]] = {}
    for text in given:
        ref, _, mode = str(text).partition(":")
        if not ref:
            raise InvalidArgument(f"malformed volumes-from specification: {text}")
        writable, _ = parse_mode(mode, text)
        if mode not in ("", "ro", "rw", "z", "Z"):
            raise InvalidArgument(f"invalid mode: {mode}")
        for point in records.get(ref).config.get("Mounts", []):
            if point["Type"] != "tmpfs":
                copy = {key: value for key, value in point.items() if key != "Labels"}
                copy["RW"] = point["RW"] and writable
                if not copy["RW"] and "Options" in copy:
                    copy["Options"] = [*(word for word in copy["Options"] if word != "rw"), "ro"]
                found[point["Destination"]] = copy
    return list(found.values())


def given(entry: Any) -> dict[str, Any]:
    """One of HostConfig.Mounts."""
    if not isinstance(entry, dict):
        raise InvalidArgument("HostConfig.Mounts must be a list of objects")
    kind, source, target = entry.get("Type") or "", entry.get("Source") or "", entry.get("Target") or ""
    wrong = f'invalid mount config for type "{kind}": '
    if kind not in ("bind", "volume", "tmpfs"):
        known = kind in ("npipe", "cluster", "image")
        raise InvalidArgument(wrong + ("not on this platform, or not yet" if known else "mount type unknown"))
    if not target:
        raise InvalidArgument(wrong + "field Target must not be empty")
    for name, part in (("bind", "BindOptions"), ("volume", "VolumeOptions"), ("tmpfs", "TmpfsOptions")):
        if entry.get(part) and name != kind:
            raise InvalidArgument(wrong + f"field {part} must not be specified")
    if entry.get("Consistency") not in (None, "", "default", *CONSISTENCY):
        raise InvalidArgument(wrong + f"invalid consistency: {entry['Consistency']}")
    try:
        target = check_target(target)
    except InvalidArgument as e:
        raise InvalidArgument(wrong + e.message) from None
    readonly = bool(entry.get("ReadOnly"))
    if kind == "tmpfs":
        return tmpfs_point(entry, target, readonly, wrong)
    if kind == "volume":
        return volume_point(entry, source, target, readonly, wrong)
    return bind_point(entry, source, target, readonly, wrong)


def bind_point(entry: dict[str, Any], source: str, target: str, readonly: bool, wrong: str) -> dict[str, Any]:
    if not source:
        raise InvalidArgument(wrong + "field Source must not be empty")
    if not source.startswith("/") or "\0" in source:
        raise InvalidArgument(wrong + f"invalid mount path: '{source}' mount path must be absolute")
    options = entry.get("BindOptions") or {}
    propagation = options.get("Propagation") or "rprivate"
    if propagation not in PROPAGATION:
        raise InvalidArgument(wrong + f"invalid propagation mode: {propagation}")
    create = options.get("CreateMountpoint")
    if not create and not os.path.lexists(source):
        raise InvalidArgument(wrong + f"bind source path does not exist: {source}")
    words = ["bind" if options.get("NonRecursive") else "rbind", propagation]
    if not readonly:
        words.append("rw")
    elif options.get("NonRecursive") or options.get("ReadOnlyNonRecursive"):
        words.append("ro")
    else:
        words += ["ro", "rro"]
    return {"Type": "bind", "Source": os.path.normpath(source), "Destination": target, "Mode": "", "RW": not readonly,
            "Propagation": propagation, "Given": not create, "Options": words}  # fmt: skip


def volume_point(entry: dict[str, Any], source: str, target: str, readonly: bool, wrong: str) -> dict[str, Any]:
    options = entry.get("VolumeOptions") or {}
    driver = options.get("DriverConfig") or {}
    if options.get("Subpath"):
        raise NotSupported(wrong + "volume-subpath is not supported yet")
    if driver.get("Name") not in (None, "", "local") or driver.get("Options"):
        raise NotSupported(wrong + "volume drivers and their options are not supported yet")
    if not source and readonly:
        raise InvalidArgument(wrong + "must not set ReadOnly mode when using anonymous volumes")
    return {"Type": "volume", "Name": source, "Destination": target, "Mode": "nocopy" if options.get("NoCopy") else "z", "RW": not readonly,
            "Propagation": "", "Labels": options.get("Labels") or {}}  # fmt: skip


def tmpfs_point(entry: dict[str, Any], target: str, readonly: bool, wrong: str) -> dict[str, Any]:
    if entry.get("Source"):
        raise InvalidArgument(wrong + "field Source must not be specified")
    options = entry.get("TmpfsOptions") or {}
    size, mode = options.get("SizeBytes") or 0, options.get("Mode") or 0
    if not isinstance(size, int) or not isinstance(mode, int) or size < 0 or not 0 <= mode < 1 << 32:
        raise InvalidArgument(wrong + "SizeBytes and Mode must be numbers")
    if options.get("Options"):
        raise NotSupported(wrong + "TmpfsOptions.Options is not supported yet")
    words = ["nosuid", "nodev", "noexec", "ro" if readonly else "rw"]
    words += [f"size={size}"] if size else []
    words += [f"mode={mode & 0o7777:o}"] if mode else []
    refuse_dev(target)
    return {"Type": "tmpfs", "Source": "", "Destination": target, "Mode": "", "RW": not readonly, "Propagation": "", "Options": words}


def tmpfs(wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """OCI mounts of HostConfig.Tmpfs, {path: options}; as in docker not executable, no devices, no setuid unless said otherwise."""
    made = []
    for path, text in wanted.items():
        target, words = check_target(path), ["nosuid", "nodev", "noexec"]
        refuse_dev(target)
        for word in str(text).split(",") if text else []:
            name, sign, _ = word.partition("=")
            if sign and name not in TMPFS_VALUES or not sign and word not in TMPFS_FLAGS:
                raise InvalidArgument(f'invalid tmpfs option "{name}"')
            opposite = word.removeprefix("no") if word.startswith("no") else "no" + word
            words = [one for one in words if one != opposite and not (sign and one.startswith(name + "="))] + [word]
        made.append({"destination": target, "type": "tmpfs", "source": "tmpfs", "options": words})
    return made


def refuse_dev(target: str) -> None:
    if target == "/dev":
        raise NotSupported("a tmpfs at /dev is not supported: the container's devices are there")
