# SPDX-License-Identifier: Apache-2.0
"""Go templates: the same results and the same errors as docker's client has for the same data (goldens/templates.json)."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lamina.cli.template import Template
from lamina.cli.template_lex import TemplateError

GOLDEN = json.loads((Path(__file__).parent / "goldens" / "templates.json").read_text())


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda c: c["template"])
def test_same_as_docker(case: dict[str, Any]) -> None:
    try:
        got = Template(case["template"], name="version").execute(GOLDEN["data"])
    except TemplateError as e:
        got = f"error: {e}"
    if case["code"]:
        message = case["stderr"].strip()
        wanted = "error: " + message[message.index("template: ") :].replace("type string", "type interface {}")
    else:
        wanted = case["stdout"].removesuffix("\n")
    assert got == wanted
