# SPDX-License-Identifier: Apache-2.0
"""Go's text/template, parsed and executed, as far as people use it with docker: the language. Functions are in `template_funcs`.

Fields, variables, pipelines, if/else if/else, range (with index, else, break, continue), with, comments, trim markers, literals.
Data are JSON values, or objects with `template_field(name)`/`template_method(name, args)`. Error texts are Go's, with its positions.
Not loaded unless --format asks for it.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .template_funcs import FUNCTIONS, NO_VALUE, OMITTED, FuncError, GoMap, Nil, to_text, truth
from .template_lex import Lexer, TemplateError, Token

Function = Callable[..., Any]
MAX_OUTPUT = 1 << 26
KEYWORDS = frozenset(("if", "else", "end", "range", "with", "break", "continue", "define", "template", "block"))


class Operand:
    """A value in a command: kind is field, variable, dot, literal, function or pipeline; `names` are fields taken from it."""

    __slots__ = ("end", "kind", "names", "pos", "source", "value")

    def __init__(self, kind: str, value: Any, names: list[str], pos: int, end: int, source: str) -> None:
        self.kind = kind
        self.value = value
        self.names = names
        self.pos = pos
        self.end = end
        self.source = source


class Pipeline:
    __slots__ = ("assign", "commands", "pos", "variables")

    def __init__(self, variables: list[str], assign: bool, commands: list[list[Operand]], pos: int) -> None:
        self.variables = variables
        self.assign = assign
        self.commands = commands
        self.pos = pos


class Node:
    """kind: text, action, if, range, with, break, continue. `body` and `other` are lists of nodes."""

    __slots__ = ("body", "kind", "other", "pipeline", "text")

    def __init__(self, kind: str, *, text: str = "", pipeline: Pipeline | None = None) -> None:
        self.kind = kind
        self.text = text
        self.pipeline = pipeline
        self.body: list[Node] = []
        self.other: list[Node] = []


class Template:
    """A parsed template. Raises TemplateError with the text that Go gives."""

    def __init__(self, source: str, functions: dict[str, Function] | None = None, *, name: str = "") -> None:
        self.source = source
        self.name = name
        self.functions = functions or FUNCTIONS
        self._tokens: Iterator[Token] = iter(())
        self._peeked: list[Token] = []
        self._lexer = Lexer(source, name)
        self._vars: list[str] = ["$"]
        self._loops = 0
        self._items = list(self._lexer.split())
        self._at = 0
        self.nodes, stop = self._list()
        if stop:
            raise self._fail(f"unexpected {{{{{stop}}}}}")

    def execute(self, data: Any, functions: dict[str, Function] | None = None) -> str:
        return _Run(self, functions or self.functions).execute(data)

    # -- parsing

    def _fail(self, message: str) -> TemplateError:
        return self._lexer.fail(message, self._lexer.pos)

    def _list(self) -> tuple[list[Node], str]:
        """Nodes up to {{end}}, {{else ...}} (left in place) or the end; the second is which."""
        nodes: list[Node] = []
        while self._at < len(self._items):
            kind, text, pos = self._items[self._at]
            self._at += 1
            if kind == "text":
                if text:
                    nodes.append(Node("text", text=text))
                continue
            self._lexer.pos = pos
            self._peeked = list(self._lexer.tokens(text, pos))
            if not self._peeked:
                raise self._fail("missing value for command")
            word = self._peeked[0]
            if word.kind == "name" and word.text in KEYWORDS:
                if word.text in ("end", "else"):
                    return nodes, word.text
                nodes.append(self._control(self._peeked.pop(0)))
            else:
                nodes.append(Node("action", pipeline=self._pipeline("command")))
        return nodes, ""

    def _control(self, word: Token) -> Node:
        kind = word.text
        if kind in ("define", "template", "block"):
            raise self._fail(f"{{{{{kind}}}}} is not supported in formats")
        if kind in ("break", "continue"):
            if self._peeked:
                raise self._fail(f"unexpected {self._peeked[0].shown()} in {{{{{kind}}}}}")
            if not self._loops:
                raise self._fail(f"{{{{{kind}}}}} outside {{{{range}}}}")
            return Node(kind)
        depth = len(self._vars)
        node = Node(kind, pipeline=self._pipeline(kind, ranging=kind == "range"))
        self._loops += kind == "range"
        node.body, stop = self._list()
        self._loops -= kind == "range"
        if stop == "else":
            self._peeked.pop(0)
            if self._peeked and self._peeked[0].kind == "name" and self._peeked[0].text in ("if", "with") and kind == self._peeked[0].text:
                node.other = [self._control(self._peeked.pop(0))]
                del self._vars[depth:]
                return node
            if self._peeked:
                raise self._fail(f"unexpected {self._peeked[0].shown()} in else")
            node.other, stop = self._list()
            if stop == "else":
                raise self._fail("expected end; found {{else}}")
        if stop != "end":
            raise self._fail("unexpected EOF")
        del self._vars[depth:]
        return node

    def _pipeline(self, context: str, *, ranging: bool = False, closing: str = "") -> Pipeline:
        tokens = self._peeked
        pos = tokens[0].pos if tokens else self._lexer.pos
        variables: list[str] = []
        assign = False
        if tokens and tokens[0].kind == "variable":
            if len(tokens) > 1 and tokens[1].kind in (":=", "="):
                variables, assign = [tokens[0].text], tokens[1].kind == "="
                del tokens[:2]
            elif ranging and len(tokens) > 3 and tokens[1].kind == "," and tokens[2].kind == "variable" and tokens[3].kind in (":=", "="):
                variables, assign = [tokens[0].text, tokens[2].text], tokens[3].kind == "="
                del tokens[:4]
        commands: list[list[Operand]] = [[]]
        while tokens and tokens[0].kind != closing:
            if tokens[0].kind == "|":
                tokens.pop(0)
                if not commands[-1]:
                    raise self._fail(f"missing value for {context}")
                commands.append([])
                continue
            commands[-1].append(self._operand())
        if not commands[-1] and len(commands) > 1:
            commands.pop()  # Go, too, lets a pipe lead nowhere
        if not commands[-1]:
            raise self._fail(f"missing value for {context}")
        for command in commands[1:]:
            if command[0].kind == "literal":
                raise self._fail(f"non executable command in pipeline stage {commands.index(command) + 1}")
        if assign and any(name not in self._vars for name in variables):
            raise self._fail(f'undefined variable "{variables[0]}"')
        if not assign:
            self._vars += variables
        return Pipeline(variables, assign, commands, pos)

    def _operand(self) -> Operand:
        tokens = self._peeked
        token = tokens.pop(0)
        kind, value, pos = token.kind, token.value, token.pos
        names: list[str] = []
        if kind == "field":
            names = [token.text]
        elif kind == "variable":
            if token.text not in self._vars:
                raise self._fail(f'undefined variable "{token.text}"')
            value = token.text
        elif kind == "name":
            if token.text not in self.functions:
                raise self._fail(f'function "{token.text}" not defined')
            kind, value = "function", token.text
        elif kind == "(":
            value = self._pipeline("parenthesized pipeline", closing=")")
            if not tokens:
                raise self._fail("unclosed left paren")
            end = tokens.pop(0)
            kind, token = "pipeline", Token("pipeline", self.source[pos : end.pos + 1], pos)
        elif kind not in ("dot", "literal", "nil"):
            raise self._fail(f"unexpected {token.shown()} in operand")
        end_pos = token.pos + len(token.source)
        while tokens and tokens[0].kind == "field" and tokens[0].pos == end_pos:
            following = tokens.pop(0)
            if kind in ("literal", "nil"):
                raise self._fail(f"unexpected . after term {token.source!r}")
            names.append(following.text)
            if len(names) == 2 and kind == "field":
                pos = following.pos  # where Go says that a chain of fields is
            end_pos = following.pos + len(following.source)
        return Operand(kind, value, names, pos, end_pos, self.source[token.pos : end_pos])


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class _Run:
    def __init__(self, template: Template, functions: dict[str, Function]) -> None:
        self.template = template
        self.functions = functions
        self.out: list[str] = []
        self.size = 0
        self.variables: list[tuple[str, Any]] = []

    def execute(self, data: Any) -> str:
        self.variables = [("$", data)]
        self._walk(self.template.nodes, data)
        return "".join(self.out)

    def _fail(self, pos: int, source: str, message: str) -> TemplateError:
        line, column = self.template._lexer.place(pos)
        name = self.template.name
        return TemplateError(f'template: {name}:{line}:{column}: executing "{name}" at <{source}>: {message}')

    def _emit(self, text: str) -> None:
        self.out.append(text)
        self.size += len(text)
        if self.size > MAX_OUTPUT:
            raise TemplateError("template: output is too large")

    def _walk(self, nodes: list[Node], dot: Any) -> None:
        for node in nodes:
            if node.kind == "text":
                self._emit(node.text)
            elif node.kind == "break":
                raise _Break
            elif node.kind == "continue":
                raise _Continue
            else:
                assert node.pipeline is not None
                depth = len(self.variables)
                if node.kind == "action":
                    value = self._pipeline(node.pipeline, dot)
                    if not node.pipeline.variables:
                        self._emit(to_text(value, top=True))
                    continue
                if node.kind == "range":
                    self._range(node, node.pipeline, dot)
                else:
                    value = self._pipeline(node.pipeline, dot)
                    if truth(value):
                        self._walk(node.body, value if node.kind == "with" else dot)
                    else:
                        self._walk(node.other, dot)
                del self.variables[depth:]

    def _range(self, node: Node, pipeline: Pipeline, dot: Any) -> None:
        value = self._commands(pipeline, dot)
        if isinstance(value, dict):
            pairs: list[tuple[Any, Any]] = [(k, value[k]) for k in sorted(value)]
        elif isinstance(value, (list, tuple)):
            pairs = list(enumerate(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            pairs = [(i, i) for i in range(min(value, 1 << 20))]
        elif value is None or value is NO_VALUE:
            pairs = []
        else:
            operand = pipeline.commands[0][0]
            raise self._fail(operand.pos, operand.source, f"range can't iterate over {to_text(value)}")
        if not pairs:
            self._walk(node.other, dot)
        for key, item in pairs:
            depth = len(self.variables)
            names = pipeline.variables
            for name, bound in zip(names, (key, item) if len(names) == 2 else (item,), strict=False):
                self._bind(name, bound, assign=pipeline.assign)
            try:
                self._walk(node.body, item)
            except _Break:
                break
            except _Continue:
                continue
            finally:
                del self.variables[depth:]

    def _bind(self, name: str, value: Any, *, assign: bool) -> None:
        if assign:
            for i in range(len(self.variables) - 1, -1, -1):
                if self.variables[i][0] == name:
                    self.variables[i] = (name, value)
                    return
        self.variables.append((name, value))

    def _pipeline(self, pipeline: Pipeline, dot: Any) -> Any:
        value = self._commands(pipeline, dot)
        for name in pipeline.variables:
            self._bind(name, value, assign=pipeline.assign)
        return value

    def _commands(self, pipeline: Pipeline, dot: Any) -> Any:
        final: list[Any] = []
        for command in pipeline.commands:
            final = [self._command(command, dot, final)]
        return final[0]

    def _command(self, command: list[Operand], dot: Any, final: list[Any]) -> Any:
        first, rest = command[0], command[1:]
        whole = self.template.source[first.pos : rest[-1].end] if rest else first.source
        if first.kind == "function":
            if first.value in ("and", "or") and not final:
                return self._short_circuit(first.value, rest, dot)
            args = [self._value(operand, dot) for operand in rest] + final
            return self._call(first, rest, args, whole)
        if rest or final:
            if first.names and first.kind in ("field", "variable", "pipeline"):
                args = [self._value(operand, dot) for operand in rest] + final
                return self._value(first, dot, args)
            raise self._fail(first.pos, first.source, f"can't give argument to non-function {first.source}")
        if first.kind == "nil":
            raise self._fail(first.pos, first.source, "nil is not a command")
        return self._value(first, dot)

    def _short_circuit(self, name: str, rest: list[Operand], dot: Any) -> Any:
        value: Any = None
        if not rest:
            raise self._fail(0, name, f"wrong number of args for {name}: want at least 1 got 0")
        for operand in rest:
            value = self._value(operand, dot)
            if truth(value) == (name == "or"):
                break
        return value

    def _call(self, first: Operand, rest: list[Operand], args: list[Any], whole: str) -> Any:
        try:
            value = self.functions[first.value](*args)
        except FuncError as e:
            if e.argument is not None and e.argument < len(rest):
                bad = rest[e.argument]
                if bad.kind == "literal" and "expected string" in e.message:
                    raise self._fail(bad.pos, bad.source, f"expected string; found {bad.source}") from None
                raise self._fail(bad.pos, bad.source, e.message) from None
            raise self._fail(first.pos, whole, f"error calling {first.value}: {e.message}") from None
        except (TypeError, ValueError, IndexError, KeyError, OverflowError):
            wanted = _arity(self.functions[first.value])
            raise self._fail(first.pos, first.source, f"wrong number of args for {first.value}: want {wanted} got {len(args)}") from None
        for name in first.names:
            value = self._field(value, name, first, [])
        return value

    def _value(self, operand: Operand, dot: Any, args: list[Any] | None = None) -> Any:
        kind = operand.kind
        if kind == "literal":
            return operand.value
        if kind == "nil":
            return None
        if kind == "function":
            return self._call(operand, [], [], operand.source)
        if kind == "variable":
            value = next(v for name, v in reversed(self.variables) if name == operand.value)
        elif kind == "pipeline":
            value = self._pipeline(operand.value, dot)
        else:
            value = dot
        last = len(operand.names) - 1
        for i, name in enumerate(operand.names):
            value = self._field(value, name, operand, args or [] if i == last else [])
        return value

    def _field(self, value: Any, name: str, operand: Operand, args: list[Any]) -> Any:
        getter = getattr(value, "template_field", None)
        if getter is not None:
            try:
                return value.template_method(name, args) if args else getter(name)
            except KeyError:
                raise self._fail(operand.pos, operand.source, f"can't evaluate field {name} in type {value.template_type}") from None
        if isinstance(value, dict):
            if args:
                raise self._fail(operand.pos, operand.source, f"{name} has arguments but cannot be invoked as function")
            if name in value:
                return value[name]
            if name == "ID" and "Id" in value:
                return value["Id"]  # the field's name in Go where the JSON has Id
            if isinstance(value, GoMap):
                return NO_VALUE
            if name in OMITTED:
                return OMITTED[name]
            raise self._fail(operand.pos, operand.source, f'map has no entry for key "{name}"')
        if isinstance(value, Nil):
            raise self._fail(operand.pos, operand.source, f'map has no entry for key "{value.name}"')
        if value is None or value is NO_VALUE:
            raise self._fail(operand.pos, operand.source, f"nil pointer evaluating interface {{}}.{name}")
        raise self._fail(operand.pos, operand.source, f"can't evaluate field {name} in type interface {{}}")


def _arity(function: Function) -> str:
    import inspect

    parameters = inspect.signature(function).parameters.values()
    fixed = sum(p.kind is not p.VAR_POSITIONAL for p in parameters)
    return f"at least {fixed}" if fixed < len(parameters) else str(fixed)
