# SPDX-License-Identifier: Apache-2.0
"""Filters of `ps` that need another object: ancestor, before, since."""

from __future__ import annotations

from lamina.errors import InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamina.containers.state import State
    from lamina.containers.store import Record

    from .containers import Containers


def related(containers: Containers, pairs: list[tuple[Record, State]], filters: dict[str, list[str]]) -> list[tuple[Record, State]]:
    """Those pairs that the three filters keep. NotFound for a container that `before` or `since` names and that isn't there."""
    for ref in filters.get("before", []):
        limit = containers.records.get(ref).created_ns
        pairs = [pair for pair in pairs if pair[0].created_ns < limit]
    for ref in filters.get("since", []):
        limit = containers.records.get(ref).created_ns
        pairs = [pair for pair in pairs if pair[0].created_ns > limit]
    if "ancestor" in filters:
        images: set[str] = set()
        for ref in filters["ancestor"]:
            try:
                images |= descendants(containers, containers.engine.image_store.resolve(ref).id)
            except (NotFound, InvalidArgument):
                pass  # docker shows nothing for an image that isn't there
        pairs = [pair for pair in pairs if pair[0].image_id in images]
    return pairs


def descendants(containers: Containers, image_id: str) -> set[str]:
    """The image and all that have it as Parent, at any depth."""
    rows = containers.engine.store.db.execute(
        "WITH RECURSIVE down(id) AS (SELECT ? UNION SELECT i.id FROM images i JOIN down ON i.parent = down.id) SELECT id FROM down",
        (image_id,),
    )
    return {row[0] for row in rows}
