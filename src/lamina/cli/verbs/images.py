# SPDX-License-Identifier: Apache-2.0
"""`images`, `history`, `tag`, `rmi`, `image prune`, `image mount` and `image umount`."""
from __future__ import annotations

import time

from lamina.cli.context import Cli, CliError
from lamina.cli.flags import Opts, Verb
from lamina.cli.table import ellipsis, render, short_id
from lamina.cli.verbs.lifecycle import each
from lamina.cli.verbs.ps import filters_of, local_time
from lamina.errors import LaminaError, NotFound
from lamina.util.sizes import human_duration, human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NONE = "<none>"
HEADERS = {
    "ID": "IMAGE ID", "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT",
    "Size": "SIZE", "Containers": "CONTAINERS", "VirtualSize": "SIZE", "SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE",
}  # fmt: skip
HISTORY_HEADERS = {
    "ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY", "Size": "SIZE", "Comment": "COMMENT",
}  # fmt: skip


class ImageRow:
    """One line of `images`: an image under one of its names."""

    def __init__(self, summary: dict[str, Any], repository: str, tag: str, digest: str, *, trunc: bool) -> None:
        self.summary = summary
        self.repository = repository
        self.tag = tag
        self.digest = digest
        self.trunc = trunc

    def names(self) -> tuple[str, ...]:
        return tuple(HEADERS)

    def field(self, name: str) -> str:
        s = self.summary
        if name == "ID":
            return short_id(s["Id"]) if self.trunc else str(s["Id"])
        if name == "Repository":
            return self.repository
        if name == "Tag":
            return self.tag
        if name == "Digest":
            return self.digest
        if name == "CreatedSince":
            return human_duration(time.time() - s["Created"]) + " ago" if s["Created"] > 0 else "N/A"
        if name == "CreatedAt":
            return local_time(s["Created"])
        if name == "Size":
            return human_size(s["Size"], 3)
        if name == "VirtualSize":
            return human_size(s["Size"], 4)
        if name == "Containers":
            return "N/A" if s.get("Containers", -1) < 0 else str(s["Containers"])
        if name == "SharedSize":
            return "N/A" if s.get("SharedSize", -1) < 0 else human_size(s["SharedSize"])
        if name == "UniqueSize":
            return "N/A" if s.get("SharedSize", -1) < 0 else human_size(s["Size"] - s["SharedSize"])
        raise KeyError(name)


def image_rows(summaries: list[dict[str, Any]], *, digests: bool, trunc: bool) -> list[ImageRow]:
    """A row per tag; with `digests` a row per tag and digest of one repository; untagged images once."""
    rows = []
    for s in summaries:
        names = [split_tag(name) for name in s.get("RepoTags") or [] if name != f"{NONE}:{NONE}"]
        known = [name.partition("@")[::2] for name in s.get("RepoDigests") or [] if not name.startswith(f"{NONE}@")]
        if not names:
            repositories = known if digests else list({repository: (repository, "") for repository, _ in known}.values())
            for repository, digest in repositories or [(NONE, "")]:
                rows.append(ImageRow(s, repository, NONE, digest or NONE, trunc=trunc))
            continue
        for repository, tag in names:
            own = [digest for r, digest in known if r == repository] if digests else []
            for digest in own or [NONE]:
                rows.append(ImageRow(s, repository, tag, digest, trunc=trunc))
    return rows


def split_tag(name: str) -> tuple[str, str]:
    """"host:5000/a/b:tag" -> ("host:5000/a/b", "tag")."""
    repository, _, tag = name.rpartition(":")
    return repository, tag


def ls(cli: Cli, opts: Opts, args: list[str]) -> int:
    filters = filters_of(opts["filter"])
    if args:
        filters.setdefault("reference", []).append(args[0])
    summaries = cli.engine.images.list(all=opts["all"], filters=filters)
    trunc, template = not opts["no-trunc"], opts["format"] or ("" if opts["quiet"] else cli.setting("imagesFormat"))
    if opts["quiet"] and (not template or template == "table"):
        for row in image_rows(summaries, digests=False, trunc=trunc):
            cli.out(row.field("ID"))
        return 0
    digests = opts["digests"] or ".Digest" in template
    rows = image_rows(summaries, digests=digests, trunc=trunc)
    if template and template != "table":
        from lamina.cli.formats import show

        show(cli, template, rows, HEADERS, kind="formatter.imageContext")
        return 0
    columns = ["Repository", "Tag", *(["Digest"] if digests else []), "ID", "CreatedSince", "Size"]
    cli.out(render([[HEADERS[c] for c in columns], *([cli.clean(row.field(c)) for c in columns] for row in rows)]), end="")
    return 0


class HistoryRow:
    def __init__(self, entry: dict[str, Any], *, trunc: bool, human: bool) -> None:
        self.entry = entry
        self.trunc = trunc
        self.human = human

    def names(self) -> tuple[str, ...]:
        return ("Comment", "CreatedAt", "CreatedBy", "CreatedSince", "ID", "Size")

    def field(self, name: str) -> str:
        e = self.entry
        if name == "ID":
            return short_id(e["Id"]) if self.trunc and e["Id"].startswith("sha256:") else str(e["Id"])
        if name == "CreatedAt":
            if e["Created"] <= 0:
                return "" if not self.human else "N/A"
            moment = time.localtime(e["Created"])
            zone = time.strftime("%z", moment)
            return time.strftime("%Y-%m-%dT%H:%M:%S", moment) + ("Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}")
        if name == "CreatedSince":
            if not self.human:
                return self.field("CreatedAt")
            return human_duration(time.time() - e["Created"]) + " ago" if e["Created"] > 0 else "N/A"
        if name == "CreatedBy":
            by = str(e["CreatedBy"]).replace("\t", " ")
            return ellipsis(by, 45) if self.trunc else by
        if name == "Size":
            return human_size(e["Size"], 3) if self.human else str(e["Size"])
        if name == "Comment":
            return str(e["Comment"])
        raise KeyError(name)


def history(cli: Cli, opts: Opts, args: list[str]) -> int:
    entries = cli.engine.images.history(args[0])
    trunc, human, template = not opts["no-trunc"], opts["human"], opts["format"]
    rows = [HistoryRow(entry, trunc=trunc, human=human) for entry in entries]
    if opts["quiet"] and (not template or template == "table"):
        for row in rows:
            cli.out(row.field("ID"))
        return 0
    if template and template != "table":
        from lamina.cli.formats import show

        show(cli, template, rows, HISTORY_HEADERS, kind="formatter.historyContext")
        return 0
    columns = ("ID", "CreatedSince" if human else "CreatedAt", "CreatedBy", "Size", "Comment")
    cli.out(render([[HISTORY_HEADERS[c] for c in columns], *([cli.clean(row.field(c)) for c in columns] for row in rows)]), end="")
    return 0


def tag(cli: Cli, opts: Opts, args: list[str]) -> int:
    from lamina.errors import InvalidArgument
    from lamina.spec.reference import parse

    try:
        digest = parse(args[1]).digest
    except InvalidArgument as e:
        raise CliError(f'Error parsing reference: "{args[1]}" is not a valid repository/tag: {e.message}')
    if digest:
        raise CliError("refusing to create a tag with a digest reference")
    cli.engine.images.tag(args[0], args[1])
    return 0


def rm(cli: Cli, opts: Opts, args: list[str]) -> int:
    errors, missing_only = [], True
    for ref in args:
        try:
            for step in cli.engine.images.remove(ref, force=opts["force"], no_prune=opts["no-prune"]):
                kind, name = next(iter(step.items()))
                cli.out(f"{kind}: {name}")
        except LaminaError as e:
            missing_only = missing_only and isinstance(e, NotFound)
            errors.append(f"Error response from daemon: {e.message}" + (f"\nHint: {e.hint}" if e.hint else ""))
    if not errors:
        return 0
    cli.err("\n".join(errors))
    return 0 if opts["force"] and missing_only else 1


def prune(cli: Cli, opts: Opts, args: list[str]) -> int:
    filters = filters_of(opts["filter"])
    everything = opts["all"]
    if not opts["force"]:
        what = "all images without at least one container associated to them" if everything else "all dangling images"
        if not confirm(cli, f"WARNING! This will remove {what}.\nAre you sure you want to continue? [y/N] "):
            return 0
    cli.out(f"Total reclaimed space: {human_size(pruned(cli, filters, everything=everything))}")
    return 0


def pruned(cli: Cli, filters: dict[str, list[str]], *, everything: bool) -> int:
    """Does it and lists what is gone; the bytes that are free now."""
    filters = {**with_settings(cli, filters), "dangling": ["false" if everything else "true"]}
    report = cli.engine.images.prune(filters)
    deleted = report.get("ImagesDeleted") or []
    if deleted:
        cli.out("Deleted Images:")
        for step in deleted:
            for kind in ("Untagged", "Deleted"):
                if kind in step:
                    cli.out(f"{kind.lower()}: {step[kind]}")
        cli.out("")
    return int(report.get("SpaceReclaimed") or 0)


def with_settings(cli: Cli, filters: dict[str, list[str]]) -> dict[str, list[str]]:
    """The filters of a prune, and those that config.json adds to every prune."""
    if not cli.settings:
        return filters
    from lamina.cli.settings import prune_filters

    return prune_filters(cli.settings, filters)


def confirm(cli: Cli, question: str) -> bool:
    """Asks on stdout; only "y" or "yes" on the first line of stdin is consent."""
    import os

    cli.out(question, end="")
    cli.flush()
    answer = b""
    while not answer.endswith(b"\n") and len(answer) < 100:
        more = os.read(0, 1)
        if not more:
            break
        answer += more
    return answer.strip().lower() in (b"y", b"yes")


def mount(cli: Cli, opts: Opts, args: list[str]) -> int:
    """Prints where each image is mounted now; without an argument, what is mounted."""
    if not args:
        rows = [[entry["Id"] if opts["no-trunc"] else short_id(entry["Id"]), entry["Path"]] for entry in cli.engine.images.mounted()]
        cli.out(render([["IMAGE ID", "PATH"], *rows]), end="")
        return 0
    return 1 if each(cli, args, lambda ref: str(cli.engine.images.mount(ref))) else 0


def umount(cli: Cli, opts: Opts, args: list[str]) -> int:
    def one(ref: str) -> str:
        cli.engine.images.umount(ref)
        return ref

    return 1 if each(cli, args, one) else 0


FORMAT = ("format", "", "string", "")
NO_TRUNC = ("no-trunc", "", "bool", False)
QUIET = ("quiet", "q", "bool", False)
VERBS = {
    "ls": Verb(
        ls, "[OPTIONS] [REPOSITORY[:TAG]]", 0, 1,
        (("all", "a", "bool", False), ("digests", "", "bool", False), ("filter", "f", "filter", None), FORMAT, NO_TRUNC, QUIET),
        refused={"tree": ""},
    ),
    "history": Verb(history, "[OPTIONS] IMAGE", 1, 1, (FORMAT, ("human", "H", "bool", True), NO_TRUNC, QUIET)),
    "tag": Verb(tag, "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", 2, 2),
    "rm": Verb(rm, "[OPTIONS] IMAGE [IMAGE...]", 1, None, (("force", "f", "bool", False), ("no-prune", "", "bool", False))),
    "prune": Verb(prune, "[OPTIONS]", 0, 0, (("all", "a", "bool", False), ("filter", "", "filter", None), ("force", "f", "bool", False))),
    "mount": Verb(mount, "[OPTIONS] [IMAGE...]", 0, None, (NO_TRUNC,)),
    "umount": Verb(umount, "IMAGE [IMAGE...]", 1, None),
}  # fmt: skip
