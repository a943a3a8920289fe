# SPDX-License-Identifier: Apache-2.0
"""Attack 44: the tar corpus, each payload in every dialect, in both orders, in one layer and split over layers; nothing outside changes.

What must be refused is refused with the member's name. The controls show that the same payloads fire with naive extractors, in a
throw-away chroot, and that forged overlay attributes do what they are feared for on a real mount.
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from pathlib import Path

import pytest
from tarattack import (
    DIALECTS,
    OUTSIDE,
    Entry,
    Field,
    archive,
    directory,
    file,
    hardlink,
    naive_layer,
    node,
    symlink,
    tarfile_unfiltered,
)

from lamina.errors import ArchiveError
from lamina.layers.tar import header as h
from tests.layers.tar.tarmake import END, member, pax

FIRES: dict[str, list[Entry]] = {
    "up": [file(b"../outside/planted")],
    "up from below": [directory(b"a"), file(b"a/../../outside/planted")],
    "absolute": [file(OUTSIDE + b"/planted")],
    "symlink then write": [symlink(b"l", OUTSIDE), file(b"l/planted")],
    "symlink to the file": [symlink(b"l", b"../outside/file"), hardlink(b"m", b"l")],
    "hard link outside": [hardlink(b"l", b"../outside/file")],
    "hard link outside, absolute": [hardlink(b"l", OUTSIDE + b"/file")],
    "hard link outside then write": [hardlink(b"l", b"../outside/file"), file(b"l", b"evil")],
    "directory outside": [directory(b"../outside/", 0o777)],
    "symlink outside": [symlink(b"../outside/link", b"x")],
    "fifo outside": [node(b"../outside/fifo", h.FIFO)],
    "link chain": [symlink(b"a", b"b"), symlink(b"b", b"../outside"), file(b"a/planted")],
    "many slashes": [file(b"..//outside///planted")],
}
HARMLESS: dict[str, list[Entry]] = {
    "dot": [directory(b"./")],
    "dots": [file(b"...", b"x")],
    "trailing slash": [file(b"f/", b"")],
    "loop": [symlink(b"a", b"b"), symlink(b"b", b"a"), file(b"a/x")],
    "self loop": [symlink(b"a", b"a"), file(b"a/x")],
    "not utf-8": [file(b"\xff\xfe/\x80")],
    "case twins": [file(b"A"), file(b"a")],
    "entry replaces parent": [file(b"a/b"), file(b"a"), file(b"a/c")],
    "entry replaced by link": [file(b"a/b"), symlink(b"a", OUTSIDE), file(b"a/planted")],
    "setuid": [file(b"su", b"x", 0o6755)],
    "duplicates": [file(b"x", b"1"), symlink(b"x", OUTSIDE + b"/file"), file(b"x", b"2")],
    "dangling hard link": [hardlink(b"a", b"missing")],
    "hard link to itself": [file(b"a"), hardlink(b"a", b"a")],
    "hard link to a directory": [directory(b"d"), hardlink(b"a", b"d")],
    "hard link over its parent": [file(b"d/f"), hardlink(b"d", b"d/f")],
    "link to proc": [symlink(b"p", b"/proc/self/root"), file(b"p/" + OUTSIDE + b"/planted")],
    "link to cwd": [symlink(b"p", b"/proc/self/cwd"), file(b"p/../planted")],
}
REFUSED: dict[str, list[Entry]] = {
    "empty name": [file(b"")],
    "up": [file(b"../x")],
    "up inside": [file(b"a/../../x")],
    "up in a directory": [directory(b"..")],
    "long component": [file(b"n" * 300)],
    "70 kB name": [file(b"n/" * 35_000 + b"x")],
    "too deep": [file(b"d/" * 600 + b"x")],
    "long target": [symlink(b"l", b"t" * 5000)],
    "empty target": [symlink(b"l", b"")],
    "unknown type": [(b"x", b"Z", b"", b"", 0o644)],
}
WHITEOUTS: dict[str, list[Entry]] = {
    "of nothing": [file(b".wh.")],
    "of the directory": [file(b"d/.wh..")],
    "of the parent": [file(b"d/.wh...")],
    "of the root": [file(b".wh..")],
    "of what is above the root": [file(b".wh...")],
    "as a parent": [file(b".wh../x")],
    "as a parent up": [file(b".wh.../outside/file")],
    "below one": [directory(b".wh.e"), file(b".wh.e/x")],
    "opaque as a parent": [file(b".wh..wh..opq/x")],
    "hard link to one": [file(b".wh.x"), hardlink(b"y", b".wh.x")],
}
OWN = "trusted.overlay."


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("entries", [*FIRES.values(), *HARMLESS.values()], ids=[*FIRES, *HARMLESS])
@pytest.mark.parametrize("mode", ["layer-overlay", "layer-apply", "plain"])
def test_one_layer_in_both_orders(tmp_path: Path, entries: list[Entry], dialect: str, mode: str) -> None:
    for i, order in enumerate((entries, entries[::-1], entries + entries)):
        field = Field(tmp_path / str(i))
        with contextlib.suppress(ArchiveError):
            field.extract(archive(order, dialect, str(field.outside).encode()), mode)
        assert field.untouched()


@pytest.mark.parametrize("entries", [*FIRES.values(), *HARMLESS.values()], ids=[*FIRES, *HARMLESS])
def test_split_over_layers(tmp_path: Path, entries: list[Entry]) -> None:
    for i, order in enumerate((entries, entries[::-1])):
        field = Field(tmp_path / f"apply{i}")
        outside = str(field.outside).encode()
        for entry in order:
            with contextlib.suppress(ArchiveError):
                field.extract(archive([entry], "pax", outside), "layer-apply")
        assert field.untouched()
        lower: list[str] = []
        fields: list[Field] = []
        for j, entry in enumerate(order):
            field = Field(tmp_path / f"overlay{i}{j}")
            with contextlib.suppress(ArchiveError):
                field.extract(archive([entry], "pax", outside), "layer-overlay", lower)
            fields.append(field)
            assert all(f.untouched() for f in fields)
            lower.insert(0, str(field.root))


@pytest.mark.parametrize("entries", FIRES.values(), ids=FIRES.keys())
def test_control_each_fires_with_a_naive_extractor(tmp_path: Path, entries: list[Entry]) -> None:
    assert Field(tmp_path / "f").naive(tarfile_unfiltered, archive(entries, "pax", b"/outside"))


@pytest.mark.parametrize("entries", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("mode", ["layer-overlay", "layer-apply", "plain"])
def test_what_makes_no_sense_is_refused_by_name(tmp_path: Path, entries: list[Entry], mode: str) -> None:
    field = Field(tmp_path / "f")
    with pytest.raises(
        ArchiveError, match="archive: .*" + ("name" if not entries[0][0] else entries[0][0][:1].decode().replace(".", r"\."))
    ):
        field.extract(archive(entries, "ustar", b""), mode)
    assert field.untouched()


@pytest.mark.parametrize("entries", WHITEOUTS.values(), ids=WHITEOUTS.keys())
@pytest.mark.parametrize("mode", ["layer-overlay", "layer-apply"])
def test_whiteout_tricks_are_refused(tmp_path: Path, entries: list[Entry], mode: str) -> None:
    field = Field(tmp_path / "f")
    (field.root / "d").mkdir()
    with pytest.raises(ArchiveError, match="whiteout"):
        field.extract(archive(entries, "ustar", b""), mode)
    assert field.untouched() and (field.root / "d").is_dir()


@pytest.mark.parametrize("name", [b".wh...", b".wh../../../outside/.wh.file", b"x/../../outside/.wh..wh..opq"])
def test_control_whiteouts_delete_outside_with_a_naive_extractor(tmp_path: Path, name: bytes) -> None:
    field = Field(tmp_path / "f")
    (field.root / "x").mkdir()
    (field.root / ".wh..").mkdir()
    assert field.naive(naive_layer, archive([file(name)], "ustar", b""))


@pytest.mark.parametrize("name", [b"l/.wh.file", b"l/.wh..wh..opq", b"l/.wh.dir"])
@pytest.mark.parametrize("mode", ["layer-overlay", "layer-apply"])
@pytest.mark.parametrize("target", [b"../outside", OUTSIDE])
def test_whiteouts_through_links_stay_inside(tmp_path: Path, name: bytes, mode: str, target: bytes) -> None:
    field = Field(tmp_path / "f")
    field.extract(archive([symlink(b"l", target), file(name)], "ustar", str(field.outside).encode()), mode)
    assert field.untouched()
    control = Field(tmp_path / "control")
    os.symlink(target.replace(OUTSIDE, b"/outside"), bytes(control.root) + b"/l")
    assert control.naive(naive_layer, archive([file(name)], "ustar", b""))


# -- what forges overlay's own marks


def test_a_forged_whiteout_device_is_refused(tmp_path: Path) -> None:
    for mode in ("layer-overlay", "layer-apply"):
        field = Field(tmp_path / mode)
        with pytest.raises(ArchiveError, match="etc.*0:0"):
            field.extract(member(b"etc", type=h.CHR) + END, mode)


@pytest.mark.parametrize("space", [b"trusted.overlay.", b"user.overlay."])
@pytest.mark.parametrize("what", [b"opaque", b"redirect", b"metacopy", b"whiteout", b"overlay.opaque", b"anything"])
@pytest.mark.parametrize("key", [b"SCHILY.xattr.", b"LIBARCHIVE.xattr."])
@pytest.mark.parametrize("mode", ["layer-overlay", "layer-apply", "plain"])
def test_overlays_own_attributes_are_refused_by_name(tmp_path: Path, space: bytes, what: bytes, key: bytes, mode: str) -> None:
    field = Field(tmp_path / "f")
    value = b"/secret" if key == b"SCHILY.xattr." else b"L3NlY3JldA=="
    for kind in (h.DIR, h.REG):
        with pytest.raises(ArchiveError, match=f"culprit.*{(space + what).decode()}"):
            field.extract(pax({key + space + what: value}) + member(b"culprit", type=kind) + END, mode)


@contextlib.contextmanager
def mounted(*layers: Path):  # type: ignore[no-untyped-def]
    at = layers[0].parent / "at"
    at.mkdir()
    lower = ":".join(map(str, layers))
    subprocess.run(["mount", "-t", "overlay", "lamina-test", "-o", f"ro,redirect_dir=follow,lowerdir={lower}", at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)


def test_control_forged_marks_work_on_a_real_overlay(tmp_path: Path) -> None:
    top, base = tmp_path / "top", tmp_path / "base"
    for path in (top / "opaque", top / "redirect", base / "opaque", base / "secret"):
        path.mkdir(parents=True)
    (base / "opaque" / "file").touch()
    (base / "secret" / "key").write_text("key")
    (base / "gone").touch()
    os.mknod(top / "gone", stat.S_IFCHR, 0)
    os.setxattr(top / "opaque", OWN + "opaque", b"y")
    os.setxattr(top / "redirect", OWN + "redirect", b"/secret")
    with mounted(top, base) as at:
        assert os.listdir(at / "opaque") == [] and not (at / "gone").exists()
        assert (at / "redirect" / "key").read_text() == "key"


def test_what_we_make_of_whiteouts_works_on_a_real_overlay(tmp_path: Path) -> None:
    field = Field(tmp_path / "f")
    base = field.base / "base"
    for name in ("opq/old", "dir/old", "gone/old", "kept/old"):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).touch()
    entries = [file(b"opq/.wh..wh..opq"), file(b"opq/new"), file(b".wh.dir"), file(b"dir/new"), file(b".wh.gone"), file(b"kept/new")]
    field.extract(archive(entries, "ustar", b""), "layer-overlay")
    with mounted(field.root, base) as at:
        found = sorted(str(p.relative_to(at)) for p in at.rglob("*") if p.is_file())
    assert found == ["dir/new", "kept/new", "kept/old", "opq/new"]


def test_devices_are_made_with_their_mode_and_nothing_is_opened(tmp_path: Path) -> None:
    """Attack 38: rootful stores hold device nodes as docker does (the device cgroup denies their use); opening them is never needed."""
    field = Field(tmp_path / "f")
    tty = member(b"dev/tty", type=h.CHR, devmajor=5, mode=0o620) + member(b"fifo", type=h.FIFO, mode=0o600)
    field.extract(tty + END, "layer-overlay")
    st = (field.root / "dev" / "tty").stat()
    assert stat.S_ISCHR(st.st_mode) and st.st_rdev == os.makedev(5, 0) and st.st_mode & 0o7777 == 0o620
