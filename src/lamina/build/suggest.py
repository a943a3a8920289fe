# SPDX-License-Identifier: Apache-2.0
"""What was meant by a word that isn't known: the nearest known one, at most two edits away."""
from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

MAX_EDITS = 2
MAX_LENGTH = 64
MAX_KNOWN = 1000  # words that are looked at


def nearest(word: str, known: Iterable[str], *, case: bool = True) -> str:
    """"" if none is near, or if it is known exactly (then the word wasn't the fault). case: False: cases of letters don't count, and
    the answer has that of the word."""
    wanted = word if case else word.lower()
    found, least = "", MAX_EDITS + 1
    if len(word) > MAX_LENGTH:
        return ""
    for one in islice(known, MAX_KNOWN):
        option = one if case else one.lower()
        if option == wanted:
            return ""
        if abs(len(option) - len(wanted)) < least and (edits := distance(wanted, option)) < least:
            found, least = option, edits
    if not case and found:
        return found.upper() if word == word.upper() else found
    return found


def mean(message: str, word: str, known: Iterable[str], *, case: bool = True) -> str:
    """The message, with "(did you mean X?)" where there is an X."""
    found = nearest(word, known, case=case)
    return f"{message} (did you mean {found}?)" if found else message


def distance(a: str, b: str) -> int:
    """Levenshtein's: characters to add, take away or change."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[-1]
