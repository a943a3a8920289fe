# SPDX-License-Identifier: Apache-2.0
"""Who "user[:group]" is, by the /etc/passwd and /etc/group of a container's root.  [hot]

Strict where docker's parser is lenient: ids are plain decimal digits from 0 to 2**31 - 1, a number is always an id and never a name,
a malformed line matches nobody (instead of becoming root), the files are regular, inside the root and of limited size, and no code
of the container (nss) is run. The error texts are docker's.
"""
from __future__ import annotations

import os
from stat import S_ISREG

from lamina.errors import InvalidArgument, StartError
from lamina.linux import fs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MAX_ID = 2**31 - 1
MAX_FILE = 4 << 20
MAX_GROUPS = 65536  # the kernel's NGROUPS_MAX
_RANGE = "uids and gids must be in range 0-2147483647"


def resolve(root_fd: int, user: str, group_add: Sequence[str] = ()) -> tuple[int, int, list[int], str]:
    """(uid, gid, groups, home): groups holds the primary group, those that list the user, and `group_add`, in this order.

    "" is root's id 0. As docker has it, an explicit group replaces the groups that list the user, and a number without an entry in
    passwd has group 0 and home "/". Raises StartError for names that don't exist, InvalidArgument for what can't be a user.
    """
    name, _, group = user.partition(":")
    if ":" in group or "\n" in user or "\0" in user:
        raise InvalidArgument(f"invalid user {user!r}")
    uid = _number(name) if name else 0
    entry = _find_user(_lines(root_fd, "etc/passwd"), name, uid)
    if entry is not None:
        login, uid, gid, home = entry
    elif uid is None:
        raise StartError(f"unable to find user {name}: no matching entries in passwd file")
    else:
        login, gid, home = "", 0, "/"
    wanted = ([group] if group else []) + [str(g) for g in group_add]
    table = list(_groups(root_fd)) if wanted or login else []
    groups = []
    if group:
        gid = _find_group(table, group)
    elif login:
        groups = [number for _, number, members in table if login in members]
    groups = [gid, *groups, *(_find_group(table, g) for g in group_add)]
    unique = list(dict.fromkeys(groups))
    if len(unique) > MAX_GROUPS:
        raise StartError(f"user {user}: more than {MAX_GROUPS} groups")
    return uid, gid, unique, home or "/"


def _number(text: str) -> int | None:
    """The id that `text` is, or None if it is a name; a number out of range is refused, never cut."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        return None
    if digits is not text or len(digits) > 10 or int(digits) > MAX_ID:
        raise InvalidArgument(_RANGE)
    return int(digits)


def _id(field: str) -> int | None:
    """An id in a file's line; None where the line must not match."""
    if not (field.isascii() and field.isdigit() and len(field) <= 10):
        return None
    return int(field) if int(field) <= MAX_ID else None


def _find_user(lines: Iterable[list[str]], name: str, uid: int | None) -> tuple[str, int, int, str] | None:
    for fields in lines:
        if len(fields) < 4:
            continue
        number, gid = _id(fields[2]), _id(fields[3])
        if number is None or gid is None or not fields[0]:
            continue
        if number == uid if uid is not None else fields[0] == name:
            return fields[0], number, gid, fields[5] if len(fields) > 5 else ""
    return None


def _groups(root_fd: int) -> Iterator[tuple[str, int, list[str]]]:
    for fields in _lines(root_fd, "etc/group"):
        gid = _id(fields[2]) if len(fields) > 2 else None
        if gid is not None and fields[0]:
            yield fields[0], gid, fields[3].split(",") if len(fields) > 3 else []


def _find_group(table: Iterable[tuple[str, int, list[str]]], group: str) -> int:
    number = _number(group)
    if number is not None:
        return number
    for name, gid, _ in table:
        if name == group:
            return gid
    raise StartError(f"unable to find group {group}: no matching entries in group file")


def _lines(root_fd: int, path: str) -> Iterator[list[str]]:
    for line in read_regular(root_fd, path, MAX_FILE).decode("utf-8", "surrogateescape").split("\n"):
        line = line.strip()
        if line and not line.startswith("#") and "\0" not in line:
            yield line.split(":")


def read_regular(root_fd: int, path: str, limit: int) -> bytes:
    """The bytes of a regular file beneath a root, b"" if there is none; anything else there, or more than `limit` bytes, is refused.

    It is looked at by O_PATH first, because opening a device or a fifo already does something.
    """
    try:
        node = fs.open_beneath(root_fd, path, os.O_PATH)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as e:
        raise StartError(f"/{path} of the container can't be read: {e.strerror}")
    try:
        st = os.fstat(node)
        if not S_ISREG(st.st_mode):
            raise StartError(f"/{path} of the container is not a regular file")
        if st.st_size > limit:
            raise StartError(f"/{path} of the container is larger than {limit} bytes")
        fd = os.open(f"/proc/self/fd/{node}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    finally:
        os.close(node)
    with open(fd, "rb", 0) as f:
        parts, size = [], 0
        while chunk := f.read(min(1 << 16, limit + 1 - size)):
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                raise StartError(f"/{path} of the container is larger than {limit} bytes")
    return b"".join(parts)
