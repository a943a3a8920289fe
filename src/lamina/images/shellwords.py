# SPDX-License-Identifier: Apache-2.0
"""Words of the Dockerfile dialect: splitting a line, and expanding quotes, escapes and $variables in one word.

For `commit --change` and the builder. Not a shell: no commands, no globs of files, no field splitting, and the only variables are
those handed in. An unset variable is "". Modifiers of ${NAME}: `:-` `-` `:+` `+` `:?` `?`, `#` `##` `%` `%%` (cut off what matches a
pattern, the shortest or longest) and `/` `//` (replace the first or every match). Texts of errors are docker's.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping

from lamina.errors import InvalidArgument

SPACES = frozenset(" \t\r\n\v\f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B))))  # Unicode's
SPECIAL = frozenset("@*#?-$!0")  # parameters of one character, as POSIX has them; always unset here
MAX_DEPTH = 64  # of ${} inside of ${}
MAX_STEPS = 4_000_000  # of matching a pattern: a second or two


def split(text: str, escape: str = "\\") -> list[str]:
    """Words separated by spaces; quotes and escapes keep spaces together and stay in the word for `expand`."""
    return [word for _, word in split_at(text, escape)]


def split_at(text: str, escape: str = "\\") -> Iterator[tuple[int, str]]:
    """The same with the offset at which each word begins."""
    begin, quote, at = -1, "", 0
    while at < len(text):
        char = text[at]
        if not quote and char in SPACES:
            if begin >= 0:
                yield begin, text[begin:at]
            begin = -1
            at += 1
            continue
        begin = at if begin < 0 else begin
        if char == escape and quote != "'":
            if at + 1 == len(text):  # an escape at the very end is dropped
                text = text[:at]
                break
            at += 2
            continue
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        at += 1
    if begin >= 0 and text[begin:]:
        yield begin, text[begin:]


def expand(word: str, env: Mapping[str, str]) -> str:
    """One word without quotes and escapes, variables replaced. InvalidArgument with docker's text for an unfinished quote or brace."""
    return Expander(env).word(word)


class Expander:
    """Expands words by `env`; `matched` and `unmatched` collect the names that were looked up (in order, as keys)."""

    def __init__(
        self, env: Mapping[str, str], *, escape: str = "\\", quotes: bool = True, raw_quotes: bool = False, raw_escapes: bool = False,
        keep_unset: bool = False,
    ) -> None:  # fmt: skip
        """quotes: False leaves quotes alone; raw_quotes, raw_escapes: they keep things together, but stay; keep_unset: $NAME stays."""
        self.env = env
        self.matched: dict[str, None] = {}
        self.unmatched: dict[str, None] = {}
        self._escape = escape
        self._quotes = quotes
        self._raw_quotes = raw_quotes
        self._raw_escapes = raw_escapes
        self._keep_unset = keep_unset
        self._text = ""
        self._at = 0
        self._depth = 0

    def word(self, text: str) -> str:
        return "".join(part for part, _ in self._parts(text))

    def words(self, text: str) -> list[str]:
        """The text expanded, then split at spaces that are neither quoted nor escaped."""
        found, word = [], ""
        for part, whole in self._parts(text):
            if whole:
                word += part
                continue
            for char in part:
                if char not in SPACES:
                    word += char
                elif word:
                    found.append(word)
                    word = ""
        return [*found, word] if word else found

    def _parts(self, text: str) -> list[tuple[str, bool]]:
        self._text, self._at, self._depth = text, 0, 0
        try:
            return self._until("", self._raw_escapes)
        except _Unfinished as e:
            raise InvalidArgument(f"failed to process {quoted(text)}: {e}") from None

    def _until(self, stop: str, raw_escapes: bool) -> list[tuple[str, bool]]:
        """(text, whether spaces in it don't split) up to `stop`, which is consumed, or to the end."""
        parts: list[tuple[str, bool]] = []
        text = self._text
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _Unfinished(f"more than {MAX_DEPTH} substitutions in each other")
        while self._at < len(text):
            char = text[self._at]
            if char == stop:
                self._at += 1
                self._depth -= 1
                return parts
            if char == "$":
                parts.append((self._dollar(), False))
            elif char == "<":
                parts.append((self._angle(), True))
            elif char == "'" and self._quotes:
                parts.append((self._single(), True))
            elif char == '"' and self._quotes:
                parts.append((self._double(raw_escapes), True))
            elif char == self._escape:
                following = text[self._at + 1:self._at + 2]
                parts.append(((char if raw_escapes else "") + following, True))
                self._at += 2
            else:
                parts.append((char, False))
                self._at += 1
        if stop:
            raise _Unfinished(f"unexpected end of statement while looking for matching {stop}")
        self._depth -= 1
        return parts

    def _angle(self) -> str:
        """`<`, or the `<<` of a here-document with the blanks behind it, which don't end the word."""
        begin = self._at
        self._at += 1
        if self._text[self._at:self._at + 1] == "<":
            self._at += 1
            while self._text[self._at:self._at + 1] in ("\t", "\r", " "):
                self._at += 1
        return self._text[begin:self._at]

    def _single(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            self._at = len(self._text)
            raise _Unfinished("unexpected end of statement while looking for matching single-quote")
        inner = self._text[self._at + 1:end]
        self._at = end + 1
        return f"'{inner}'" if self._raw_quotes else inner

    def _double(self, raw_escapes: bool) -> str:
        mark = '"' if self._raw_quotes else ""
        out, text = [mark], self._text
        self._at += 1
        while self._at < len(text):
            char = text[self._at]
            if char == '"':
                self._at += 1
                return "".join(out) + mark
            if char == "$":
                out.append(self._dollar())
                continue
            self._at += 1
            if char == self._escape:
                following = text[self._at:self._at + 1]
                if not following:
                    break
                if raw_escapes:
                    out.append(char)
                if following in ('"', "$", self._escape):
                    char = following
                    self._at += 1
            out.append(char)
        raise _Unfinished("unexpected end of statement while looking for matching double-quote")

    def _dollar(self) -> str:
        """NAME, {NAME} or {NAME and a modifier} behind a `$`."""
        text = self._text
        self._at += 1
        if text[self._at:self._at + 1] != "{":
            name = self._name()
            if not name:
                return "$"
            value = self._value(name)
            return f"${name}" if value is None and self._keep_unset else value or ""
        self._at += 1
        first = text[self._at:self._at + 1]
        if not first:
            raise _Unfinished("syntax error: missing '}'")
        if first in "{}:":
            raise _Unfinished("syntax error: bad substitution")
        name = self._name()
        modifier = text[self._at:self._at + 1]
        self._at += 1
        if modifier == "}":
            value = self._value(name)
            return f"${{{name}}}" if value is None and self._keep_unset else value or ""
        if modifier == "/":
            return self._replaced(name)
        if modifier == ":":
            modifier += text[self._at:self._at + 1]
            self._at += 1
        if modifier[-1:] not in (*":+-?#%",) and modifier[:1] != ":":
            raise _Unfinished(f"unsupported modifier ({modifier or chr(0xFFFD)}) in substitution")
        if modifier in (":#", ":%"):
            raise _Unfinished(f"unsupported modifier ({modifier}) in substitution")
        return self._modified(name, modifier, self._inner("}", modifier in ("#", "%"), "syntax error: missing '}'"))

    def _modified(self, name: str, modifier: str, word: str) -> str:
        value = self._value(name)
        if value is None and self._keep_unset:
            return f"${{{name}{modifier}{word}}}"
        empty_counts, kind = modifier[:1] == ":", modifier.removeprefix(":")
        is_set = value is not None and bool(value or not empty_counts)
        if kind == "+":
            return word if is_set else ""
        if kind == "-":
            return (value or "") if is_set else word
        if kind == "?":
            if not is_set:
                raise _Unfinished(f"{name}: {word or 'is not allowed to be ' + ('unset' if value is None else 'empty')}")
            return value or ""
        if kind in ("#", "%"):
            longest = word[:1] == kind
            return cut(value or "", word[longest:], longest=longest, tail=kind == "%")
        raise _Unfinished(f"unsupported modifier ({modifier}) in substitution")

    def _replaced(self, name: str) -> str:
        every = self._text[self._at:self._at + 1] == "/"
        self._at += every
        pattern = self._inner("/", True, "syntax error: missing '/' in ${}")
        replacement = self._inner("}", True, "syntax error: missing '}'")
        value = self._value(name)
        if value is None and self._keep_unset:
            return f"${{{name}/{pattern}/{replacement}}}"
        return replace(value or "", pattern, replacement, every=every)

    def _inner(self, stop: str, raw_escapes: bool, missing: str) -> str:
        try:
            return "".join(part for part, _ in self._until(stop, raw_escapes))
        except _Unfinished:
            if self._at < len(self._text):
                raise
            raise _Unfinished(missing) from None

    def _name(self) -> str:
        text, begin = self._text, self._at
        if begin < len(text) and text[begin].isdigit():
            while self._at < len(text) and text[self._at].isdigit():
                self._at += 1
        elif begin < len(text) and text[begin] in SPECIAL:
            self._at += 1
        else:
            while self._at < len(text) and (text[self._at].isalnum() or text[self._at] == "_"):
                self._at += 1
        return text[begin:self._at]

    def _value(self, name: str) -> str | None:
        value = self.env.get(name)
        (self.unmatched if value is None else self.matched)[name] = None
        return value


class _Unfinished(Exception):
    pass


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# -- patterns: `*` and `?`; a backslash makes them (and itself) plain

ANY, ONE = -1, -2


def _tokens(pattern: str) -> list[int]:
    tokens, at = [], 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "\\" and pattern[at:at + 1] not in ("}", "/"):
            char = pattern[at:at + 1]
            if char not in ("*", "?", "\\"):
                raise _Unfinished(f"invalid pattern ({pattern}) in substitution: invalid escape '\\{char or chr(0xFFFD)}'")
            tokens.append(ord(char))
            at += 1
        elif char == "*":
            tokens += [ANY][: tokens[-1:] != [ANY]]  # two in a row mean what one does
        elif char != "\\":
            tokens.append(ONE if char == "?" else ord(char))
    return tokens


class _Matcher:
    """Where a pattern that begins at a place of the text can end. All states at once, a bit each: no pattern takes longer than others."""

    def __init__(self, tokens: list[int]) -> None:
        self._states: dict[int, int] = {}
        self._stay = 0
        for place, token in enumerate(tokens):
            if token == ANY:
                self._stay |= 1 << place
            else:
                self._states[token] = self._states.get(token, 0) | 1 << place
        self._accept = 1 << len(tokens)
        self._work = 1 + len(tokens) // 64
        self._steps = 0

    def end(self, text: str, begin: int, *, longest: bool) -> int:
        """-1 if it doesn't match there."""
        now = self._skip(1)
        found = begin if now & self._accept else -1
        if found >= 0 and not longest:
            return found
        one = self._states.get(ONE, 0)
        for at in range(begin, len(text)):
            self._steps += self._work
            if self._steps > MAX_STEPS:
                raise _Unfinished("the pattern takes too long to match")
            char = text[at]
            fits = self._states.get(ord(char), 0) | (one if char != "\n" else 0)
            now = self._skip((now & fits) << 1 | (now & self._stay if char != "\n" else 0))
            if not now:
                break
            if now & self._accept:
                found = at + 1
                if not longest:
                    break
        return found

    def _skip(self, now: int) -> int:
        """With the states that are reached by a `*` that stands for nothing."""
        return now | (now & self._stay) << 1


def cut(value: str, pattern: str, *, longest: bool, tail: bool) -> str:
    """`value` without what the pattern matches at its head, or tail."""
    tokens = _tokens(pattern)
    if tail:
        return cut_head(value[::-1], tokens[::-1], longest=longest)[::-1]
    return cut_head(value, tokens, longest=longest)


def cut_head(value: str, tokens: list[int], *, longest: bool) -> str:
    end = _Matcher(tokens).end(value, 0, longest=longest)
    return value[end:] if end > 0 else value


def replace(value: str, pattern: str, replacement: str, *, every: bool) -> str:
    """The leftmost longest match replaced, or all that don't overlap; an empty one next to the match before it doesn't count."""
    matcher = _Matcher(_tokens(pattern))
    out, at, copied, last = [], 0, 0, -1
    while at <= len(value):
        end = matcher.end(value, at, longest=True)
        if end < 0 or end == at == last:
            at += 1
            continue
        out += [value[copied:at], replacement]
        copied = last = end
        at = end if end > at else at + 1
        if not every:
            break
    return "".join(out) + value[copied:]
