# SPDX-License-Identifier: Apache-2.0
"""[hot] Chain ids, and the directories of a stack of layers.

OCI image spec: ChainID(L0) = DiffID(L0); ChainID(L0|...|Ln) = sha256(ChainID(L0|...|Ln-1) + " " + DiffID(Ln)). "" is the chain without
layers.
"""
from __future__ import annotations

from lamina.errors import StoreError
from lamina.util.digest import check_digest, digest_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamina.store.db import DB
    from lamina.store.paths import Paths

WHOLE_TREES = frozenset(("vfs",))  # drivers whose directories need nothing below them

_STACK = """
WITH RECURSIVE up(chain_id, parent, data_key, depth) AS (
    SELECT chain_id, parent, data_key, 0 FROM layers WHERE chain_id = ?
    UNION ALL SELECT l.chain_id, l.parent, l.data_key, up.depth + 1 FROM layers l JOIN up ON l.chain_id = up.parent)
SELECT up.chain_id, up.parent, up.data_key, d.driver, d.state FROM up LEFT JOIN layer_data d ON d.key = up.data_key ORDER BY up.depth
"""


def chain_id(parent: str, diff_id: str) -> str:
    """The chain id of `diff_id` on top of the chain `parent` ("" for none)."""
    check_digest(diff_id)
    if not parent:
        return diff_id
    return digest_of(f"{check_digest(parent)} {diff_id}".encode("ascii"))


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """Chain ids of a whole stack, lowest first as the diff ids are."""
    result: list[str] = []
    top = ""
    for diff_id in diff_ids:
        top = chain_id(top, diff_id)
        result.append(top)
    return result


def lowers(db: DB, paths: Paths, top: str) -> list[str]:
    """Directories whose union is the chain `top`, topmost first; [] for "". StoreError where a layer or its data is missing."""
    if not top:
        return []
    found: list[str] = []
    seen = ""
    below = top
    for chain, parent, key, driver, state in db.execute(_STACK, (top,)):
        if chain == seen:
            continue  # the data exists for a second driver, too; the first is as good
        if driver is None or state != "ready":
            raise StoreError(f"layer {chain} has no data on disk", hint="lamina system check shows what is missing")
        seen, below = chain, parent
        found.append(paths.layer_diff(key))
        if driver in WHOLE_TREES:
            return found
    if below:
        raise StoreError(f"layer {below} is missing from the store", hint="lamina system check shows what else is")
    return found
