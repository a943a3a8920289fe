# SPDX-License-Identifier: Apache-2.0
"""An OCI bundle: its config.json read and checked, before anything of it is carried out.

For the face `lamina-runtime`; the engine makes its configs itself. The check is for what would otherwise fail late or be silently
dropped: each message names the field. Fields that the runtime-spec marks as optional and that we don't know stay in the document.
"""
from __future__ import annotations

import os
import posixpath

from lamina.errors import InvalidArgument, NotSupported
from lamina.linux import ns
from lamina.util.fastjson import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

VERSION = "1.2.0"
_MAX = 16 << 20
HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def load(bundle: str) -> dict[str, Any]:
    """config.json of the directory `bundle`, checked. InvalidArgument says which field is wrong."""
    path = bundle + "/config.json"
    try:
        with open(path, "rb") as f:
            data = f.read(_MAX + 1)
    except FileNotFoundError:
        raise InvalidArgument(f"JSON specification file {path} not found") from None
    except OSError as e:
        raise InvalidArgument(f"{path}: {e.strerror}") from None
    if len(data) > _MAX:
        raise InvalidArgument(f"{path}: larger than {_MAX >> 20} MiB")
    try:
        spec = loads(data)
    except ValueError as e:
        raise InvalidArgument(f"{path} is not valid JSON: {e}") from None
    check(spec, bundle)
    root = spec["root"]["path"]
    spec["root"]["path"] = root if root.startswith("/") else posixpath.normpath(f"{bundle}/{root}")
    if not os.path.isdir(spec["root"]["path"]):
        raise InvalidArgument(f"root.path: {spec['root']['path']} is not a directory")
    return spec  # type: ignore[no-any-return]


def load_process(path: str) -> dict[str, Any]:
    """A `process` document for `exec --process`."""
    try:
        with open(path, "rb") as f:
            process = loads(f.read(_MAX))
    except OSError as e:
        raise InvalidArgument(f"{path}: {e.strerror}") from None
    except ValueError as e:
        raise InvalidArgument(f"{path} is not valid JSON: {e}") from None
    check_process(process)
    return process  # type: ignore[no-any-return]


def _get(value: dict[str, Any], key: str, kind: type, where: str) -> Any:
    """The field, None when it is absent or null; InvalidArgument when it is of another type."""
    found = value.get(key)
    if found is None:
        return None
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        names = {str: "a string", int: "a number", list: "a list", dict: "an object", bool: "true or false"}
        raise InvalidArgument(f"config.json: {where}{key} must be {names[kind]}, not {found!r:.60}")
    return found


def _strings(value: dict[str, Any], key: str, where: str) -> list[str]:
    found = _get(value, key, list, where) or []
    for i, item in enumerate(found):
        if not isinstance(item, str) or "\0" in item:
            raise InvalidArgument(f"config.json: {where}{key}[{i}] must be a string without NUL, not {item!r:.60}")
    return found


def _objects(value: dict[str, Any], key: str, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for i, item in enumerate(_get(value, key, list, where) or []):
        if not isinstance(item, dict):
            raise InvalidArgument(f"config.json: {where}{key}[{i}] must be an object")
        yield f"{where}{key}[{i}].", item


def check(spec: object, bundle: str = "") -> None:
    """InvalidArgument or NotSupported for a document that can't be carried out as it says."""
    if not isinstance(spec, dict):
        raise InvalidArgument("config.json: must be an object")
    version = _get(spec, "ociVersion", str, "")
    if not version:
        raise InvalidArgument("config.json: ociVersion is missing")
    if version.split(".")[0] != "1":
        raise NotSupported(f"config.json: ociVersion {version} is not supported, only 1.x")
    for other in ("solaris", "windows", "vm", "zos", "freebsd"):
        if spec.get(other):
            raise NotSupported(f"config.json: section {other} is for another platform")
    root = _get(spec, "root", dict, "")
    if root is None or not _get(root, "path", str, "root."):
        raise InvalidArgument("config.json: root.path is missing")
    _get(root, "readonly", bool, "root.")
    process = _get(spec, "process", dict, "")
    if process is None:
        raise InvalidArgument("config.json: process is missing")
    check_process(process)
    linux = _get(spec, "linux", dict, "") or {}
    _check_linux(linux)
    kinds = {n.get("type") for n in linux.get("namespaces") or ()}
    if "mount" not in kinds:
        raise InvalidArgument("config.json: linux.namespaces: a mount namespace is needed")
    for field in ("hostname", "domainname"):
        if _get(spec, field, str, "") and "uts" not in kinds:
            raise InvalidArgument(f"config.json: unable to set {field} without a private UTS namespace")
    for where, mount in _objects(spec, "mounts", ""):
        if not _get(mount, "destination", str, where):
            raise InvalidArgument(f"config.json: {where}destination is missing")
        _strings(mount, "options", where)
        if mount.get("uidMappings") or mount.get("gidMappings"):
            raise NotSupported(f"config.json: {where}uidMappings: id-mapped mounts are not supported")
    _check_hooks(_get(spec, "hooks", dict, "") or {})
    annotations = _get(spec, "annotations", dict, "") or {}
    if not all(isinstance(v, str) for v in annotations.values()):
        raise InvalidArgument("config.json: annotations must be strings")


def check_process(process: object) -> None:
    if not isinstance(process, dict):
        raise InvalidArgument("config.json: process must be an object")
    if not _strings(process, "args", "process."):
        raise InvalidArgument("config.json: process.args must not be empty")
    _strings(process, "env", "process.")
    cwd = _get(process, "cwd", str, "process.")
    if not cwd:
        raise InvalidArgument("config.json: process.cwd must not be empty")
    if not cwd.startswith("/"):
        raise InvalidArgument(f"config.json: process.cwd {cwd!r} is not an absolute path")
    user = _get(process, "user", dict, "process.") or {}
    for key in ("uid", "gid", "umask"):
        number = _get(user, key, int, "process.user.")
        if number is not None and not 0 <= number < 2**32 - 1:
            raise InvalidArgument(f"config.json: process.user.{key} {number} is out of range")
    _get(user, "additionalGids", list, "process.user.")
    sets = _get(process, "capabilities", dict, "process.") or {}
    for key in sets:
        _strings(sets, key, "process.capabilities.")
    seen = set()
    for where, limit in _objects(process, "rlimits", "process."):
        kind = _get(limit, "type", str, where)
        if kind in seen:
            raise InvalidArgument(f"config.json: {where}type {kind} is there twice")
        seen.add(kind)
        for key in ("soft", "hard"):
            if _get(limit, key, int, where) is None:
                raise InvalidArgument(f"config.json: {where}{key} is missing")
    for key in ("scheduler", "ioPriority", "execCPUAffinity"):
        if process.get(key):
            raise NotSupported(f"config.json: process.{key} is not supported")


def _check_linux(linux: dict[str, Any]) -> None:
    seen = set()
    for where, namespace in _objects(linux, "namespaces", "linux."):
        kind, path = _get(namespace, "type", str, where), _get(namespace, "path", str, where)
        if kind not in ns.NAMESPACES:
            raise InvalidArgument(f"config.json: {where}type {kind!r} is not a namespace")
        if kind in seen:
            raise InvalidArgument(f"config.json: {where}type {kind} is there twice")
        seen.add(kind)
        if path and not path.startswith("/"):
            raise InvalidArgument(f"config.json: {where}path {path!r} is not an absolute path")
    for where, device in _objects(linux, "devices", "linux."):
        if not (_get(device, "path", str, where) or "").startswith("/") or device.get("type") not in ("c", "b", "u", "p"):
            raise InvalidArgument(f"config.json: {where}path or type is wrong")
    for key in ("maskedPaths", "readonlyPaths"):
        _strings(linux, key, "linux.")
    for key in ("resources", "sysctl", "seccomp"):
        _get(linux, key, dict, "linux.")
    _get(linux, "cgroupsPath", str, "linux.")
    for key in ("intelRdt", "timeOffsets", "netDevices", "memoryPolicy"):
        if linux.get(key):
            raise NotSupported(f"config.json: linux.{key} is not supported")


def _check_hooks(hooks: dict[str, Any]) -> None:
    for name in hooks:
        if name not in HOOKS:
            raise InvalidArgument(f"config.json: hooks.{name} is not a hook")
        for where, hook in _objects(hooks, name, "hooks."):
            path = _get(hook, "path", str, where)
            if not path or not path.startswith("/"):
                raise InvalidArgument(f"config.json: {where}path {path!r} is not an absolute path")
            _strings(hook, "args", where)
            _strings(hook, "env", where)
            timeout = _get(hook, "timeout", int, where)
            if timeout is not None and timeout <= 0:
                raise InvalidArgument(f"config.json: {where}timeout must be greater than zero")


def cgroup_path(spec: dict[str, Any], container_id: str) -> str:
    """Where the container's group goes: `linux.cgroupsPath`, absolute from the hierarchies' roots; without one, /lamina-runtime/<id>."""
    path = (spec.get("linux") or {}).get("cgroupsPath") or f"/lamina-runtime/{container_id}"
    if path.count(":") == 2 and "/" not in path:
        raise NotSupported(f"linux.cgroupsPath {path!r} is in systemd's form, which needs --systemd-cgroup: not supported; use cgroupfs")
    return "/" + posixpath.normpath("/" + path).lstrip("/")


def template() -> dict[str, Any]:
    """What `lamina-runtime spec` writes: a shell on a read-only root."""
    from lamina.runtime import defaults

    return {
        "ociVersion": VERSION,
        "process": {
            "terminal": True, "user": {"uid": 0, "gid": 0}, "args": ["sh"], "env": [defaults.PATH, "TERM=xterm"], "cwd": "/",
            "capabilities": defaults.capabilities(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}], "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True}, "hostname": "lamina", "mounts": defaults.mounts(),
        "linux": {
            "resources": {"devices": defaults.device_rules()}, "namespaces": defaults.namespaces(),
            "maskedPaths": defaults.masked_paths(), "readonlyPaths": defaults.readonly_paths(),
        },
    }  # fmt: skip
