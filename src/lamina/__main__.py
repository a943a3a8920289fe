# SPDX-License-Identifier: Apache-2.0
"""Where the launchers enter: `python3 -I -S .../lamina/__main__.py ARGS`, and `python3 -m lamina`.

With -I neither the current directory nor PYTHON* variables count, with -S no site-packages and no .pth file: the directory
that holds this package is the one path that is added, last, so that nothing in it shadows the standard library. Kept in the
syntax of old interpreters up to the version check, because the launcher may find one.
"""
import posix
import sys


def run():  # type: ignore[no-untyped-def]
    if sys.version_info < (3, 11):  # noqa: UP036 - the launcher may find an older one
        sys.stderr.write("lamina: needs Python 3.11 or newer, and %s is %d.%d\n" % (sys.executable, *sys.version_info[:2]))  # noqa: UP031
        sys.exit(1)
    for fd in (0, 1, 2):  # a closed one would be the number of the next file that is opened, and get our output
        try:
            posix.fstat(fd)
        except OSError:
            posix.open("/dev/null", posix.O_RDWR)
    if not __package__:
        here = __file__.rsplit("/", 2)[0]
        if here not in sys.path:
            sys.path.append(here)
    if sys._xoptions.get("lamina.face") == "runtime":
        from lamina.runtime import seal

        if not seal.VERBS.isdisjoint(sys.argv):
            seal.seal(sys.orig_argv, posix.environ)
        from lamina.runtime.cli import main

        sys.exit(main(sys.argv[1:]))
    from lamina.cli.main import entry

    entry()


if __name__ == "__main__":
    run()  # type: ignore[no-untyped-call]
