# SPDX-License-Identifier: Apache-2.0
"""`pull`."""
from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lamina.cli.context import Cli, CliError, add_site_packages
from lamina.cli.flags import Opts, Verb
from lamina.cli.progress import Progress
from lamina.cli.verbs.archives import Interruptible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamina.engine.pulling import Pulled
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


TRUST = ("disable-content-trust", "", "bool", True)
VERBS = {
    "pull": Verb(
        pull, "[OPTIONS] NAME[:TAG|@DIGEST]", 1, 1,
        (("all-tags", "a", "bool", False), TRUST, ("platform", "", "string", ""), ("quiet", "q", "bool", False)),
    ),
}  # fmt: skip
