# SPDX-License-Identifier: Apache-2.0
"""`inspect`, `container inspect` and `image inspect`: every object that was found, then an error for each that was not."""
from __future__ import annotations

import json
from collections.abc import Callable

from lamina.cli.context import Cli, CliError
from lamina.cli.flags import Opts, Verb
from lamina.errors import InvalidArgument, LaminaError, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TYPES = ("config", "container", "image", "network", "node", "plugin", "secret", "service", "task", "volume")
DONE = ("container", "image", "volume")


def inspect(cli: Cli, opts: Opts, args: list[str]) -> int:
    kind = opts["type"]
    if "type" in opts.changed and kind not in TYPES:
        if not kind:
            raise CliError("type is empty: must be one of " + ", ".join(f'"{t}"' for t in TYPES))
        raise CliError(f'"{kind}" is not a valid value for --type')
    if kind and kind not in DONE:
        raise CliError(f"--type {kind}: this version of lamina has containers, images and volumes only")
    if kind:
        return inspect_all(cli, opts, args, _of_kind(cli, kind, opts["size"]))

    def either(ref: str) -> dict[str, Any]:
        for one in DONE:
            try:
                return _of_kind(cli, one, opts["size"])(ref)
            except NotFound:
                continue
            except InvalidArgument:
                if one != DONE[-1]:  # an image's name with a tag is no container's name
                    continue
                raise
        raise CliError(f"Error: No such object: {ref}")

    return inspect_all(cli, opts, args, either)


def container(cli: Cli, opts: Opts, args: list[str]) -> int:
    return inspect_all(cli, opts, args, _of_kind(cli, "container", opts["size"]))


def image(cli: Cli, opts: Opts, args: list[str]) -> int:
    if opts["remote"]:
        from lamina.cli.context import add_site_packages

        add_site_packages()  # urllib3
        from lamina.cli.registries import registries

        return inspect_all(cli, opts, args, registries(cli).inspect)
    return inspect_all(cli, opts, args, _of_kind(cli, "image", False))


def _of_kind(cli: Cli, kind: str, size: bool) -> Callable[[str], dict[str, Any]]:
    def get(ref: str) -> dict[str, Any]:
        if kind == "container":
            found: dict[str, Any] = cli.engine.containers.inspect(ref, size=size)
        elif kind == "volume":
            found = cli.engine.volumes.inspect(ref)
        else:
            found = cli.engine.images.inspect(ref)
        if size and kind != "container":
            cli.warn(f"--size ignored for {kind}")
        return found

    return get


def inspect_all(cli: Cli, opts: Opts, args: list[str], get: Callable[[str], dict[str, Any]]) -> int:
    """What `get` says of each, as one JSON list or by --format; then the errors of those that weren't found."""
    template = opts["format"]
    if template and template != "json":
        from lamina.cli.formats import parse_inspect

        parse_inspect(template)  # a bad template is told before anything is looked up
    found, errors = [], []
    for ref in args:
        try:
            if not ref:
                raise CliError("invalid container name or ID: value is empty")
            found.append(get(ref))
        except LaminaError as e:
            errors.append(f"Error response from daemon: {e.message}")
        except CliError as e:
            errors.append(e.message)
    if template:
        from lamina.cli.formats import show_objects

        show_objects(cli, template, found)
    else:
        text = json.dumps(found, indent=4, ensure_ascii=False)
        cli.out(_safe_json(text) if cli.is_tty(1) else text)
    if errors:
        raise CliError("\n".join(errors))
    return 0


def _safe_json(text: str) -> str:
    """The same JSON with characters that act on a terminal as \\u escapes; JSON strings allow them anywhere."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else "\\u007f" if c == "\x7f" else json.dumps(c)[1:-1] for c in text)


FORMAT = ("format", "f", "string", "")
SIZE = ("size", "s", "bool", False)
VERBS = {
    "inspect": Verb(inspect, "[OPTIONS] NAME|ID [NAME|ID...]", 1, None, (FORMAT, SIZE, ("type", "", "string", ""))),
    "container": Verb(container, "[OPTIONS] CONTAINER [CONTAINER...]", 1, None, (FORMAT, SIZE)),
    "image": Verb(image, "[OPTIONS] IMAGE [IMAGE...]", 1, None, (FORMAT, ("remote", "", "bool", False)), refused={"platform": ""}),
}
