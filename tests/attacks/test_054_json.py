# SPDX-License-Identifier: Apache-2.0
"""Attack 54: JSON that two readers understand differently, or that takes a reader down: each is refused with its reason, as ArchiveError.

The control: the plain `json` module takes the ambiguous ones without a word, and dies of the deep one.
"""
from __future__ import annotations

import json

import pytest

from lamina.errors import ArchiveError
from lamina.spec import document, imageconfig

HEAD = b'{"rootfs":{"type":"layers","diff_ids":[]},'
TAKEN_BY_JSON = {
    "duplicate key": HEAD + b'"os":"linux","os":"windows"}',
    "duplicate key inside": HEAD + b'"config":{"User":"nobody","User":"root"}}',
    "escaped duplicate": HEAD + b'"os":"linux","\\u006fs":"x"}',
    "NaN": HEAD + b'"x":NaN}',
    "infinity": HEAD + b'"x":-Infinity}',
    "1e999": HEAD + b'"x":1e999}',
    "lone surrogate": HEAD + b'"author":"\\ud800"}',
    "surrogate key": HEAD + b'"\\udfff":1}',
}
REFUSED_ANYWAY = {
    "depth": HEAD + b'"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "depth 500": HEAD + b'"x":' + b"[" * 500 + b"]" * 500 + b"}",
    "huge integer": HEAD + b'"x":' + b"9" * 10_000 + b"}",
    "byte order mark": b"\xef\xbb\xbf" + HEAD + b'"x":1}',
    "latin-1": HEAD + b'"x":"\xe9"}',
    "list": b"[]",
    "null": b"null",
    "empty": b"",
    "truncated": HEAD,
    "more than one": HEAD + b'"x":1}{}',
    "too long": HEAD + b'"x":"' + b"a" * (9 << 20) + b'"}',
    "million steps": HEAD + b'"history":[' + b"{}," * 999_999 + b"{}]}",
}


@pytest.mark.parametrize("name", [*TAKEN_BY_JSON, *REFUSED_ANYWAY])
def test_refused(name: str) -> None:
    with pytest.raises(ArchiveError) as error:
        imageconfig.check({**TAKEN_BY_JSON, **REFUSED_ANYWAY}[name])
    assert error.value.message.startswith("image config") and len(error.value.message) < 400


@pytest.mark.parametrize("name", TAKEN_BY_JSON)
def test_control_json_takes_it(name: str) -> None:
    assert isinstance(json.loads(TAKEN_BY_JSON[name]), dict)


def test_control_json_dies_of_depth() -> None:
    with pytest.raises(RecursionError):
        json.loads(REFUSED_ANYWAY["depth"])


def test_control_an_honest_document_is_read() -> None:
    assert document.parse(HEAD + b'"x":[1,1.5,"\xc3\xa9",null,true,{"a":[]}]}', "test")["x"][2] == "\xe9"
