# SPDX-License-Identifier: Apache-2.0
"""Every path of an engine, computed in one place [hot].

`Paths(root, runroot)` takes real, absolute paths. Each method checks the grammar of what it is handed, so that no id, digest, key or
name from outside becomes a path that leads elsewhere (attacks 47 and 66). Nothing here touches the disk.
"""
from __future__ import annotations

from lamina.errors import InvalidArgument
from lamina.util.digest import hex_of, sha256_hex
from lamina.util.ids import HEX, is_id

LAYER_INIT_PREFIX = "init-"
_KEY = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")
_VOLUME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
DEFAULT_ROOT = "/var/lib/lamina"
DEFAULT_RUNROOT = "/run/lamina"


def check_id(text: str) -> str:
    """A full container, network or exec id. InvalidArgument otherwise."""
    if not is_id(text):
        raise InvalidArgument(f"invalid id {text[:80]!r}: not 64 hex digits")
    return text


def check_key(text: str) -> str:
    """A key of layer data: 64 hex, or `init-` and 64 hex. InvalidArgument otherwise."""
    hexes = text[5:] if text.startswith(LAYER_INIT_PREFIX) else text
    if not is_id(hexes):
        raise InvalidArgument(f"invalid layer key {text[:80]!r}")
    return text


def check_token(text: str) -> str:
    """A name that we made up ourselves (trash entries, ingest files): lower-case, not hidden, one component."""
    if not text or len(text) > 200 or text[0] in ".-" or not _KEY.issuperset(text):
        raise InvalidArgument(f"invalid name {text[:80]!r} for a file of the store")
    return text


def is_volume_name(text: str) -> bool:
    """`[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}`: never `.` or `..`, never more than one component."""
    return 0 < len(text) <= 255 and text[0] not in "_.-" and _VOLUME.issuperset(text)


def engine_id(root: str, runroot: str) -> str:
    """8 hex that tell engines of one host apart, from both real paths."""
    return sha256_hex(f"{root}\0{runroot}".encode("utf-8", "surrogateescape"))[:8]


class Names:
    """What an engine calls its things on the host. The default engine has plain names, any other carries its id."""

    __slots__ = ("bridge", "table", "cgroup")

    def __init__(self, root: str, runroot: str) -> None:
        if (root, runroot) == (DEFAULT_ROOT, DEFAULT_RUNROOT):
            self.bridge, self.table, self.cgroup = "lamina0", "lamina", "/lamina"
        else:
            name = "lm-" + engine_id(root, runroot)
            self.bridge, self.table, self.cgroup = name, name, "/" + name


class Paths:
    """Absolute paths below the two roots."""

    __slots__ = ("root", "runroot")

    # What a data root holds, in the order in which it's made; and the same for the runroot.
    ROOT_DIRS = ("blobs", "blobs/sha256", "partials", "layers", "containers", "volumes", "events", "tmp", "trash")
    ROOT_FILES = ("layout.json", "host.json", "lamina.db", "lamina.db-wal", "lamina.db-shm", "lamina.db-journal", "lock")
    RUN_DIRS = ("containers", "rootfs", "images", "cache", "active")

    def __init__(self, root: str, runroot: str) -> None:
        self.root = root
        self.runroot = runroot

    # -- the root
    @property
    def layout(self) -> str:
        return self.root + "/layout.json"

    @property
    def database(self) -> str:
        return self.root + "/lamina.db"

    @property
    def lock(self) -> str:
        return self.root + "/lock"

    @property
    def blobs(self) -> str:
        return self.root + "/blobs/sha256"

    @property
    def layers(self) -> str:
        return self.root + "/layers"

    @property
    def containers(self) -> str:
        return self.root + "/containers"

    @property
    def volumes(self) -> str:
        return self.root + "/volumes"

    @property
    def events(self) -> str:
        return self.root + "/events"

    @property
    def tmp(self) -> str:
        return self.root + "/tmp"

    @property
    def trash(self) -> str:
        return self.root + "/trash"

    def blob(self, digest: str) -> str:
        return f"{self.root}/blobs/sha256/{hex_of(digest)}"

    @property
    def partials(self) -> str:
        return self.root + "/partials"

    def partial(self, digest: str) -> str:
        return f"{self.root}/partials/{hex_of(digest)}"

    def temp(self, token: str) -> str:
        return f"{self.root}/tmp/{check_token(token)}"

    # -- layers
    def layer(self, key: str) -> str:
        return f"{self.root}/layers/{check_key(key)}"

    def layer_diff(self, key: str) -> str:
        return f"{self.root}/layers/{check_key(key)}/diff"

    def layer_tarmap(self, key: str) -> str:
        return f"{self.root}/layers/{check_key(key)}/tarmap.z"

    @staticmethod
    def init_key(top_chain_id: str) -> str:
        """Key of the init layer of an image. An image without layers has the empty chain: 64 zeros."""
        return LAYER_INIT_PREFIX + (hex_of(top_chain_id) if top_chain_id else "0" * 64)

    # -- containers: the bundle on disk
    def container(self, cid: str) -> str:
        return f"{self.root}/containers/{check_id(cid)}"

    def container_config(self, cid: str) -> str:
        return self.container(cid) + "/config.json"

    def container_plan(self, cid: str) -> str:
        return self.container(cid) + "/plan.json"

    def container_state(self, cid: str) -> str:
        return self.container(cid) + "/state.json"

    def container_log(self, cid: str) -> str:
        return self.container(cid) + "/log.json"

    def container_file(self, cid: str, name: str) -> str:
        """hostname, hosts, resolv.conf."""
        return f"{self.container(cid)}/{check_token(name)}"

    def container_upper(self, cid: str) -> str:
        return self.container(cid) + "/rw/diff"

    def container_work(self, cid: str) -> str:
        return self.container(cid) + "/rw/work"

    # -- volumes
    def volume(self, name: str) -> str:
        if not is_volume_name(name):
            raise InvalidArgument(f"invalid volume name {name[:80]!r}")
        return f"{self.root}/volumes/{name}"

    def volume_data(self, name: str) -> str:
        return self.volume(name) + "/_data"

    # -- the runroot
    @property
    def boot(self) -> str:
        return self.runroot + "/boot.json"

    @property
    def run_lock(self) -> str:
        return self.runroot + "/lock"

    def run_container(self, cid: str) -> str:
        return f"{self.runroot}/containers/{check_id(cid)}"

    @property
    def active(self) -> str:
        """Of who is at work just now (store.presence)."""
        return self.runroot + "/active"

    @property
    def network_known(self) -> str:
        """What the last thorough look at the host's network found in order (network.bridge)."""
        return self.runroot + "/network.known"

    def ports(self, cid: str) -> str:
        """Which host ports the container's monitor holds; there while it does."""
        return self.run_container(cid) + "/ports.json"

    def socket(self, cid: str) -> str:
        return self.run_container(cid) + "/sock"

    def execs(self, cid: str) -> str:
        return self.run_container(cid) + "/execs"

    def exec_record(self, cid: str, exec_id: str) -> str:
        return f"{self.execs(cid)}/{check_id(exec_id)}.json"

    def exec_socket(self, cid: str, exec_id: str) -> str:
        return f"{self.execs(cid)}/{check_id(exec_id)}.sock"

    def shm(self, cid: str) -> str:
        """Where another container's /dev/shm is mounted while this one starts with `--ipc container:`."""
        return f"{self.run_container(cid)}/shm"

    def rootfs(self, cid: str) -> str:
        return f"{self.runroot}/rootfs/{check_id(cid)}"

    def image_mount(self, hexes: str) -> str:
        """Where an image is mounted for looking at it: named by the leading hex digits of its id, at least 12."""
        if not 12 <= len(hexes) <= 64 or not HEX.issuperset(hexes):
            raise InvalidArgument(f"invalid image id {hexes[:80]!r}")
        return f"{self.runroot}/images/{hexes}"

    def seccomp(self, key: str) -> str:
        return f"{self.runroot}/cache/seccomp-{check_token(key)}.bpf"
