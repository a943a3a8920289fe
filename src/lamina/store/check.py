# SPDX-License-Identifier: Apache-2.0
"""`lamina system check`: proves the invariants of docs/on-disk.md, and repairs what can be repaired without guessing.

Problem codes are the numbers of the invariants there. Rows and directories are compared inside one write transaction, in which no other
command can make or remove anything, so a busy store gives no false alarm; hashing is done outside of it. Repairs ask again, in a
transaction of their own, whether the problem is still there. What only a person can decide (a row without its data) is told, not touched.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lamina.errors import ArchiveError, LaminaError, StoreError
from lamina.store.open import Store


@dataclass(frozen=True)
class Problem:
    """One broken invariant. `code` like "S4", `object` what it is about, `text` a sentence; `repairable` by `repair`."""

    code: str
    object: str
    text: str
    repairable: bool = False
    fix: Callable[[], Any] | None = field(default=None, repr=False, compare=False)


def check(store: Store, *, full: bool = False) -> list[Problem]:
    """Every broken invariant; empty for a sound store. full: also reads and hashes every kept blob. Changes nothing."""
    from lamina.store import check_files, check_rows

    problems = check_files.base(store)
    try:
        damage = [row[0] for row in store.db.execute("PRAGMA integrity_check" if full else "PRAGMA quick_check") if row[0] != "ok"]
        problems += [Problem("S2", store.paths.database, f"the database is damaged: {text}") for text in damage]
        if damage:
            return problems
        with store.db.write(durable=False):
            problems += check_rows.all_checks(store)
            problems += check_files.all_checks(store)
    except StoreError as error:
        return [*problems, Problem("S2", store.paths.database, error.message)]
    problems += check_files.outside_transaction(store)
    problems += check_rows.documents(store)
    if full:
        problems += _hash_blobs(store)
    return problems


def repair(store: Store, problems: Sequence[Problem] | None = None) -> tuple[list[Problem], list[Problem]]:
    """Repairs what can be of `problems` (default: of a new check).

    (repaired, remaining): the remaining ones are from a check afterwards, with the reason if a repair failed.
    """
    done: list[Problem] = []
    failed: dict[tuple[str, str], str] = {}
    for problem in check(store) if problems is None else problems:
        if problem.fix is None:
            continue
        try:
            problem.fix()
            done.append(problem)
        except (LaminaError, OSError) as error:
            failed[problem.code, problem.object] = str(error)
    remaining = []
    for p in check(store):
        reason = failed.get((p.code, p.object))
        remaining.append(p if reason is None else Problem(p.code, p.object, f"{p.text} (not repaired: {reason})", p.repairable, p.fix))
    left = {(p.code, p.object) for p in remaining}
    return [p for p in done if (p.code, p.object) not in left], remaining


def sweep(store: Store) -> int:
    """The part of `repair` that only deletes garbage: what died commands left. How many things; for after prune and removal."""
    swept = 0
    for problem in check(store):
        if problem.fix is not None and problem.code in GARBAGE:
            try:
                problem.fix()
                swept += 1
            except (LaminaError, OSError):
                continue  # told by the next check
    return swept


# Invariants of the kind "every datum has its row or is swept".
GARBAGE = frozenset(("S4", "S9", "S10", "S12", "S16", "S17", "S18", "S19", "S21", "S23"))


def _hash_blobs(store: Store) -> list[Problem]:
    from lamina.util.digest import VerifyingReader

    problems = []
    for digest, size in store.db.execute("SELECT digest, size FROM blobs WHERE kept=1"):
        try:
            with open(store.paths.blob(digest), "rb") as file:
                VerifyingReader(file, digest, size).drain()
        except FileNotFoundError:
            continue  # removed meanwhile, or already told as S3
        except (ArchiveError, OSError) as error:
            problems.append(Problem("S3", digest, f"the blob is damaged: {error}"))
    return problems
