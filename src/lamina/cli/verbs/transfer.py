# SPDX-License-Identifier: Apache-2.0
"""`commit`, `import`, `export` and `diff`: change sets and trees that become, or come out of, something else."""
from __future__ import annotations

import os

from lamina.cli.context import Cli, CliError, add_site_packages, write_all
from lamina.cli.flags import Opts, Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

KINDS = {0: "C", 1: "A", 2: "D"}


def commit(cli: Cli, opts: Opts, args: list[str]) -> int:
    repository = args[1] if len(args) > 1 else None
    check_reference(repository, "refusing to create a tag with a digest reference")
    image = cli.engine.images.commit(
        args[0], repository, author=opts["author"], message=opts["message"], changes=opts["change"], pause=opts["pause"]
    )
    cli.out(image)
    return 0


def import_(cli: Cli, opts: Opts, args: list[str]) -> int:
    if len(args) > 2:
        raise CliError(f'"{cli.path}" requires at most 2 arguments.\nSee \'{cli.path} --help\'.')
    repository = args[1] if len(args) > 1 else None
    check_reference(repository, "Error response from daemon: cannot import digest reference")
    add_site_packages()  # zstandard
    with open_source(cli, args[0]) as stream:
        image = cli.engine.images.import_(
            stream, repository=repository, changes=opts["change"], message=opts["message"], platform=opts["platform"], source=args[0]
        )
    cli.out(image)
    return 0


def check_reference(name: str | None, no_digest: str) -> None:
    """As docker's client: a bad name is told before anything is read; `no_digest` is what is said of one with a digest."""
    if name:
        from lamina.errors import InvalidArgument
        from lamina.spec.reference import parse

        try:
            digest = parse(name).digest
        except InvalidArgument as e:
            raise CliError(e.message)
        if digest:
            raise CliError(no_digest)


def open_source(cli: Cli, source: str) -> IO[bytes]:
    """stdin for "-", an http(s) URL, or a file."""
    if source == "-":
        if cli.is_tty(0):
            raise CliError("cowardly refusing to read a tar archive from a terminal. Redirect stdin or name a file")
        return open(0, "rb", buffering=0, closefd=False)
    if source.startswith(("http://", "https://")):
        return open_url(cli, source)
    try:
        return open(source, "rb", buffering=0)
    except OSError as e:
        reason = e.strerror or str(e)
        raise CliError(f"open {source}: {reason[:1].lower()}{reason[1:]}")


def open_url(cli: Cli, url: str) -> IO[bytes]:
    import http.client
    import urllib.error
    import urllib.request

    class HttpOnly(urllib.request.HTTPRedirectHandler):
        """A server may send us elsewhere, but not to our own files (file://) or another protocol."""

        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            if not newurl.startswith(("http://", "https://")):
                raise urllib.error.URLError(f"redirect to {newurl} refused")
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    opener = urllib.request.build_opener(HttpOnly)
    request = urllib.request.Request(url, headers={"User-Agent": "lamina", "Accept-Encoding": "identity"})
    cli.err(f"Downloading from {url}")
    try:
        stream: IO[bytes] = opener.open(request, timeout=60)
    except urllib.error.HTTPError as e:
        raise CliError(f"Error response from daemon: failed to download {url}: {e.code} {e.reason}")
    except (OSError, ValueError, http.client.HTTPException) as e:
        reason = e.reason if isinstance(e, urllib.error.URLError) else e
        text = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
        raise CliError(f"Error response from daemon: failed to download {url}: {text[:1].lower()}{text[1:]}")
    return stream


def export(cli: Cli, opts: Opts, args: list[str]) -> int:
    output = opts["output"]
    if not output:
        if cli.is_tty(1):
            raise CliError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
        cli.engine.containers.export(args[0], lambda data: write_all(1, data))
        return 0
    directory = os.path.dirname(output) or "."
    if not os.path.isdir(directory):
        raise CliError(f"failed to export container: invalid output path: directory {directory!r} does not exist".replace("'", '"'))
    if os.path.isdir(output) or (os.path.exists(output) and not os.path.isfile(output)):
        kind = "a directory" if os.path.isdir(output) else "not a regular file"
        raise CliError(f'failed to export container: invalid output path: "{output}" is {kind}')
    # Whole or not at all: a reader of OUTPUT never sees half of an archive.
    partial = os.path.join(directory, f".lamina-export-{os.getpid()}.tmp")
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        cli.engine.containers.export(args[0], lambda data: write_all(fd, data))
        os.rename(partial, output)
    except BaseException:
        os.unlink(partial)
        raise
    finally:
        os.close(fd)
    return 0


def diff(cli: Cli, opts: Opts, args: list[str]) -> int:
    if not args[0]:
        raise CliError("Container name cannot be empty")
    for change in cli.engine.containers.diff(args[0]):
        cli.out(f"{KINDS[change['Kind']]} {cli.clean(change['Path'])}")
    return 0


CHANGE = ("change", "c", "list", None)
MESSAGE = ("message", "m", "string", "")
VERBS = {
    "commit": Verb(
        commit, "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]", 1, 2,
        (("author", "a", "string", ""), CHANGE, MESSAGE, ("pause", "p", "bool", True)),
    ),
    "import": Verb(import_, "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]", 1, None, (CHANGE, MESSAGE, ("platform", "", "string", ""))),
    "export": Verb(export, "[OPTIONS] CONTAINER", 1, 1, (("output", "o", "string", ""),)),
    "diff": Verb(diff, "CONTAINER", 1, 1),
}  # fmt: skip
