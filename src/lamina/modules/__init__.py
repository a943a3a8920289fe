# SPDX-License-Identifier: Apache-2.0
"""The package's compiled modules in one file: importing one costs four system calls instead of a dozen and a search.  [hot]

`__pycache__/lamina.<tag>.pack` holds what the .pyc files beside the modules hold, and is believed as they are: a module's entry
counts if its source has still the size and the time of change that were noted (PEP 3147 and 552, timestamp-based). Anything else,
and any damage, means the usual way. Made anew by a command that had to import a module the usual way, after its work is done.

The file: the interpreter's magic number, 4 bytes; the length of the index, u32 little-endian; the index, marshal of {module:
(offset, length, mtime, size, kind)}, packages before what is in them; then the code objects, marshal, back to back. Offsets count
from the file's start.
"""
from __future__ import annotations

import marshal
import posix
import sys

# What the import system itself runs on: it is loaded in every interpreter, importlib isn't.
from _frozen_importlib import ModuleSpec, module_from_spec
from _frozen_importlib_external import MAGIC_NUMBER, SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType

    Entry = tuple[int, int, int, int, int]

LIMIT = 64 << 20
HEAD = 8  # bytes before the index
MODULE, PACKAGE, EMPTY = 0, 1, 2  # kinds; EMPTY: a package that holds nothing but its docstring


class Pack:
    """A finder for sys.meta_path. `missed`: modules that the usual way had to look for."""

    def __init__(self, top: str) -> None:
        """`top`: the package's directory."""
        self.top = top
        self.path = f"{top}/__pycache__/lamina.{sys.implementation.cache_tag}.pack"
        self.missed: list[str] = []
        self.index: dict[str, Entry] = {}
        self.identity: tuple[int, ...] = ()
        try:
            fd = posix.open(self.path, posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:
            return
        try:
            head = posix.read(fd, 1 << 15)
            if len(head) >= HEAD and head[:4] == MAGIC_NUMBER:
                end = HEAD + int.from_bytes(head[4:HEAD], "little")
                if len(head) < end <= LIMIT:
                    head += posix.read(fd, end - len(head))
                index = marshal.loads(head[HEAD:end])
                if type(index) is dict:
                    self.index, self.identity = index, identity(fd)
        except (OSError, ValueError, EOFError, TypeError):
            pass
        finally:
            posix.close(fd)

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith("lamina."):
            return None
        entry = self.index.get(name)
        spec = None if entry is None else self.spec_of(name, entry)
        if spec is None:
            self.missed.append(name)
        return spec

    def spec_of(self, name: str, entry: Entry) -> ModuleSpec | None:
        """None for an entry that isn't of the source as it is."""
        base = self.top + name[6:].replace(".", "/")
        source = base + ("/__init__.py" if entry[4] else ".py")
        try:
            status = posix.stat(source)
        except OSError:
            return None
        if int(status.st_mtime) != entry[2] or status.st_size != entry[3]:
            return None
        loader = Loader(name, source)
        loader.pack, loader.entry = self, entry
        spec = ModuleSpec(name, loader, origin=source)
        spec.has_location = True
        spec.cached = self.path  # else the import system composes the name of the .pyc
        if entry[4]:
            spec.submodule_search_locations = [base]
        return spec

    def make_empty(self) -> None:
        """Makes the packages that hold nothing: an import costs ten times what there is to do."""
        for name, entry in self.index.items():
            parent, _, last = name.rpartition(".")
            if entry[4] == EMPTY and name not in sys.modules and parent in sys.modules:
                spec = self.spec_of(name, entry)
                if spec is not None:
                    made = sys.modules[name] = module_from_spec(spec)
                    setattr(sys.modules[parent], last, made)

    def read(self, entry: Entry) -> bytes:
        """A module's bytes. Opened each time: a forked monitor closes what it has open, and another process may have put a new
        file in its place, whose offsets are others: OSError then."""
        fd = posix.open(self.path, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            if identity(fd) != self.identity:
                raise OSError("another file by now")
            return posix.pread(fd, entry[1], entry[0])
        finally:
            posix.close(fd)

    def renew(self) -> None:
        """Writes the file anew if a module was missed, and its .pyc may be written, too."""
        if any(name in sys.modules for name in self.missed) and not sys.dont_write_bytecode:
            from lamina.modules.writing import renew

            renew(self.top, self.path)


class Loader(SourceFileLoader):
    """As the usual one, but the code is already known to be there."""

    pack: Pack
    entry: Entry

    def get_code(self, fullname: str) -> CodeType | None:
        try:
            code: CodeType = marshal.loads(self.pack.read(self.entry))
            return code
        except (OSError, ValueError, EOFError, TypeError):
            self.pack.missed.append(fullname)
            return super().get_code(fullname)


def identity(fd: int) -> tuple[int, ...]:
    status = posix.fstat(fd)
    return status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns


_installed: Pack | None = None


def install() -> None:
    """From here on modules of this package come from the file. Not with -O: its code is another one."""
    global _installed
    if _installed is None and not sys.flags.optimize and sys.implementation.cache_tag:
        _installed = Pack(__path__[0].rpartition("/")[0])
        sys.meta_path.insert(0, _installed)
        _installed.make_empty()


def renew() -> None:
    """For the end of a command."""
    if _installed is not None:
        _installed.renew()
