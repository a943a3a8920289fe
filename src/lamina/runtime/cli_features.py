# SPDX-License-Identifier: Apache-2.0
"""What `lamina-runtime features` says: the runtime-spec's features document, from the tables that do the work."""
from __future__ import annotations

import os

from lamina.linux import caps, ns
from lamina.runtime import bundle, plan, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def features() -> dict[str, Any]:
    options = {*plan._ATTRIBUTES, *plan.PROPAGATION, *plan._IGNORED, *plan._SUPERBLOCK, "bind", "rbind"}
    options |= {"r" + o for o in (*plan._ATTRIBUTES, *plan.PROPAGATION)}
    arches = [name for name, _, _ in seccomp.ARCHES.get(os.uname().machine, [])]
    return {
        "ociVersionMin": "1.0.0", "ociVersionMax": bundle.VERSION, "hooks": list(bundle.HOOKS), "mountOptions": sorted(options),
        "linux": {
            "namespaces": sorted(n for n in ns.NAMESPACES if n not in ("user", "time")),
            "capabilities": caps.names((1 << caps.last_cap() + 1) - 1),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": True},
            "seccomp": {
                "enabled": bool(arches), "actions": sorted(seccomp._ACTIONS), "operators": sorted("SCMP_CMP_" + op for op in seccomp._OPS),
                "archs": arches, "knownFlags": sorted(seccomp.FLAGS), "supportedFlags": sorted(seccomp.FLAGS),
            },
            "apparmor": {"enabled": True}, "selinux": {"enabled": False}, "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": False}},
        },
        "annotations": {}, "potentiallyUnsafeConfigAnnotations": [],
    }  # fmt: skip
