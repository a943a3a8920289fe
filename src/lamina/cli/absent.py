# SPDX-License-Identifier: Apache-2.0
"""What docker has and lamina hasn't, with the reason: verbs by their first word, or group and word, and flags by name.

Said to who types one, and shown in docs/flags.md. Loaded only for an error.
"""
from __future__ import annotations

_MANIFESTS = "indexes of your own come later; `manifest inspect` shows what a registry has"
_BUILD = "the builder comes with issue 5; `build --check` checks a Dockerfile"
_SWARM = "a swarm of hosts is no aim"

VERBS = {
    "builder": _BUILD,
    "buildx": _BUILD,
    "compose": "one container at a time, so far",
    "config": _SWARM,
    "context": "there is no daemon to choose; `--root` and `--runroot` name an engine",
    "manifest annotate": _MANIFESTS,
    "manifest create": _MANIFESTS,
    "manifest push": _MANIFESTS,
    "manifest rm": _MANIFESTS,
    "network": "networks of your own come later; `--network` knows bridge, none and host",
    "node": _SWARM,
    "plugin": "nothing here is done by plugins of Docker's daemon",
    "secret": _SWARM,
    "service": _SWARM,
    "stack": _SWARM,
    "swarm": _SWARM,
    "trust": "Docker Content Trust has ended; images are known by their digests",
    "volume update": _SWARM,
}

_LATER = "docker has it, this version of lamina does not yet"
_WINDOWS = "only Windows has it"
_CLUSTER = "volumes of a swarm are no aim"
_NO_DAEMON = "there is no daemon to talk to"

FLAGS = {
    "availability": _CLUSTER,
    "checkpoint": "checkpoints of processes come later",
    "checkpoint-dir": "checkpoints of processes come later",
    "cluster": _CLUSTER,
    "cpu-count": _WINDOWS,
    "cpu-percent": _WINDOWS,
    "gpus": "no drivers of GPUs are known here; `--device` gives a container a GPU's nodes",
    "group": _CLUSTER,
    "insecure": "lamina.toml says which registries are insecure",
    "io-maxbandwidth": _WINDOWS,
    "io-maxiops": _WINDOWS,
    "kernel-memory": "kernels have it no longer, and docker ignores it",
    "limit-bytes": _CLUSTER,
    "link": "docker's old links; names come with networks of your own",
    "platform": "an image here has one platform",
    "required-bytes": _CLUSTER,
    "scope": _CLUSTER,
    "secret": _CLUSTER,
    "sharing": _CLUSTER,
    "storage-opt": "no layer driver here limits the size of a layer",
    "tls": _NO_DAEMON,
    "tlscacert": _NO_DAEMON,
    "tlscert": _NO_DAEMON,
    "tlskey": _NO_DAEMON,
    "tlsverify": _NO_DAEMON,
    "topology-preferred": _CLUSTER,
    "topology-required": _CLUSTER,
    "tree": "docker's newer client has it; `layer tree` shows what stands on what",
    "type": _CLUSTER,
}


def verb(*words: str) -> str:
    """Why there is no such verb; "" for what docker hasn't either."""
    return VERBS.get(" ".join(words[:2])) or VERBS.get(words[0], "")


def flag(name: str) -> str:
    """Why a flag that docker has is refused."""
    return FLAGS.get(name, _LATER)
