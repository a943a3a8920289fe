# SPDX-License-Identifier: Apache-2.0
"""Small archives of images, made by hand: honest ones, and whatever a test turns them into."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

PEERS = Path(__file__).parent / "peers"
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
Files = dict[str, bytes]


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def blob(data: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def tar_of(files: dict[str, bytes | str | None]) -> bytes:
    """A tar: bytes are a file, None a directory, text a symbolic link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.mode, info.mtime = 0o755, 1_500_000_000
            if data is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data
            else:
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data) if isinstance(data, bytes) else None)
    return out.getvalue()


def files_of(tar: bytes) -> dict[str, bytes | str | None]:
    found: dict[str, bytes | str | None] = {}
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        for member in archive:
            data = archive.extractfile(member) if member.isfile() else None
            found[member.name] = data.read() if data else member.linkname if member.issym() else None
    return found


def recorded(name: str) -> bytes:
    """What a real engine wrote (scripts/golden-archives)."""
    return gzip.decompress((PEERS / f"{name}.tar.gz").read_bytes())


def legacy(version: str = "") -> bytes:
    """An archive as docker before 1.10 wrote it: docker 20.10's without what came later. `version`: who claims to have made the images."""
    kept: dict[str, bytes | str | None] = {}
    for name, data in files_of(recorded("docker20-archive")).items():
        if name.endswith("/json") and version and isinstance(data, bytes):
            value = json.loads(data)
            value.update(docker_version=version, Size=7, throwaway=True)
            data = compact(value)
        if "/" in name or name == "repositories" or data is None:
            kept[name] = data
    return tar_of(kept)


class Image:
    """One image of an OCI layout: `layers` are tars."""

    def __init__(
        self, layers: list[bytes], *, architecture: str = "amd64", variant: str = "", packed: bool = False, cmd: str = "/x"
    ) -> None:  # fmt: skip
        config: dict[str, Any] = {"architecture": architecture, "os": "linux", "config": {"Cmd": [cmd]},
                                  "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]}}
        if variant:
            config["variant"] = variant
        self.config = compact(config)
        self.id = digest(self.config)
        self.platform = {"architecture": architecture, "os": "linux", **({"variant": variant} if variant else {})}
        self.blobs = [gzip.compress(layer, mtime=0) if packed else layer for layer in layers]
        self.manifest = {
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": self.id, "size": len(self.config)},
            "layers": [{"mediaType": LAYER + "+gzip" * packed, "digest": digest(data), "size": len(data)} for data in self.blobs],
        }  # fmt: skip

    def descriptor(self, **more: Any) -> dict[str, Any]:
        data = compact(self.manifest)
        return {"mediaType": MANIFEST, "digest": digest(data), "size": len(data), **more}

    def files(self) -> Files:
        manifest = compact(self.manifest)
        return {blob(self.config): self.config, blob(manifest): manifest, **{blob(data): data for data in self.blobs}}


def layout(*images: Image, names: list[str] | None = None, index: bool = False) -> Files:
    """The files of an OCI layout: each image an entry of index.json, or all of them in one index."""
    files: Files = {"oci-layout": compact({"imageLayoutVersion": "1.0.0"})}
    for image in images:
        files.update(image.files())
    name = {"annotations": {"io.containerd.image.name": (names or ["docker.io/library/made:1"])[0]}}
    if index:
        listed = [image.descriptor(platform=image.platform) for image in images]
        data = compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed})
        files[blob(data)] = data
        entries = [{"mediaType": INDEX, "digest": digest(data), "size": len(data), **name}]
    else:
        given = names or [f"docker.io/library/made:{number}" for number, _ in enumerate(images, 1)]
        entries = [image.descriptor(annotations={"io.containerd.image.name": one}) for image, one in zip(images, given, strict=True)]
    files["index.json"] = compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    return files


def archive(files: Files) -> bytes:
    return tar_of(dict(files))


def with_json(files: Files, name: str, change: Callable[[Any], Any]) -> Files:
    """The same files with one document changed; names and digests stay as they were."""
    value = json.loads(files[name])
    changed = change(value)
    return {**files, name: compact(value if changed is None else changed)}
