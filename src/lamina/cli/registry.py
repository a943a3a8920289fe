# SPDX-License-Identifier: Apache-2.0
"""Which module holds which verb. Static, so that one verb's code is all that is loaded. [hot]

TOP: a word after `lamina`; GROUPS: a word after `lamina container` and so on. Values are "module:key", the key in that module's
VERBS. An alias inside a group maps to (primary word, target): messages and help show the primary one, as docker's do.
"""
from __future__ import annotations

TOP = {
    "commit": "transfer:commit",
    "create": "run:create",
    "diff": "transfer:diff",
    "exec": "exec:exec",
    "export": "transfer:export",
    "history": "images:history",
    "images": "images:ls",
    "import": "transfer:import",
    "info": "system:info",
    "inspect": "inspect:inspect",
    "kill": "lifecycle:kill",
    "logs": "logs:logs",
    "ps": "ps:ps",
    "rm": "lifecycle:rm",
    "rmi": "images:rm",
    "run": "run:run",
    "start": "lifecycle:start",
    "stop": "lifecycle:stop",
    "tag": "images:tag",
    "version": "system:version",
    "wait": "lifecycle:wait",
}

GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "container": {
        "commit": ("commit", "transfer:commit"),
        "create": ("create", "run:create"),
        "diff": ("diff", "transfer:diff"),
        "exec": ("exec", "exec:exec"),
        "export": ("export", "transfer:export"),
        "inspect": ("inspect", "inspect:container"),
        "kill": ("kill", "lifecycle:kill"),
        "list": ("ls", "ps:ps"),
        "logs": ("logs", "logs:logs"),
        "ls": ("ls", "ps:ps"),
        "ps": ("ls", "ps:ps"),
        "remove": ("rm", "lifecycle:rm"),
        "rm": ("rm", "lifecycle:rm"),
        "run": ("run", "run:run"),
        "start": ("start", "lifecycle:start"),
        "stop": ("stop", "lifecycle:stop"),
        "wait": ("wait", "lifecycle:wait"),
    },
    "image": {
        "history": ("history", "images:history"),
        "import": ("import", "transfer:import"),
        "inspect": ("inspect", "inspect:image"),
        "list": ("ls", "images:ls"),
        "ls": ("ls", "images:ls"),
        "mount": ("mount", "images:mount"),
        "prune": ("prune", "images:prune"),
        "remove": ("rm", "images:rm"),
        "rm": ("rm", "images:rm"),
        "tag": ("tag", "images:tag"),
        "umount": ("umount", "images:umount"),
        "unmount": ("umount", "images:umount"),
    },
    "layer": {
        "list": ("ls", "layers:ls"),
        "ls": ("ls", "layers:ls"),
        "path": ("path", "layers:path"),
        "tree": ("tree", "layers:tree"),
    },
    "system": {
        "check": ("check", "system:check"),
        "info": ("info", "system:info"),
        "reset": ("reset", "system:reset"),
    },
}
