# SPDX-License-Identifier: Apache-2.0
"""Attack 43: links that lead metadata or data of a later member outside (CVE-2021-32760, CVE-2025-47290), and a root that a link
replaces (CVE-2021-29136)."""

from __future__ import annotations

from pathlib import Path

import pytest
from tarattack import DIALECTS, OUTSIDE, Entry, Field, archive, directory, file, hardlink, symlink, tarfile_unfiltered

from lamina.errors import ArchiveError

PAYLOADS: dict[str, list[Entry]] = {
    "chmod through a hard link to a link": [symlink(b"s", OUTSIDE + b"/file"), hardlink(b"h", b"s", 0o777)],
    "chmod through a hard link, relative": [symlink(b"s", b"../outside/file"), hardlink(b"h", b"s", 0o4777)],
    "write through a link": [symlink(b"s", OUTSIDE + b"/dir"), file(b"s/planted")],
    "write through a relative link": [symlink(b"s", b"../outside"), file(b"s/file", b"overwritten")],
    "link in a link": [symlink(b"a", b".."), symlink(b"a/b", b"/"), file(b"a/outside/planted")],
    "directory member onto a link": [symlink(b"s", OUTSIDE + b"/dir"), directory(b"s/", 0o777), file(b"s/planted")],
    "device of links": [symlink(b"a", b"b"), symlink(b"b", OUTSIDE), file(b"a/planted")],
}
ROOTS: dict[str, list[Entry]] = {
    "dot": [symlink(b".", OUTSIDE), file(b"planted")],
    "dot slash": [symlink(b"./", OUTSIDE), file(b"planted")],
    "slash": [symlink(b"/", OUTSIDE), file(b"planted")],
    "up and down": [directory(b"a"), symlink(b"a/..", OUTSIDE), file(b"planted")],
    "file": [file(b".")],
    "hard link": [hardlink(b".", OUTSIDE + b"/file")],
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("mode", ["layer-overlay", "layer-apply", "plain"])
@pytest.mark.parametrize("entries", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_nothing_outside_changes(tmp_path: Path, entries: list[Entry], mode: str, dialect: str) -> None:
    field = Field(tmp_path / "f")
    try:
        field.extract(archive(entries, dialect, str(field.outside).encode()), mode)
    except ArchiveError:
        pass
    assert field.untouched()


@pytest.mark.parametrize("entries", [v for k, v in PAYLOADS.items() if k != "directory member onto a link"])
def test_control_the_payload_fires_without_the_defence(tmp_path: Path, entries: list[Entry]) -> None:
    assert Field(tmp_path / "f").naive(tarfile_unfiltered, archive(entries, "pax", b"/outside"))


@pytest.mark.parametrize("entries", ROOTS.values(), ids=ROOTS.keys())
@pytest.mark.parametrize("mode", ["layer-overlay", "layer-apply", "plain"])
def test_the_root_stays_a_directory(tmp_path: Path, entries: list[Entry], mode: str) -> None:
    field = Field(tmp_path / "f")
    with pytest.raises(ArchiveError, match="root"):
        field.extract(archive(entries, "ustar", str(field.outside).encode()), mode)
    assert field.untouched()


def test_control_a_naive_extractor_lets_the_root_be_replaced(tmp_path: Path) -> None:
    def umoci_like(data: bytes) -> None:
        import os

        os.rmdir("/root")
        os.symlink("/outside", "/root")
        tarfile_unfiltered(archive([file(b"planted")], "ustar", b""))

    assert Field(tmp_path / "f").naive(umoci_like, b"")


@pytest.mark.parametrize("mode", ["layer-overlay", "layer-apply", "plain"])
def test_what_docker_allows_still_works(tmp_path: Path, mode: str) -> None:
    """Links are followed as the container sees them, and a hard link to a link is that link."""
    field = Field(tmp_path / "f")
    entries = [directory(b"run"), symlink(b"var", b"/run"), file(b"var/lock", b"x"), symlink(b"s", b"/nowhere"), hardlink(b"h", b"s")]
    field.extract(archive(entries, "ustar", b""), mode)
    assert (field.root / "run" / "lock").read_text() == "x"
    assert (field.root / "h").lstat().st_ino == (field.root / "s").lstat().st_ino and (field.root / "h").is_symlink()
