# SPDX-License-Identifier: Apache-2.0
"""The tables of layout 2. docs/on-disk.md explains each; this text is what a new store gets.

Digests are "sha256:<hex>", container and network ids plain hex, times nanoseconds, truth values 0 or 1. There are no foreign keys: a
container may outlive its image (`rmi -f`), and what must hold is checked where it is changed, in the same transaction, and proved
by `check.py`.
"""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamina.store.db import DB

LAYOUT = 2
MIN_READER = 1

TABLES: dict[str, str] = {
    "meta": "key TEXT PRIMARY KEY, value TEXT NOT NULL",
    "blobs": "digest TEXT PRIMARY KEY, size INTEGER NOT NULL, media_type TEXT, diff_id TEXT, origin TEXT, kept INTEGER NOT NULL DEFAULT 0",
    "partials": "digest TEXT PRIMARY KEY, size INTEGER NOT NULL, validator TEXT NOT NULL DEFAULT '', used_ns INTEGER NOT NULL",
    "manifests": "digest TEXT PRIMARY KEY, media_type TEXT NOT NULL, content BLOB NOT NULL",
    "images": "id TEXT PRIMARY KEY, config BLOB NOT NULL, chain_id TEXT NOT NULL DEFAULT '', parent TEXT NOT NULL DEFAULT '', "
              "created_ns INTEGER NOT NULL DEFAULT 0, size INTEGER NOT NULL DEFAULT 0, meta TEXT NOT NULL DEFAULT '{}'",
    "image_manifests": "image_id TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (image_id, digest)",
    "tags": "repo TEXT NOT NULL, tag TEXT NOT NULL, image_id TEXT NOT NULL, target_digest TEXT, PRIMARY KEY (repo, tag)",
    "repo_digests": "repo TEXT NOT NULL, digest TEXT NOT NULL, image_id TEXT NOT NULL, PRIMARY KEY (repo, digest, image_id)",
    "layers": "chain_id TEXT PRIMARY KEY, diff_id TEXT NOT NULL, parent TEXT NOT NULL DEFAULT '', data_key TEXT NOT NULL, "
              "size INTEGER NOT NULL, created_ns INTEGER NOT NULL",
    "layer_data": "key TEXT NOT NULL, driver TEXT NOT NULL, version INTEGER NOT NULL, diff_id TEXT NOT NULL, "
                  "size INTEGER NOT NULL, state TEXT NOT NULL, PRIMARY KEY (key, driver)",
    "containers": "id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, image_id TEXT NOT NULL, image_ref TEXT NOT NULL, "
                  "layer_chain TEXT NOT NULL, driver TEXT NOT NULL, created_ns INTEGER NOT NULL, "
                  "auto_remove INTEGER NOT NULL DEFAULT 0, config TEXT NOT NULL, removing INTEGER NOT NULL DEFAULT 0",
    "volumes": "name TEXT PRIMARY KEY, created_ns INTEGER NOT NULL, driver TEXT NOT NULL DEFAULT 'local', "
               "labels TEXT NOT NULL DEFAULT '{}', options TEXT NOT NULL DEFAULT '{}', anonymous INTEGER NOT NULL DEFAULT 0",
    "container_volumes": "container_id TEXT NOT NULL, volume_name TEXT NOT NULL, PRIMARY KEY (container_id, volume_name)",
    "networks": "id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, driver TEXT NOT NULL, config TEXT NOT NULL",
    "endpoints": "network_id TEXT NOT NULL, container_id TEXT NOT NULL, ipv4 TEXT, mac TEXT, PRIMARY KEY (network_id, container_id), "
                 "UNIQUE (network_id, ipv4)",
    "build_cache": "key TEXT PRIMARY KEY, result TEXT NOT NULL, size INTEGER NOT NULL DEFAULT 0, created_ns INTEGER NOT NULL, "
                   "used_ns INTEGER NOT NULL",
    "leases": "id TEXT PRIMARY KEY, pid INTEGER NOT NULL, start_time INTEGER NOT NULL, boot_id TEXT NOT NULL, "
              "what TEXT NOT NULL, created_ns INTEGER NOT NULL, host TEXT NOT NULL DEFAULT ''",
    "lease_items": "lease_id TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (lease_id, kind, key)",
    "removals": "kind TEXT NOT NULL, key TEXT NOT NULL, created_ns INTEGER NOT NULL, detail TEXT NOT NULL DEFAULT '', "
                "PRIMARY KEY (kind, key)",
}
# Tables whose rowid nobody needs: the primary key is the tree itself, one page less to write for each row.
_WITHOUT_ROWID = frozenset(TABLES) - {"manifests", "images", "containers"}

INDEXES: dict[str, str] = {
    "images_parent": "images (parent)",
    "images_chain": "images (chain_id)",
    "image_manifests_digest": "image_manifests (digest)",
    "tags_image": "tags (image_id)",
    "repo_digests_image": "repo_digests (image_id)",
    "layers_parent": "layers (parent)",
    "layers_data": "layers (data_key)",
    "blobs_diff": "blobs (diff_id)",
    "containers_image": "containers (image_id)",
    "container_volumes_name": "container_volumes (volume_name)",
    "endpoints_container": "endpoints (container_id)",
    "lease_items_key": "lease_items (kind, key)",
}


def create(db: DB) -> None:
    """All tables of a new store; inside the caller's transaction."""
    for name, columns in TABLES.items():
        db.execute(f"CREATE TABLE IF NOT EXISTS {name} ({columns}){' WITHOUT ROWID' if name in _WITHOUT_ROWID else ''}")
    for name, target in INDEXES.items():
        db.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {target}")
    db.execute("INSERT OR REPLACE INTO meta VALUES ('layout', ?)", (str(LAYOUT),))
