# SPDX-License-Identifier: Apache-2.0
"""Text from strangers on the user's terminal: shown, never obeyed (attacks.md 39). [hot only where there is such text]

Control characters, ESC, C1 codes and the bidi and zero-width format characters are shown as escapes. In a pipe nothing is changed.
"""
from __future__ import annotations


def sanitise(text: str, keep: str = "") -> str:
    """`text` with each character that isn't printable, nor in `keep`, as \\xNN, \\uNNNN or \\UNNNNNNNN; idempotent."""
    if text.isprintable():
        return text
    return "".join(c if c in keep or c.isprintable() else _escape(c) for c in text)


def _escape(c: str) -> str:
    code = ord(c)
    if 0xDC80 <= code <= 0xDCFF:  # an undecodable byte, as surrogateescape keeps it
        return f"\\x{code - 0xDC00:02x}"
    if c in "\n\t\r":
        return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}[c]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
