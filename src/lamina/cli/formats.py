# SPDX-License-Identifier: Apache-2.0
"""`--format` of the listing verbs: `json`, `table`, `table TEMPLATE`, `TEMPLATE`, over rows that know their columns.

A row has `names()`, `field(name)` (KeyError for an unknown one) and, for columns with an argument, `method(name, *args)`.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from .context import Cli, CliError
from .table import render
from .template import Template
from .template_funcs import HEADER_FUNCTIONS, GoMap
from .template_lex import TemplateError


class RowLike(Protocol):
    def names(self) -> tuple[str, ...]: ...
    def field(self, name: str) -> str: ...


class _Shown:
    """A row as templates see it; values of strangers are made harmless on a terminal."""

    def __init__(self, cli: Cli, row: RowLike, kind: str) -> None:
        self.cli = cli
        self.row = row
        self.template_type = f"*{kind}"

    def template_field(self, name: str) -> Any:
        return self.cli.clean(self.row.field(name))

    def template_method(self, name: str, args: list[Any]) -> Any:
        method = getattr(self.row, "method", None)
        if method is None:
            raise KeyError(name)
        return self.cli.clean(method(name, *args))

    def template_fields(self) -> dict[str, str]:
        return {name: self.row.field(name) for name in self.row.names()}


class _Headers(GoMap):
    """The header line: columns by name; a column with an argument is headed by it."""

    template_type = "formatter.SubHeaderContext"

    def template_field(self, name: str) -> Any:
        return self.get(name, "<no value>")

    def template_method(self, name: str, args: list[Any]) -> Any:
        return str(args[0])


PLAIN = ("template parsing error", "template parsing error")


def show(
    cli: Cli, template: str, rows: Sequence[RowLike], headers: dict[str, str], *, kind: str, errors: tuple[str, str] = PLAIN
) -> None:  # fmt: skip
    """Writes the rows by `template`, neither empty nor just "table"; `errors`: how the text on a bad one begins (parsed, executed)."""
    is_table = template.startswith("table")
    text = template[len("table") :] if is_table else template
    if template == "json":
        text = "{{json .}}"
    text = text.strip().replace("\\t", "\t").replace("\\n", "\n")
    stage = errors[0]
    try:
        parsed = Template(text)
        stage = errors[1]
        lines = [parsed.execute(_Shown(cli, row, kind)) for row in rows]
        if is_table:
            head = parsed.execute(_Headers(headers), HEADER_FUNCTIONS)
    except TemplateError as e:
        raise CliError(f"{stage}: {e}")
    if is_table:
        cells = [line.split("\t") for row in (head, *lines) for line in row.split("\n")]
        cli.out(render(cells), end="")
    else:
        for line in lines:
            cli.out(line)


def show_objects(cli: Cli, template: str, values: list[Any], *, name: str = "") -> None:
    """`inspect --format`: each value by the template, a line each; "json" is all of them in one array."""
    from .template_funcs import to_json, typed

    if template == "json":
        cli.out(to_json([typed(v) for v in values]))
        return
    parsed = parse_inspect(template, name=name)
    if not values:
        cli.out("")
        return
    for value in values:
        try:
            line = parsed.execute(typed(value))
        except TemplateError as e:
            cli.out("")
            raise CliError(f"template parsing error: {e}")
        cli.out(terminal_safe(cli, line))


def parse_inspect(template: str, *, name: str = "") -> Template:
    try:
        return Template(template, name=name)
    except TemplateError as e:
        raise CliError(f"template parsing error: {e}", 64)


def terminal_safe(cli: Cli, text: str) -> str:
    """What a template of `inspect` made from strangers' values, for stdout; line ends and tabs stay."""
    if not cli.is_tty(1):
        return text
    from .term import sanitise

    return sanitise(text, keep="\n\t")
