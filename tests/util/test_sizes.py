# SPDX-License-Identifier: Apache-2.0
"""Sizes and durations by the rules of docker's go-units."""
from __future__ import annotations

import pytest

from lamina.util.sizes import human_duration, human_size, parse_bytes


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("512", 512), ("512b", 512), ("512B", 512), ("1k", 1024), ("1kb", 1024), ("1KiB", 1024), ("1 kb", 1024),
        ("1.5g", 3 << 29),
        ("0.5m", 1 << 19), (".5m", 1 << 19), ("1.", 1), ("32t", 32 << 40), ("1p", 1 << 50), ("1 ", 1),
    ],
)  # fmt: skip
def test_parse(text: str, value: int) -> None:
    assert parse_bytes(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid size: ''"), ("k", "invalid size: 'k'"), ("-1", "invalid size: '-1'"), ("1zb", "invalid suffix: 'zb'"),
        ("1kk", "invalid suffix: 'kk'"), ("1.2.3k", 'strconv.ParseFloat: parsing "1.2.3": invalid syntax'),
        ("9999999p", "invalid size: '9999999p'"),
        ("\u0661", "invalid size: '\u0661'"), ("9" * 500, "invalid size: '" + "9" * 500 + "'"),
    ],
)  # fmt: skip
def test_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="^" + message.replace("(", r"\(").replace(".", r"\.") + "$"):
        parse_bytes(text)


def test_human_size() -> None:
    assert [human_size(n, 3) for n in (0, 999, 1000, 1982548, 999_900, 124_000_000, 5 * 10**12)] == [
        "0B", "999B", "1kB", "1.98MB", "1e+03kB", "124MB", "5TB",
    ]  # fmt: skip
    assert human_size(1982548) == "1.983MB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second"), (1, "1 second"), (59.9, "59 seconds"), (60, "About a minute"), (119, "About a minute"),
        (120, "2 minutes"),
        (3599, "59 minutes"), (3600, "About an hour"), (5400, "2 hours"), (47 * 3600, "47 hours"), (48 * 3600, "2 days"),
        (13 * 86400, "13 days"),
        (14 * 86400, "2 weeks"), (59 * 86400, "8 weeks"), (60 * 86400, "2 months"), (729 * 86400, "24 months"), (731 * 86400, "2 years"),
    ],
)  # fmt: skip
def test_human_duration(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text
