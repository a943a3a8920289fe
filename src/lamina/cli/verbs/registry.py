# SPDX-License-Identifier: Apache-2.0
"""`pull`, `push`, `search` and `tags`."""
from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lamina.cli.context import Cli, CliError, add_site_packages
from lamina.cli.flags import Opts, Verb, parse_bool
from lamina.cli.progress import Progress
from lamina.cli.table import ellipsis, render
from lamina.cli.verbs.archives import Interruptible
from lamina.cli.verbs.ps import filters_of
from lamina.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lamina.engine.pulling import Pulled
    from lamina.engine.pushing import Pushed
    from lamina.errors import NotFound
    from lamina.spec.reference import Reference

# States that only a terminal shows: as docker, elsewhere a line for what has been reached.
MOVING = frozenset(("Downloading", "Extracting", "Pushing"))


def pull(cli: Cli, opts: Opts, args: list[str]) -> int:
    check_trust(opts)
    for done in fetch(cli, args[0], platform=opts["platform"], all_tags=opts["all-tags"], quiet=opts["quiet"])[-1:]:
        cli.out(done.name.name if opts["all-tags"] else done.name.full())
    return 0


def fetch(cli: Cli, text: str, *, platform: str = "", all_tags: bool = False, quiet: bool = False, fd: int = 1,
          hint: bool = True) -> list[Pulled]:
    """Pulls, with docker's lines on `fd`; `hint`: also that the tag is the default one."""
    add_site_packages()  # urllib3
    from lamina.cli.registries import registries
    from lamina.spec.reference import parse

    say = (lambda line: None) if quiet else printer(cli, fd)
    if all_tags and (parse(text).tag or parse(text).digest):
        raise CliError("tag can't be used with --all-tags/-a")
    if hint and not all_tags and not parse(text).tag and not parse(text).digest:
        say("Using default tag: latest")
    shown = Lines(cli, fd, quiet=quiet)

    def begin(name: Reference) -> None:
        say(f"{name.tag or name.full()}: Pulling from {name.path}")

    def ended(one: Pulled) -> None:
        shown.close()
        say(f"Digest: {one.digest}")

    with Interruptible(cli, "pull interrupted: what has come is kept for the next one"):
        done: list[Pulled] = registries(cli).pull(text, platform=platform, all_tags=all_tags, tell=shown.tell, begin=begin, done=ended)
    if done:
        what = done[-1].name.familiar_name if all_tags else done[-1].name.familiar()
        newer = any(one.newer for one in done)
        say(f"Status: {'Downloaded newer image for' if newer else 'Image is up to date for'} {what}")
    return done


def push(cli: Cli, opts: Opts, args: list[str]) -> int:
    check_trust(opts)
    add_site_packages()  # urllib3
    from lamina.cli.registries import registries
    from lamina.spec.reference import parse

    name, quiet = parse(args[0]), opts["quiet"]
    if opts["all-tags"] and (name.tag or name.digest):
        raise CliError("tag can't be used with --all-tags/-a")
    say = (lambda line: None) if quiet else printer(cli, 1)
    if not opts["all-tags"] and not name.tag and not name.digest:
        say("Using default tag: latest")
    say(f"The push refers to repository [{name.name}]")
    shown = Lines(cli, 1, quiet=quiet)

    def ended(one: Pushed) -> None:
        shown.close()
        say(f"{one.name.tag}: digest: {one.digest} size: {one.size}")

    with Interruptible(cli, "push interrupted"):
        registries(cli).push(args[0], all_tags=opts["all-tags"], compression=opts["compression"],
                             preserve_digests=opts["preserve-digests"], tell=shown.tell, done=ended)
    if quiet:
        cli.out(name.name if opts["all-tags"] else name.with_default_tag().full())
    return 0


def tags(cli: Cli, opts: Opts, args: list[str]) -> int:
    add_site_packages()
    from lamina.cli.registries import registries

    for tag in registries(cli).tags(args[0]):
        cli.out(tag)
    return 0


def search(cli: Cli, opts: Opts, args: list[str]) -> int:
    add_site_packages()
    from lamina.cli.registries import registries

    limit = opts["limit"] or SEARCH_USUAL
    if not 1 <= limit <= SEARCH_MOST:
        raise InvalidArgument(f"limit {limit} is outside the range of [1, {SEARCH_MOST}]")
    filters = filters_of(opts["filter"])
    for name in filters:
        if name not in SEARCH_FILTERS:
            raise InvalidArgument(f"invalid filter '{name}'")
    stars = [stars_of(text) for text in filters.get("stars", ())]
    wanted = {name: [truth(name, text) for text in filters.get(name, ())] for name in ("is-official", "is-automated")}
    found = [row for row in registries(cli).search(args[0], limit)
             if all(row["star_count"] >= least for least in stars)
             and all(row["is_official"] == value for value in wanted["is-official"])
             and all(row["is_automated"] == value for value in wanted["is-automated"])]
    rows = [SearchRow(row, whole=opts["no-trunc"]) for row in found]
    template = opts["format"]
    if template and template != "table":
        from lamina.cli.formats import show

        show(cli, template, rows, SEARCH_HEADERS, kind="formatter.searchContext")
        return 0
    columns = ("Name", "Description", "StarCount", "IsOfficial")
    cli.out(render([[SEARCH_HEADERS[one] for one in columns], *([cli.clean(row.field(one)) for one in columns] for row in rows)]), end="")
    return 0


def stars_of(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise InvalidArgument(f"invalid filter 'stars={text}'")
    return int(text)


def truth(name: str, text: str) -> bool:
    try:
        return parse_bool(text)
    except ValueError:
        raise InvalidArgument(f"invalid filter '{name}={text}'") from None


class SearchRow:
    """A result, as templates see it."""

    def __init__(self, row: dict[str, Any], *, whole: bool) -> None:
        text = " ".join(row["description"].split())
        self._fields: dict[str, str] = {
            "Name": row["name"], "Description": text if whole else ellipsis(text, 45), "StarCount": str(row["star_count"]),
            "IsOfficial": "[OK]" if row["is_official"] else "", "IsAutomated": "[OK]" if row["is_automated"] else "",
        }  # fmt: skip

    def names(self) -> tuple[str, ...]:
        return tuple(self._fields)

    def field(self, name: str) -> str:
        return self._fields[name]


def obtain(cli: Cli, text: str, *, platform: str, quiet: bool) -> str:
    """For `run` and `create`: pulls, told on stderr; the name to run, as typed where that means the same."""
    from lamina.spec.reference import parse

    name = fetch(cli, text, platform=platform, quiet=quiet, fd=2, hint=False)[0].name
    return text if parse(text).with_default_tag() == name else name.full()


def missing(cli: Cli, text: str, *, platform: str, quiet: bool, error: NotFound) -> str:
    """As `obtain`, for what isn't here. A name that stands for another one (lamina.toml) may be here under that. Raises `error` for an
    id, which no registry knows."""
    from lamina.cli.registries import settings
    from lamina.images.store import full_id
    from lamina.spec.reference import parse

    if full_id(text):
        raise error
    plain = parse(text).with_default_tag()
    if not platform:
        for candidate in settings().candidates(text):
            if cli.engine.image_store.by_name(candidate.with_default_tag()) is not None:
                return candidate.with_default_tag().full()
    if not quiet:
        cli.err(f"Unable to find image '{plain.familiar()}' locally")
    return obtain(cli, text, platform=platform, quiet=quiet)


def printer(cli: Cli, fd: int) -> Callable[[str], None]:
    def say(line: str) -> None:
        if fd == 2:
            cli.err(line)
        else:
            cli.out(cli.clean(line))
            cli.flush()

    return say


class Lines:
    """A line a layer, named by the start of its digest; those of one image at a time."""

    def __init__(self, cli: Cli, fd: int, *, quiet: bool) -> None:
        self._make = partial(Progress, cli, fd, quiet=quiet)
        self._live = cli.is_tty(fd)
        self._progress = self._make()

    def tell(self, digest: str, state: str, done: int, total: int) -> None:
        if self._live or state not in MOVING:
            self._progress.show(digest, digest[7:19], state, *((done, total) if state in MOVING else (0, 0)))

    def close(self) -> None:
        """What comes next stands below."""
        self._progress.close()
        self._progress = self._make()


def check_trust(opts: Opts) -> None:
    if not opts["disable-content-trust"]:
        raise CliError("--disable-content-trust=false is not supported: Docker Content Trust has ended")


SEARCH_USUAL, SEARCH_MOST = 25, 100
SEARCH_FILTERS = ("is-automated", "is-official", "stars")
SEARCH_HEADERS = {"Name": "NAME", "Description": "DESCRIPTION", "StarCount": "STARS", "IsOfficial": "OFFICIAL", "IsAutomated": "AUTOMATED"}
TRUST = ("disable-content-trust", "", "bool", True)
VERBS = {
    "pull": Verb(
        pull, "[OPTIONS] NAME[:TAG|@DIGEST]", 1, 1,
        (("all-tags", "a", "bool", False), TRUST, ("platform", "", "string", ""), ("quiet", "q", "bool", False)),
    ),
    "push": Verb(
        push, "[OPTIONS] NAME[:TAG]", 1, 1,
        (("all-tags", "a", "bool", False), ("compression", "", "string", ""), TRUST, ("preserve-digests", "", "bool", False),
         ("quiet", "q", "bool", False)),
    ),
    "search": Verb(
        search, "[OPTIONS] TERM", 1, 1,
        (("filter", "f", "list", None), ("format", "", "string", ""), ("limit", "", "int", 0), ("no-trunc", "", "bool", False)),
    ),
    "tags": Verb(tags, "REPOSITORY", 1, 1),
}  # fmt: skip
