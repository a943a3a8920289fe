# SPDX-License-Identifier: Apache-2.0
"""Attacks 18 to 20: user strings and hostile passwd and group files never become root, another user, a hang or a host file's content."""
from __future__ import annotations

import os
from pathlib import Path

import pytest

from lamina.errors import LaminaError
from lamina.runtime import users


def resolve(root: Path, user: str) -> tuple[int, int, list[int], str]:
    fd = os.open(root, os.O_PATH)
    try:
        return users.resolve(fd, user)
    finally:
        os.close(fd)


def image(tmp_path: Path, passwd: str = "", group: str = "") -> Path:
    (tmp_path / "image/etc").mkdir(parents=True)
    (tmp_path / "image/etc/passwd").write_text("root:x:0:0::/root:\n" + passwd)
    (tmp_path / "image/etc/group").write_text("root:x:0:\n" + group)
    return tmp_path / "image"


ALMOST = ["0x0", "+0", " 0", "0 ", "-1", "4294967296", "2147483648", "1000:0x", "1000:-1", "٣", "0\n", "1e0", "00x"]


@pytest.mark.parametrize("user", ALMOST)
def test_what_is_only_almost_an_id_is_refused(tmp_path: Path, user: str) -> None:
    with pytest.raises(LaminaError):
        resolve(image(tmp_path), user)


def test_control_what_a_lenient_parser_makes_of_them() -> None:
    assert int("+0") == int(" 0") == int("٣") - 3 == 4294967296 % 2**32 == 0


def test_a_number_is_never_a_name(tmp_path: Path) -> None:
    """CVE-2016-3697. The control: the same line under a proper name does give root."""
    root = image(tmp_path, "1000:x:0:0::/root:\nadmin:x:0:0::/root:\n")
    assert resolve(root, "1000")[:3] == (1000, 0, [0])
    assert resolve(root, "admin")[0] == 0


def test_a_broken_line_gives_nobodys_rights(tmp_path: Path) -> None:
    root = image(tmp_path, "a:x::0::/:\nb:x:zero:0::/:\nc:x:1:4294967296::/:\n")
    for user in "abc":
        with pytest.raises(LaminaError, match="no matching entries"):
            resolve(root, user)


def test_the_primary_group_is_a_member_too(tmp_path: Path) -> None:
    root = image(tmp_path, "u:x:5:6::/:\n", "six:x:6:\nextra:x:7:u\n")
    assert resolve(root, "u")[2] == [6, 7]


@pytest.mark.parametrize("file", ["passwd", "group"])
def test_a_fifo_is_refused_at_once(tmp_path: Path, file: str) -> None:
    root = image(tmp_path)
    (root / "etc" / file).unlink()
    os.mkfifo(root / "etc" / file)
    with pytest.raises(LaminaError, match="not a regular file"):
        resolve(root, "root")


def test_a_link_to_a_host_file_reads_nothing_of_it(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("leak:x:77:77::/leaked:\n")
    root = image(tmp_path)
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to(secret)
    assert (root / "etc/passwd").read_text().startswith("leak"), "the control: a plain open follows it"
    with pytest.raises(LaminaError):
        resolve(root, "leak")


def test_an_enormous_file_is_refused(tmp_path: Path) -> None:
    root = image(tmp_path)
    with open(root / "etc/group", "r+b") as f:
        f.truncate(1 << 40)
    with pytest.raises(LaminaError, match="larger than"):
        resolve(root, "root")
