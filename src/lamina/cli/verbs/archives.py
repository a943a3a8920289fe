# SPDX-License-Identifier: Apache-2.0
"""`save` and `load`."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable

from lamina.cli.context import Cli, CliError, add_site_packages, write_all
from lamina.cli.flags import Opts, Verb
from lamina.cli.progress import Progress
from lamina.errors import LaminaError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMATS = ("docker-archive", "oci-archive", "oci-dir", "docker-dir")
SAVED = {"saving": "Saving layer", "compressing": "Compressing layer", "done": "Saved"}
LOADED = {"loading": "Loading layer", "exists": "Already exists", "done": "Loaded"}


def save(cli: Cli, opts: Opts, args: list[str]) -> int:
    output, form = opts["output"], opts["format"]
    if form not in FORMATS:
        raise CliError(f"unknown format {form!r}: it is one of {', '.join(FORMATS)}")
    directory = form.endswith("-dir")
    if not output:
        if directory:
            raise CliError(f"--format {form} writes a directory. Use the -o flag")
        if cli.is_tty(1):
            raise CliError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    else:
        check_output(output, directory)
    add_site_packages()  # zstandard
    text = "save interrupted: nothing was written" if output else "save interrupted"
    with Interruptible(cli, text) as interrupts, Progress(cli, 2, quiet=opts["quiet"]) as progress:
        saving = cli.engine.archives.saving(
            args, form=form, platform=opts["platform"], compression=opts["compression"], preserve_digests=opts["preserve-digests"],
            tell=shown(progress, SAVED),
        )  # fmt: skip
        if not output:
            saving.write(lambda data: write_all(1, data))
        elif directory:
            to_directory(output, saving, interrupts)
        else:
            to_file(output, saving, interrupts)
    for note in saving.notes:
        cli.err(f"Note: {note}")
    return 0


def check_output(output: str, directory: bool) -> None:
    """docker's texts, before anything is looked for."""
    parent = os.path.dirname(output.rstrip("/")) or "."
    if not os.path.isdir(parent):
        raise CliError(f'failed to save image: invalid output path: directory "{parent}" does not exist')
    if directory:
        if os.path.lexists(output) and (not os.path.isdir(output) or os.listdir(output)):
            raise CliError(f'failed to save image: invalid output path: "{output}" is there, and no empty directory')
    elif os.path.isdir(output):
        raise CliError(f'failed to save image: invalid output path: "{output}" is a directory')


def to_file(output: str, saving: Any, interrupts: Interruptible) -> None:
    """Whole or not at all, mode 0600; a device or a pipe is written to as it is."""
    from lamina.util.writeback import Steady

    if os.path.exists(output) and not stat.S_ISREG(os.stat(output).st_mode):
        fd = os.open(output, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            if os.isatty(fd):
                raise CliError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
            saving.write(lambda data: write_all(fd, data))
        finally:
            os.close(fd)
        return
    target = os.path.realpath(output)
    partial = f"{os.path.dirname(target)}/.lamina-save-{os.getpid()}.tmp"
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            steady = Steady(fd)
            saving.write(steady.write)
            steady.sync()
        except OSError as error:
            error.filename = error.filename or output
            raise
        interrupts.commit()
        os.rename(partial, target)
    except BaseException:
        os.unlink(partial)
        raise
    finally:
        os.close(fd)
    sync_directory(os.path.dirname(target))


def to_directory(output: str, saving: Any, interrupts: Interruptible) -> None:
    import shutil

    target = os.path.realpath(output)
    partial = f"{os.path.dirname(target)}/.lamina-save-{os.getpid()}.tmp"
    os.mkdir(partial, 0o700)
    try:
        saving.write_directory(partial)
        interrupts.commit()
        os.rename(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync_directory(os.path.dirname(target))


def sync_directory(path: str) -> None:
    from lamina.util.atomic import fsync_dir

    fsync_dir(path)


def load(cli: Cli, opts: Opts, args: list[str]) -> int:
    source: str | int = opts["input"] or 0
    if isinstance(source, str):
        if not os.path.lexists(source):
            raise CliError(f"open {source}: no such file or directory")
    elif cli.is_tty(0):
        raise CliError("requested load from stdin, but stdin is empty")
    add_site_packages()  # zstandard
    fd = 1 if cli.is_tty(1) else 2
    with (Interruptible(cli, "load interrupted: nothing was loaded") as interrupts,
          Progress(cli, fd, quiet=opts["quiet"]) as progress):  # fmt: skip
        done = cli.engine.archives.load(
            source, platform=opts["platform"], keep_blobs=opts["keep-blobs"], tell=shown(progress, LOADED),
            copied=lambda count: progress.show("archive", "archive", "Reading", count), commit=interrupts.commit,
        )  # fmt: skip
    for name, before in done.names:
        if before:
            cli.out(f"The image {name} already exists, renaming the old one with ID {before} to empty string")
        cli.out(f"Loaded image: {name}")
    for image in done.images:
        cli.out(f"Loaded image ID: {image}")
    return 0


def shown(progress: Progress, words: dict[str, str]) -> Callable[[str, str, int, int], None]:
    """A line a layer, named by the start of its diff id, as docker's."""

    def tell(diff_id: str, what: str, done: int, total: int) -> None:
        progress.show(diff_id, diff_id[7:19], words[what], *((done, total) if what != "done" else (total, total)))

    return tell


class Interruptible:
    """SIGINT, SIGTERM and SIGHUP undo what was begun, once and wherever it is; `text` says so. A context manager. Not any more after
    `commit`, which stands before the last step: what is done then is done."""

    def __init__(self, cli: Cli, text: str) -> None:
        self._cli = cli
        self._text = text
        self._armed = True
        self._stopped = False
        self._old: dict[int, Any] = {}

    def commit(self) -> None:
        self._armed = False

    def _stop(self, number: int, frame: object) -> None:
        if self._armed:
            self._armed, self._stopped = False, True
            raise KeyboardInterrupt

    def __enter__(self) -> Interruptible:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup
                self._old[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._armed = False
        for number, handler in self._old.items():
            signal.signal(number, handler)
        if kind is not None and self._stopped:  # whatever the interrupt has become on its way
            sweep(self._cli)
            raise CliError(self._text, 130) from None


def sweep(cli: Cli) -> None:
    """An interrupt comes between any two steps, also between making a thing and noting it."""
    from lamina.engine.engine import Engine
    from lamina.store.lease import drop_own

    cut_short = cli.engine
    cli.use(None)
    cut_short.store.close()  # it may stand in the middle of a transaction
    try:
        with Engine(cli.root, cli.runroot) as engine:
            drop_own(engine.store)
            engine.images.sweep()
    except (LaminaError, OSError):
        pass  # the next sweep comes for it


PLATFORM = ("platform", "", "string", "")
QUIET = ("quiet", "q", "bool", False)
VERBS = {
    "save": Verb(
        save, "[OPTIONS] IMAGE [IMAGE...]", 1, None,
        (("compression", "", "string", ""), ("format", "", "string", "docker-archive"), ("output", "o", "string", ""), PLATFORM,
         ("preserve-digests", "", "bool", False), QUIET),
    ),
    "load": Verb(load, "[OPTIONS]", 0, 0, (("input", "i", "string", ""), ("keep-blobs", "", "bool", False), PLATFORM, QUIET)),
}  # fmt: skip
