# SPDX-License-Identifier: Apache-2.0
"""Terminals: a pty out of a given devpts, window size, raw mode, controlling terminal."""
from __future__ import annotations

import errno
import os
from _struct import pack, unpack
from fcntl import ioctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TIOCSPTLCK = 0x40045431
_TIOCGPTN = 0x80045430
_TIOCGPTPEER = 0x5441
_TIOCSCTTY, _TIOCGWINSZ, _TIOCSWINSZ = 0x540E, 0x5413, 0x5414


def openpty(ptmx: str | int = "/dev/ptmx") -> tuple[int, int, int]:
    """(master, slave, number), both fds close-on-exec. `ptmx` is a path, or an O_PATH fd of a ptmx node, which picks the devpts.

    The slave is opened from the master itself, never by its path: what /dev/pts/N is meanwhile doesn't matter.
    """
    path = ptmx if isinstance(ptmx, str) else f"/proc/self/fd/{ptmx}"
    return unlocked(os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))


def unlocked(master: int) -> tuple[int, int, int]:
    """(master, slave, number) of a freshly opened ptmx; closes it when that fails."""
    try:
        ioctl(master, _TIOCSPTLCK, pack("=i", 0))
        number: int = unpack("=i", ioctl(master, _TIOCGPTN, bytes(4)))[0]
        slave: int = ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except BaseException:
        os.close(master)
        raise
    return master, slave, number


def set_controlling(fd: int) -> None:
    """Makes `fd` the controlling terminal of this session leader."""
    ioctl(fd, _TIOCSCTTY, 0)


def get_winsize(fd: int) -> tuple[int, int]:
    """(rows, columns)."""
    rows, columns, _, _ = unpack("=4H", ioctl(fd, _TIOCGWINSZ, bytes(8)))
    return rows, columns


def set_winsize(fd: int, rows: int, columns: int) -> None:
    """Sets rows and columns; the foreground process group gets SIGWINCH when they changed."""
    ioctl(fd, _TIOCSWINSZ, pack("=4H", max(0, min(rows, 65535)), max(0, min(columns, 65535)), 0, 0))


def is_tty(fd: int) -> bool:
    return os.isatty(fd)


def set_raw(fd: int) -> list[Any]:
    """Raw mode: no echo, no signals, no translation. Returns the former settings for `restore`."""
    import termios  # a shared library: for the command line only, never where a container's root is ours

    before = termios.tcgetattr(fd)
    raw = termios.tcgetattr(fd)
    raw[0] &= ~(termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP)
    raw[0] &= ~(termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON)
    raw[1] &= ~termios.OPOST
    raw[2] = raw[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
    termios.tcsetattr(fd, termios.TCSANOW, raw)
    return before


def restore(fd: int, settings: list[Any]) -> None:
    """Undoes `set_raw`, also when this process is in the background of its terminal (then it may be refused: ignored)."""
    import termios

    try:
        termios.tcsetattr(fd, termios.TCSANOW, settings)
    except termios.error as e:
        if e.args[0] not in (errno.EIO, errno.ENOTTY):
            raise
