# SPDX-License-Identifier: Apache-2.0
"""users.resolve: docker's meaning and texts, and nothing that only almost is an id."""
from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.errors import InvalidArgument, LaminaError
from lamina.runtime import users


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nu:x:1000:100::/home/u:/bin/sh\n1001:x:0:0::/evil:/bin/sh\n"
                                         "half:x:abc:0::/:\nwrap:x:4294967296:0::/:\nneg:x:-1:0::/:\nshort:x\n")
    (tmp_path / "etc/group").write_text("root:x:0:\nusers:x:100:\nextra:x:44:u,v\nbad:x:z:u\n")
    fd = os.open(tmp_path, os.O_PATH)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(("user", "expected"), [
    ("", (0, 0, [0], "/root")), ("root", (0, 0, [0], "/root")), ("root:", (0, 0, [0], "/root")), (":0", (0, 0, [0], "/root")),
    ("u", (1000, 100, [100, 44], "/home/u")), ("1000", (1000, 100, [100, 44], "/home/u")), ("u:0", (1000, 0, [0], "/home/u")),
    ("u:extra", (1000, 44, [44], "/home/u")), ("1001", (1001, 0, [0], "/")), ("2147483647", (2147483647, 0, [0], "/")),
    ("5:7", (5, 7, [7], "/")),
])
def test_who_it_is(root: int, user: str, expected: tuple[int, int, list[int], str]) -> None:
    assert users.resolve(root, user) == expected


def test_added_groups(root: int) -> None:
    assert users.resolve(root, "u", ["extra", "7", "users"])[2] == [100, 44, 7]


@pytest.mark.parametrize(("user", "text"), [
    ("nosuch", "unable to find user nosuch: no matching entries in passwd file"),
    ("root:nosuch", "unable to find group nosuch: no matching entries in group file"),
    ("half", "unable to find user half: no matching entries in passwd file"),
    ("wrap", "unable to find user wrap: no matching entries in passwd file"),
    ("99999999999", "uids and gids must be in range 0-2147483647"),
])
def test_dockers_texts(root: int, user: str, text: str) -> None:
    with pytest.raises(LaminaError) as e:
        users.resolve(root, user)
    assert e.value.message == text


def test_no_files_at_all(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_PATH)
    assert users.resolve(fd, "12") == (12, 0, [0], "/")
    with pytest.raises(LaminaError):
        users.resolve(fd, "root")
    with pytest.raises(InvalidArgument):
        users.resolve(fd, "a:b:c")
    os.close(fd)
