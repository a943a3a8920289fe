# shellcheck shell=sh
# Shared by the scripts beside it; sourced, never run. POSIX sh.
# Everything that the scripts install goes to .venv (Python) or through apt-get (programs); second runs find it there and are quick.

repo=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
venv=$repo/.venv

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

need_root() { [ "$(id -u)" = 0 ] || die "$(basename "$0") needs root: it makes mounts, namespaces, cgroups and a bridge"; }

# need_programs PROGRAM:PACKAGE... - installs the Debian packages whose program is missing.
need_programs() {
    missing=
    for pair in "$@"; do
        PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
    done
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null 2>&1 || die "please install:$missing"
    say "installing$missing"
    output=$(apt-get update -qq 2>&1) || die "apt-get update failed: $output"
    # shellcheck disable=SC2086 # a list of package names
    output=$(DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 $missing 2>&1 </dev/null) ||
        die "apt-get could not install$missing: $output"
}

# A Python >= 3.11 that has all of its standard library; prints its path.
find_python() {
    for python in python3 /usr/bin/python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$python" >/dev/null 2>&1 &&
            "$python" -c 'import sys, sqlite3, ctypes; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$python"
            return 0
        fi
    done
    return 1
}

# The environment of the tests: made once, and again when pyproject.toml changes.
need_venv() {
    stamp=$venv/.stamp
    if "$venv/bin/python" -c 'import pytest' 2>/dev/null && cmp -s "$repo/pyproject.toml" "$stamp"; then return 0; fi
    python=$(find_python) || need_programs a-python-for-the-tests:python3
    python=$(find_python) || die "Python 3.11 or newer is needed"
    say "making $venv with $python"
    # Debian's Python comes without pip, and says so only when it is asked to install it.
    "$python" -c 'import ensurepip' 2>/dev/null || need_programs pip-of-a-new-environment:python3-venv
    "$python" -m venv --clear "$venv" || die "$python could not make $venv"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check -e "${repo}[test]" || die "pip could not install the test environment"
    cp "$repo/pyproject.toml" "$stamp"
}
