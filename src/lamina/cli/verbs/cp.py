# SPDX-License-Identifier: Apache-2.0
"""`cp`: docker's rules of where a copy ends up, for files of a container, of the host, and tar streams. The engine moves the bytes."""
from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from lamina.cli.context import Cli, CliError, add_site_packages, write_all
from lamina.cli.flags import Opts, Verb
from lamina.util.sizes import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamina.engine.copying import Files
    from lamina.engine.copyview import Found, View
    from lamina.engine.copywalk import Piece

_LINKS = 10


def cp(cli: Cli, opts: Opts, args: list[str]) -> int:
    source, target = args
    if not source:
        raise CliError("source can not be empty")
    if not target:
        raise CliError("destination can not be empty")
    (from_ref, source), (to_ref, target) = split_argument(source), split_argument(target)
    if from_ref and to_ref:
        raise CliError("copying between containers is not supported")
    if not from_ref and not to_ref:
        raise CliError("must specify at least one container source")
    if from_ref:
        done = copy_out(cli, opts, from_ref, source, target)
    else:
        done = copy_in(cli, opts, source, to_ref, target)
    if done and not opts["quiet"] and cli.is_tty(1):
        size, where = done
        cli.err(f"Successfully copied {human_size(size, 3)} to {where}")
    return 0


def split_argument(text: str) -> tuple[str, str]:
    """(container, path); no container for what begins with / or . or has no colon."""
    ref, colon, path = text.partition(":")
    if text.startswith("/") or not colon or ref.startswith("."):
        return "", text
    return ref, path


# -- the meaning of a path's end

def base_of(path: str) -> str:
    """The last component, "." for a path that ends with it (the directory's content), "/" for the root."""
    if wants_content(path):
        return "."
    return os.path.basename(path.rstrip("/")) or "/"


def split_entry(path: str) -> tuple[str, str]:
    """(directory, name) to make: of "a/." the directory itself and "."."""
    if wants_content(path):
        return path.rstrip("/").removesuffix("/.") or "/", "."
    clean = os.path.normpath(path) if path else "."
    return os.path.dirname(clean) or ("." if not clean.startswith("/") else "/"), os.path.basename(clean) or "/"


def wants_content(path: str) -> bool:
    return path == "." or path.endswith("/.")


def asserts_directory(path: str) -> bool:
    return not path or path.endswith("/") or wants_content(path)


def absolute(path: str) -> str:
    """A path of the host, keeping the "/" or "/." at its end."""
    clean = os.path.abspath(path)
    if wants_content(path):
        return clean.rstrip("/") + "/."
    return clean + "/" if path.endswith("/") and clean != "/" else clean


def place(target: str, exists: bool, is_dir: bool, source_is_dir: bool, name: str) -> tuple[str, str]:
    """(directory to put it into, its name there)."""
    if exists and is_dir:
        return target, name
    if exists and source_is_dir:
        raise CliError("cannot copy directory")
    if not exists and not source_is_dir and asserts_directory(target):
        raise CliError("no such directory")
    return split_entry(target)


# -- out of a container

def copy_out(cli: Cli, opts: Opts, ref: str, source: str, target: str) -> tuple[int, str] | None:
    from lamina.engine.copying import Files
    from lamina.engine.copywalk import Counted, to_tar

    if target == "-":
        if cli.is_tty(1):
            raise CliError("cowardly refusing to write a tar archive to a terminal. Redirect stdout or name a path")
    else:
        target = absolute(target)
        check_output(target)
    with Files(cli.engine.containers, ref) as files:
        name = base_of(source)
        found = None
        if opts["follow-link"]:
            found = files.stat(source)
            if found.link_target:
                source = found.link_target
                found = None
        if target == "-":
            to_tar(files.read(source), lambda data: write_all(1, bytes(data)))
            return None
        found = found or files.stat(source)
        target, exists, is_dir = destination(target)
        directory, top = place(target, exists, is_dir, found.is_dir, name)
        counted = Counted(files.read(source, top))
        put(directory, iter(counted), keep_owner=opts["archive"])
    return counted.size, target


def check_output(path: str) -> None:
    directory = os.path.dirname(os.path.normpath(path))
    if not os.path.isdir(directory) and not os.path.lexists(directory):
        raise CliError(f'invalid output path: directory "{directory}" does not exist')
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as e:
        raise CliError(told("stat", path, e))
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise CliError(f'invalid output path: "{path}" must be a directory or a regular file: got a device')


def destination(path: str) -> tuple[str, bool, bool]:
    """(path with links at its end resolved, whether it is there, whether it is a directory)."""
    here = path
    for _ in range(_LINKS + 1):
        try:
            mode = os.lstat(here).st_mode
            if not stat.S_ISLNK(mode):
                return here, True, stat.S_ISDIR(mode)
            here = os.path.normpath(os.path.join(split_entry(here)[0], os.readlink(here)))
        except FileNotFoundError:
            above = split_entry(here)[0]
            try:
                if not stat.S_ISDIR(os.stat(above).st_mode):
                    raise CliError("not a directory")
            except OSError as e:
                raise CliError(told("stat", above, e))
            return here, False, False
        except OSError as e:
            raise CliError(told("lstat", here, e))
    raise CliError(f"too many symlinks in {path}")


def put(directory: str, pieces: Iterator[Piece], *, keep_owner: bool) -> None:
    """Below a directory of the host, and nowhere else: links in what is copied lead nowhere out of it."""
    from lamina.engine.copyput import Overwrite, Placer
    from lamina.engine.copyview import View

    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        raise CliError(told("open", directory, e))
    with View(fd, cross=True) as view, view.find(b"") as found:
        try:
            shown = directory.removesuffix("/.").rstrip("/") or "/"
            Placer(view, found, keep_owner=keep_owner, shown_as=shown).run(pieces)
        except Overwrite as e:
            raise CliError(e.message)
        except OSError as e:
            raise CliError(told("", str(e.filename or directory), e))


# -- into a container

def copy_in(cli: Cli, opts: Opts, source: str, ref: str, target: str) -> tuple[int, str]:
    from lamina.engine import copyview
    from lamina.engine.copying import Files
    from lamina.engine.copywalk import Counted, of_tar, of_tree

    if source == "-" and cli.is_tty(0):
        raise CliError("cowardly refusing to read a tar archive from a terminal. Redirect stdin or name a path")
    with Files(cli.engine.containers, ref) as files:
        where, exists, is_dir = destination_inside(files, ref, target)
        if source == "-":
            if not is_dir:
                raise CliError(f'destination "{ref}:{target}" must be a directory')
            add_site_packages()  # zstandard
            with open(0, "rb", buffering=0, closefd=False) as stream:
                counted = Counted(of_tar(stream))
                files.write(where, counted)
            return counted.size, f"{ref}:{where}"
        path = absolute(source)
        with copyview.host() as view, source_of(view, path, follow=opts["follow-link"]) as found:
            directory, top = place(where, exists, is_dir, found.is_dir, base_of(path))
            counted = Counted(of_tree(view, found, top.encode("utf-8", "surrogateescape")))
            files.write(directory, counted)
    return counted.size, f"{ref}:{where}"


def destination_inside(files: Files, ref: str, path: str) -> tuple[str, bool, bool]:
    """As `destination`. Whatever is wrong with the path is told when it is used, if it matters then."""
    from lamina.errors import LaminaError

    where = path
    try:
        found = files.stat(path)
        if found.link_target:
            where = found.link_target
            found = files.stat(where)
    except LaminaError:
        return where, False, False
    if stat.S_ISCHR(found.mode) or stat.S_ISBLK(found.mode):
        raise CliError(f'destination "{ref}:{path}" must be a directory or a regular file: got a device')
    return where, True, found.is_dir


def source_of(view: View, path: str, *, follow: bool) -> Found:
    try:
        return view.find(path.encode("utf-8", "surrogateescape"), follow=follow)
    except NotADirectoryError as e:
        if asserts_directory(path) and str(e.filename) == os.path.realpath(path.removesuffix("/.").rstrip("/")):
            raise CliError("not a directory")
        raise CliError(told("lstat", path, e))
    except OSError as e:
        raise CliError(told("lstat", str(e.filename or path), e))


def told(call: str, path: str, error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{call} {path}: {reason[:1].lower()}{reason[1:]}".lstrip()


VERBS = {
    "cp": Verb(
        cp, "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tlamina cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH", 2, 2,
        (("archive", "a", "bool", False), ("follow-link", "L", "bool", False), ("quiet", "q", "bool", False)),
    )
}  # fmt: skip
