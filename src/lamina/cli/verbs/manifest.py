# SPDX-License-Identifier: Apache-2.0
"""`manifest inspect`: what a registry has under a name, as it came. Nothing is kept."""
from __future__ import annotations

from lamina.cli.context import Cli, add_site_packages
from lamina.cli.flags import Opts, Verb


def inspect(cli: Cli, opts: Opts, args: list[str]) -> int:
    add_site_packages()  # urllib3
    import json

    from lamina.cli.registries import registries

    document = registries(cli).manifest(args[0])
    cli.out(json.dumps(document, indent="\t", ensure_ascii=cli.is_tty(1)))
    return 0


VERBS = {
    "inspect": Verb(inspect, "[OPTIONS] NAME[:TAG|@DIGEST]", 1, 1, (), refused={"insecure": "", "verbose": "v"}),
}
