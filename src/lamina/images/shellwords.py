# SPDX-License-Identifier: Apache-2.0
"""Words of the Dockerfile dialect: splitting a line, and expanding quotes, escapes and $variables in one word.

Not a shell: no commands, no globs, no field splitting, and the only variables are those handed in. An unset variable is "".
Texts of errors are docker's.
"""
from __future__ import annotations

import string

from lamina.errors import InvalidArgument

NAME = frozenset(string.ascii_letters + string.digits + "_")
SPACES = frozenset(" \t\r\n\v\f")


def split(text: str) -> list[str]:
    """Words separated by spaces; quotes and backslashes keep spaces together and stay in the word for `expand`."""
    words: list[str] = []
    word, quote, at = "", "", 0
    inside = False
    while at < len(text):
        char = text[at]
        if not quote and char in SPACES:
            if inside:
                words.append(word)
            word, inside = "", False
        else:
            inside = True
            if char == "\\" and quote != "'" and at + 1 < len(text):
                word += char
                at += 1
                char = text[at]
            elif char == quote:
                quote = ""
            elif not quote and char in "'\"":
                quote = char
            word += char
        at += 1
    if inside:
        words.append(word)
    return words


def expand(word: str, env: dict[str, str]) -> str:
    """One word without quotes and escapes, variables replaced. InvalidArgument with docker's text for an unfinished quote or brace."""
    try:
        text, at = _expand(word, 0, env, "")
    except _Unfinished as e:
        raise InvalidArgument(f"failed to process {_quoted(word)}: {e}")
    return text


class _Unfinished(Exception):
    pass


def _quoted(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _expand(word: str, at: int, env: dict[str, str], stop: str) -> tuple[str, int]:
    """Text up to `stop` (not consumed) or the end of the word, and where that is."""
    out: list[str] = []
    while at < len(word):
        char = word[at]
        if char == stop:
            return "".join(out), at
        if char == "'":
            end = word.find("'", at + 1)
            if end < 0:
                raise _Unfinished("unexpected end of statement while looking for matching single-quote")
            out.append(word[at + 1:end])
            at = end + 1
        elif char == '"':
            text, at = _double(word, at + 1, env)
            out.append(text)
        elif char == "$":
            text, at = _dollar(word, at + 1, env)
            out.append(text)
        elif char == "\\":
            if at + 1 == len(word):
                break
            out.append(word[at + 1])
            at += 2
        else:
            out.append(char)
            at += 1
    if stop:
        raise _Unfinished(f"syntax error: missing '{stop}'")
    return "".join(out), at


def _double(word: str, at: int, env: dict[str, str]) -> tuple[str, int]:
    out: list[str] = []
    while at < len(word):
        char = word[at]
        if char == '"':
            return "".join(out), at + 1
        if char == "$":
            text, at = _dollar(word, at + 1, env)
            out.append(text)
            continue
        if char == "\\" and word[at + 1:at + 2] in ('"', "$", "\\") and at + 1 < len(word):
            at += 1
            char = word[at]
        out.append(char)
        at += 1
    raise _Unfinished("unexpected end of statement while looking for matching double-quote")


def _dollar(word: str, at: int, env: dict[str, str]) -> tuple[str, int]:
    """What follows a `$`: NAME, {NAME}, {NAME:-word}, {NAME:+word}, {NAME:?word}, and these without the colon."""
    if word[at:at + 1] != "{":
        name, at = _name(word, at)
        return (env.get(name, ""), at) if name else ("$", at)
    name, at = _name(word, at + 1)
    if not name:
        raise _Unfinished("syntax error: bad substitution")
    if word[at:at + 1] == "}":
        return env.get(name, ""), at + 1
    empty_counts = word[at:at + 1] == ":"
    if empty_counts:
        at += 1
    modifier = word[at:at + 1]
    if not modifier:
        raise _Unfinished("syntax error: missing '}'")
    if modifier not in "+-?":
        raise _Unfinished(f"unsupported modifier ({':' if empty_counts else ''}{modifier}) in substitution")
    other, at = _expand(word, at + 1, env, "}")
    value = env.get(name)
    is_set = value is not None and not (empty_counts and not value)
    if modifier == "+":
        return other if is_set else "", at + 1
    if is_set:
        return value or "", at + 1
    if modifier == "?":
        raise _Unfinished(f"{name}: {other or 'is not allowed to be ' + ('empty' if empty_counts else 'unset')}")
    return other, at + 1


def _name(word: str, at: int) -> tuple[str, int]:
    end = at
    while end < len(word) and word[end] in NAME:
        end += 1
        if word[at].isdigit():
            break  # $1, $2: positional parameters are one digit
    return word[at:end], end
