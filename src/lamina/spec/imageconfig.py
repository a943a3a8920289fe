# SPDX-License-Identifier: Apache-2.0
"""Image configs: checking those of strangers, and building our own as bytes.

An image's id is the sha256 of these bytes, so they are built once and kept exactly. Shape: the OCI image config with docker's
fields (container, container_config, docker_version), keys of the document sorted, keys of `config` in docker's order,
`<`, `>` and `&` escaped: byte by byte what dockerd writes for the same facts. `check` is the only door for foreign ones: after it,
every field has its type or is absent, so that no reader has to ask again (attack 54: null where an object was expected).
"""
from __future__ import annotations

from lamina.errors import ArchiveError
from lamina.util.digest import check_digest
from lamina.util.fastjson import dumps

from . import document
from .platform import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PRODUCER = "26.1.0+lamina"  # docker_version: the dialect that we write, and who wrote it
EMPTY_TAR = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"  # diff id of a layer that changes nothing
MAX_LAYERS = 4096
MAX_HISTORY = 16384

# Docker's order; True: shown even when empty.
FIELDS: tuple[tuple[str, type[Any], bool], ...] = (
    ("Hostname", str, True), ("Domainname", str, True), ("User", str, True), ("AttachStdin", bool, True), ("AttachStdout", bool, True),
    ("AttachStderr", bool, True), ("ExposedPorts", dict, False), ("Tty", bool, True), ("OpenStdin", bool, True), ("StdinOnce", bool, True),
    ("Env", list, True), ("Cmd", list, True), ("Healthcheck", dict, False), ("ArgsEscaped", bool, False), ("Image", str, True),
    ("Volumes", dict, True), ("WorkingDir", str, True), ("Entrypoint", list, True), ("NetworkDisabled", bool, False),
    ("MacAddress", str, False), ("OnBuild", list, True), ("Labels", dict, True), ("StopSignal", str, False), ("StopTimeout", int, False),
    ("Shell", list, False),
)  # fmt: skip
SORTED = frozenset(("ExposedPorts", "Volumes", "Labels"))
HEALTH = (("Test", list), ("Interval", int), ("Timeout", int), ("StartPeriod", int), ("StartInterval", int), ("Retries", int))
BLANK: dict[type, Any] = {str: "", bool: False, int: 0, list: None, dict: None}


def run_config(given: dict[str, Any] | None = None) -> dict[str, Any]:
    """`config` in docker's full shape and order: absent strings are "", absent lists and maps null; unknown keys follow at the end."""
    given = given or {}
    result: dict[str, Any] = {}
    for name, kind, always in FIELDS:
        value = given.get(name)
        if value is None:
            value = BLANK[kind]
        if not always and not value and not (name == "StopTimeout" and given.get(name) is not None):
            continue
        if name in SORTED and value:
            value = {key: value[key] for key in sorted(value)}
        elif name == "Healthcheck":
            value = {key: value[key] for key, _ in HEALTH if value.get(key)}
        result[name] = value
    known = {name for name, _, _ in FIELDS}
    result.update((key, value) for key, value in given.items() if key not in known)
    return result


def history_entry(created: str, *, author: str = "", created_by: str = "", comment: str = "", empty_layer: bool = False) -> dict[str, Any]:
    entry: dict[str, Any] = {"created": created, "author": author, "created_by": created_by, "comment": comment, "empty_layer": empty_layer}
    return {key: value for key, value in entry.items() if value}


def build(*, platform: Platform, created: str, diff_ids: list[str], history: list[dict[str, Any]], config: dict[str, Any],
          container_config: dict[str, Any], container: str = "", author: str = "", comment: str = "",
          extra: dict[str, Any] | None = None) -> bytes:
    """The bytes of a new image config. `extra`: further top-level keys of the parent's config that must live on (os.version ...)."""
    document_: dict[str, Any] = dict(extra or {})
    document_.update({
        "architecture": platform.architecture, "os": platform.os, "created": created, "docker_version": PRODUCER,
        "config": run_config(config), "container_config": run_config(container_config),
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": history,
    })  # fmt: skip
    for key, value in (("variant", platform.variant), ("container", container), ("author", author), ("comment", comment)):
        if value:
            document_[key] = value
        else:
            document_.pop(key, None)
    return encode({key: document_[key] for key in sorted(document_)})


def encode(document_: dict[str, Any]) -> bytes:
    """JSON as Go's encoder writes it: compact, HTML's characters and U+2028/9 escaped."""
    text = dumps(document_)
    for char in "<>&\u2028\u2029":
        if char in text:
            text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode("utf-8")


def check(data: bytes) -> dict[str, Any]:
    """A config of a stranger, believed in nothing: the object, null members dropped, or ArchiveError saying what is wrong.

    The bytes themselves are kept elsewhere; this only decides whether they may become an image.
    """
    value = document.parse(data, "image config", document.CONFIG_LIMIT)
    result = {key: inner for key, inner in value.items() if inner is not None}
    for key in ("architecture", "os", "variant", "created", "author", "comment", "container", "docker_version", "os.version"):
        _typed(result, key, str)
    for key in ("config", "container_config"):
        _typed(result, key, dict)
        if key in result:
            result[key] = _check_run_config(result[key], key)
    _typed(result, "rootfs", dict)
    rootfs = result.get("rootfs")
    if rootfs is None:
        raise ArchiveError("image config has no rootfs")
    if rootfs.get("type") != "layers":
        raise ArchiveError(f"image config: rootfs type {str(rootfs.get('type'))[:40]!r} is unknown, only layers are")
    diff_ids = rootfs.get("diff_ids")
    if diff_ids is None:
        diff_ids = []
    if not isinstance(diff_ids, list) or len(diff_ids) > MAX_LAYERS:
        raise ArchiveError(f"image config: rootfs.diff_ids must be a list of at most {MAX_LAYERS} digests")
    for diff_id in diff_ids:
        if not isinstance(diff_id, str):
            raise ArchiveError("image config: rootfs.diff_ids holds something that is no digest")
        try:
            check_digest(diff_id)
        except Exception as e:
            raise ArchiveError(f"image config: rootfs.diff_ids: {e}")
    rootfs["diff_ids"] = diff_ids
    result["history"] = _check_history(result.get("history"), len(diff_ids))
    return result


def _typed(value: dict[str, Any], key: str, kind: type) -> None:
    if key in value and not isinstance(value[key], kind):
        raise ArchiveError(f"image config: {key} must be a {_NAMES[kind]}")


_NAMES: dict[type, str] = {str: "string", bool: "boolean", int: "whole number", list: "list", dict: "object"}


def _check_run_config(config: dict[str, Any], where: str) -> dict[str, Any]:
    result = {key: value for key, value in config.items() if value is not None}
    for name, kind, _ in FIELDS:
        if name not in result:
            continue
        value = result[name]
        if name == "Cmd" and isinstance(value, str):
            value = result[name] = [value]  # a command as one string: schema 1 images have it
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ArchiveError(f"image config: {where}.{name} must be a {_NAMES[kind]}")
        if kind is list and not all(isinstance(item, str) for item in value):
            raise ArchiveError(f"image config: {where}.{name} must hold strings only")
        if name == "Labels" and not all(isinstance(item, str) for item in value.values()):
            raise ArchiveError(f"image config: {where}.Labels must hold strings only")
        if name == "Healthcheck":
            for key, inner in HEALTH:
                given = value.get(key)
                if given is not None and (not isinstance(given, inner) or isinstance(given, bool)):
                    raise ArchiveError(f"image config: {where}.Healthcheck.{key} must be a {_NAMES[inner]}")
            if not all(isinstance(item, str) for item in value.get("Test") or []):
                raise ArchiveError(f"image config: {where}.Healthcheck.Test must hold strings only")
    return result


def _check_history(history: Any, layers: int) -> list[dict[str, Any]]:
    if history is None:
        return []
    if not isinstance(history, list) or len(history) > MAX_HISTORY:
        raise ArchiveError(f"image config: history must be a list of at most {MAX_HISTORY} entries")
    result, full = [], 0
    for entry in history:
        if not isinstance(entry, dict):
            raise ArchiveError("image config: history holds something that is no object")
        entry = {key: value for key, value in entry.items() if value is not None}
        for key, kind in (("created", str), ("author", str), ("created_by", str), ("comment", str), ("empty_layer", bool)):
            if key in entry and not isinstance(entry[key], kind):
                raise ArchiveError(f"image config: history.{key} must be a {_NAMES[kind]}")
        full += not entry.get("empty_layer")
        result.append(entry)
    if full > layers:
        # Fewer is common (a squashed layer keeps its text); more would name layers that don't exist.
        raise ArchiveError(f"image config: history names {full} layers, rootfs has {layers}")
    return result
