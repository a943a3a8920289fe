# SPDX-License-Identifier: Apache-2.0
"""Where the launchers enter: `python3 -I -S .../lamina/__main__.py ARGS`, and `python3 -m lamina`.

With -I neither the current directory nor PYTHON* variables count, with -S no site-packages and no .pth file: the directory
that holds this package is the one path that is added, last, so that nothing in it shadows the standard library. Kept in the
syntax of old interpreters up to the version check, because the launcher may find one.
"""
import gc
import posix
import sys


def run():  # type: ignore[no-untyped-def]
    if sys.version_info < (3, 11):  # noqa: UP036 - the launcher may find an older one
        sys.stderr.write("lamina: needs Python 3.11 or newer, and %s is %d.%d\n" % (sys.executable, *sys.version_info[:2]))  # noqa: UP031
        sys.exit(1)
    gc.set_threshold(100000, 10, 10)  # a start makes 20,000 objects and no garbage: looking for some would take 1.5 ms
    for fd in (0, 1, 2):  # a closed one would be the number of the next file that is opened, and get our output
        try:
            posix.fstat(fd)
        except OSError:
            posix.open("/dev/null", posix.O_RDWR)
    if not __package__:
        here = __file__.rsplit("/", 2)[0]
        if here not in sys.path:
            sys.path.append(here)
    from lamina import modules

    modules.install()
    if sys._xoptions.get("lamina.face") == "runtime":
        from lamina.runtime import seal

        if not seal.VERBS.isdisjoint(sys.argv):
            seal.seal(sys.orig_argv, posix.environ)
        from lamina.runtime.cli import main

        sys.exit(main(sys.argv[1:]))
    if sys.flags.no_site:  # started lean, so that a fork of us is a lean monitor
        verb = first_word(sys.argv[1:])  # type: ignore[no-untyped-call]
        if verb in ("run", "start", "exec"):
            from lamina.monitor.prepared import fork_early

            fork_early(verb == "exec")
    from lamina.cli.main import entry

    entry()


def first_word(argv):  # type: ignore[no-untyped-def]
    """The verb, as far as it can be told without knowing all flags; it is only about being early."""
    words = iter(argv)
    for word in words:
        if word in ("--root", "--runroot"):
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""


if __name__ == "__main__":
    run()  # type: ignore[no-untyped-call]
